//! Failure as Kubernetes tells it: `meta/v1 Status` with upstream's codes, reasons and message forms.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::go;

/// A failed call: everything that goes into a `Status` object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, for instance `NotFound`; empty where upstream leaves it empty.
    pub reason: String,
    /// What was attempted, on what, and why it failed.
    pub message: String,
    /// What it was about. Boxed, so that the result of a call that may fail stays small.
    pub details: Option<Box<Details>>,
    /// Where a list that can't go on consistently may go on inconsistently.
    pub resume: Option<String>,
}

/// `meta/v1 StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Kind for invalid objects, plural resource otherwise, as upstream does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Each thing that was wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds after which to try again.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// `meta/v1 StatusCause`: one thing that was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// For instance `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Path of the field, for instance `spec.containers[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Group and plural name of a resource, as messages write it: `deployments.apps`, `pods`.
#[must_use]
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// Most causes of one failure that are told: a body of a few megabytes can hold a million faults, and an answer that told
/// them all would be a hundred times as long.
const MOST_CAUSES: usize = 10_000;

impl ApiError {
    /// A failure without details.
    #[must_use]
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: None, resume: None }
    }

    fn about(code: u16, reason: &str, message: String, group: &str, kind: &str, name: &str) -> Self {
        let details = Details { name: name.into(), group: group.into(), kind: kind.into(), ..Details::default() };
        Self { code, reason: reason.to_owned(), message, details: Some(Box::new(details)), resume: None }
    }

    /// 404: `pods "x" not found`.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(group, resource), go::quoted(name));
        Self::about(404, "NotFound", message, group, resource, name)
    }

    /// 404 for a path that no route serves.
    #[must_use]
    pub fn no_such_route() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(Box::default());
        error
    }

    /// 503 for a path of which nobody knows yet whether it is served: the server has just started.
    #[must_use]
    pub fn not_known_yet() -> Self {
        let message = "the request has been made before all known HTTP paths have been installed, please try again";
        let mut error = Self::new(503, "ServiceUnavailable", message);
        error.details = Some(Box::new(Details { retry_after_seconds: 5, ..Details::default() }));
        error
    }

    /// 409: `pods "x" already exists`.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} already exists", qualified(group, resource), go::quoted(name));
        Self::about(409, "AlreadyExists", message, group, resource, name)
    }

    /// 409: `Operation cannot be fulfilled on pods "x": why`.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let (qualified, quoted) = (qualified(group, resource), go::quoted(name));
        let message = format!("Operation cannot be fulfilled on {qualified} {quoted}: {why}");
        Self::about(409, "Conflict", message, group, resource, name)
    }

    /// 403: `pods "x" is forbidden: why`, or `pods is forbidden: why` for a collection.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let qualified = qualified(group, resource);
        let message = match (qualified.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{qualified} is forbidden: {why}"),
            (false, false) => format!("{qualified} {} is forbidden: {why}", go::quoted(name)),
        };
        Self::about(403, "Forbidden", message, group, resource, name)
    }

    /// 422: `Pod "x" is invalid: …`, with a cause per error. `kind` may carry no group in the message for the core group.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, mut causes: Vec<Cause>) -> Self {
        let untold = causes.len().saturating_sub(MOST_CAUSES);
        causes.truncate(MOST_CAUSES);
        let mut lines: Vec<String> = Vec::with_capacity(causes.len());
        let mut told: HashSet<(&str, &str)> = HashSet::with_capacity(causes.len());
        for Cause { field, message, .. } in &causes {
            if told.insert((field, message)) {
                lines.push(format!("{field}: {message}"));
            }
        }
        if untold > 0 {
            lines.push(format!("and {untold} more"));
        }
        let listed = match lines.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let message = format!("{} {} is invalid{listed}", qualified(group, kind), go::quoted(name));
        let mut error = Self::about(422, "Invalid", message, group, kind, name);
        if let Some(details) = &mut error.details {
            details.causes = causes;
        }
        error
    }

    /// 400.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let mut error =
            Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        error.details = Some(Box::default());
        error
    }

    /// 405: `create is not supported on resources of kind "pods"`.
    #[must_use]
    pub fn method_not_supported(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource));
        Self::about(405, "MethodNotAllowed", message, group, resource, "")
    }

    /// 410: the resource version asked for is no longer kept.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 500: `Internal error occurred: why`.
    #[must_use]
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let mut error = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        let causes = vec![Cause { message: why.to_string(), ..Cause::default() }];
        error.details = Some(Box::new(Details { causes, ..Details::default() }));
        error
    }

    /// 503.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The `Status` object of this failure.
    #[must_use]
    pub fn to_status(&self) -> serde_json::Value {
        let mut status = serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        });
        if let Some(map) = status.as_object_mut() {
            if let Some(token) = &self.resume {
                map.insert("metadata".into(), serde_json::json!({"continue": token}));
            }
            if !self.reason.is_empty() {
                map.insert("reason".into(), self.reason.clone().into());
            }
            if let Some(details) = &self.details {
                map.insert("details".into(), serde_json::json!(details));
            }
            // Upstream's order, to the last.
            map.insert("code".into(), self.code.into());
        }
        status
    }
}

