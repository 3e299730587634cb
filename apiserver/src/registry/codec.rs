//! Bodies: decoding, defaults, patches and field ownership, by the schema of the kind.

use martello_api::status::ApiError;
use serde_json::Value;

use super::{call::Call, kind::Kind, object, options};

/// Decodes the object in the body and fills in its defaults.
pub fn decode(kind: &Kind, call: &Call, options: &str) -> Result<Value, ApiError> {
    let _ = options::field_validation(&call.query, options)?;
    let mut value = parse_body(call, kind.name())?;
    object::set(&mut value, &[], "kind", kind.name());
    object::set(&mut value, &[], "apiVersion", kind.resource.gvk.api_version());
    object::map_mut(&mut value, &["metadata"]);
    kind.default(&mut value);
    Ok(value)
}

/// Decodes a body that is not an object of the kind (options, Scale, Binding …); none where there is no body.
pub fn decode_options(call: &Call, kind: &str) -> Result<Option<Value>, ApiError> {
    if call.body.is_empty() { Ok(None) } else { parse_body(call, kind).map(Some) }
}

fn parse_body(call: &Call, kind: &str) -> Result<Value, ApiError> {
    match call.content_type.as_str() {
        "application/json" => serde_json::from_slice(&call.body).map_err(|error| {
            ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {error}"))
        }),
        "application/yaml" => serde_saphyr::from_slice(&call.body).map_err(|error| {
            ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): yaml: {error}"))
        }),
        other => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml ({other})"
        ))),
    }
}

/// Writes down whose fields were set.
pub fn track(_kind: &Kind, _call: &Call, _old: Option<&Value>, _new: &mut Value, _subresource: &str) {}

/// Brings an object into the form in which it is stored.
pub fn normalize(_kind: &Kind, _object: &mut Value) {}

/// A patch.
pub struct Patch {
    value: Value,
}

impl Patch {
    /// Reads the patch in the body.
    pub fn read(kind: &Kind, call: &Call) -> Result<Self, ApiError> {
        let value = serde_json::from_slice(&call.body).map_err(|error| ApiError::bad_request(format!("{}: {error}", kind.name())))?;
        Ok(Self { value })
    }

    /// Whether it is an apply, which makes what is missing.
    #[must_use]
    pub fn is_apply(&self) -> bool {
        false
    }

    /// What it makes of the current object.
    pub fn apply(&self, kind: &Kind, _call: &Call, current: &Value, _subresource: &str) -> Result<Value, ApiError> {
        let mut new = current.clone();
        merge(&mut new, &self.value);
        kind.default(&mut new);
        Ok(new)
    }

    /// What it makes of nothing.
    pub fn fresh(&self, kind: &Kind, call: &Call) -> Result<Value, ApiError> {
        Err(kind.not_found(call.name()))
    }
}

fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => {
            if !into.is_object() {
                *into = Value::Object(serde_json::Map::new());
            }
            let Some(map) = into.as_object_mut() else { return };
            for (key, value) in patch {
                if value.is_null() {
                    map.shift_remove(key);
                } else {
                    merge(map.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        other => *into = other.clone(),
    }
}

/// A body that speaks of an object through a kind of another group (Scale): a whole one, or a patch of one.
pub struct Foreign {
    value: Value,
    patches: bool,
}

impl Foreign {
    /// Reads the body.
    pub fn read(call: &Call, group: &str, version: &str, kind: &str) -> Result<Self, ApiError> {
        let patches = call.verb == "patch";
        let value: Value = if patches {
            serde_json::from_slice(&call.body).map_err(|error| ApiError::bad_request(error.to_string()))?
        } else {
            parse_body(call, kind)?
        };
        let (own, own_version) = (object::text(&value, &["kind"]), object::text(&value, &["apiVersion"]));
        if !patches && !own.is_empty() && (own != kind || own_version != format!("{group}/{version}")) {
            return Err(ApiError::bad_request(format!(
                "{own} in version {:?} cannot be handled as a {kind}: converting to ({group}.{kind}): unknown conversion",
                own_version.rsplit('/').next().unwrap_or_default()
            )));
        }
        Ok(Self { value, patches })
    }

    /// What it makes of the current one.
    pub fn apply(&self, current: &Value) -> Result<Value, ApiError> {
        if !self.patches {
            return Ok(self.value.clone());
        }
        let mut new = current.clone();
        merge(&mut new, &self.value);
        Ok(new)
    }
}
