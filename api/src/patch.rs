//! The three patches that need no owner: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge patch.

mod json;
mod strategic;

use serde_json::{Map as JsonMap, Value};

use crate::go;
use crate::schema::{DecodeError, FieldIssue, JsonError, Raw, Schema, decode_value, duplicates, parse_json};
use crate::status::{ApiError, Cause, Details};

/// Upstream refuses longer JSON patches.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes that the copy operations of one JSON patch may add up to: as much as a request body may have.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// Why a patch can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is no patch of its type.
    #[error("{0}")]
    Malformed(String),
    /// More operations than [`MAX_OPERATIONS`].
    #[error("Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooMany(usize),
    /// An operation of a JSON patch failed; says which and why, though clients of upstream are not told.
    #[error("operation {at} ({op}) of the patch failed: {why}")]
    Operation {
        /// Its place in the patch, from 0.
        at: usize,
        /// Its kind.
        op: String,
        /// What was wrong.
        why: String,
    },
    /// A strategic merge patch that does not fit the schema, in upstream's words.
    #[error("{0}")]
    Strategy(String),
    /// A directive of a strategic merge patch that is malformed, in upstream's words.
    #[error("{0}")]
    Directive(String),
    /// A strategic merge patch of what can't be merged; says which, though clients of upstream are not told.
    #[error("{0}")]
    Unprocessable(&'static str),
    /// A value where a map or a list was needed: what the patch was, and what was wrong, in upstream's words.
    #[error("{why}")]
    Shape {
        /// The patch, as Go prints it.
        patch: String,
        /// What was wrong.
        why: String,
    },
}

impl PatchError {
    /// The failure as the API answers it.
    #[must_use]
    pub fn to_api_error(&self) -> ApiError {
        match self {
            Self::Malformed(why) | Self::Directive(why) => ApiError::bad_request(why.clone()),
            Self::TooMany(_) => ApiError::too_large(self.to_string()),
            Self::Operation { .. } | Self::Unprocessable(_) => {
                let mut error =
                    ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request");
                error.details = Some(Box::default());
                error
            }
            Self::Strategy(why) => ApiError::new(500, "", why.clone()),
            Self::Shape { patch, why } => invalid_patch(patch, why),
        }
    }
}

/// 422 for a patch whose result can't be decoded: `patch: Invalid value: "…": why`.
#[must_use]
pub fn invalid_patch(shown: &str, why: &str) -> ApiError {
    let cause = Cause::invalid("patch", &Value::String(shown.to_owned()), why);
    let mut error = ApiError::new(422, "Invalid", format!(" \"\" is invalid: patch: {}", cause.message));
    error.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
    error
}

/// Why a merged object can't be decoded, in the words of upstream's conversion of untyped objects.
#[must_use]
pub fn conversion_fault(error: &DecodeError) -> String {
    let why = error.to_string();
    if why.starts_with("illegal base64 data") { format!("error decoding from json: {why}") } else { why }
}

/// A merged object as the typed one that upstream converts it to.
///
/// # Errors
/// What can't be converted, in upstream's words.
pub fn restored(schema: &Schema, value: Value) -> Result<Value, String> {
    if let Some(why) = value.as_object().and_then(|map| strategic::misfit_in(schema, map)) {
        return Err(why);
    }
    decode_value(schema, value).map(|decoded| decoded.value).map_err(|error| conversion_fault(&error))
}

/// A patched object, not yet decoded and defaulted.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// The result.
    pub value: Value,
    /// What strict validation refuses in the patch itself.
    pub issues: Vec<FieldIssue>,
    /// How errors about the result show the patch; they show the result where there is nothing.
    pub shown: Option<String>,
}

/// Applies a JSON patch.
///
/// # Errors
/// A malformed patch, too many operations, or the first operation that fails.
pub fn json_patch(target: &Value, patch: &[u8]) -> Result<Patched, PatchError> {
    let (operations, issues) = json::parse(patch, true)?;
    let value = json::apply(target.clone(), operations)?;
    Ok(Patched { value, issues, shown: None })
}

