//! Options of the verbs, read from query and body, and refused as upstream refuses them.

use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::object;
use crate::http::query::Query;

const META: &str = "meta.k8s.io";

fn invalid(kind: &str, causes: Vec<Cause>) -> ApiError {
    ApiError::invalid(META, kind, "", causes)
}

/// `dryRun`: nothing, or `All`.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, options: &str) -> Result<bool, ApiError> {
    let values: Vec<&str> = values.collect();
    match values.as_slice() {
        [] => Ok(false),
        all if all.iter().all(|value| *value == "All") => Ok(true),
        other => Err(invalid(options, vec![Cause::not_supported("dryRun", &json!(other), &["All"])])),
    }
}

/// How unknown and duplicate fields are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped, and the client is told.
    Warn,
    /// Refused.
    Strict,
}

/// `fieldValidation`; `Warn` where it is not given.
pub fn field_validation(query: &Query, options: &str) -> Result<FieldValidation, ApiError> {
    match query.get("fieldValidation") {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => {
            let supported = ["", "Ignore", "Strict", "Warn"];
            Err(invalid(options, vec![Cause::not_supported("fieldValidation", &json!(other), &supported)]))
        }
    }
}

/// Options that only some patches take.
pub fn patch_options(query: &Query, apply: bool) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    if apply && query.get("fieldManager").is_empty() {
        causes.push(Cause::required("fieldManager", "is required for apply patch"));
    }
    if !apply && query.has("force") {
        causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
    }
    if causes.is_empty() { Ok(()) } else { Err(invalid("PatchOptions", causes)) }
}

/// Options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Nothing may be kept.
    pub dry_run: bool,
    /// Seconds to end.
    pub grace: Option<i64>,
    /// `Foreground`, `Background`, `Orphan`, or the deprecated `orphanDependents`.
    pub propagation: Option<Propagation>,
    /// The UID that the object must have.
    pub uid: Option<String>,
    /// The resourceVersion that the object must have.
    pub resource_version: Option<String>,
}

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They go first.
    Foreground,
    /// They go later.
    Background,
    /// They stay.
    Orphan,
}

impl DeleteOptions {
    /// Reads them from the body, or from the query where there is no body.
    pub fn read(query: &Query, body: Option<&Value>) -> Result<Self, ApiError> {
        let mut causes = Vec::new();
        let mut options = Self::default();
        let mut propagation = query.get("propagationPolicy").to_owned();
        let mut orphan = query.flag("orphanDependents");
        let mut dry_runs: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
        options.grace = query.get("gracePeriodSeconds").parse().ok();
        if let Some(body) = body {
            options.grace = object::int(body, &["gracePeriodSeconds"]).or(options.grace);
            let policy = object::text(body, &["propagationPolicy"]);
            if !policy.is_empty() {
                propagation = policy.to_owned();
            }
            orphan = object::at(body, &["orphanDependents"]).and_then(Value::as_bool).or(orphan);
            dry_runs.extend(object::list(body, &["dryRun"]).iter().filter_map(Value::as_str).map(str::to_owned));
            let text = |key: &str| object::at(body, &["preconditions", key]).and_then(Value::as_str).map(str::to_owned);
            options.uid = text("uid");
            options.resource_version = text("resourceVersion");
        }
        options.dry_run = dry_run(dry_runs.iter().map(String::as_str), "DeleteOptions")?;
        if !propagation.is_empty() && orphan.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            causes.push(Cause::invalid("propagationPolicy", &json!(propagation), why));
        }
        options.propagation = match propagation.as_str() {
            "" => orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
            "Foreground" => Some(Propagation::Foreground),
            "Background" => Some(Propagation::Background),
            "Orphan" => Some(Propagation::Orphan),
            other => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                causes.push(Cause::not_supported("propagationPolicy", &json!(other), &supported));
                None
            }
        };
        if causes.is_empty() { Ok(options) } else { Err(invalid("DeleteOptions", causes)) }
    }
}

/// How a `resourceVersion` of a list or watch is to be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The newest state.
    Newest,
    /// Any state (`0`).
    Any,
    /// At least this revision.
    NotOlderThan(u64),
    /// Exactly this revision.
    Exact(u64),
}

/// Options of a list or watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// Which state.
    pub version: Match,
    /// Most items of one answer; 0 is no limit.
    pub limit: usize,
    /// Where to go on.
    pub from: Option<Continue>,
    /// Seconds after which a watch ends.
    pub timeout: Option<u64>,
    /// Whether a watch tells its progress.
    pub bookmarks: bool,
    /// Whether a watch starts with the state.
    pub initial_events: Option<bool>,
}

/// Where a list goes on: the state it is of, and the last key it had.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Continue {
    /// Version of the token's form.
    #[serde(rename = "v")]
    version: String,
    /// The revision of the first page.
    #[serde(rename = "rv")]
    pub revision: u64,
    /// The last key that was shown.
    #[serde(rename = "start")]
    pub after: String,
}

const CONTINUE_VERSION: &str = "martello/1";

impl Continue {
    /// A token for what follows `after` in the state of `revision`.
    #[must_use]
    pub fn new(revision: u64, after: String) -> Self {
        Self { version: CONTINUE_VERSION.to_owned(), revision, after }
    }

    /// As the client gets it.
    #[must_use]
    pub fn encode(&self) -> String {
        use base64::Engine as _;
        let json = serde_json::to_vec(self).unwrap_or_default();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    }

