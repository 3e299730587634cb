//! Patches in the body: what each form makes of the current object.

use martello_api::{
    patch,
    resource::GroupVersionKind,
    schema::{self, DecodeError, Schema, Schemas},
    status::ApiError,
};
use serde_json::Value;

use super::{
    apply::{Config, apply_config},
    finish, judge, schema_of,
    type_meta::{Mismatch, check_custom_type, check_named},
};
use crate::registry::{
    call::Call,
    kind::Kind,
    object,
    options::{FieldValidation, WriteOptions},
};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

/// A patch.
pub struct Patch {
    pub(super) form: Form,
    pub(super) body: bytes::Bytes,
    pub(super) strictness: FieldValidation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Form {
    /// Of the media type of the body. Strategic patches need the merge keys that only built-in kinds have.
    pub(super) fn read(call: &Call, built_in: bool) -> Result<Self, ApiError> {
        Ok(match call.content_type.as_str() {
            JSON_PATCH => Self::Json,
            MERGE => Self::Merge,
            STRATEGIC if built_in => Self::Strategic,
            APPLY => Self::Apply,
            _ if built_in => {
                let mut error = ApiError::unsupported_media_type("415: Unsupported Media Type");
                error.details = Some(Box::default());
                return Err(error);
            }
            _ => {
                return Err(ApiError::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: {JSON_PATCH}, {MERGE}, {APPLY}"
                )));
            }
        })
    }
}

/// Whether a call applies.
#[must_use]
pub fn is_apply(call: &Call) -> bool {
    call.verb == "patch" && call.content_type == APPLY
}

impl Patch {
    /// Whether the body is of a form that patches of the kind have.
    pub fn check_form(kind: &Kind, call: &Call) -> Result<(), ApiError> {
        Self::form(kind, call).map(drop)
    }

    fn form(kind: &Kind, call: &Call) -> Result<Form, ApiError> {
        Form::read(call, Schemas::builtin().get(&kind.resource.gvk).is_some())
    }

    /// Reads the patch in the body.
    pub fn read(kind: &Kind, call: &Call) -> Result<Self, ApiError> {
        let form = Self::form(kind, call)?;
        let strictness = WriteOptions::read_patch(&call.query, form == Form::Apply)?.strictness;
        Ok(Self { form, body: call.body.clone(), strictness })
    }

    /// Whether it is an apply, which makes what is missing.
    #[must_use]
    pub fn is_apply(&self) -> bool {
        self.form == Form::Apply
    }

    /// What it makes of the current object.
    pub fn apply(&self, kind: &Kind, call: &Call, current: &Value, subresource: &str) -> Result<Value, ApiError> {
        if self.is_apply() {
            return self.applied(kind, call, Some(current), subresource);
        }
        let schema = schema_of(kind);
        let patched = self.patched(schema, current)?;
        if kind.is_custom() {
            check_named(&patched.value, || {
                let mut value = patched.value.clone();
                value.sort_all_objects();
                patched.shown.clone().unwrap_or_else(|| value.to_string())
            })?;
        }
        let gvk = &kind.resource.gvk;
        let value = self.decoded((!kind.is_custom()).then_some(gvk), schema, call, patched)?;
        // A status brings no more than itself, whatever the rest calls itself.
        if kind.is_custom() && subresource != "status" {
            call.check_identity(&value)?;
            check_custom_type(kind, &value)?;
        }
        Ok(finish(kind, value))
    }

    /// What a patch that is no apply makes of `current`.
    pub(super) fn patched(&self, schema: &Schema, current: &Value) -> Result<patch::Patched, ApiError> {
        let loose = self.strictness == FieldValidation::Ignore;
        let patched = match self.form {
            Form::Json if loose => patch::loose_json_patch(current, &self.body),
            Form::Json => patch::json_patch(current, &self.body),
            Form::Merge if loose => patch::loose_merge_patch(current, &self.body),
            Form::Merge => patch::merge_patch(current, &self.body),
            Form::Strategic | Form::Apply => patch::strategic_merge_patch(schema, current, &self.body),
        };
        patched.map_err(|error| error.to_api_error())
    }

    /// What a patch came to, decoded; where a kind is given it has to be of that.
    pub(super) fn decoded(
        &self,
        gvk: Option<&GroupVersionKind>,
        schema: &Schema,
        call: &Call,
        mut patched: patch::Patched,
    ) -> Result<Value, ApiError> {
        if self.form != Form::Strategic {
            // Upstream writes it as JSON with its keys in order, and so are its objections.
            patched.value.sort_all_objects();
        }
        let shown = patched.shown.unwrap_or_else(|| patched.value.to_string());
        let (own, version) = (object::text(&patched.value, &["kind"]), object::text(&patched.value, &["apiVersion"]));
        // A strategic patch works on a value whose type is settled.
        if let Some(gvk) = gvk.filter(|_| self.form != Form::Strategic)
            && let Some(Mismatch::Malformed(why) | Mismatch::Kind(why)) = Mismatch::find(gvk, own, version)
        {
            return Err(patch::invalid_patch(&shown, &why));
        }
        let fault = |error: DecodeError| match self.form {
            Form::Strategic => patch::conversion_fault(&error),
            _ => error.to_string(),
        };
        let mut decoded =
            schema::decode_value(schema, patched.value).map_err(|error| patch::invalid_patch(&shown, &fault(error)))?;
        if self.form == Form::Strategic {
            decoded.issues.sort_by_cached_key(ToString::to_string);
        }
        let own = std::mem::replace(&mut decoded.issues, patched.issues);
        decoded.issues.extend(own);
        judge(call, decoded, self.strictness, |problems| {
            patch::invalid_patch(&shown, &format!("strict decoding error: {problems}"))
        })
    }

    /// What it makes of nothing.
    pub fn fresh(&self, kind: &Kind, call: &Call) -> Result<Value, ApiError> {
        if self.form != Form::Apply {
            return Err(kind.not_found(call.name()));
        }
        self.applied(kind, call, None, "")
    }

    fn applied(&self, kind: &Kind, call: &Call, current: Option<&Value>, subresource: &str) -> Result<Value, ApiError> {
        let config = Config::read(&kind.resource.gvk, call)?;
        let applied = apply_config(kind, call, current, &config.value, subresource)?;
        config.judge(call, self.strictness)?;
        Ok(applied)
    }
}
