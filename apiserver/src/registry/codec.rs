//! Bodies: decoding, defaults, patches and field ownership, by the schema of the kind.

mod apply;
mod foreign;
mod former;
mod patches;
mod versions;

use martello_api::{
    managed_fields::{self, Convert, Unconverted, Writer},
    patch,
    resource::GroupVersionKind,
    schema::{self, DecodeError, Decoded, Document, Envelope, FieldIssue, ProtobufError, Schema, Schemas},
    status::{ApiError, Cause},
};
use serde_json::Value;

use super::{
    call::Call,
    kind::Kind,
    object,
    options::{FieldValidation, WriteOptions},
};
use crate::{http::negotiate::PROTOBUF, server::Core};

pub use apply::{apply_config, apply_through_scale};
pub use foreign::Foreign;
pub use patches::Patch;
pub use versions::Conversions;

use versions::Versions;

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

/// Kind and version may be left out; if they are given they are those of the resource.
fn check_kind(gvk: &GroupVersionKind, kind: &str, version: &str, body: &[u8]) -> Result<(), ApiError> {
    match Mismatch::find(gvk, kind, version) {
        None => Ok(()),
        Some(Mismatch::Malformed(why)) => Err(schema::unrecognized(gvk, why, body)),
        Some(Mismatch::Version(why)) => Err(ApiError::bad_request(why)),
        Some(Mismatch::Kind(why)) => {
            let kind = if kind.is_empty() { &*gvk.kind } else { kind };
            let short = version.rsplit('/').next().filter(|short| !short.is_empty()).unwrap_or(&*gvk.version);
            Err(ApiError::bad_request(format!(
                "{kind} in version {short:?} cannot be handled as a {}: {why}",
                gvk.kind
            )))
        }
    }
}

/// Why an object is not of the kind that a path is about, in upstream's words.
#[derive(Debug, PartialEq, Eq)]
enum Mismatch {
    /// Its version is none.
    Malformed(String),
    /// It is of another version of the kind.
    Version(String),
    /// It is of another kind, or of none that is known.
    Kind(String),
}

impl Mismatch {
    /// What is left out is as `wanted` has it.
    fn find(wanted: &GroupVersionKind, kind: &str, version: &str) -> Option<Self> {
        let own = wanted.api_version();
        let kind = if kind.is_empty() { &*wanted.kind } else { kind };
        let version = if version.is_empty() { &*own } else { version };
        if kind == wanted.kind && version == own || former::stands_for(wanted, kind, version) {
            return None;
        }
        let mut parts = version.split('/');
        let (group, short) = match (parts.next(), parts.next(), parts.next()) {
            (Some(group), Some(short), None) => (group, short),
            (Some(short), None, _) => ("", short),
            _ => return Some(Self::Malformed(format!("unexpected GroupVersion string: {version}"))),
        };
        let given = GroupVersionKind {
            group: group.to_owned().into(),
            version: short.to_owned().into(),
            kind: kind.to_owned().into(),
        };
        let is_known = |gvk: &GroupVersionKind| Schemas::builtin().get(gvk).is_some();
        if !is_known(wanted) || !(is_known(&given) || former::knows(&given)) {
            return Some(Self::Kind(format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )));
        }
        let to = internal_package(&wanted.group);
        let from = former::new_home(&given).unwrap_or_else(|| internal_package(group));
        if kind == wanted.kind && from == to {
            return Some(Self::Version(format!(
                "the API version in the data ({version}) does not match the expected API version ({own})"
            )));
        }
        Some(Self::Kind(format!("converting ({short}.{kind}) to ({to}.{}): unknown conversion", wanted.kind)))
    }
}

/// Where upstream keeps the form of a group's kinds that has no version, which its messages name.
#[must_use]
pub fn internal_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        group => group.split('.').next().unwrap_or_default(),
    }
}

