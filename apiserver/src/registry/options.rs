//! Options of the verbs, read from query and body, and refused as upstream refuses them.

use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::object;
use crate::http::query::Query;

const META: &str = "meta.k8s.io";

fn invalid(kind: &str, causes: Vec<Cause>) -> ApiError {
    ApiError::invalid(META, kind, "", causes)
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

/// Longest name of a field manager.
pub const MAX_MANAGER_BYTES: usize = 128;

/// Options that creates, updates and patches share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Nothing may be kept.
    pub dry_run: bool,
    /// How unknown and duplicate fields are met; `Warn` where nothing is said.
    pub strictness: FieldValidation,
}

impl WriteOptions {
    /// Reads them; `kind` names the options of the verb in messages.
    pub fn read(query: &Query, kind: &str) -> Result<Self, ApiError> {
        Self::read_after(query, kind, Vec::new())
    }

    /// Reads those of a patch, which has rules of its own for an apply.
    pub fn read_patch(query: &Query, apply: bool) -> Result<Self, ApiError> {
        let mut causes = Vec::new();
        if apply && query.get("fieldManager").is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
        if !apply && query.has("force") {
            causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
        }
        Self::read_after(query, "PatchOptions", causes)
    }

    fn read_after(query: &Query, kind: &str, mut causes: Vec<Cause>) -> Result<Self, ApiError> {
        check_manager(query.get("fieldManager"), &mut causes);
        let dry_run = check_dry_run(&query.all("dryRun").collect::<Vec<_>>(), &mut causes);
        let strictness = match query.get("fieldValidation") {
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            "" | "Warn" => FieldValidation::Warn,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                causes.push(Cause::not_supported("fieldValidation", &json!(other), &supported));
                FieldValidation::Warn
            }
        };
        if causes.is_empty() { Ok(Self { dry_run, strictness }) } else { Err(invalid(kind, causes)) }
    }
}

fn check_manager(manager: &str, causes: &mut Vec<Cause>) {
    if manager.len() > MAX_MANAGER_BYTES {
        causes.push(Cause::too_long("fieldManager", MAX_MANAGER_BYTES));
    }
    for (at, _) in manager.char_indices().filter(|(_, character)| !is_printable(*character)) {
        let why = format!("should only contain printable characters (invalid character at index {at})");
        causes.push(Cause::invalid("fieldManager", &json!(manager), &why));
    }
}

/// What Go prints: letters, marks, numbers, signs and the plain blank.
#[must_use]
pub fn is_printable(character: char) -> bool {
    character == ' ' || !(character.is_control() || character.is_whitespace() || character == '\u{feff}')
}

/// `dryRun`: nothing, or `All`.
fn check_dry_run(values: &[&str], causes: &mut Vec<Cause>) -> bool {
    if values.iter().any(|value| *value != "All") {
        causes.push(Cause::not_supported("dryRun", &json!(values), &["All"]));
    }
    !values.is_empty()
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
    /// Whether the deprecated `orphanDependents` was false: an object that is not gone at once is answered as accepted.
    pub waits: bool,
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

/// Breaks what can't be read out of the store; nothing here is ever so broken that it would help.
const UNSAFE_DELETE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

impl DeleteOptions {
    /// Reads them from the body, or from the query where there is no body: of the two only one counts.
    pub fn read(query: &Query, body: Option<&Value>) -> Result<Self, ApiError> {
        match body {
            Some(body) => Self::of_body(body),
            None => Self::of_query(query),
        }
    }

    fn of_body(body: &Value) -> Result<Self, ApiError> {
        let text = |path: &[&str]| object::at(body, path).and_then(Value::as_str).map(str::to_owned);
        let dry_runs: Vec<&str> = object::list(body, &["dryRun"]).iter().filter_map(Value::as_str).collect();
        let given = Given {
            grace: object::int(body, &["gracePeriodSeconds"]),
            propagation: text(&["propagationPolicy"]),
            orphan: object::at(body, &["orphanDependents"]).and_then(Value::as_bool),
            dry_runs,
            preconditions: object::at(body, &["preconditions"]).is_some(),
            unsafely: object::flag(body, &[UNSAFE_DELETE]),
        };
        let mut options = given.judge()?;
        options.uid = text(&["preconditions", "uid"]);
        options.resource_version = text(&["preconditions", "resourceVersion"]);
        Ok(options)
    }

    fn of_query(query: &Query) -> Result<Self, ApiError> {
        let given = Given {
            grace: number(query, "gracePeriodSeconds")?,
            propagation: query.has("propagationPolicy").then(|| query.get("propagationPolicy").to_owned()),
            orphan: query.flag("orphanDependents"),
            dry_runs: query.all("dryRun").collect(),
            preconditions: false,
            unsafely: query.flag(UNSAFE_DELETE) == Some(true),
        };
        given.judge()
    }
}

/// Options of a delete as they were given.
struct Given<'a> {
    grace: Option<i64>,
    propagation: Option<String>,
    orphan: Option<bool>,
    dry_runs: Vec<&'a str>,
    preconditions: bool,
    unsafely: bool,
}

