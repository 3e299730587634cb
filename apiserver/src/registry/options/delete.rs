//! Options of a delete.

use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::{check_dry_run, invalid, number};
use crate::{http::query::Query, registry::object};

/// Options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Nothing may be kept.
    pub dry_run: bool,
    /// Seconds to end.
    pub grace: Option<i64>,
    /// `Foreground`, `Background`, `Orphan`, or the deprecated `orphanDependents`.
    pub propagation: Option<Propagation>,
    /// The deprecated `orphanDependents`, where that was given.
    pub orphan: Option<bool>,
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

impl Propagation {
    /// As clients write it.
    fn name(self) -> &'static str {
        match self {
            Self::Foreground => "Foreground",
            Self::Background => "Background",
            Self::Orphan => "Orphan",
        }
    }
}

/// Breaks what can't be read out of the store; nothing here is ever so broken that it would help.
pub const UNSAFE_DELETE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

impl DeleteOptions {
    /// Reads them from the body, or from the query where there is no body: of the two only one counts.
    pub fn read(query: &Query, body: Option<&Value>) -> Result<Self, ApiError> {
        match body {
            Some(body) => Self::of_body(body),
            None => Self::of_query(query),
        }
    }

    /// As policies and webhooks see them.
    #[must_use]
    pub fn shown(&self) -> Value {
        let mut shown = serde_json::Map::new();
        shown.insert("kind".into(), "DeleteOptions".into());
        shown.insert("apiVersion".into(), "meta.k8s.io/v1".into());
        if let Some(grace) = self.grace {
            shown.insert("gracePeriodSeconds".into(), grace.into());
        }
        let held = [("uid", &self.uid), ("resourceVersion", &self.resource_version)];
        let held: serde_json::Map<String, Value> =
            held.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.as_deref()?.into()))).collect();
        if !held.is_empty() {
            shown.insert("preconditions".into(), held.into());
        }
        match (self.orphan, self.propagation) {
            (Some(orphan), _) => drop(shown.insert("orphanDependents".into(), orphan.into())),
            (None, Some(propagation)) => drop(shown.insert("propagationPolicy".into(), propagation.name().into())),
            (None, None) => {}
        }
        if self.dry_run {
            shown.insert("dryRun".into(), json!(["All"]));
        }
        shown.into()
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
        // What the object must be is told by names of its own, and by nothing where they are empty.
        let held = |name: &str| Some(query.get(name).to_owned()).filter(|value| !value.is_empty());
        let given = Given {
            grace: number(query, "gracePeriodSeconds")?,
            propagation: query.has("propagationPolicy").then(|| query.get("propagationPolicy").to_owned()),
            orphan: query.flag("orphanDependents"),
            dry_runs: query.all("dryRun").collect(),
            preconditions: held("uid").is_some() || held("resourceVersion").is_some(),
            unsafely: query.flag(UNSAFE_DELETE) == Some(true),
        };
        let mut options = given.judge()?;
        (options.uid, options.resource_version) = (held("uid"), held("resourceVersion"));
        Ok(options)
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
            orphan: self.orphan,
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

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{causes, message},
        *,
    };

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
        let held = DeleteOptions::read(&Query::parse("uid=u&resourceVersion=5"), None).unwrap();
        assert_eq!((held.uid.as_deref(), held.resource_version.as_deref()), (Some("u"), Some("5")));
        assert_eq!(
            DeleteOptions::read(&Query::parse("uid=&resourceVersion="), None).unwrap(),
            DeleteOptions::default()
        );
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
}
