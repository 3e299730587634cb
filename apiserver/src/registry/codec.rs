//! Bodies: decoding, defaults, patches and field ownership, by the schema of the kind.

use martello_api::{
    managed_fields::{self, Writer},
    patch,
    resource::GroupVersionKind,
    schema::{self, Decoded, Envelope, FieldIssue, ProtobufError, Schema, Schemas},
    status::{ApiError, Cause},
};
use serde_json::Value;

use super::{
    call::Call,
    kind::Kind,
    object,
    options::{self, FieldValidation},
};
use crate::http::negotiate::PROTOBUF;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// The schema of a kind; one that keeps everything where there is none (our own kinds).
fn schema_of(kind: &Kind) -> &Schema {
    if let Some(own) = kind.schema() {
        return own;
    }
    Schemas::builtin().get(&kind.resource.gvk).unwrap_or_else(|| super::martello::open_schema())
}

/// Decodes the object in the body and fills in its defaults.
pub fn decode(kind: &Kind, call: &Call, options: &str) -> Result<Value, ApiError> {
    let strictness = options::field_validation(&call.query, options)?;
    let gvk = &kind.resource.gvk;
    let schema = schema_of(kind);
    let decoded = match call.content_type.as_str() {
        JSON => schema::decode_json(schema, &call.body),
        YAML => schema::decode_yaml(schema, &call.body),
        PROTOBUF if schema::has_protobuf(gvk) => return decode_protobuf(kind, call, schema),
        _ => return Err(unknown_media(gvk)),
    };
    let decoded = decoded.map_err(|error| error.to_api_error(gvk, &call.body))?;
    if kind.is_custom() {
        check_custom(kind, call, &decoded.value, strictness)?;
    } else {
        check_kind(gvk, &decoded.value)?;
    }
    let value = judge(call, decoded, strictness, |problems| {
        ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {problems}",
            gvk.kind, gvk.version, gvk.kind
        ))
    })?;
    Ok(finish(kind, value))
}

/// Kind and version may be left out; if they are given they are those of the resource.
fn check_kind(gvk: &GroupVersionKind, value: &Value) -> Result<(), ApiError> {
    check_kind_of(gvk, object::text(value, &["kind"]), object::text(value, &["apiVersion"]))
}

fn check_kind_of(gvk: &GroupVersionKind, kind: &str, version: &str) -> Result<(), ApiError> {
    let wanted = gvk.api_version();
    if (kind.is_empty() || kind == gvk.kind) && (version.is_empty() || version == wanted) {
        return Ok(());
    }
    let (kind, version) =
        (if kind.is_empty() { &*gvk.kind } else { kind }, if version.is_empty() { &wanted } else { version });
    let short = version.rsplit('/').next().unwrap_or_default();
    Err(ApiError::bad_request(format!(
        "{kind} in version {short:?} cannot be handled as a {}: no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        gvk.kind
    )))
}

/// An object of a custom kind says of itself what it is; without a schema for what it says, nothing of it is known.
fn check_custom(kind: &Kind, call: &Call, value: &Value, strictness: FieldValidation) -> Result<(), ApiError> {
    let gvk = &kind.resource.gvk;
    let (own, version, wanted) =
        (object::text(value, &["kind"]), object::text(value, &["apiVersion"]), gvk.api_version());
    if own.is_empty() {
        let body = String::from_utf8_lossy(&call.body).into_owned();
        let nameless = GroupVersionKind { kind: "".into(), ..gvk.clone() };
        return Err(schema::DecodeError::MissingKind(body).to_api_error(&nameless, &call.body));
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
    Err(ApiError::invalid(&gvk.group, object::text(value, &["kind"]), object::name(value), causes))
}

fn finish(kind: &Kind, mut value: Value) -> Value {
    object::set(&mut value, &[], "kind", kind.name());
    object::set(&mut value, &[], "apiVersion", kind.resource.gvk.api_version());
    object::map_mut(&mut value, &["metadata"]);
    schema::apply_defaults(schema_of(kind), &mut value);
    kind.default(&mut value);
    value
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
        FieldValidation::Warn => decoded.issues.iter().for_each(|issue| call.warn(issue.to_string())),
        FieldValidation::Strict if decoded.issues.is_empty() => {}
        FieldValidation::Strict => return Err(refuse(&listed(&decoded.issues))),
    }
    Ok(decoded.value)
}