impl Given<'_> {
    fn judge(self) -> Result<DeleteOptions, ApiError> {
        let mut causes = Vec::new();
        if let (Some(policy), Some(_)) = (&self.propagation, self.orphan) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            causes.push(Cause::invalid("propagationPolicy", &json!(policy), why));
        }
        let propagation = match self.propagation.as_deref() {
            None => self.orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                causes.push(Cause::not_supported("propagationPolicy", &json!(other), &supported));
                None
            }
        };
        let dry_run = check_dry_run(&self.dry_runs, &mut causes);
        if self.unsafely {
            self.judge_unsafe(&mut causes);
        }
        if !causes.is_empty() {
            return Err(invalid("DeleteOptions", causes));
        }
        Ok(DeleteOptions {
            dry_run,
            grace: self.grace,
            propagation,
            waits: self.orphan == Some(false),
            ..DeleteOptions::default()
        })
    }

    fn judge_unsafe(&self, causes: &mut Vec<Cause>) {
        let before = causes.len();
        let others = [
            (!self.dry_runs.is_empty(), "dryRun"),
            (self.propagation.is_some(), "propagationPolicy"),
            (self.orphan.is_some(), "orphanDependents"),
            (self.grace.is_some(), "gracePeriodSeconds"),
            (self.preconditions, "preconditions"),
        ];
        for (_, other) in others.into_iter().filter(|(given, _)| *given) {
            let why = format!("cannot be set together with .{other}");
            causes.push(Cause::invalid(UNSAFE_DELETE, &json!(true), &why));
        }
        if causes.len() == before {
            causes.push(Cause::forbidden(UNSAFE_DELETE, "objects that can't be read are never removed unread"));
        }
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

/// Where a list goes on: the state it is of, and the key that comes first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Continue {
    /// Version of the token's form.
    #[serde(rename = "v", default)]
    version: String,
    /// The revision of the first page; [`Continue::NEWEST`] where that is no longer kept.
    #[serde(rename = "rv", default)]
    revision: i64,
    /// The last key that was shown, and a zero behind it: the least key after it.
    #[serde(rename = "start", default)]
    start: String,
}

