//! What an expression says should change, applied.

use martello_api::{
    managed_fields, patch,
    schema::{self, Schemas},
    status::ApiError,
};
use serde_json::{Value, json};

use super::{native, request::Request};
use crate::{
    admission::Operation,
    cel::{List, Map, Object, Value as Cel},
    registry::{codec, core::connect_options::ConnectOptions, kind::Kind},
};

/// Why there is no changed object.
pub(super) enum Fault {
    /// The policy is wrong, and its failure policy decides.
    Policy(String),
    /// The request ends with this, whatever the failure policy.
    Request(ApiError),
}

/// The object, as the matched kind shows it, with the change and its defaults.
pub(super) fn apply(
    request: &Request<'_>,
    kind: &Kind,
    object: &Value,
    made: &Cel<'_>,
    json_patch: bool,
) -> Result<Value, Fault> {
    if !json_patch {
        let configured = configuration(request, kind, object, made).map_err(Fault::Policy)?;
        return remade(request, kind, configured, false).map_err(Fault::Policy);
    }
    match operations(object, made).map_err(Fault::Policy)? {
        Some(patched) => remade(request, kind, patched, true).map_err(|why| Fault::Request(ApiError::internal(why))),
        None => Ok(object.clone()),
    }
}

/// What a policy or webhook made of what was sent, read anew: with defaults, and with no field that its kind does not have.
pub(super) fn remade(request: &Request<'_>, kind: &Kind, value: Value, strict: bool) -> Result<Value, String> {
    if request.operation == Operation::Connect {
        let options: ConnectOptions = serde_json::from_value(value).map_err(|error| error.to_string())?;
        return serde_json::to_value(options).map_err(|error| error.to_string());
    }
    let Some(gvk) = request.foreign() else {
        return if strict { codec::remade_strictly(kind, value) } else { codec::remade(kind, value) };
    };
    let Some(schema) = Schemas::builtin().get(gvk) else { return Ok(value) };
    // What is created below an object may be written loosely: whoever carries it out reads it.
    let decoded = schema::decode_value(schema, value).map_err(|error| error.to_string())?;
    Ok(decoded.value)
}

fn configuration(request: &Request<'_>, kind: &Kind, object: &Value, made: &Cel<'_>) -> Result<Value, String> {
    let Cel::Object(built) = made else {
        return Err(format!("unsupported return type from ApplyConfiguration expression: {}", made.type_name()));
    };
    check_names(built, "Object")?;
    let schema = match request.foreign() {
        None => codec::schema_of(kind),
        Some(gvk) => Schemas::builtin().get(gvk).ok_or_else(|| {
            let (group, version, kind) = (&gvk.group, &gvk.version, &gvk.kind);
            let why = format!("no corresponding type for {group}/{version}, Kind={kind}");
            format!("error applying patch: failed to convert patch object to typed object: {why}")
        })?,
    };
    if let Some(why) = native::misfit(schema, built) {
        return Err(format!("error applying patch: failed to convert patch object to typed object: {why}"));
    }
    let mut config = native::json(made)?;
    let head = |key: &str| object.get(key).cloned().unwrap_or_default();
    if let Some(map) = config.as_object_mut() {
        for key in ["apiVersion", "kind"] {
            map.insert(key.to_owned(), head(key));
        }
    }
    let merged =
        managed_fields::merged(schema, object, &config).map_err(|why| format!("error applying patch: {why}"))?;
    if schema.loose || (request.foreign().is_none() && kind.is_custom()) {
        return Ok(merged);
    }
    patch::restored(schema, merged).map_err(|why| {
        let (api, kind) = (head("apiVersion"), head("kind"));
        let api = api.as_str().unwrap_or_default();
        let slash = if api.contains('/') { "" } else { "/" };
        let kind = kind.as_str().unwrap_or_default();
        format!("unable to convert unstructured object to {slash}{api}, Kind={kind}: {why}")
    })
}

/// Types of built objects are named by the path to them: another name is a mistake.
fn check_names(object: &Object<'_>, expected: &str) -> Result<(), String> {
    let mut found = Vec::new();
    misnamed(object, expected, &mut found);
    if found.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", found.join("\n"))) }
}

fn misnamed(object: &Object<'_>, expected: &str, found: &mut Vec<String>) {
    if *object.name != *expected {
        found.push(format!(
            "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
            object.name
        ));
    }
    for (name, value) in &object.fields {
        misnamed_within(value, &format!("{expected}.{name}"), found);
    }
}