fn listed(issues: &[FieldIssue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Protobuf has no place for fields that the schema lacks, so strictness has nothing to judge.
fn decode_protobuf(kind: &Kind, call: &Call, schema: &Schema) -> Result<Value, ApiError> {
    let gvk = &kind.resource.gvk;
    let refuse = |error: ProtobufError| error.to_api_error(gvk, &call.body);
    let envelope = Envelope::open(&call.body).map_err(refuse)?;
    check_kind_of(gvk, envelope.kind, envelope.api_version)?;
    Ok(finish(kind, envelope.decode(schema).map_err(refuse)?))
}

fn unknown_media(gvk: &GroupVersionKind) -> ApiError {
    let also = if schema::has_protobuf(gvk) { ", application/vnd.kubernetes.protobuf" } else { "" };
    ApiError::unsupported_media_type(format!(
        "the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}{also}"
    ))
}

/// Decodes a body that is not an object of the kind (options); none where there is no body.
pub fn decode_options(call: &Call, kind: &str) -> Result<Option<Value>, ApiError> {
    if call.body.is_empty() {
        return Ok(None);
    }
    let gvk = GroupVersionKind { kind: kind.to_owned().into(), ..GroupVersionKind::new("", "v1", "") };
    parse_body(call, &gvk).map(Some)
}

fn parse_body(call: &Call, gvk: &GroupVersionKind) -> Result<Value, ApiError> {
    let schema = Schemas::builtin().get(gvk).unwrap_or_else(|| super::martello::open_schema());
    let decoded = match call.content_type.as_str() {
        JSON => schema::decode_json(schema, &call.body),
        YAML => schema::decode_yaml(schema, &call.body),
        PROTOBUF if schema::has_protobuf(gvk) => {
            let opened = Envelope::open(&call.body);
            return opened
                .and_then(|envelope| envelope.decode(schema))
                .map_err(|error| error.to_api_error(gvk, &call.body));
        }
        _ => return Err(unknown_media(gvk)),
    };
    decoded.map(|decoded| decoded.value).map_err(|error| error.to_api_error(gvk, &call.body))
}

/// Writes down whose fields were set.
pub fn track(kind: &Kind, call: &Call, old: Option<&Value>, new: &mut Value, subresource: &str) {
    if call.content_type == APPLY {
        return;
    }
    let (manager, version) = (call.manager(), kind.resource.gvk.api_version());
    let reset_fields = reset_fields(kind, subresource);
    let writer = Writer { manager: &manager, api_version: &version, subresource, reset_fields, now: call.now };
    managed_fields::track_update(schema_of(kind), old, new, &writer);
}

/// What a write through this endpoint does not change, and so does not own.
fn reset_fields(kind: &Kind, subresource: &str) -> &'static [&'static [&'static str]] {
    if let Some(own) = kind.reset_fields(subresource) {
        return own;
    }
    match subresource {
        "" if kind.has_status() => &[&["status"]],
        "status" if kind.is_custom() => &[&["spec"]],
        "status" => &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]],
        _ => &[],
    }
}

/// Brings an object into the form in which it is stored.
pub fn normalize(kind: &Kind, object: &mut Value) {
    schema::normalize(schema_of(kind), object);
}

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch.
pub struct Patch {
    form: Form,
    body: bytes::Bytes,
    strictness: FieldValidation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Patch {
    /// Reads the patch in the body.
    pub fn read(kind: &Kind, call: &Call) -> Result<Self, ApiError> {
        let strictness = options::field_validation(&call.query, "PatchOptions")?;
        let strategic = Schemas::builtin().get(&kind.resource.gvk).is_some();
        let form = match call.content_type.as_str() {
            JSON_PATCH => Form::Json,
            MERGE => Form::Merge,
            STRATEGIC if strategic => Form::Strategic,
            APPLY => Form::Apply,
            _ if kind.is_custom() => {
                return Err(ApiError::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: {JSON_PATCH}, {MERGE}, {APPLY}"
                )));
            }
            _ => {
                let mut error = ApiError::unsupported_media_type("415: Unsupported Media Type");
                error.details = Some(Box::default());
                return Err(error);
            }
        };
        options::patch_options(&call.query, form == Form::Apply)?;
        Ok(Self { form, body: call.body.clone(), strictness })
    }

    /// Whether it is an apply, which makes what is missing.
    #[must_use]
    pub fn is_apply(&self) -> bool {
        self.form == Form::Apply
    }

    /// What it makes of the current object.
    pub fn apply(&self, kind: &Kind, call: &Call, current: &Value, subresource: &str) -> Result<Value, ApiError> {
        let schema = schema_of(kind);
        let patched = match self.form {
            Form::Json => patch::json_patch(current, &self.body),
            Form::Merge => patch::merge_patch(current, &self.body),
            Form::Strategic => patch::strategic_merge_patch(schema, current, &self.body),
            Form::Apply => return self.applied(kind, call, Some(current), subresource),
        };
        let patched = patched.map_err(|error| error.to_api_error())?;
        let shown = patched.value.to_string();
        let mut decoded = schema::decode_value(schema, patched.value)
            .map_err(|error| patch::invalid_patch(&shown, &error.to_string()))?;
        let own = std::mem::replace(&mut decoded.issues, patched.issues);
        decoded.issues.extend(own);
        let value = judge(call, decoded, self.strictness, |problems| {
            patch::invalid_patch(&shown, &format!("strict decoding error: {problems}"))
        })?;
        check_patched_kind(kind, &value)?;
        Ok(finish(kind, value))
    }

    /// What it makes of nothing.
    pub fn fresh(&self, kind: &Kind, call: &Call) -> Result<Value, ApiError> {
        if self.form != Form::Apply {
            return Err(kind.not_found(call.name()));
        }
        self.applied(kind, call, None, "")
    }

    fn applied(&self, kind: &Kind, call: &Call, current: Option<&Value>, subresource: &str) -> Result<Value, ApiError> {
        let gvk = &kind.resource.gvk;
        let read = schema::parse_yaml(&self.body)
            .map_err(|why| ApiError::bad_request(format!("error decoding YAML: {why}")))?;
        match self.strictness {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => read.duplicates.iter().for_each(|line| call.warn(line.clone())),
            FieldValidation::Strict if read.duplicates.is_empty() => {}
            FieldValidation::Strict => {
                let listed = read.duplicates.join("\n  ");
                return Err(ApiError::bad_request(format!(
                    "error decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {listed}"
                )));
            }
        }
        let schema = schema_of(kind);
        let patch = read.value.into_value();
        check_applied(gvk, call, &patch)?;
        let (manager, version) = (call.manager(), gvk.api_version());
        let reset_fields = reset_fields(kind, subresource);
        let writer = Writer { manager: &manager, api_version: &version, subresource, reset_fields, now: call.now };
        let force = call.query.flag("force").unwrap_or(false);
        let applied =
            managed_fields::apply(schema, current, &patch, &writer, force).map_err(|error| error.to_api_error())?;
        Ok(finish(kind, applied.value))
    }
}

