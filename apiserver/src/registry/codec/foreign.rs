//! Bodies that speak of an object through a kind of another group.

use martello_api::{managed_fields, resource::GroupVersionKind, schema::Schemas, status::ApiError};
use serde_json::Value;

use super::{
    apply::Config,
    check_media, decode_as,
    patches::{Form, Patch},
    scaled,
};
use crate::registry::{call::Call, martello::open_schema, meta, options::WriteOptions};

/// What upstream says of a scale of a custom object that it can't decode.
const UNNAMED_SCALE: &str =
    "no kind is registered for the type v1.Scale in scheme \"pkg/apiserver/customresource_handler.go:781\"";

/// A body that speaks of an object through a kind of another group (Scale): a whole one, or a patch of one.
pub struct Foreign {
    gvk: GroupVersionKind,
    value: Value,
    patch: Option<Patch>,
    config: Option<Config>,
}

impl Foreign {
    /// Reads the body.
    pub fn read(call: &Call, group: &'static str, version: &'static str, kind: &'static str) -> Result<Self, ApiError> {
        let gvk = GroupVersionKind::new(group, version, kind);
        let schema = Schemas::builtin().get(&gvk).unwrap_or_else(|| open_schema());
        if call.verb == "patch" {
            let form = Form::read(call, true)?;
            let strictness = WriteOptions::read_patch(&call.query, form == Form::Apply)?.strictness;
            let config = if form == Form::Apply { Some(Config::read(&gvk, call)?) } else { None };
            if let Some(config) = &config {
                managed_fields::check_config(schema, &config.value).map_err(|error| error.to_api_error())?;
            }
            let patch = Some(Patch { form, body: call.body.clone(), strictness });
            return Ok(Self { gvk, value: Value::Null, patch, config });
        }
        check_media(&gvk, call)?;
        let options = if call.verb == "update" { "UpdateOptions" } else { "CreateOptions" };
        let strictness = WriteOptions::read(&call.query, options)?.strictness;
        let mut value = decode_as(&gvk, schema, call, strictness, None)?;
        if call.verb == "create" {
            meta::fit_namespace_of(call, &mut value)?;
        }
        Ok(Self { gvk, value, patch: None, config: None })
    }

    /// Reads the scale of a custom object. Upstream's handler of these has no strategic patches, fails to say what a scale is
    /// that it can't decode, and applies one only as far as [`Self::owned`] goes.
    pub fn read_custom_scale(call: &Call) -> Result<Self, ApiError> {
        if call.verb == "patch" {
            let form = Form::read(call, false)?;
            let strictness = WriteOptions::read_patch(&call.query, form == Form::Apply)?.strictness;
            let patch = Some(Patch { form, body: call.body.clone(), strictness });
            let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
            return Ok(Self { gvk, value: Value::Null, patch, config: None });
        }
        Self::read(call, "autoscaling", "v1", "Scale").map_err(|error| match error.reason.as_str() {
            "BadRequest" => ApiError::bad_request(UNNAMED_SCALE),
            _ => error,
        })
    }

    /// What is to be applied, where it is an apply patch.
    #[must_use]
    pub fn applied(&self) -> Option<&Value> {
        self.config.as_ref().map(|config| &config.value)
    }

    /// The whole object, where that was sent.
    #[must_use]
    pub fn sent(&self) -> Option<&Value> {
        self.patch.is_none().then_some(&self.value)
    }

    /// Meets keys that an apply patch has twice as the client asked: after it was applied.
    pub fn judge_applied(&self, call: &Call) -> Result<(), ApiError> {
        match (&self.config, &self.patch) {
            (Some(config), Some(patch)) => config.judge(call, patch.strictness),
            _ => Ok(()),
        }
    }

    /// The `scale` of a custom object with the owners that an apply patch leaves it, where it is one.
    pub fn owned(&self, call: &Call, scale: &Value) -> Result<Option<Value>, ApiError> {
        let is_apply = |patch: &&Patch| patch.form == Form::Apply && self.config.is_none();
        let Some(patch) = self.patch.as_ref().filter(is_apply) else { return Ok(None) };
        let config = Config::read(&self.gvk, call)?;
        let owned = scaled::own_by_apply(call, scale, &config.value)?;
        config.judge(call, patch.strictness)?;
        Ok(Some(owned))
    }

    /// What it makes of the current one.
    pub fn apply(&self, call: &Call, current: &Value) -> Result<Value, ApiError> {
        let schema = Schemas::builtin().get(&self.gvk).unwrap_or_else(|| open_schema());
        let Some(patch) = &self.patch else { return Ok(self.value.clone()) };
        if let Some(config) = self.applied() {
            return Ok(config.clone());
        }
        patch.decoded(Some(&self.gvk), schema, call, patch.patched(schema, current)?)
    }
}
