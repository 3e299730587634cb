//! JSON patch, RFC 6902.

use serde_json::Value;

use super::{MAX_COPIED_BYTES, MAX_OPERATIONS, PatchError};
use crate::go;
use crate::schema::{FieldIssue, JsonError, MAX_DEPTH, Raw, duplicates, parse_json};

/// One operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

/// The operations of a patch, and the fields of them that do not exist. Where nobody wants to know of fields, upstream
/// leaves all to its library: that says other things of what is no list of operations, and to it a field of another type
/// is as good as none.
pub(super) fn parse(patch: &[u8], checked: bool) -> Result<(Vec<Operation>, Vec<FieldIssue>), PatchError> {
    let prefix = if checked { "error decoding patch: " } else { "" };
    let (whole, single) = if checked {
        ("[]handlers.jsonPatchOp", "handlers.jsonPatchOp")
    } else {
        ("jsonpatch.Patch", "jsonpatch.Operation")
    };
    let malformed = |why: String| PatchError::Malformed(format!("{prefix}{why}"));
    let raw = parse_json(patch).map_err(|error: JsonError| malformed(error.to_string()))?;
    let items = match raw {
        Raw::List(items) => items,
        Raw::Null => Vec::new(),
        other => {
            return Err(malformed(go::not_of_type(other.go_kind(), whole)));
        }
    };
    if items.len() > MAX_OPERATIONS {
        return Err(PatchError::TooMany(items.len()));
    }
    let (mut operations, mut issues) = (Vec::with_capacity(items.len()), Vec::new());
    for (at, item) in items.into_iter().enumerate() {
        let entries = match item {
            Raw::Map(entries) => entries,
            Raw::Null => Vec::new(),
            other => {
                return Err(malformed(go::not_of_type(other.go_kind(), single)));
            }
        };
        let mut operation = Operation::default();
        let mut seen = std::collections::HashSet::with_capacity(entries.len());
        for (key, value) in entries {
            let here = format!("[{at}].{key}");
            let is_known = matches!(&*key, "op" | "path" | "from" | "value");
            if is_known && !seen.insert(key.clone()) {
                issues.push(FieldIssue::Patch(format!("duplicate field {here:?}")));
            }
            let text = |value: Raw<'_>| match value {
                Raw::String(text) => Ok(Some(text.into_owned())),
                Raw::Null => Ok(None),
                _ if !checked => Ok(None),
                other => {
                    let place = format!("jsonPatchOp.{key}");
                    Err(malformed(go::field_not_of_type(other.go_kind(), &place, "string")))
                }
            };
            match &*key {
                "op" => operation.op = text(value)?.unwrap_or_default(),
                "path" => operation.path = text(value)?,
                "from" => operation.from = text(value)?,
                "value" => {
                    let mut within = Vec::new();
                    duplicates(&value, &mut here.clone(), &mut within);
                    issues.extend(within.into_iter().map(|issue| FieldIssue::Patch(issue.to_string())));
                    operation.value = Some(value.into_value());
                }
                _ => issues.push(FieldIssue::Patch(format!("unknown field {here:?}"))),
            }
        }
        operations.push(operation);
    }
    Ok((operations, issues))
}

/// `target` after all operations.
pub(super) fn apply(mut target: Value, operations: Vec<Operation>) -> Result<Value, PatchError> {
    let mut room = Room { copied: 0, deepest: depth(&target), looks: 0 };
    for (at, operation) in operations.into_iter().enumerate() {
        let op = operation.op.clone();
        step(&mut target, operation, &mut room).map_err(|why| PatchError::Operation { at, op, why })?;
    }
    Ok(target)
}

/// How much a patch may still make. Copies of copies double both bytes and depth, and whoever goes down into a value that is
/// deeper than any body may be runs out of stack.
struct Room {
    /// Bytes that were copied.
    copied: usize,
    /// How deep the target is at most.
    deepest: usize,
    /// How often what was moved had to be looked through to know its depth.
    looks: usize,
}

/// How often what is moved is looked through: each time may go through all of a large object.
const MAX_LOOKS: usize = 100;

impl Room {
    /// A value is about to be put at `path`; `at_most`: how deep it is at most, where that is known.
    fn put(&mut self, path: &str, value: &Value, at_most: Option<usize>) -> Result<(), String> {
        let above = path.matches('/').count();
        let below = match at_most.filter(|_| value.is_object() || value.is_array()) {
            Some(below) if above.saturating_add(below) <= MAX_DEPTH => below,
            Some(_) if self.looks >= MAX_LOOKS => return Err(too_deep(path)),
            Some(_) => {
                self.looks += 1;
                depth(value)
            }
            None => depth(value),
        };
        if above.saturating_add(below) > MAX_DEPTH {
            return Err(too_deep(path));
        }
        self.deepest = self.deepest.max(above.saturating_add(below));
        Ok(())
    }

    /// How deep what is at `path` is at most.
    fn below(&self, path: &str) -> usize {
        self.deepest.saturating_sub(path.matches('/').count())
    }
}

fn too_deep(path: &str) -> String {
    format!("with the value at {path:?} the whole would be more than {MAX_DEPTH} levels deep")
}

