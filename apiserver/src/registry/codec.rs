//! Bodies: decoding, defaults, patches and field ownership, by the schema of the kind.

mod apply;
mod foreign;
mod former;
mod ownership;
mod patches;
mod scaled;
mod type_meta;
mod versions;

use martello_api::{
    resource::GroupVersionKind,
    schema::{self, DecodeError, Decoded, Document, Envelope, FieldIssue, ProtobufError, Schema, Schemas},
    status::ApiError,
};
use serde_json::Value;

use super::{
    call::Call,
    kind::Kind,
    object,
    options::{FieldValidation, WriteOptions},
};
use crate::http::negotiate::PROTOBUF;

pub use apply::apply_config;
pub use foreign::Foreign;
pub use ownership::{track, track_foreign};
pub use patches::{Patch, is_apply};
pub use scaled::{apply_scale, carry, own_scale, track_scale};
pub use type_meta::{check_custom_type, internal_package};
pub use versions::Conversions;

use type_meta::{check_custom, check_kind, still_is};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// The schema of a kind; one that keeps everything where there is none (our own kinds).
pub fn schema_of(kind: &Kind) -> &Schema {
    if let Some(own) = kind.schema() {
        return own;
    }
    Schemas::builtin().get(&kind.resource.gvk).unwrap_or_else(|| super::martello::open_schema())
}

/// Decodes the object in the body and fills in its defaults.
pub fn decode(kind: &Kind, call: &Call, options: &str) -> Result<Value, ApiError> {
    let gvk = &kind.resource.gvk;
    check_media(gvk, call)?;
    let strictness = WriteOptions::read(&call.query, options)?.strictness;
    let custom = kind.is_custom().then_some(kind);
    Ok(finish(kind, decode_as(gvk, schema_of(kind), call, strictness, custom)?))
}

/// Decodes the body as an object of `schema`, which is that of a custom kind where one is given.
fn decode_as(
    gvk: &GroupVersionKind,
    schema: &Schema,
    call: &Call,
    strictness: FieldValidation,
    custom: Option<&Kind>,
) -> Result<Value, ApiError> {
    let document = match check_media(gvk, call)? {
        Media::Json => Document::json(&call.body),
        Media::Yaml => Document::yaml(&call.body),
        Media::Protobuf => return decode_protobuf(gvk, call, schema),
    };
    let refuse = |error: DecodeError| error.to_api_error(gvk, &call.body);
    let document = document.map_err(refuse)?;
    match custom {
        None => check_kind(gvk, document.kind(), document.api_version(), &call.body)?,
        Some(_) => document.check_numbers().map_err(refuse)?,
    }
    let decoded = document.decode(schema).map_err(refuse)?;
    if let Some(kind) = custom {
        check_custom(kind, call, &decoded.value, strictness)?;
    }
    judge(call, decoded, strictness, |problems| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {problems}",
            gvk.kind, gvk.version, gvk.kind
        ))
    })
}

/// An object as its kind keeps it: it says what it is, and has its defaults.
pub fn finish(kind: &Kind, mut value: Value) -> Value {
    // A custom object that calls itself something else is refused when all else is checked.
    if !kind.is_custom() || object::text(&value, &["kind"]).is_empty() {
        object::set(&mut value, &[], "kind", kind.name());
    }
    object::set(&mut value, &[], "apiVersion", kind.resource.gvk.api_version());
    object::map_mut(&mut value, &["metadata"]);
    schema::apply_defaults(schema_of(kind), &mut value);
    kind.default(&mut value);
    value
}

/// What somebody else than the client made of an object: decoded anew, with defaults. Fields that the kind does not know
/// are dropped.
pub fn remade(kind: &Kind, value: Value) -> Result<Value, String> {
    still_is(kind, &value)?;
    let decoded = schema::decode_value(schema_of(kind), value).map_err(|error| error.to_string())?;
    Ok(finish(kind, decoded.value))
}