impl Cause {
    /// A cause of this reason at `field`; `message` is what follows the path in the message.
    #[must_use]
    pub fn new(reason: &str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), field: field.into() }
    }

    /// `Required value[: why]`.
    #[must_use]
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self::new("FieldValueRequired", field, message)
    }

    /// `Invalid value: <value>: why`.
    #[must_use]
    pub fn invalid(field: impl Into<String>, value: &serde_json::Value, why: &str) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {}: {why}", go::shown(value)))
    }

    /// `Unsupported value: "x": supported values: "a", "b"`.
    #[must_use]
    pub fn not_supported(field: impl Into<String>, value: &serde_json::Value, supported: &[&str]) -> Self {
        let listed: Vec<String> = supported.iter().map(|one| go::quoted(one)).collect();
        let message = format!("Unsupported value: {}: supported values: {}", go::shown(value), listed.join(", "));
        Self::new("FieldValueNotSupported", field, message)
    }

    /// `Forbidden: why`.
    #[must_use]
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// `Duplicate value: "x"`.
    #[must_use]
    pub fn duplicate(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self::new("FieldValueDuplicate", field, format!("Duplicate value: {}", go::shown(value)))
    }

    /// `Too long: may not be more than N bytes`.
    #[must_use]
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let bytes = if limit == 1 { "byte" } else { "bytes" };
        Self::new("FieldValueTooLong", field, format!("Too long: may not be more than {limit} {bytes}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_faults_do_not_make_a_gigabyte_of_answer() {
        let many = |count: usize| {
            let causes = (0..count).map(|at| Cause::required(format!("spec.containers[{at}].name"), ""));
            ApiError::invalid("", "Pod", "x", causes.collect())
        };
        let told = many(MOST_CAUSES);
        assert!(told.message.ends_with("spec.containers[9999].name: Required value]"));
        let told = many(MOST_CAUSES + 7);
        assert!(told.message.ends_with("spec.containers[9999].name: Required value, and 7 more]"));
        assert_eq!(told.details.unwrap().causes.len(), MOST_CAUSES);
    }

    #[test]
    fn messages_have_upstreams_form() {
        assert_eq!(ApiError::not_found("apps", "deployments", "web").message, "deployments.apps \"web\" not found");
        assert_eq!(ApiError::forbidden("", "pods", "", "no").message, "pods is forbidden: no");
        let selector = serde_json::json!({"a": "<&>"});
        assert_eq!(Cause::invalid("f", &selector, "no").message, r#"Invalid value: {"a":"\u003c\u0026\u003e"}: no"#);
        assert_eq!(Cause::too_long("f", 1).message, "Too long: may not be more than 1 byte");
        let causes = vec![Cause::required("a", ""), Cause::required("b.c", "give one")];
        assert_eq!(
            ApiError::invalid("", "Pod", "x", causes).message,
            "Pod \"x\" is invalid: [a: Required value, b.c: Required value: give one]"
        );
    }
}
