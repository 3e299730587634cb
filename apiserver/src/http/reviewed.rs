//! What webhooks answer, as upstream's client reads it: a review, or why it is none in that client's words.

use http::StatusCode;
use martello_api::{
    go,
    schema::{DecodeError, MAX_VALUES, Raw, check_head, parse_json_up_to, parse_yaml},
    status::ApiError,
};
use serde_json::{Map, Value};

use super::failed;
use crate::registry::object;

/// Most bytes of a failure's body that are told.
const MAX_FAILURE_BYTES: usize = 2048;
/// For how many bytes of an answer it may have a value more than one object has: it may hold all objects of a list, and is
/// bounded by what was asked.
const BYTES_OF_VALUE: usize = 4;
/// What an answer is that does not say it.
const JSON: &str = "application/json";
const PROTOBUF_OR_NONE: &str = "no serialization format matched the provided data";

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its code.
    pub status: StatusCode,
    /// Its type, as it says.
    pub content_type: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Kinds that are known in every group and version.
const UNVERSIONED: [&str; 5] = ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];
/// Kinds that every group has in each of its versions.
const OPTIONS: [&str; 7] =
    ["CreateOptions", "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions", "WatchEvent"];

/// A kind of reviews.
#[derive(Debug)]
pub struct Review {
    /// Its group.
    pub group: &'static str,
    /// Its name.
    pub kind: &'static str,
    /// Its versions.
    pub versions: &'static [&'static str],
    /// Other kinds of the group that upstream's client knows.
    pub others: &'static [&'static str],
    /// The type of what is answered.
    pub answer: &'static str,
    /// Where that has a `Status`.
    pub status: &'static str,
    /// What else it has.
    pub fields: &'static [Field],
}

/// A field: its name, its type as Go names it, and what it must hold. A type that begins with a dot is of the package of the
/// review's version.
pub type Field = (&'static str, &'static str, Holds);

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A text.
    Text,
    /// Bytes, in base64 or one by one.
    Bytes,
    /// True or false.
    Flag,
    /// A whole number.
    Number,
    /// A list of anything.
    List,
    /// A list of texts.
    Texts,
    /// A map.
    Map,
    /// A map of texts.
    TextMap,
}

/// What a `ConversionReview` answers.
pub const CONVERSION: Review = Review {
    group: "apiextensions.k8s.io",
    kind: "ConversionReview",
    versions: &["v1", "v1beta1"],
    others: &["CustomResourceDefinition", "CustomResourceDefinitionList"],
    answer: "ConversionResponse",
    status: "result",
    fields: &[
        ("uid", "types.UID", Holds::Text),
        ("convertedObjects", "[]runtime.RawExtension", Holds::List),
        ("result", "v1.Status", Holds::Map),
    ],
};

/// What an `AdmissionReview` answers.
pub const ADMISSION: Review = Review {
    group: "admission.k8s.io",
    kind: "AdmissionReview",
    versions: &["v1", "v1beta1"],
    others: &[],
    answer: "AdmissionResponse",
    status: "status",
    fields: &[
        ("uid", "types.UID", Holds::Text),
        ("allowed", "bool", Holds::Flag),
        ("status", "v1.Status", Holds::Map),
        ("patch", "[]uint8", Holds::Bytes),
        ("patchType", ".PatchType", Holds::Text),
        ("auditAnnotations", "map[string]string", Holds::TextMap),
        ("warnings", "[]string", Holds::Texts),
    ],
};

const STATUS: [Field; 5] = [
    ("status", "string", Holds::Text),
    ("message", "string", Holds::Text),
    ("reason", "v1.StatusReason", Holds::Text),
    ("details", "v1.StatusDetails", Holds::Map),
    ("code", "int32", Holds::Number),
];

