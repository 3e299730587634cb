//! `AdmissionReview`: what a webhook is asked, and what it may answer.

use base64::{Engine, engine::general_purpose::STANDARD};
use martello_api::{
    schema::parse_json,
    status::{ApiError, Details},
};
use martello_audit::MAX_ANNOTATIONS;
use serde_json::{Value, json};

use crate::registry::object;

/// What a webhook answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) patch: Vec<u8>,
    status: Value,
}

/// Most characters of all warnings of an answer; what is more is cut off, as upstream's client of warnings does.
const MAX_WARNING_CHARS: usize = 4096;
const MAX_WARNINGS: usize = 64;

/// The body of a request.
pub(super) fn ask(request: Value) -> Value {
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// Reads an answer; the error says what is wrong with it.
pub(super) fn read(body: &[u8], uid: &str, mutating: bool) -> Result<Answer, String> {
    let review = parse_json(body).map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
    let review = review.into_value();
    let (version, kind) = (object::text(&review, &["apiVersion"]), object::text(&review, &["kind"]));
    if (version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        let (group, short) = version.split_once('/').unwrap_or(("", version));
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{short}, Kind={kind}"
        ));
    }
    let Some(response) = review.get("response").filter(|response| response.is_object()) else {
        return Err("webhook response was absent".to_owned());
    };
    let own = object::text(response, &["uid"]);
    if own != uid {
        return Err(format!("expected response.uid={uid:?}, got {own:?}"));
    }
    let (patch, patch_type) = (object::text(response, &["patch"]), response.get("patchType"));
    if !mutating {
        if !patch.is_empty() {
            return Err("validating webhook may not return response.patch".to_owned());
        }
        if patch_type.is_some_and(|own| !own.is_null()) {
            return Err("validating webhook may not return response.patchType".to_owned());
        }
    }
    match patch_type.and_then(Value::as_str) {
        Some("JSONPatch") => {}
        Some(other) if mutating => return Err(format!("webhook returned invalid response.patchType of {other:?}")),
        _ if !patch.is_empty() => return Err("webhook returned response.patch but not response.patchType".to_owned()),
        _ => {}
    }
    let patch = STANDARD.decode(patch).map_err(|error| format!("response.patch: illegal base64 data: {error}"))?;
    Ok(Answer {
        allowed: object::flag(response, &["allowed"]),
        warnings: warnings(response),
        annotations: annotations(response),
        patch,
        status: response.get("status").cloned().unwrap_or_default(),
    })
}

fn warnings(response: &Value) -> Vec<String> {
    let list = object::list(response, &["warnings"]).iter().filter_map(Value::as_str);
    list.take(MAX_WARNINGS).map(|text| text.chars().take(MAX_WARNING_CHARS).collect()).collect()
}

fn annotations(response: &Value) -> Vec<(String, String)> {
    let map = response.get("auditAnnotations").and_then(Value::as_object);
    let pairs = map.into_iter().flatten().take(MAX_ANNOTATIONS);
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

impl Answer {
    /// The refusal of a webhook of this name.
    pub(super) fn refusal(&self, webhook: &str) -> ApiError {
        let by = format!("admission webhook {webhook:?} denied the request");
        let (message, reason) = (object::text(&self.status, &["message"]), object::text(&self.status, &["reason"]));
        let message = match (message, reason) {
            ("", "") => format!("{by} without explanation"),
            ("", reason) => format!("{by}: {reason}"),
            (message, _) => format!("{by}: {message}"),
        };
        let code = object::int(&self.status, &["code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
        let code = if (400..=599).contains(&code) { code } else { 400 };
        let mut error = ApiError::new(code, reason, message);
        if let Some(details) = self.status.get("details").filter(|details| details.is_object()) {
            let parsed: Result<Details, _> = serde_json::from_value(details.clone());
            error.details = parsed.ok().map(Box::new);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(response: Value) -> Vec<u8> {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string().into()
    }

    #[test]
    fn odd_answers_are_named() {
        for (body, why) in [
            (b"{}".to_vec(), "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="),
            (answered(Value::Null), "webhook response was absent"),
            (answered(json!({"uid": "other"})), "expected response.uid=\"u\", got \"other\""),
            (
                answered(json!({"uid": "u", "allowed": true, "patch": "W10="})),
                "webhook returned response.patch but not response.patchType",
            ),
            (answered(json!({"uid": "u", "patchType": "X"})), "webhook returned invalid response.patchType of \"X\""),
        ] {
            assert_eq!(read(&body, "u", true).unwrap_err(), why);
        }
        let patched = answered(json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}));
        assert_eq!(read(&patched, "u", false).unwrap_err(), "validating webhook may not return response.patch");
        assert_eq!(read(&patched, "u", true).unwrap().patch, b"[]");
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        let refusal = |status: Value| {
            let body = answered(json!({"uid": "u", "allowed": false, "status": status}));
            let error = read(&body, "u", false).unwrap().refusal("w.example.com");
            (error.code, error.message)
        };
        let by = "admission webhook \"w.example.com\" denied the request";
        assert_eq!(refusal(json!({"message": "no", "code": 403})), (403, format!("{by}: no")));
        assert_eq!(refusal(json!({"reason": "Odd"})), (400, format!("{by}: Odd")));
        assert_eq!(refusal(Value::Null), (400, format!("{by} without explanation")));
        assert_eq!(refusal(json!({"code": 200})), (400, format!("{by} without explanation")));
    }
}
