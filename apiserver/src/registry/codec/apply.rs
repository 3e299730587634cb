//! Server-side apply: the config in the body, and what it makes of the current object.

use martello_api::{
    managed_fields::{self, Convert, Writer},
    resource::GroupVersionKind,
    schema,
    status::ApiError,
};
use serde_json::Value;

use super::{finish, ownership::reset_fields, schema_of, versions::Versions};
use crate::registry::{call::Call, kind::Kind, object, options::FieldValidation};

/// An apply patch, and the keys that it has twice.
pub(super) struct Config {
    pub(super) value: Value,
    duplicates: Vec<String>,
}

impl Config {
    pub(super) fn read(gvk: &GroupVersionKind, call: &Call) -> Result<Self, ApiError> {
        let read = schema::parse_yaml(&call.body).map_err(|why| {
            ApiError::bad_request(format!("error decoding YAML: error converting YAML to JSON: {why}"))
        })?;
        let duplicates = read.duplicates;
        Ok(Self { value: config_of(gvk, read.value)?, duplicates })
    }

    /// Meets keys that it has twice as the client asked; upstream does so after it has applied the patch.
    pub(super) fn judge(&self, call: &Call, strictness: FieldValidation) -> Result<(), ApiError> {
        match strictness {
            FieldValidation::Warn => self.duplicates.iter().for_each(|line| call.warn(line.clone())),
            FieldValidation::Strict if !self.duplicates.is_empty() => {
                let listed = self.duplicates.join("\n  ");
                return Err(ApiError::bad_request(format!(
                    "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {listed}"
                )));
            }
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        Ok(())
    }
}

/// What is applied, if it is an object of the kind.
fn config_of(gvk: &GroupVersionKind, read: schema::Raw<'_>) -> Result<Value, ApiError> {
    let found = match &read {
        schema::Raw::Map(_) | schema::Raw::Null => None,
        schema::Raw::List(_) => Some("array"),
        schema::Raw::String(_) => Some("string"),
        schema::Raw::Number(_) => Some("number"),
        schema::Raw::Bool(_) => Some("bool"),
    };
    if let Some(found) = found {
        return Err(ApiError::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    let config = read.into_value();
    check_applied(gvk, &config)?;
    Ok(config)
}

/// Applies a config of the kind to what there is.
pub fn apply_config(
    kind: &Kind,
    call: &Call,
    current: Option<&Value>,
    config: &Value,
    subresource: &str,
) -> Result<Value, ApiError> {
    let (manager, version) = (call.manager(), kind.resource.gvk.api_version());
    let reset_fields = reset_fields(kind, subresource);
    let versions = Versions { kind, conversions: &call.conversions };
    let (now, versions) = (call.now, Some(&versions as &dyn Convert));
    let writer = Writer { manager: &manager, api_version: &version, subresource, reset_fields, now, versions };
    let force = call.query.flag("force").unwrap_or(false);
    let applied = managed_fields::apply(schema_of(kind), current, config, &writer, force);
    let mut value = applied.map_err(|error| error.to_api_error())?.value;
    // It is as if it had been decoded.
    schema::normalize(schema_of(kind), &mut value);
    Ok(finish(kind, value))
}

/// An applied object says of itself what it is.
fn check_applied(gvk: &GroupVersionKind, value: &Value) -> Result<(), ApiError> {
    let (own, version) = (object::text(value, &["kind"]), object::text(value, &["apiVersion"]));
    if own == gvk.kind && version == gvk.api_version() {
        return Ok(());
    }
    // What is no version says nothing of the kind either.
    let (own, version) = if version.matches('/').count() > 1 { ("", "") } else { (own, version) };
    let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    Err(ApiError::bad_request(format!("invalid object type: {version}, Kind={own}")))
}