const CONTINUE_VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    /// The revision of tokens that go on in whatever state there is.
    const NEWEST: i64 = -1;

    /// A token for what follows `after` in the state of `revision`.
    #[must_use]
    pub fn new(revision: u64, after: &str) -> Self {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        Self { version: CONTINUE_VERSION.to_owned(), revision, start: format!("{after}\0") }
    }

    /// The same place in the newest state, for a list whose state is gone.
    #[must_use]
    pub fn in_newest(&self) -> Self {
        Self { revision: Self::NEWEST, ..self.clone() }
    }

    /// The state to go on in; none for the newest.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        u64::try_from(self.revision).ok()
    }

    /// The last key that was shown.
    #[must_use]
    pub fn after(&self) -> &str {
        self.start.trim_end_matches('\0').trim_start_matches('/')
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
            // Go names the last whole group of four.
            _ => bad(format!("illegal base64 data at input byte {}", token.len() / 4 * 4)),
        })?;
        if let Err(error) = martello_api::schema::parse_json(&json) {
            return Err(bad(error.to_string()));
        }
        let decoded: Self = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
        match &decoded {
            other if other.version != CONTINUE_VERSION => {
                Err(bad(format!("server does not recognize this encoded version {:?}", other.version)))
            }
            Self { revision: 0, .. } => {
                Err(bad(format!("incorrect encoded start resourceVersion (version {CONTINUE_VERSION})")))
            }
            Self { start, .. } if start.is_empty() => {
                Err(bad(format!("encoded start key empty (version {CONTINUE_VERSION})")))
            }
            Self { start, .. } if start.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) => {
                Err(bad(start.clone()))
            }
            _ => Ok(decoded),
        }
    }
}

/// A revision, as upstream reads and refuses it.
pub fn parse_revision(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let why = number_fault(text);
        format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}")
    })
}

/// What Go says of a text that is no number of 64 bits.
fn number_fault(text: &str) -> &'static str {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole && !text.starts_with('-') { "value out of range" } else { "invalid syntax" }
}

/// A whole number of the query; none where it is not given.
fn number(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    if !query.has(name) {
        return Ok(None);
    }
    let text = query.get(name);
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {text:?}: {}",
            number_fault(text.trim_start_matches('-'))
        ))
    })
}

impl ListOptions {
    /// Reads the options of a list or, if `watch`, of a watch.
    pub fn read(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let (rv, token) = (query.get("resourceVersion"), query.get("continue"));
        let (mut rule, mut initial_events) = (query.get("resourceVersionMatch"), query.flag("sendInitialEvents"));
        let bookmarks = query.flag("allowWatchBookmarks").unwrap_or(false);
        let timeout = number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        let limit = usize::try_from(number(query, "limit")?.unwrap_or(0)).unwrap_or(0);
        if watch && initial_events.is_none() && rule.is_empty() && matches!(rv, "" | "0") {
            // Watches of old begin with the state, too.
            (initial_events, rule) = (Some(true), "NotOlderThan");
        }
        let mut causes = Vec::new();
        if watch {
            check_watch(rule, token, initial_events, &mut causes);
        } else {
            check_list(rv, rule, token, initial_events, &mut causes);
        }
        if !causes.is_empty() {
            return Err(invalid("ListOptions", causes));
        }
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
        let timeout = timeout.filter(|seconds| *seconds > 0);
        Ok(Self { version, limit, from, timeout, bookmarks, initial_events })
    }
}

const MATCH: &str = "resourceVersionMatch";
const WITH_CONTINUE: &str = "resourceVersionMatch is forbidden when continue is provided";