/// What is wrong with a field of `within`, which stands at `place`, in the words of Go's decoding.
fn fault(object: &Value, (name, of, holds): &Field, (within, place): (&str, &str), version: &str) -> Option<String> {
    let found = object.get(name).filter(|found| !found.is_null())?;
    let (wrong, of) = match (holds, found) {
        (Holds::Text, Value::String(_)) | (Holds::Flag, Value::Bool(_)) | (Holds::List, Value::Array(_)) => {
            return None;
        }
        (Holds::Map, Value::Object(_)) => return None,
        (Holds::Bytes, Value::String(_) | Value::Array(_)) => return None,
        (Holds::Number, Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            let place = format!("{within}.{place}{name}");
            return (!fits).then(|| go::field_not_of_type(&format!("number {number}"), &place, of));
        }
        (Holds::Texts, Value::Array(all)) => (all.iter().find(|one| !is_text(one))?, "string"),
        (Holds::TextMap, Value::Object(all)) => (all.values().find(|one| !is_text(one))?, "string"),
        (_, other) => (other, *of),
    };
    let of = if of.starts_with('.') { format!("{version}{of}") } else { of.to_owned() };
    Some(go::field_not_of_type(go::json_kind(wrong), &format!("{within}.{place}{name}"), &of))
}

fn is_text(value: &Value) -> bool {
    value.is_string() || value.is_null()
}

impl Answer {
    /// The review in an answer to one of this version.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read(&self, review: &Review, version: &str) -> Result<Value, String> {
        let content_type = self.content_type.as_deref().filter(|text| !text.is_empty());
        let content_type = content_type.unwrap_or(JSON);
        let media = media_type(content_type).map_err(|why| ApiError::internal(why).message)?;
        if !(200..=206).contains(&self.status.as_u16()) {
            return Err(self.refusal(&media));
        }
        if self.body.is_empty() {
            let code = self.status.as_u16();
            return Err(format!("0-length response with status code: {code} and content type: {content_type}"));
        }
        let value = parse(&self.body).map_err(|error| error.to_string())?;
        review.check(&value, version)?;
        Ok(if value.is_null() { Value::Object(Map::new()) } else { value })
    }

    /// An answer that is no success: its own words where it is a Status, others for its code otherwise.
    fn refusal(&self, media: &str) -> String {
        if let Ok(own) = parse(&self.body)
            && is_status(&own)
            && object::text(&own, &["status"]) == "Failure"
        {
            return object::text(&own, &["message"]).to_owned();
        }
        let is_text = self.content_type.as_deref().is_none_or(str::is_empty) || media.starts_with("text/");
        let shown = self.body.get(..MAX_FAILURE_BYTES).unwrap_or(&self.body);
        let text = String::from_utf8_lossy(shown);
        failed::generic(self.status.as_u16(), if is_text { text.trim() } else { "unknown" }).1
    }
}

fn is_status(value: &Value) -> bool {
    object::text(value, &["kind"]) == "Status"
}

/// What begins as a JSON object is JSON; anything else is YAML, where JSON is a part of it.
fn parse(body: &[u8]) -> Result<Value, DecodeError> {
    let raw = if body.trim_ascii_start().starts_with(b"{") {
        parse_json_up_to(MAX_VALUES + body.len() / BYTES_OF_VALUE, body)?
    } else if body.starts_with(b"k8s\0") {
        return Err(DecodeError::Type(PROTOBUF_OR_NONE.to_owned()));
    } else {
        parse_yaml(body).map_err(DecodeError::Yaml)?.value
    };
    if raw != Raw::Null {
        check_head(&raw)?;
    }
    Ok(raw.into_value())
}

impl Review {
    /// Whether a decoded answer can be read as a review of this version at all. What it leaves out is as was asked for.
    fn check(&self, answer: &Value, version: &str) -> Result<(), String> {
        let (own_version, own_kind) = (object::text(answer, &["apiVersion"]), object::text(answer, &["kind"]));
        if own_version.matches('/').count() > 1 {
            return Err(format!("unexpected GroupVersion string: {own_version}"));
        }
        let of_version = if own_version.is_empty() { version } else { own_version };
        let of_kind = if own_kind.is_empty() { self.kind } else { own_kind };
        let (group, short) = of_version.split_once('/').unwrap_or(("", of_version));
        let is_general = UNVERSIONED.contains(&of_kind);
        let is_own = group == self.group && self.versions.contains(&short);
        let is_of_group = of_kind == self.kind || self.others.contains(&of_kind) || OPTIONS.contains(&of_kind);
        let is_known = is_general || (is_own && is_of_group);
        if !is_known {
            return Err(format!(
                "no kind {} is registered for version {} in scheme \"pkg/util/webhook/client.go:71\"",
                go::quoted(of_kind),
                go::quoted(of_version)
            ));
        }
        let to = version.rsplit('/').next().unwrap_or_default();
        if of_version != version || of_kind != self.kind {
            let from = if is_general || OPTIONS.contains(&of_kind) { "v1" } else { short };
            return Err(format!("converting ({from}.{of_kind}) to ({to}.{}): unknown conversion", self.kind));
        }
        self.fault(answer, to).map_or(Ok(()), Err)
    }