/// How many objects and lists stand within each other.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn step(target: &mut Value, operation: Operation, room: &mut Room) -> Result<(), String> {
    let path = operation.path.ok_or("it has no path")?;
    let from = || operation.from.as_deref().ok_or("it has no from");
    // A missing value is null.
    let value = || operation.value.clone().unwrap_or(Value::Null);
    match operation.op.as_str() {
        "add" => {
            let value = value();
            room.put(&path, &value, None)?;
            add(target, &path, value)
        }
        "remove" => remove(target, &path).map(drop),
        "replace" => {
            let value = value();
            if path.is_empty() {
                if !value.is_object() && !value.is_array() {
                    return Err("the whole can only be replaced by an object or a list".to_owned());
                }
                room.put("", &value, None)?;
                *target = value;
                return Ok(());
            }
            room.put(&path, &value, None)?;
            match parent(target, &path)? {
                // One that is not there is added.
                (Value::Object(map), key) => drop(map.insert(key, value)),
                (Value::Array(items), key) => {
                    let at = index(&key, items.len()).ok_or_else(|| missing(&path))?;
                    *items.get_mut(at).ok_or_else(|| missing(&path))? = value;
                }
                _ => return Err(missing(&path)),
            }
            Ok(())
        }
        "move" => {
            let from = from()?;
            // Upstream takes away first: into itself means into what takes its place, which only a list has.
            let moved = remove(target, from)?;
            room.put(&path, &moved, Some(room.below(from)))?;
            add(target, &path, moved)
        }
        "copy" => {
            let found = held(target, from()?)?.cloned().unwrap_or(Value::Null);
            room.copied += size_bytes(&found);
            if room.copied > MAX_COPIED_BYTES {
                return Err(format!("the patch copies more than {MAX_COPIED_BYTES} bytes"));
            }
            room.put(&path, &found, None)?;
            add(target, &path, found)
        }
        "test" => {
            let expected = operation.value.unwrap_or(Value::Null);
            let found = if path.is_empty() { Some(&*target) } else { held(target, &path)? };
            if same(found.unwrap_or(&Value::Null), &expected) {
                Ok(())
            } else {
                Err(format!("the value at {path:?} is another"))
            }
        }
        other => Err(format!("{other:?} is no operation")),
    }
}

fn missing(path: &str) -> String {
    format!("there is nothing at {path:?}")
}

/// Numbers are the same by value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn size_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| 1 + size_bytes(item)).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, value)| key.len() + 4 + size_bytes(value)).sum::<usize>(),
    }
}

/// The steps of a pointer, unescaped; nothing where it is malformed. Upstream ignores what stands before its first slash.
fn steps(path: &str) -> Option<Vec<String>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let unescaped = |step: &str| step.replace("~1", "/").replace("~0", "~");
    let (_, steps) = path.split_once('/')?;
    Some(steps.split('/').map(unescaped).collect())
}

/// An index below `length`; upstream's library counts negative ones from the end.
fn index(step: &str, length: usize) -> Option<usize> {
    let at: i64 = step.parse().ok()?;
    let length_signed = i64::try_from(length).ok()?;
    let at = if at < 0 { at.checked_add(length_signed)? } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

fn descend<'v>(mut here: &'v mut Value, steps: &[String]) -> Option<&'v mut Value> {
    for step in steps {
        here = match here {
            Value::Object(map) => map.get_mut(step)?,
            Value::Array(items) => {
                let at = index(step, items.len())?;
                items.get_mut(at)?
            }
            _ => return None,
        };
    }
    Some(here)
}

/// What is at `path`: a key that an object does not have is nothing, an item that a list does not have is a fault.
fn held<'v>(target: &'v mut Value, path: &str) -> Result<Option<&'v Value>, String> {
    let (holder, key) = parent(target, path)?;
    match holder {
        Value::Object(map) => Ok(map.get(&key)),
        Value::Array(items) => {
            let at = index(&key, items.len()).ok_or_else(|| missing(path))?;
            Ok(items.get(at))
        }
        _ => Err(missing(path)),
    }
}

fn parent<'v>(target: &'v mut Value, path: &str) -> Result<(&'v mut Value, String), String> {
    let mut steps = steps(path).ok_or_else(|| format!("{path:?} is no JSON pointer"))?;
    let last = steps.pop().ok_or_else(|| "the whole object can't be added or removed".to_owned())?;
    let holder = descend(target, &steps).ok_or_else(|| format!("the parent of {path:?} does not exist"))?;
    Ok((holder, last))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    match parent(target, path)? {
        (Value::Object(map), key) => {
            map.insert(key, value);
            Ok(())
        }
        (Value::Array(items), key) if key == "-" => {
            items.push(value);
            Ok(())
        }
        (Value::Array(items), key) => {
            let at = index(&key, items.len() + 1).ok_or_else(|| format!("{path:?} is beyond the list"))?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err(format!("the parent of {path:?} is neither an object nor a list")),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    match parent(target, path)? {
        (Value::Object(map), key) => map.remove(&key).ok_or_else(|| missing(path)),
        (Value::Array(items), key) => {
            let at = index(&key, items.len()).ok_or_else(|| missing(path))?;
            Ok(items.remove(at))
        }
        _ => Err(missing(path)),
    }
}