fn misnamed_within(value: &Cel<'_>, expected: &str, found: &mut Vec<String>) {
    match value {
        Cel::Object(object) => misnamed(object, expected, found),
        Cel::List(List::Made(items)) => items.iter().for_each(|item| misnamed_within(item, expected, found)),
        Cel::Map(map @ Map::Made(_)) => {
            map.entries().iter().for_each(|(_, value)| misnamed_within(value, expected, found));
        }
        _ => {}
    }
}

/// The object with all operations done; none where one that tests it says that it is to be left alone.
fn operations(current: &Value, made: &Cel<'_>) -> Result<Option<Value>, String> {
    let Cel::List(list) = made else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut operations = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Cel::Object(operation) = &item else {
            return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned());
        };
        let mut written = serde_json::Map::new();
        for (name, value) in &operation.fields {
            if let Cel::Object(built) = value {
                let own = built.name.to_string();
                check_names(built, &own)?;
            }
            let json = value.to_proto_json().map_err(|why| {
                format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
            })?;
            written.insert(name.to_string(), json);
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
        return Ok(Some(current.clone()));
    }
    let body = json!(operations).to_string();
    match patch::json_patch(current, body.as_bytes()) {
        Ok(patched) => Ok(Some(patched.value)),
        Err(error) => match failure(current, body.as_bytes(), &error) {
            // A value that is another, not one whose place is missing.
            why if why.ends_with("test failed") => Ok(None),
            why => Err(format!("JSON Patch: {why}")),
        },
    }
}

/// Why a patch can't be applied, as upstream's library says it.
pub(super) fn failure(current: &Value, patch: &[u8], error: &patch::PatchError) -> String {
    let patch::PatchError::Operation { at, .. } = error else { return error.to_string() };
    let operations: Value = serde_json::from_slice(patch).unwrap_or_default();
    let all = operations.as_array().map(Vec::as_slice).unwrap_or_default();
    let (Some(before), Some(operation)) = (all.get(..*at), all.get(*at)) else { return error.to_string() };
    let reached = match before {
        [] => current.clone(),
        before => match patch::loose_json_patch(current, json!(before).to_string().as_bytes()) {
            Ok(patched) => patched.value,
            Err(_) => return error.to_string(),
        },
    };
    Refused { document: &reached, operation }.why()
}

/// An operation that a document does not take.
struct Refused<'r> {
    document: &'r Value,
    operation: &'r Value,
}

impl Refused<'_> {
    fn why(&self) -> String {
        let op = self.operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
        let path = self.operation.get("path").and_then(Value::as_str);
        match (op, path) {
            ("add" | "remove", None) => format!("{op} operation failed to decode path: missing value"),
            ("replace" | "test", None) => {
                format!("{op} operation failed to decode path: operation missing path field: missing value")
            }
            ("add", Some(path)) => match self.find(path) {
                None => format!("add operation does not apply: doc is missing path: {path:?}: missing value"),
                Some((list, key)) => format!("error in add for path: '{path}': {}", misplaced(list, &key)),
            },
            ("remove", Some(path)) => match self.find(path) {
                None => format!("remove operation does not apply: doc is missing path: {path:?}: missing value"),
                Some((holder, key)) => format!("error in remove for path: '{path}': {}", unremoved(holder, &key)),
            },
            ("replace", Some(path)) => match self.find(path) {
                None => format!("replace operation does not apply: doc is missing path: {path}: missing value"),
                Some(_) => format!("replace operation does not apply: doc is missing key: {path}: missing value"),
            },
            ("test", Some(path)) => match self.find(path) {
                None if !path.is_empty() => {
                    format!("test operation does not apply: is missing path: {path}: missing value")
                }
                Some((list @ Value::Array(_), key)) => match unfound(list, &key) {
                    Some(why) => format!("error in test for path: '{path}': {why}"),
                    None => format!("testing value {path} failed: test failed"),
                },
                _ => format!("testing value {path} failed: test failed"),
            },
            ("move" | "copy", path) => self.carried(op, path),
            (other, _) => format!("Unexpected kind: {other}"),
        }
    }

    /// Why something is not moved or copied.
    fn carried(&self, op: &str, path: Option<&str>) -> String {
        let Some(from) = self.operation.get("from").and_then(Value::as_str) else {
            return format!("{op} operation failed to decode from: operation, missing from field: missing value");
        };
        let Some((holder, key)) = self.find(from) else {
            return format!("{op} operation does not apply: doc is missing from path: {from}: missing value");
        };
        if let Some(why) = unfound(holder, &key) {
            return if op == "move" {
                format!("error in move for path: '{key}': {why}")
            } else {
                format!("error in copy for from: '{from}': {why}")
            };
        }
        let Some(path) = path else {
            let why = if op == "move" { "operation missing path field: missing value" } else { "missing value" };
            return format!("{op} operation failed to decode path: {why}");
        };
        match self.find(path) {
            None => format!("{op} operation does not apply: doc is missing destination path: {path}: missing value"),
            Some((list, key)) if op == "move" => format!("error in move for path: '{path}': {}", misplaced(list, &key)),
            Some((list, key)) => format!("error while adding value during copy: {}", misplaced(list, &key)),
        }
    }

    /// What a path leads into, and its last part.
    fn find(&self, path: &str) -> Option<(&Value, String)> {
        let (above, key) = path.rsplit_once('/')?;
        let holder = self.document.pointer(above).filter(|found| found.is_object() || found.is_array())?;
        Some((holder, key.replace("~1", "/").replace("~0", "~")))
    }
}