    /// The first field that holds something else than it must.
    fn fault(&self, review: &Value, version: &str) -> Option<String> {
        let response = review.get("response").filter(|response| !response.is_null())?;
        if !response.is_object() {
            let (place, wanted) = (format!("{}.response", self.kind), format!("{version}.{}", self.answer));
            return Some(go::field_not_of_type(go::json_kind(response), &place, &wanted));
        }
        let own = self.fields.iter().find_map(|field| fault(response, field, (self.answer, "response."), version));
        let place = format!("response.{}.", self.status);
        own.or_else(|| {
            let status = response.get(self.status)?;
            STATUS.iter().find_map(|field| fault(status, field, ("Status", &place), version))
        })
    }
}

/// The type in a `Content-Type`, or what Go says of one that is malformed.
fn media_type(text: &str) -> Result<String, &'static str> {
    let mut parts = text.split(';');
    let media = parts.next().unwrap_or_default().trim().to_lowercase();
    let is_parameter = |part: &str| part.trim().is_empty() || part.contains('=');
    let is_token = |text: &str| {
        let is_of_it = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte);
        !text.is_empty() && text.bytes().all(is_of_it)
    };
    let (main, sub) = media.split_once('/').map_or((media.as_str(), None), |(main, sub)| (main, Some(sub)));
    match sub {
        _ if main.is_empty() => Err("mime: no media type"),
        _ if !is_token(main) => Err("mime: expected slash after first token"),
        Some("") => Err("mime: expected token after slash"),
        Some(sub) if !is_token(sub) => Err("mime: unexpected content after media subtype"),
        _ if !parts.all(is_parameter) => Err("mime: invalid media parameter"),
        _ => Ok(media),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVIEW: Review =
        Review { group: "g.io", kind: "Review", versions: &["v1", "v1beta1"], others: &["Definition"], ..CONVERSION };

    fn read(status: u16, content_type: Option<&str>, body: &str) -> Result<Value, String> {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer { status, content_type: content_type.map(str::to_owned), body: body.into() };
        answer.read(&REVIEW, "g.io/v1")
    }

    #[test]
    fn a_review_comes_in_json_or_yaml() {
        let json = read(200, Some("text/plain"), r#"{"apiVersion": "g.io/v1", "kind": "Review", "response": {}}"#);
        let yaml = read(201, None, "apiVersion: g.io/v1\nkind: Review\nresponse: {}\n");
        assert_eq!(json.unwrap(), yaml.unwrap());
        assert_eq!(read(200, None, "null").unwrap(), serde_json::json!({}));
    }

    #[test]
    fn an_answer_may_hold_more_than_one_object() {
        let object = format!("[{}]", vec!["{\"a\":0}"; MAX_VALUES / 4].join(","));
        let many = format!(r#"{{"response": {{"convertedObjects": [{}]}}}}"#, [object.as_str(); 4].join(","));
        assert!(read(200, None, &many).is_ok());
        let empty = format!("{{\"x\": [{}]}}", vec!["0"; 3 * MAX_VALUES].join(","));
        assert!(read(200, None, &empty).unwrap_err().contains("values, which is more than an object may have"));
    }

    #[test]
    fn an_answer_that_is_no_review_is_told_as_decoding_tells_it() {
        let told = |body: &str| read(200, Some(JSON), body).unwrap_err();
        assert!(
            told("[]").starts_with("couldn't get version/kind; json parse error: json: cannot unmarshal array into")
        );
        assert!(told("hello").contains("cannot unmarshal string into Go value of type struct {"));
        let torn = "couldn't get version/kind; json parse error: unexpected end of JSON input";
        assert_eq!(told("{\"kind\": "), torn);
        let number = "json: cannot unmarshal number into Go struct field .kind of type string";
        assert_eq!(told("{\"kind\": 5}"), format!("couldn't get version/kind; json parse error: {number}"));
        let kind = |version: &str, kind: &str| told(&format!("{{\"apiVersion\": {version:?}, \"kind\": {kind:?}}}"));
        assert_eq!(
            kind("g.io/v1", "Zz"),
            "no kind \"Zz\" is registered for version \"g.io/v1\" in scheme \"pkg/util/webhook/client.go:71\""
        );
        assert_eq!(kind("g.io/v1beta1", "Review"), "converting (v1beta1.Review) to (v1.Review): unknown conversion");
        assert_eq!(kind("g.io/v1", "Definition"), "converting (v1.Definition) to (v1.Review): unknown conversion");
        assert_eq!(
            kind("g.io/v1beta1", "ListOptions"),
            "converting (v1.ListOptions) to (v1.Review): unknown conversion"
        );
        assert_eq!(kind("v2", "Status"), "converting (v1.Status) to (v1.Review): unknown conversion");
        assert_eq!(kind("x/y/z", "Review"), "unexpected GroupVersion string: x/y/z");
    }

    #[test]
    fn a_field_of_the_wrong_type_is_told_as_decoding_tells_it() {
        let told = |response: Value| {
            read(200, None, &serde_json::json!({"response": response}).to_string()).map_err(|why| {
                let rest = why.strip_prefix("json: cannot unmarshal ").unwrap();
                rest.replace(" into Go struct field ", " ")
            })
        };
        let said = |text: &str| Err(text.to_owned());
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(told(json("5")), said("number Review.response of type v1.ConversionResponse"));
        assert_eq!(told(json(r#"{"uid": 5}"#)), said("number ConversionResponse.response.uid of type types.UID"));
        assert_eq!(
            told(json(r#"{"result": {"code": "x"}}"#)),
            said("string Status.response.result.code of type int32")
        );
        assert_eq!(
            told(json(r#"{"result": {"code": 1.5}}"#)),
            said("number 1.5 Status.response.result.code of type int32")
        );
        assert!(told(json(r#"{"uid": null, "result": {"code": 5}}"#)).is_ok());
        let admission = |response: &str| {
            let body = format!(r#"{{"response": {response}}}"#).into_bytes();
            let answer = Answer { status: StatusCode::OK, content_type: None, body };
            answer.read(&ADMISSION, "admission.k8s.io/v1").unwrap_err()
        };
        let field = |rest: &str| format!("json: cannot unmarshal {rest}");
        assert_eq!(
            admission(r#"{"allowed": "yes"}"#),
            field("string into Go struct field AdmissionResponse.response.allowed of type bool")
        );
        assert_eq!(
            admission(r#"{"warnings": ["a", 5]}"#),
            field("number into Go struct field AdmissionResponse.response.warnings of type string")
        );
        assert_eq!(
            admission(r#"{"patchType": {}}"#),
            field("object into Go struct field AdmissionResponse.response.patchType of type v1.PatchType")
        );
    }

    #[test]
    fn an_answer_in_which_there_is_nothing_says_what_it_was() {
        let told = |code: u16, content_type: Option<&str>| read(code, content_type, "").unwrap_err();
        assert_eq!(
            told(204, Some("text/plain; charset=utf-8")),
            "0-length response with status code: 204 and content type: text/plain; charset=utf-8"
        );
        assert_eq!(told(200, None), "0-length response with status code: 200 and content type: application/json");
        assert_eq!(told(200, Some("text/")), "Internal error occurred: mime: expected token after slash");
        assert_eq!(told(200, Some("text/plain; x")), "Internal error occurred: mime: invalid media parameter");
    }

    #[test]
    fn a_refusal_is_told_as_far_as_it_is_text() {
        let of_server =
            |said: &str| format!("an error on the server ({said:?}) has prevented the request from succeeding");
        assert_eq!(read(500, Some("text/plain"), " no\n").unwrap_err(), of_server("no"));
        assert_eq!(read(502, None, "no").unwrap_err(), of_server("no"));
        assert_eq!(read(500, Some("application/json"), "no").unwrap_err(), of_server("unknown"));
        assert_eq!(read(500, Some("text/plain"), &"x".repeat(5_000)).unwrap_err(), of_server(&"x".repeat(2_048)));
        let status = r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not today"}"#;
        assert_eq!(read(500, Some("application/json"), status).unwrap_err(), "not today");
        assert_eq!(
            read(302, None, "").unwrap_err(),
            "the server responded with the status code 302 but did not return more information"
        );
        assert_eq!(read(400, None, "x").unwrap_err(), "the server rejected our request for an unknown reason");
    }
}