    fn decode(token: &str) -> Result<Self, ApiError> {
        use base64::Engine as _;
        let bad =
            |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let json = engine.decode(token).map_err(|error| match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
                bad(format!("illegal base64 data at input byte {at}"))
            }
            _ => bad(format!("illegal base64 data at input byte {}", token.len())),
        })?;
        let decoded: Self = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
        if decoded.version == CONTINUE_VERSION {
            Ok(decoded)
        } else {
            Err(bad(format!("server does not recognize this encoded version {:?}", decoded.version)))
        }
    }
}

/// A revision, as upstream reads and refuses it.
pub fn parse_revision(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")
    })
}

/// A whole number of the query; 0 where it is not given.
fn whole(query: &Query, name: &str) -> Result<i64, ApiError> {
    match query.get(name) {
        "" => Ok(0),
        text => text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("{name}: strconv.ParseInt: parsing {text:?}: invalid syntax"))),
    }
}

impl ListOptions {
    /// Reads the options of a list or, if `watch`, of a watch.
    pub fn read(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let (rv, rule, token) =
            (query.get("resourceVersion"), query.get("resourceVersionMatch"), query.get("continue"));
        let initial_events = query.flag("sendInitialEvents");
        let bookmarks = query.flag("allowWatchBookmarks").unwrap_or(false);
        check_match(rv, rule, token, watch, initial_events, bookmarks)?;
        let limit = usize::try_from(whole(query, "limit")?).unwrap_or(0);
        let timeout = u64::try_from(whole(query, "timeoutSeconds")?).ok().filter(|seconds| *seconds > 0);
        let from = match token {
            "" => None,
            _ if watch => None,
            _ if !matches!(rv, "" | "0") => {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            token => Some(Continue::decode(token)?),
        };
        let number = parse_revision(rv).map_err(|why| {
            if watch {
                ApiError::new(500, "", why)
            } else {
                ApiError::bad_request(format!("invalid resource version: {why}"))
            }
        })?;
        let version = match (number, rule) {
            (None, _) => Match::Newest,
            (Some(0), _) => Match::Any,
            (Some(number), "Exact") => Match::Exact(number),
            (Some(number), "") if limit > 0 && !watch => Match::Exact(number),
            (Some(number), _) => Match::NotOlderThan(number),
        };
        Ok(Self { version, limit, from, timeout, bookmarks, initial_events })
    }
}

/// Which combinations of options are refused.
fn check_match(
    rv: &str,
    rule: &str,
    token: &str,
    watch: bool,
    initial_events: Option<bool>,
    bookmarks: bool,
) -> Result<(), ApiError> {
    const PATH: &str = "resourceVersionMatch";
    let mut causes = Vec::new();
    let forbid = |why: &str| Cause::forbidden(PATH, why);
    match (watch, initial_events) {
        (true, Some(_)) => {
            if rule.is_empty() {
                causes.push(forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
            } else if rule != "NotOlderThan" {
                causes.push(Cause::not_supported(PATH, &json!(rule), &["NotOlderThan"]));
            }
            if initial_events == Some(true) && !bookmarks {
                let why = "sendInitialEvents requires setting allowWatchBookmarks to true";
                causes.push(Cause::forbidden("sendInitialEvents", why));
            }
        }
        (true, None) => {
            if !rule.is_empty() {
                causes.push(forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
            }
        }
        (false, Some(_)) => {
            causes.push(Cause::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        (false, None) if !rule.is_empty() => {
            if !token.is_empty() {
                causes.push(forbid("resourceVersionMatch is forbidden when continue is provided"));
            } else if rv.is_empty() {
                causes.push(forbid("resourceVersionMatch is forbidden unless resourceVersion is provided"));
            } else if rule == "Exact" && rv == "0" {
                causes.push(forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
            } else if !matches!(rule, "Exact" | "NotOlderThan") {
                causes.push(Cause::not_supported(PATH, &json!(rule), &["Exact", "NotOlderThan", ""]));
            }
        }
        (false, None) => {}
    }
    if causes.is_empty() { Ok(()) } else { Err(invalid("ListOptions", causes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_to_go_on() {
        let token = Continue::new(7, "shop/web".into());
        assert_eq!(Continue::decode(&token.encode()), Ok(token));
        let error = Continue::decode("garbage!").unwrap_err();
        assert_eq!(
            error.message,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 7"
        );
    }

    #[test]
    fn odd_combinations_are_refused() {
        let read = |query: &str, watch| ListOptions::read(&Query::parse(query), watch);
        assert_eq!(read("resourceVersion=5&limit=2", false).unwrap().version, Match::Exact(5));
        assert_eq!(read("resourceVersion=5", false).unwrap().version, Match::NotOlderThan(5));
        assert_eq!(read("resourceVersion=abc", false).unwrap_err().code, 400);
        assert_eq!(read("resourceVersion=abc", true).unwrap_err().code, 500);
        assert_eq!(read("resourceVersion=1&resourceVersionMatch=NotOlderThan", true).unwrap_err().code, 422);
        assert_eq!(read("resourceVersion=0&resourceVersionMatch=Exact", false).unwrap_err().code, 422);
        assert!(
            read("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", true).is_ok()
        );
    }

    #[test]
    fn delete_options_come_from_body_or_query() {
        let options = DeleteOptions::read(&Query::parse("gracePeriodSeconds=5"), None).unwrap();
        assert_eq!(options.grace, Some(5));
        let body = json!({"propagationPolicy": "Orphan", "preconditions": {"uid": "u"}, "gracePeriodSeconds": 0});
        let options = DeleteOptions::read(&Query::default(), Some(&body)).unwrap();
        assert_eq!(
            (options.propagation, options.uid.as_deref(), options.grace),
            (Some(Propagation::Orphan), Some("u"), Some(0))
        );
        assert_eq!(DeleteOptions::read(&Query::parse("dryRun=Some"), None).unwrap_err().code, 422);
    }
}