/// Why a list takes nothing at this place.
fn misplaced(list: &Value, key: &str) -> String {
    match index(key) {
        Ok(at) => format!("Unable to access invalid index: {at}: invalid index referenced"),
        Err(why) if list.is_array() => format!("value was not a proper array index: '{key}': {why}"),
        Err(why) => why,
    }
}

fn unremoved(holder: &Value, key: &str) -> String {
    match index(key) {
        _ if holder.is_object() => format!("Unable to remove nonexistent key: {key}: missing value"),
        Ok(at) => format!("Unable to access invalid index: {at}: invalid index referenced"),
        Err(why) => why,
    }
}

/// Why nothing can be taken from this key; none if something can.
fn unfound(holder: &Value, key: &str) -> Option<String> {
    if let Some(map) = holder.as_object() {
        return (!map.contains_key(key)).then(|| unremoved(holder, key));
    }
    match index(key) {
        Ok(at) => {
            let there = usize::try_from(at).is_ok_and(|at| holder.get(at).is_some());
            (!there).then(|| format!("Unable to access invalid index: {at}: invalid index referenced"))
        }
        Err(why) => Some(why),
    }
}

fn index(key: &str) -> Result<i64, String> {
    key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_does_not_apply_is_told_in_the_librarys_words() {
        let object = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        for (operation, told) in [
            (
                json!({"op": "remove", "path": "/metadata/nope"}),
                "error in remove for path: '/metadata/nope': Unable to remove nonexistent key: nope: missing value",
            ),
            (
                json!({"op": "remove", "path": "/nope/x"}),
                "remove operation does not apply: doc is missing path: \"/nope/x\": missing value",
            ),
            (
                json!({"op": "remove", "path": "/spec/containers/5"}),
                "error in remove for path: '/spec/containers/5': Unable to access invalid index: 5: invalid index referenced",
            ),
            (
                json!({"op": "replace", "path": "/spec/containers/7", "value": 1}),
                "replace operation does not apply: doc is missing key: /spec/containers/7: missing value",
            ),
            (
                json!({"op": "test", "path": "/metadata/name", "value": "q"}),
                "testing value /metadata/name failed: test failed",
            ),
            (
                json!({"op": "add", "path": "/spec/containers/x", "value": {}}),
                "error in add for path: '/spec/containers/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                json!({"op": "copy", "from": "/spec/containers/7", "path": "/metadata/x"}),
                "error in copy for from: '/spec/containers/7': Unable to access invalid index: 7: invalid index referenced",
            ),
            (
                json!({"op": "move", "from": "/metadata/nope", "path": "/metadata/x"}),
                "error in move for path: 'nope': Unable to remove nonexistent key: nope: missing value",
            ),
            (
                json!({"op": "move", "from": "/metadata/name", "path": "/nope/x"}),
                "move operation does not apply: doc is missing destination path: /nope/x: missing value",
            ),
            (json!({"op": "spam", "path": "/metadata/x"}), "Unexpected kind: spam"),
        ] {
            let patch = json!([operation]).to_string();
            let error = patch::loose_json_patch(&object, patch.as_bytes()).unwrap_err();
            assert_eq!(failure(&object, patch.as_bytes(), &error), told);
        }
        let later = json!([{"op": "remove", "path": "/metadata/name"}, {"op": "remove", "path": "/metadata/name"}]);
        let error = patch::loose_json_patch(&object, later.to_string().as_bytes()).unwrap_err();
        assert_eq!(
            failure(&object, later.to_string().as_bytes(), &error),
            "error in remove for path: '/metadata/name': Unable to remove nonexistent key: name: missing value"
        );
    }
}
