//! What an expression says should change, applied.

use martello_api::patch;
use serde_json::{Map, Value, json};

use crate::{
    cel::{Object, Value as Cel, unescape},
    registry::{codec, kind::Kind, object},
};

/// The object with the change; the error says why there is none.
pub(super) fn apply(kind: &Kind, object: &Value, made: &Cel<'_>, json_patch: bool) -> Result<Value, String> {
    if json_patch { operations(object, made) } else { configuration(kind, object, made) }
}

fn configuration(kind: &Kind, object: &Value, made: &Cel<'_>) -> Result<Value, String> {
    let Cel::Object(built) = made else {
        return Err(format!("unsupported return type from ApplyConfiguration expression: {}", made.type_name()));
    };
    names_fit(built, "Object").map_err(|why| format!("type mismatch: {why}"))?;
    let mut config = made.to_json()?;
    if let Some(map) = config.as_object_mut() {
        for key in ["apiVersion", "kind"] {
            map.insert(key.to_owned(), object.get(key).cloned().unwrap_or_default());
        }
    }
    codec::merged(kind, object, &config).map_err(|why| format!("error applying patch: {why}"))
}

/// Types of built objects are named by the path to them: another name is a mistake.
fn names_fit(object: &Object<'_>, expected: &str) -> Result<(), String> {
    if *object.name != *expected {
        return Err(format!(
            "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
            object.name
        ));
    }
    object.fields.iter().try_for_each(|(name, value)| within(value, &format!("{expected}.{name}")))
}

fn within(value: &Cel<'_>, expected: &str) -> Result<(), String> {
    match value {
        Cel::Object(object) => names_fit(object, expected),
        Cel::List(list) => list.iter().try_for_each(|item| within(&item, expected)),
        _ => Ok(()),
    }
}

fn operations(current: &Value, made: &Cel<'_>) -> Result<Value, String> {
    let Cel::List(list) = made else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut operations = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Cel::Object(operation) = &item else {
            return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned());
        };
        let mut written = Map::new();
        for (name, value) in &operation.fields {
            if let Cel::Object(built) = value {
                let own = built.name.to_string();
                names_fit(built, &own).map_err(|why| format!("type mismatch: {why}"))?;
            }
            let json = value.to_json().map_err(|why| {
                format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
            })?;
            written.insert(unescape(name), json);
        }
        for key in ["op", "path"] {
            written.entry(key).or_insert_with(|| json!(""));
        }
        if written.get("from").is_some_and(|from| from == "") {
            written.remove("from");
        }
        operations.push(Value::Object(written));
    }
    if operations.is_empty() {
        return Ok(current.clone());
    }
    let body = json!(operations).to_string();
    match patch::json_patch(current, body.as_bytes()) {
        Ok(patched) => Ok(patched.value),
        // A test that fails means that nothing is to be changed.
        Err(patch::PatchError::Operation { op, .. }) if op == "test" => Ok(current.clone()),
        Err(error) => Err(format!("JSON Patch: {}", failure(current, body.as_bytes(), &error))),
    }
}

/// Why a patch can't be applied, as upstream's library says it.
pub(super) fn failure(current: &Value, patch: &[u8], error: &patch::PatchError) -> String {
    let patch::PatchError::Operation { at, op, .. } = error else { return error.to_string() };
    let operations: Value = serde_json::from_slice(patch).unwrap_or_default();
    let operation = operations.get(*at).unwrap_or(&Value::Null);
    let (path, from) = (object::text(operation, &["path"]), object::text(operation, &["from"]));
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", path));
    let holds = |pointer: &str| current.pointer(pointer).is_some_and(|found| found.is_object() || found.is_array());
    match op.as_str() {
        "remove" if holds(parent) => {
            format!("error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        }
        "replace" if holds(parent) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        "replace" => format!("replace operation does not apply: doc is missing path: {path}: missing value"),
        "test" => format!("testing value {path} failed"),
        "move" | "copy" => {
            format!("error in {op} for path: '{from}': Unable to get nonexistent key: {from}: missing value")
        }
        "add" => format!("add operation does not apply: doc is missing path: \"{path}\": missing value"),
        other => format!("Unexpected kind: {other}"),
    }
}
