//! What an expression says should change, applied.

use martello_api::patch;
use serde_json::{Map, Value, json};

use crate::{
    cel::{Object, Value as Cel, unescape},
    registry::{codec, kind::Kind},
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

fn operations(object: &Value, made: &Cel<'_>) -> Result<Value, String> {
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
        operations.push(Value::Object(written));
    }
    if operations.is_empty() {
        return Ok(object.clone());
    }
    let body = json!(operations).to_string();
    match patch::json_patch(object, body.as_bytes()) {
        Ok(patched) => Ok(patched.value),
        // A test that fails means that nothing is to be changed.
        Err(patch::PatchError::Operation { op, .. }) if op == "test" => Ok(object.clone()),
        Err(error) => Err(format!("JSONPath: {error}")),
    }
}