/// Which combinations of options are refused of a list.
fn check_list(rv: &str, rule: &str, token: &str, initial_events: Option<bool>, causes: &mut Vec<Cause>) {
    if !rule.is_empty() {
        if rv.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            causes.push(Cause::forbidden(MATCH, why));
        }
        if !token.is_empty() {
            causes.push(Cause::forbidden(MATCH, WITH_CONTINUE));
        }
        if !matches!(rule, "Exact" | "NotOlderThan") {
            causes.push(Cause::not_supported(MATCH, &json!(rule), &["Exact", "NotOlderThan", ""]));
        }
        if rule == "Exact" && rv == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(Cause::forbidden(MATCH, why));
        }
    }
    if initial_events.is_some() {
        causes.push(Cause::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
}

/// Which combinations of options are refused of a watch.
fn check_watch(rule: &str, token: &str, initial_events: Option<bool>, causes: &mut Vec<Cause>) {
    if initial_events.is_some() && rule != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        causes.push(Cause::forbidden(MATCH, why));
    }
    if rule.is_empty() {
        return;
    }
    if initial_events.is_none() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        causes.push(Cause::forbidden(MATCH, why));
    }
    if rule != "NotOlderThan" {
        causes.push(Cause::not_supported(MATCH, &json!(rule), &["NotOlderThan"]));
    }
    if !token.is_empty() {
        causes.push(Cause::forbidden(MATCH, WITH_CONTINUE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        result.unwrap_err().message
    }

    fn causes<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Vec<String> {
        result.unwrap_err().details.unwrap().causes.into_iter().map(|cause| cause.message).collect()
    }

    #[test]
    fn a_token_says_where_to_go_on() {
        let token = Continue::new(7, "shop/web");
        let read = Continue::decode(&token.encode()).unwrap();
        assert_eq!((read.revision(), read.after()), (Some(7), "shop/web"));
        let newest = Continue::decode(&token.in_newest().encode()).unwrap();
        assert_eq!((newest.revision(), newest.after()), (None, "shop/web"));
    }

    #[test]
    fn tokens_that_no_list_gave_are_refused() {
        use base64::Engine as _;
        let decode = |json: &str| {
            let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
            message(Continue::decode(&token)).split_off("invalid continue token: continue key is not valid: ".len())
        };
        assert!(message(Continue::decode("garbage!")).ends_with("illegal base64 data at input byte 7"));
        assert_eq!(decode("{"), "unexpected end of JSON input");
        assert_eq!(decode(r#"{"v":"x","rv":1,"start":"a"}"#), "server does not recognize this encoded version \"x\"");
        assert_eq!(
            decode(r#"{"v":"meta.k8s.io/v1"}"#),
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
        );
        assert_eq!(decode(r#"{"v":"meta.k8s.io/v1","rv":1}"#), "encoded start key empty (version meta.k8s.io/v1)");
        assert_eq!(decode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a/../b"}"#), "a/../b");
    }

    fn list(query: &str) -> Result<ListOptions, ApiError> {
        ListOptions::read(&Query::parse(query), false)
    }

    fn watch(query: &str) -> Result<ListOptions, ApiError> {
        ListOptions::read(&Query::parse(query), true)
    }

    #[test]
    fn a_list_reads_the_state_that_its_options_ask_for() {
        for (query, version) in [
            ("", Match::Newest),
            ("resourceVersion=0", Match::Any),
            ("resourceVersion=0&limit=2", Match::Any),
            ("resourceVersion=5", Match::NotOlderThan(5)),
            ("resourceVersion=5&limit=2", Match::Exact(5)),
            ("resourceVersion=5&limit=2&resourceVersionMatch=NotOlderThan", Match::NotOlderThan(5)),
            ("resourceVersion=5&resourceVersionMatch=Exact", Match::Exact(5)),
        ] {
            assert_eq!(list(query).unwrap().version, version, "{query}");
        }
        assert_eq!(list("resourceVersion=abc").unwrap_err().code, 400);
        assert_eq!(watch("resourceVersion=abc").unwrap_err().code, 500);
        assert_eq!(message(list("limit=x")), "strconv.ParseInt: parsing \"x\": invalid syntax");
        assert_eq!(
            message(list("limit=99999999999999999999")),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
        assert_eq!(list("limit=-1").unwrap().limit, 0);
    }

    #[test]
    fn odd_combinations_of_list_options_are_refused() {
        let unless = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
        let unknown = "Unsupported value: \"Frob\": supported values: \"Exact\", \"NotOlderThan\", \"\"";
        assert_eq!(causes(list("resourceVersionMatch=Frob")), [unless, unknown]);
        assert_eq!(
            causes(list("resourceVersionMatch=Exact&continue=x")),
            [unless, &format!("Forbidden: {WITH_CONTINUE}")]
        );
        assert_eq!(causes(list("resourceVersion=0&resourceVersionMatch=Exact")).len(), 1);
        assert_eq!(causes(list("sendInitialEvents=false")), ["Forbidden: sendInitialEvents is forbidden for list"]);
        assert_eq!(
            message(list("continue=eA&resourceVersion=5")),
            "specifying resource version is not allowed when using continue"
        );
    }

    #[test]
    fn odd_combinations_of_watch_options_are_refused() {
        let requires = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        assert_eq!(causes(watch("sendInitialEvents=false")), [requires]);
        assert_eq!(
            causes(watch("sendInitialEvents=true&resourceVersionMatch=Exact")),
            [requires, "Unsupported value: \"Exact\": supported values: \"NotOlderThan\""]
        );
        assert_eq!(
            causes(watch("resourceVersion=1&resourceVersionMatch=NotOlderThan")),
            ["Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"]
        );
        assert_eq!(causes(watch("continue=x")), [format!("Forbidden: {WITH_CONTINUE}")]);
        assert_eq!(watch("resourceVersion=1").unwrap().initial_events, None);
        for query in ["", "resourceVersion=0", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan"] {
            assert_eq!(watch(query).unwrap().initial_events, Some(true), "{query}");
        }
    }

    #[test]
    fn delete_options_come_from_the_body_or_else_from_the_query() {
        let query = Query::parse("gracePeriodSeconds=5&dryRun=Some");
        assert_eq!(DeleteOptions::read(&Query::parse("gracePeriodSeconds=5"), None).unwrap().grace, Some(5));
        let body = json!({"propagationPolicy": "Orphan", "preconditions": {"uid": "u"}});
        let options = DeleteOptions::read(&query, Some(&body)).unwrap();
        assert_eq!(
            (options.propagation, options.uid.as_deref(), options.grace, options.dry_run),
            (Some(Propagation::Orphan), Some("u"), None, false)
        );
        assert_eq!(DeleteOptions::read(&query, None).unwrap_err().code, 422);
        assert_eq!(
            message(DeleteOptions::read(&Query::parse("gracePeriodSeconds="), None)),
            "strconv.ParseInt: parsing \"\": invalid syntax"
        );
    }

    #[test]
    fn every_fault_of_delete_options_is_told() {
        let read = |body: Value| causes(DeleteOptions::read(&Query::default(), Some(&body)));
        assert_eq!(
            read(json!({"propagationPolicy": "", "orphanDependents": true, "dryRun": ["x"]})),
            [
                "Invalid value: \"\": orphanDependents and deletionPropagation cannot be both set",
                "Unsupported value: \"\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
                "Unsupported value: [\"x\"]: supported values: \"All\"",
            ]
        );
        assert_eq!(
            read(json!({UNSAFE_DELETE: true, "gracePeriodSeconds": 0, "preconditions": {}})),
            [
                "Invalid value: true: cannot be set together with .gracePeriodSeconds",
                "Invalid value: true: cannot be set together with .preconditions"
            ]
        );
        assert_eq!(read(json!({UNSAFE_DELETE: true})).len(), 1);
    }

    #[test]
    fn every_fault_of_write_options_is_told() {
        let read = |query: &str, apply| WriteOptions::read_patch(&Query::parse(query), apply);
        assert_eq!(
            causes(read("force=1&dryRun=x&fieldValidation=y&fieldManager=a%0A", false)),
            [
                "Forbidden: may not be specified for non-apply patch",
                "Invalid value: \"a\\n\": should only contain printable characters (invalid character at index 1)",
                "Unsupported value: [\"x\"]: supported values: \"All\"",
                "Unsupported value: \"y\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ]
        );
        let long = format!("fieldManager={}", "x".repeat(MAX_MANAGER_BYTES + 1));
        assert_eq!(causes(read(&long, true)), ["Too long: may not be more than 128 bytes"]);
        assert_eq!(causes(read("", true)), ["Required value: is required for apply patch"]);
        let read = read("dryRun=All&dryRun=All&fieldValidation=Strict", false).unwrap();
        assert_eq!(read, WriteOptions { dry_run: true, strictness: FieldValidation::Strict });
    }
}