/// Applies a JSON patch for whom the fields of its operations are of no interest.
///
/// # Errors
/// As [`json_patch`], in other words.
pub fn loose_json_patch(target: &Value, patch: &[u8]) -> Result<Patched, PatchError> {
    let (operations, _) = json::parse(patch, false)?;
    let value = json::apply(target.clone(), operations)?;
    Ok(Patched { value, issues: Vec::new(), shown: None })
}

/// Applies a merge patch.
///
/// # Errors
/// A patch that is no JSON object.
pub fn merge_patch(target: &Value, patch: &[u8]) -> Result<Patched, PatchError> {
    let (patch, issues) = object(patch, "error decoding patch: ")?;
    let patch = patch.ok_or_else(|| PatchError::Malformed(NO_MERGE_PATCH.into()))?;
    let mut value = target.clone();
    merge(&mut value, Value::Object(patch));
    Ok(Patched { value, issues, shown: None })
}

/// What upstream's library says of what it can't merge.
const NO_MERGE_PATCH: &str = "Invalid JSON Patch";

/// Applies a merge patch for whom its fields are of no interest.
///
/// # Errors
/// A patch that is neither a JSON object nor a list.
pub fn loose_merge_patch(target: &Value, patch: &[u8]) -> Result<Patched, PatchError> {
    let patch = parse_json(patch).ok().map(Raw::into_value).filter(|patch| patch.is_object() || patch.is_array());
    let patch = patch.ok_or_else(|| PatchError::Malformed(NO_MERGE_PATCH.into()))?;
    let mut value = if patch.is_object() { target.clone() } else { Value::Null };
    merge(&mut value, patch);
    Ok(Patched { value, issues: Vec::new(), shown: None })
}

/// Applies a strategic merge patch, led by the merge keys and strategies of `schema`.
///
/// # Errors
/// A patch that is no JSON object, a list item without its merge key, or an unknown directive.
pub fn strategic_merge_patch(schema: &Schema, target: &Value, patch: &[u8]) -> Result<Patched, PatchError> {
    let (patch, issues) = object(patch, "")?;
    let patch = patch.unwrap_or_default();
    let Value::Object(original) = target.clone() else {
        return Err(PatchError::Malformed("only objects can be patched".into()));
    };
    let shown = crate::go::plain(&strategic::carried_out(Value::Object(patch.clone())));
    let merged = strategic::merge_map(Some(schema), original, patch)?;
    if let Some(why) = strategic::misfit_in(schema, &merged) {
        return Err(PatchError::Shape { patch: shown, why });
    }
    Ok(Patched { value: Value::Object(merged), issues, shown: Some(shown) })
}

/// The map that a patch is, nothing for `null`; and what strict validation refuses in it.
type ObjectPatch = (Option<JsonMap<String, Value>>, Vec<FieldIssue>);

fn object(patch: &[u8], prefix: &str) -> Result<ObjectPatch, PatchError> {
    let raw = parse_json(patch).map_err(|error: JsonError| PatchError::Malformed(format!("{prefix}{error}")))?;
    let mut issues = Vec::new();
    duplicates(&raw, &mut String::new(), &mut issues);
    let found = raw.go_kind();
    match raw.into_value() {
        Value::Object(map) => Ok((Some(map), issues)),
        Value::Null => Ok((None, issues)),
        _ => {
            let why = go::not_of_type(found, "map[string]interface {}");
            Err(PatchError::Malformed(format!("{prefix}{why}")))
        }
    }
}

/// RFC 7386: null removes, objects merge, the rest replaces. Upstream's library removes nulls from objects in lists as
/// well, except where a list takes the place of an object.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        let replaces_object = target.is_object();
        *target = patch;
        if !replaces_object {
            prune(target);
        }
        return;
    };
    if !target.is_object() {
        *target = Value::Object(JsonMap::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(&key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Removes what is null from all objects.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
#[path = "patch/tests.rs"]
mod tests;
