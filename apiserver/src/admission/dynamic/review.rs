//! `AdmissionReview`: what a webhook is asked, and what it may answer.

use base64::{Engine, engine::general_purpose::STANDARD};
use martello_api::{
    schema::canonical_base64,
    status::{ApiError, Details},
};
use martello_audit::MAX_ANNOTATIONS;
use serde_json::{Value, json};

use crate::{
    http::reviewed::{self, ADMISSION},
    registry::object,
};

/// What a webhook answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) patch: Vec<u8>,
    /// What the patch is; empty where there is none.
    pub(super) patch_type: String,
    status: Value,
}

/// Most characters of all warnings of an answer; what is more is cut off, as upstream's client of warnings does.
const MAX_WARNING_CHARS: usize = 4096;
const MAX_WARNINGS: usize = 64;

/// The versions of the review that a webhook may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// The first of those that a webhook names and that is known.
    pub(super) fn of_webhook(json: &Value) -> Option<Self> {
        object::list(json, &["admissionReviewVersions"]).iter().find_map(|version| match version.as_str() {
            Some("v1") => Some(Self::V1),
            Some("v1beta1") => Some(Self::V1beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// Why an answer is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is no review of this version.
    Unreadable(String),
    /// It is one, and does not answer what was asked.
    Invalid(String),
}

/// The body of a request.
pub(super) fn ask(version: Version, request: Value) -> Value {
    json!({"kind": ADMISSION.kind, "apiVersion": version.api_version(), "request": request})
}

/// Reads an answer; the error says what is wrong with it.
pub(super) fn read(answer: &reviewed::Answer, version: Version, uid: &str, mutating: bool) -> Result<Answer, Unusable> {
    let review = answer.read(&ADMISSION, version.api_version()).map_err(Unusable::Unreadable)?;
    let (api_version, kind) = (object::text(&review, &["apiVersion"]), object::text(&review, &["kind"]));
    let response = review.get("response").unwrap_or(&Value::Null);
    if response.is_null() {
        return Err(Unusable::Invalid("webhook response was absent".to_owned()));
    }
    let patch = patch_of(response).map_err(Unusable::Unreadable)?;
    let patch_type = match version {
        Version::V1 => {
            check_addressed(api_version, kind, response, uid).map_err(Unusable::Invalid)?;
            let given = response.get("patchType").and_then(Value::as_str);
            check_patch(&patch, given, mutating).map_err(Unusable::Invalid)?;
            given.unwrap_or_default()
        }
        // The older version is not looked at closely, and knows one sort of patch.
        Version::V1beta1 if patch.is_empty() => "",
        Version::V1beta1 => "JSONPatch",
    };
    Ok(Answer {
        allowed: object::flag(response, &["allowed"]),
        warnings: warnings(response),
        annotations: annotations(response),
        patch: if mutating { patch } else { Vec::new() },
        patch_type: patch_type.to_owned(),
        status: response.get("status").cloned().unwrap_or_default(),
    })
}

/// Whether a response is to the request that was sent, and says what it is.
fn check_addressed(api_version: &str, kind: &str, response: &Value, uid: &str) -> Result<(), String> {
    let own = object::text(response, &["uid"]);
    if own != uid {
        return Err(format!("expected response.uid={uid:?}, got {own:?}"));
    }
    if (api_version, kind) == (Version::V1.api_version(), ADMISSION.kind) {
        return Ok(());
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Err(format!(
        "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group}/{version}, Kind={kind}"
    ))
}

/// Whether patch and type belong together.
fn check_patch(patch: &[u8], patch_type: Option<&str>, mutating: bool) -> Result<(), String> {
    let why = match (mutating, patch.is_empty(), patch_type) {
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

fn patch_of(response: &Value) -> Result<Vec<u8>, String> {
    match response.get("patch") {
        Some(Value::String(text)) => {
            let text = canonical_base64(text.as_str().into())?;
            STANDARD.decode(text).map_err(|error| error.to_string())
        }
        // Bytes may be written one by one, too.
        Some(Value::Array(bytes)) => {
            Ok(bytes.iter().filter_map(Value::as_u64).filter_map(|byte| u8::try_from(byte).ok()).collect())
        }
        _ => Ok(Vec::new()),
    }
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
        // Whatever is no success of HTTP may be answered, known to it or not.
        let code = if (400..=999).contains(&code) { code } else { 400 };
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

    fn told(body: &[u8], version: Version, mutating: bool) -> Result<Answer, Unusable> {
        let answer = reviewed::Answer { status: http::StatusCode::OK, content_type: None, body: body.to_vec() };
        read(&answer, version, "u", mutating)
    }

    fn answered(response: Value) -> Vec<u8> {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string().into()
    }

    fn why(body: &[u8], version: Version, mutating: bool) -> Unusable {
        told(body, version, mutating).unwrap_err()
    }

    #[test]
    fn what_is_no_review_is_unreadable() {
        let no_object = |found: &str| {
            format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
            )
        };
        for (body, told) in [
            ("not json", no_object("string")),
            ("[]", no_object("array")),
            ("{\"response\":", "couldn't get version/kind; json parse error: unexpected end of JSON input".to_owned()),
            (
                "{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}",
                "no kind \"Pod\" is registered for version \"v1\" in scheme \"pkg/util/webhook/client.go:71\""
                    .to_owned(),
            ),
            (
                "{\"apiVersion\": \"a/b/c\", \"kind\": \"AdmissionReview\"}",
                "unexpected GroupVersion string: a/b/c".to_owned(),
            ),
            (
                "{\"apiVersion\": \"admission.k8s.io/v1beta1\", \"kind\": \"AdmissionReview\"}",
                "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion".to_owned(),
            ),
            (
                "{\"kind\": \"Status\", \"apiVersion\": \"v1\"}",
                "converting (v1.Status) to (v1.AdmissionReview): unknown conversion".to_owned(),
            ),
        ] {
            assert_eq!(why(body.as_bytes(), Version::V1, true), Unusable::Unreadable(told), "{body}");
        }
    }

    #[test]
    fn fields_of_another_type_are_named_as_go_names_them() {
        for (response, told) in [
            (json!({"allowed": "yes"}), "string into Go struct field AdmissionResponse.response.allowed of type bool"),
            (json!({"uid": 5}), "number into Go struct field AdmissionResponse.response.uid of type types.UID"),
            (json!([]), "array into Go struct field AdmissionReview.response of type v1.AdmissionResponse"),
            (json!({"status": {"code": "x"}}), "string into Go struct field Status.response.status.code of type int32"),
            (
                json!({"auditAnnotations": {"k": 5}}),
                "number into Go struct field AdmissionResponse.response.auditAnnotations of type string",
            ),
            (
                json!({"warnings": "x"}),
                "string into Go struct field AdmissionResponse.response.warnings of type []string",
            ),
            (
                json!({"patchType": 5}),
                "number into Go struct field AdmissionResponse.response.patchType of type v1.PatchType",
            ),
        ] {
            let told = Unusable::Unreadable(format!("json: cannot unmarshal {told}"));
            assert_eq!(why(&answered(response), Version::V1, true), told);
        }
        let base64 = answered(json!({"uid": "u", "patchType": "JSONPatch", "patch": "!!"}));
        assert_eq!(
            why(&base64, Version::V1, true),
            Unusable::Unreadable("illegal base64 data at input byte 0".to_owned())
        );
    }

    #[test]
    fn odd_answers_are_named() {
        let expected = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
        for (body, told) in [
            (b"{}".to_vec(), "webhook response was absent"),
            (b"null".to_vec(), "webhook response was absent"),
            (answered(Value::Null), "webhook response was absent"),
            (b"{\"response\": {\"uid\": \"u\"}}".to_vec(), expected),
            (answered(json!({"uid": "other"})), "expected response.uid=\"u\", got \"other\""),
            (
                answered(json!({"uid": "u", "allowed": true, "patch": "W10="})),
                "webhook returned response.patch but not response.patchType",
            ),
            (
                answered(json!({"uid": "u", "patchType": "X"})),
                "webhook returned response.patchType but not response.patch",
            ),
            (
                answered(json!({"uid": "u", "patch": "W10=", "patchType": ""})),
                "webhook returned invalid response.patchType of \"\"",
            ),
        ] {
            assert_eq!(why(&body, Version::V1, true), Unusable::Invalid(told.to_owned()));
        }
        let patched = answered(json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}));
        assert_eq!(
            why(&patched, Version::V1, false),
            Unusable::Invalid("validating webhook may not return response.patch".to_owned())
        );
        assert_eq!(told(&patched, Version::V1, true).unwrap().patch, b"[]");
    }

    #[test]
    fn the_older_version_need_not_say_what_it_answers() {
        let bare = told(b"{\"response\": {\"allowed\": true, \"patch\": \"W10=\"}}", Version::V1beta1, true).unwrap();
        assert!(bare.allowed);
        assert_eq!((bare.patch.as_slice(), bare.patch_type.as_str()), (b"[]".as_slice(), "JSONPatch"));
        assert_eq!(
            why(&answered(json!({})), Version::V1beta1, true),
            Unusable::Unreadable(
                "converting (v1.AdmissionReview) to (v1beta1.AdmissionReview): unknown conversion".to_owned()
            )
        );
        let webhook = json!({"admissionReviewVersions": ["v2", "v1beta1", "v1"]});
        assert_eq!(Version::of_webhook(&webhook), Some(Version::V1beta1));
    }

    #[test]
    fn an_answer_may_be_yaml() {
        let body = b"kind: AdmissionReview\napiVersion: admission.k8s.io/v1\nresponse: {uid: u, allowed: true}\n";
        assert!(told(body, Version::V1, false).unwrap().allowed);
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        let refusal = |status: Value| {
            let body = answered(json!({"uid": "u", "allowed": false, "status": status}));
            let error = told(&body, Version::V1, false).unwrap().refusal("w.example.com");
            (error.code, error.message)
        };
        let by = "admission webhook \"w.example.com\" denied the request";
        assert_eq!(refusal(json!({"message": "no", "code": 403})), (403, format!("{by}: no")));
        assert_eq!(refusal(json!({"reason": "Odd"})), (400, format!("{by}: Odd")));
        assert_eq!(refusal(Value::Null), (400, format!("{by} without explanation")));
        assert_eq!(refusal(json!({"code": 200})), (400, format!("{by} without explanation")));
        assert_eq!(refusal(json!({"code": 600})), (600, format!("{by} without explanation")));
    }
}