fn check_patched_kind(kind: &Kind, value: &Value) -> Result<(), ApiError> {
    if kind.is_custom() {
        return check_custom_type(kind, value);
    }
    let gvk = &kind.resource.gvk;
    let (own, version) = (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
    if own == gvk.kind && version == gvk.api_version() {
        return Ok(());
    }
    check_kind(gvk, value)
}

/// An applied object says of itself what it is and how it is called.
fn check_applied(gvk: &GroupVersionKind, call: &Call, value: &Value) -> Result<(), ApiError> {
    let (own, version) = (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
    if own != gvk.kind || version != gvk.api_version() {
        let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
        return Err(ApiError::bad_request(format!("invalid object type: {version}, Kind={own}")));
    }
    if object::name(value).is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            call.name()
        )));
    }
    Ok(())
}

/// A body that speaks of an object through a kind of another group (Scale): a whole one, or a patch of one.
pub struct Foreign {
    gvk: GroupVersionKind,
    value: Value,
    patch: Option<Form>,
    body: bytes::Bytes,
}

impl Foreign {
    /// Reads the body.
    pub fn read(call: &Call, group: &'static str, version: &'static str, kind: &'static str) -> Result<Self, ApiError> {
        let gvk = GroupVersionKind::new(group, version, kind);
        let body = call.body.clone();
        if call.verb == "patch" {
            let form = match call.content_type.as_str() {
                JSON_PATCH => Form::Json,
                MERGE => Form::Merge,
                STRATEGIC => Form::Strategic,
                _ => return Err(unknown_media(&gvk)),
            };
            return Ok(Self { gvk, value: Value::Null, patch: Some(form), body });
        }
        let value = parse_body(call, &gvk)?;
        let (own, own_version) = (object::text(&value, &["kind"]), object::text(&value, &["apiVersion"]));
        if !own.is_empty() && (own != kind || own_version != gvk.api_version()) {
            return Err(ApiError::bad_request(format!(
                "{own} in version {:?} cannot be handled as a {kind}: converting to ({group}.{kind}): unknown conversion",
                own_version.rsplit('/').next().unwrap_or_default()
            )));
        }
        Ok(Self { gvk, value, patch: None, body })
    }

    /// What it makes of the current one.
    pub fn apply(&self, current: &Value) -> Result<Value, ApiError> {
        let schema = Schemas::builtin().get(&self.gvk).unwrap_or_else(|| super::martello::open_schema());
        let patched = match self.patch {
            None => return Ok(self.value.clone()),
            Some(Form::Json) => patch::json_patch(current, &self.body),
            Some(Form::Strategic) => patch::strategic_merge_patch(schema, current, &self.body),
            Some(Form::Merge | Form::Apply) => patch::merge_patch(current, &self.body),
        };
        let patched = patched.map_err(|error| error.to_api_error())?;
        let shown = patched.value.to_string();
        let decoded = schema::decode_value(schema, patched.value)
            .map_err(|error| patch::invalid_patch(&shown, &error.to_string()))?;
        Ok(decoded.value)
    }
}