/// An object of a custom kind says of itself what it is; without a schema for what it says, nothing of it is known.
fn check_custom(kind: &Kind, call: &Call, value: &Value, strictness: FieldValidation) -> Result<(), ApiError> {
    let gvk = &kind.resource.gvk;
    let (own, version, wanted) =
        (object::text(value, &["kind"]), object::text(value, &["apiVersion"]), gvk.api_version());
    if let Some(why) = malformed_version(version) {
        return Err(schema::unrecognized(gvk, why, &call.body));
    }
    if own.is_empty() {
        let why = DecodeError::MissingKind(String::from_utf8_lossy(&call.body).into_owned());
        if strictness != FieldValidation::Ignore {
            return Err(why.to_api_error(gvk, &call.body));
        }
        // Whoever does not look at fields goes another way, on which the kind of the path stands in.
        let (kind, version) = (&gvk.kind, &gvk.version);
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        )));
    }
    if version != wanted {
        let unknown = value.as_object().into_iter().flatten().map(|(name, _)| name);
        for name in unknown.filter(|name| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata")) {
            if strictness == FieldValidation::Warn {
                call.warn(FieldIssue::Unknown(name.clone()).to_string());
            }
        }
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        )));
    }
    check_custom_type(kind, value)
}

/// What is wrong with an `apiVersion` that is none.
fn malformed_version(version: &str) -> Option<String> {
    (version.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {version}"))
}

/// The group in an `apiVersion`.
fn group_of(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// What a patch makes of an object without a schema says of itself what it is; `shown` is its JSON.
fn check_named(value: &Value, shown: impl FnOnce() -> String) -> Result<(), ApiError> {
    let (own, version) = (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
    for field in ["apiVersion", "kind"] {
        let found = value.get(field).filter(|found| !matches!(found, Value::String(_) | Value::Null));
        if let Some(found) = found.cloned() {
            let why = DecodeError::Head { field, found: schema::Raw::from(found).go_kind() };
            return Err(patch::invalid_patch(&shown(), &why.to_string()));
        }
    }
    if let Some(why) = malformed_version(version) {
        return Err(patch::invalid_patch(&shown(), &why));
    }
    if own.is_empty() {
        let shown = shown();
        let why = DecodeError::MissingKind(shown.clone()).to_string();
        return Err(patch::invalid_patch(&shown, &why));
    }
    if version.is_empty() {
        return Err(ApiError::internal("Object 'apiVersion' is missing in 'object has no apiVersion field'"));
    }
    Ok(())
}

/// Of another version than its own, it is told by the group that it claims.
fn check_custom_type(kind: &Kind, value: &Value) -> Result<(), ApiError> {
    let gvk = &kind.resource.gvk;
    let mut causes = Vec::new();
    for (key, wanted) in [("kind", gvk.kind.to_string()), ("apiVersion", gvk.api_version())] {
        let own = object::text(value, &[key]);
        if own != wanted {
            causes.push(Cause::invalid(key, &own.into(), &format!("must be {wanted}")));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    let group = group_of(object::text(value, &["apiVersion"]));
    Err(ApiError::invalid(group, object::text(value, &["kind"]), object::name(value), causes))
}

fn finish(kind: &Kind, mut value: Value) -> Value {
    object::set(&mut value, &[], "kind", kind.name());
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

/// Whether an object still is of a kind that is known.
fn still_is(kind: &Kind, value: &Value) -> Result<(), String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match Mismatch::find(&kind.resource.gvk, text("kind"), text("apiVersion")) {
        Some(Mismatch::Malformed(why) | Mismatch::Kind(why)) if !kind.is_custom() => Err(why),
        _ => Ok(()),
    }
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

/// Writes down whose fields were set.
pub async fn track(core: &Core, kind: &Kind, call: &Call, old: Option<&Value>, new: &mut Value, subresource: &str) {
    if call.content_type == patches::APPLY {
        return;
    }
    call.conversions.forget();
    loop {
        match track_once(kind, call, old, new, subresource) {
            Ok(()) => return,
            Err(Unconverted::Later) if call.conversions.settle(core, kind).await => {}
            Err(error) => {
                let (namespace, name) = (object::namespace(new), object::name(new));
                tracing::warn!(namespace, name, kind = kind.name(), "forgot who owns the fields of an object: {error}");
                return;
            }
        }
    }
}

fn track_once(
    kind: &Kind,
    call: &Call,
    old: Option<&Value>,
    new: &mut Value,
    subresource: &str,
) -> Result<(), Unconverted> {
    let (manager, version) = (call.manager(), kind.resource.gvk.api_version());
    let reset_fields = reset_fields(kind, subresource);
    let versions = Versions { kind, conversions: &call.conversions };
    let (now, versions) = (call.now, Some(&versions as &dyn Convert));
    let writer = Writer { manager: &manager, api_version: &version, subresource, reset_fields, now, versions };
    managed_fields::track_update(schema_of(kind), old, new, &writer)
}

/// Takes the field at `path` from everybody, which is what a write through the scale of a custom object comes to: upstream
/// can't tell there whose it is.
pub fn disown(object: &mut Value, path: &[String]) {
    let Some(entries) = object::list_mut(object, &["metadata", "managedFields"]) else { return };
    entries.retain_mut(|entry| match entry.get_mut("fieldsV1") {
        Some(fields) => !(remove_field(fields, path) && fields.as_object().is_some_and(serde_json::Map::is_empty)),
        None => true,
    });
    if entries.is_empty() {
        object::remove(object, &["metadata"], "managedFields");
    }
}

/// Removes the field at `path` of a set, and what it alone was in the set for. Answers whether it was there.
fn remove_field(fields: &mut Value, path: &[String]) -> bool {
    let (Some((first, below)), Some(map)) = (path.split_first(), fields.as_object_mut()) else { return false };
    let key = format!("f:{first}");
    if below.is_empty() {
        return map.shift_remove(&key).is_some();
    }
    let Some(inner) = map.get_mut(&key) else { return false };
    if !remove_field(inner, below) {
        return false;
    }
    match inner.as_object_mut() {
        Some(left) if left.is_empty() => drop(map.shift_remove(&key)),
        // What is in the set by itself, and nothing below it.
        Some(left) if left.len() == 1 => drop(left.shift_remove(".")),
        _ => {}
    }
    true
}

/// Writes down whose fields were set in an object of another kind, which is answered and not kept: where that fails, it is
/// answered without, as by upstream.
pub fn track_foreign(
    call: &Call,
    (group, version, kind): &(&'static str, &'static str, &'static str),
    asked: &Value,
    answered: &mut Value,
    subresource: &str,
) {
    let gvk = GroupVersionKind::new(group, version, kind);
    let Some(schema) = Schemas::builtin().get(&gvk) else {
        return tracing::error!(kind, "there is no schema by which to say whose fields were set");
    };
    let (manager, version) = (call.manager(), gvk.api_version());
    let (reset_fields, now) = (&[], call.now);
    let writer = Writer { manager: &manager, api_version: &version, subresource, reset_fields, now, versions: None };
    let mut tracked = asked.clone();
    if let Err(error) = managed_fields::track_update(schema, None, &mut tracked, &writer) {
        return tracing::error!(%error, kind, "whose fields were set could not be found out");
    }
    if let Some(fields) = object::at(&tracked, &["metadata", "managedFields"]).cloned() {
        object::set(answered, &["metadata"], "managedFields", fields);
    }
}

/// What a write through this endpoint does not change, and so does not own.
fn reset_fields(kind: &Kind, subresource: &str) -> &'static [&'static [&'static str]] {
    if let Some(own) = kind.reset_fields(subresource) {
        return own;
    }
    match subresource {
        "" if kind.keeps_status() => &[&["status"]],
        "status" if kind.is_custom() || kind.status_keeps_metadata() => &[&["metadata"], &["spec"]],
        "status" => &[&["spec"]],
        _ => &[],
    }
}

/// Brings an object into the form in which it is stored.
pub fn normalize(kind: &Kind, object: &mut Value) {
    schema::normalize(schema_of(kind), object);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_taken_from_all_leaves_no_empty_sets() {
        let entry = |fields: Value| serde_json::json!({"manager": "m", "fieldsV1": fields});
        let mut object = serde_json::json!({"metadata": {"managedFields": [
            entry(serde_json::json!({"f:spec": {"f:replicas": {}}})),
            entry(serde_json::json!({"f:spec": {".": {}, "f:replicas": {}}})),
            entry(serde_json::json!({"f:spec": {".": {}, "f:replicas": {}, "f:size": {}}})),
            entry(serde_json::json!({"f:status": {"f:phase": {}}})),
        ]}});
        disown(&mut object, &["spec".to_owned(), "replicas".to_owned()]);
        let left = serde_json::json!([
            entry(serde_json::json!({"f:spec": {}})),
            entry(serde_json::json!({"f:spec": {".": {}, "f:size": {}}})),
            entry(serde_json::json!({"f:status": {"f:phase": {}}})),
        ]);
        assert_eq!(object["metadata"]["managedFields"], left);
    }

    #[test]
    fn what_a_patch_makes_still_says_what_it_is() {
        let told = |value: Value| check_named(&value, || "{}".to_owned()).map_err(|error| (error.code, error.message));
        let named = serde_json::json!({"apiVersion": "example.com/v1", "kind": "Widget"});
        assert_eq!(told(named.clone()), Ok(()));
        let (mut nameless, mut unversioned, mut odd) = (named.clone(), named.clone(), named);
        nameless["kind"] = Value::Null;
        unversioned["apiVersion"] = Value::Null;
        odd["apiVersion"] = "a/b/c".into();
        let invalid = |why: &str| Err((422, format!(" \"\" is invalid: patch: Invalid value: \"{{}}\": {why}")));
        assert_eq!(told(nameless), invalid("Object 'Kind' is missing in '{}'"));
        assert_eq!(told(odd), invalid("unexpected GroupVersion string: a/b/c"));
        assert_eq!(told(unversioned).unwrap_err().0, 500);
        assert_eq!((group_of("example.com/v1"), group_of("v1")), ("example.com", ""));
    }

    #[test]
    fn what_is_of_another_kind_is_refused_in_upstreams_words() {
        let config_map = GroupVersionKind::new("", "v1", "ConfigMap");
        let found = |kind: &str, version: &str| Mismatch::find(&config_map, kind, version);
        for (kind, version) in [("", ""), ("ConfigMap", ""), ("", "v1"), ("ConfigMap", "v1")] {
            assert_eq!(found(kind, version), None);
        }
        let converting = "converting (v1.Deployment) to (core.ConfigMap): unknown conversion";
        assert_eq!(found("Deployment", "apps/v1"), Some(Mismatch::Kind(converting.into())));
        let Some(Mismatch::Kind(why)) = found("Frob", "") else { panic!("a mismatch") };
        assert!(why.starts_with("no kind \"Frob\" is registered for version \"v1\""), "{why}");
        assert_eq!(
            found("ConfigMap", "a/b/c"),
            Some(Mismatch::Malformed("unexpected GroupVersion string: a/b/c".into()))
        );
        let converting = "converting (v1.List) to (core.ConfigMap): unknown conversion";
        assert_eq!(found("List", "v1"), Some(Mismatch::Kind(converting.into())));
        let deployment = GroupVersionKind::new("apps", "v1", "Deployment");
        for version in ["apps/v1beta1", "extensions/v1beta1"] {
            let why =
                format!("the API version in the data ({version}) does not match the expected API version (apps/v1)");
            assert_eq!(Mismatch::find(&deployment, "Deployment", version), Some(Mismatch::Version(why)));
        }
        let Some(Mismatch::Kind(why)) = Mismatch::find(&deployment, "Deployment", "apps/v9") else {
            panic!("a mismatch")
        };
        assert!(why.starts_with("no kind \"Deployment\" is registered for version \"apps/v9\""), "{why}");
        let eviction = GroupVersionKind::new("policy", "v1", "Eviction");
        assert_eq!(Mismatch::find(&eviction, "Eviction", "policy/v1beta1"), None);
        let event = GroupVersionKind::new("", "v1", "Event");
        assert_eq!(
            Mismatch::find(&event, "Event", "events.k8s.io/v1"),
            Some(Mismatch::Version(
                "the API version in the data (events.k8s.io/v1) does not match the expected API version (v1)".into()
            ))
        );
    }
}
