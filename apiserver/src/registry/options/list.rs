//! Options of lists and watches.

use martello_api::{
    go,
    status::{ApiError, Cause},
};
use serde_json::json;

use super::{Continue, invalid, number, number_fault};
use crate::http::query::Query;

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

/// The options of a list or watch as they were asked for. They are read, judged and settled one after the other, since
/// selectors are looked at in between.
pub struct Asked<'q> {
    rv: &'q str,
    rule: &'q str,
    token: &'q str,
    limit: usize,
    timeout: Option<u64>,
    bookmarks: bool,
    initial_events: Option<bool>,
    watch: bool,
}

impl<'q> Asked<'q> {
    /// Reads the options of a list or, if `watch`, of a watch.
    pub fn read(query: &'q Query, watch: bool) -> Result<Self, ApiError> {
        let timeout = number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        let limit = usize::try_from(number(query, "limit")?.unwrap_or(0)).unwrap_or(0);
        let mut asked = Self {
            rv: query.get("resourceVersion"),
            rule: query.get("resourceVersionMatch"),
            token: query.get("continue"),
            limit,
            timeout: timeout.filter(|seconds| *seconds > 0),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            initial_events: query.flag("sendInitialEvents"),
            watch,
        };
        if watch && asked.initial_events.is_none() && asked.rule.is_empty() && matches!(asked.rv, "" | "0") {
            // Watches of old begin with the state, too.
            (asked.initial_events, asked.rule) = (Some(true), "NotOlderThan");
        }
        Ok(asked)
    }

    /// Refuses combinations that make no sense.
    pub fn judge(&self) -> Result<(), ApiError> {
        let mut causes = Vec::new();
        if self.watch {
            check_watch(self.rule, self.token, self.initial_events, &mut causes);
        } else {
            check_list(self.rv, self.rule, self.token, self.initial_events, &mut causes);
        }
        if causes.is_empty() { Ok(()) } else { Err(invalid("ListOptions", causes)) }
    }

    /// Finds out which state is asked for.
    pub fn settle(&self) -> Result<ListOptions, ApiError> {
        let from = match self.token {
            "" => None,
            _ if self.watch => None,
            token => Some(Continue::decode(token)?),
        };
        if from.is_some() && !matches!(self.rv, "" | "0") {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        let number = parse_revision(self.rv).map_err(|why| {
            if self.watch {
                ApiError::new(500, "", why)
            } else {
                ApiError::bad_request(format!("invalid resource version: {why}"))
            }
        })?;
        let version = match (number, self.rule) {
            (None, _) => Match::Newest,
            (Some(0), _) => Match::Any,
            (Some(number), "Exact") => Match::Exact(number),
            (Some(number), "") if self.limit > 0 && !self.watch => Match::Exact(number),
            (Some(number), _) => Match::NotOlderThan(number),
        };
        Ok(ListOptions {
            version,
            limit: self.limit,
            from,
            timeout: self.timeout,
            bookmarks: self.bookmarks,
            initial_events: self.initial_events,
        })
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

/// A revision, as upstream reads and refuses it.
pub fn parse_revision(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let signed = text.starts_with('+');
    text.parse().ok().filter(|_| !signed).map(Some).ok_or_else(|| {
        // A number without a sign has none, not even a plus.
        let why = if signed { "invalid syntax" } else { number_fault(text) };
        let shown = go::quoted(text);
        format!("resourceVersion: Invalid value: {shown}: strconv.ParseUint: parsing {shown}: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{causes, message},
        *,
    };

    fn read(query: &str, watch: bool) -> Result<ListOptions, ApiError> {
        let query = Query::parse(query);
        let asked = Asked::read(&query, watch)?;
        asked.judge()?;
        asked.settle()
    }

    fn list(query: &str) -> Result<ListOptions, ApiError> {
        read(query, false)
    }

    fn watch(query: &str) -> Result<ListOptions, ApiError> {
        read(query, true)
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
        assert_eq!(
            message(list("resourceVersion=%2B1")),
            "invalid resource version: resourceVersion: Invalid value: \"+1\": strconv.ParseUint: parsing \"+1\": invalid syntax"
        );
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
            message(list(&format!("continue={}&resourceVersion=5", Continue::new(1, "a").encode()))),
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
}