/// The same, but fields that a built-in kind does not know are refused.
pub fn remade_strictly(kind: &Kind, value: Value) -> Result<Value, String> {
    still_is(kind, &value)?;
    let decoded = schema::decode_value(schema_of(kind), value).map_err(|error| error.to_string())?;
    if kind.is_custom() || decoded.issues.is_empty() {
        return Ok(finish(kind, decoded.value));
    }
    Err(format!("strict decoding error: {}", listed(&decoded.issues)))
}

/// Meets what strict validation refuses as the client asked.
fn judge(
    call: &Call,
    decoded: Decoded,
    strictness: FieldValidation,
    refuse: impl Fn(&str) -> ApiError,
) -> Result<Value, ApiError> {
    match strictness {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => decoded.issues.iter().for_each(|issue| match issue {
            FieldIssue::Yaml(lines) => lines.iter().for_each(|line| call.warn(line.clone())),
            other => call.warn(other.to_string()),
        }),
        FieldValidation::Strict if decoded.issues.is_empty() => {}
        FieldValidation::Strict => return Err(refuse(&listed(&decoded.issues))),
    }
    Ok(decoded.value)
}

fn listed(issues: &[FieldIssue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Protobuf has no place for fields that the schema lacks, so strictness has nothing to judge.
fn decode_protobuf(gvk: &GroupVersionKind, call: &Call, schema: &Schema) -> Result<Value, ApiError> {
    let refuse = |error: ProtobufError| error.to_api_error(gvk, &call.body);
    let envelope = Envelope::open(&call.body).map_err(refuse)?;
    check_kind(gvk, &envelope.kind, &envelope.api_version, &call.body)?;
    envelope.decode(schema).map_err(refuse)
}

/// The forms in which an object may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Yaml,
    Protobuf,
}

/// The form of the body. Case does not matter in names of media types.
fn check_media(gvk: &GroupVersionKind, call: &Call) -> Result<Media, ApiError> {
    match call.content_type.to_ascii_lowercase().as_str() {
        JSON => Ok(Media::Json),
        YAML => Ok(Media::Yaml),
        PROTOBUF if schema::has_protobuf(gvk) => Ok(Media::Protobuf),
        _ => Err(unknown_media(gvk)),
    }
}

fn unknown_media(gvk: &GroupVersionKind) -> ApiError {
    // Upstream names protobuf for custom kinds, too, which do not speak it.
    let is_own = gvk.group == "martello.dev";
    let also = if is_own { "" } else { ", application/vnd.kubernetes.protobuf" };
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}{also}"
    ))
}

/// Decodes `DeleteOptions` of any version; none where there is no body.
pub fn decode_delete_options(call: &Call) -> Result<Option<Value>, ApiError> {
    const KIND: &str = "DeleteOptions";
    if call.body.is_empty() {
        return Ok(None);
    }
    let gvk = GroupVersionKind::new("", "v1", KIND);
    let schema = Schemas::builtin().get(&gvk).unwrap_or_else(|| super::martello::open_schema());
    let failed = ApiError::bad_request;
    let document = match check_media(&gvk, call)? {
        Media::Json => Document::json(&call.body),
        Media::Yaml => Document::yaml(&call.body),
        Media::Protobuf => {
            let envelope = Envelope::open(&call.body).map_err(|error| failed(error.to_string()))?;
            return envelope.decode(schema).map(Some).map_err(|error| failed(error.to_string()));
        }
    };
    let document = document.map_err(|error| failed(error.to_string()))?;
    let (kind, version) = (document.kind(), document.api_version());
    if !matches!(kind, "" | KIND) {
        let version = if version.is_empty() { "meta.k8s.io/v1" } else { version };
        return Err(failed(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/apis/meta/internalversion/scheme/register.go:27\""
        )));
    }
    document.decode(schema).map(|decoded| Some(decoded.value)).map_err(|error| failed(error.to_string()))
}

/// Brings an object into the form in which it is stored.
pub fn normalize(kind: &Kind, object: &mut Value) {
    schema::normalize(schema_of(kind), object);
}
