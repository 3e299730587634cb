//! Server-side apply.

use serde_json::Value;

use super::check::objections;
use super::compare::{compare_objects, strip};
use super::entries::{Managed, Operation};
use super::merge::{merge_objects, remove_items, set_of, with_named_fields};
use super::set::FieldSet;
use super::shape::Shape;
use super::{
    Applied, ApplyError, Conflict, Kind, Schema, Writer, changes, empty_object, last_applied, put_managed,
    rfc3339_seconds, take_managed,
};
use crate::schema::Field;

/// The owner of what was there before anyone's fields were tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Applies `config` to `live` (nothing: creates) as `writer`, taking over conflicting fields where `force`.
///
/// # Errors
/// A config that does not fit the schema, or conflicts.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    check(schema, config)?;
    let mut base = live.cloned().unwrap_or_else(|| empty_object(schema));
    let kept = take_managed(&mut base);
    let mut managed = kept.as_ref().and_then(Managed::decode).unwrap_or_default();
    if managed.is_empty() && live.is_some() {
        let first = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        managed.update(changes(schema, None, &base, &first), &first);
    }
    managed.forget_unknown(schema);
    let before = managed.applied_set(writer).cloned();
    let mut own = set_of(schema, config);
    writer.reset_fields.iter().for_each(|path| own.prune(path));
    strip(&mut own);
    {
        let entry = managed.entry(Operation::Apply, writer);
        entry.set = own;
        writer.api_version.clone_into(&mut entry.api_version);
    }
    let merged = merge_objects(schema, &base, config);
    // What is applied again with all that was applied before takes nothing out.
    let dropped = before.filter(|before| managed.applied_set(writer).is_none_or(|own| !own.holds(before)));
    let mut value = match dropped {
        Some(before) => prune(schema, merged, &managed, &before),
        None => merged,
    };
    let mut changed = compare_objects(schema, &base, &value);
    let unchanged = changed.is_empty();
    changed.exclude(writer.reset_fields);
    let touched = changed.modified.union(changed.added);
    let allowed = live.filter(|_| !force && writer.manager == last_applied::MANAGER);
    let allowed = allowed.and_then(|live| last_applied::owned(schema, live, writer.api_version)).unwrap_or_default();
    let mut conflicts = Vec::new();
    for entry in managed.others_mut(writer) {
        let contested = entry.set.intersection(&touched);
        let manager = entry.display();
        let mut refused = contested.clone();
        refused.subtract(&allowed);
        conflicts.extend(refused.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
        entry.set.subtract(&contested);
        entry.set.subtract(&changed.removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflict { conflicts });
    }
    if writer.manager == last_applied::MANAGER {
        last_applied::sync(&mut value, config);
    }
    if !schema.loose {
        value = crate::patch::restored(schema, value)
            .map_err(|why| ApplyError::Unfit { object: described(config), why })?;
    }
    if !unchanged {
        managed.entry(Operation::Apply, writer).time = Some(rfc3339_seconds(writer.now));
    }
    put_managed(&mut value, managed.encode());
    Ok(Applied { value, unchanged })
}

/// `live` with `config` merged over it by the schema, without anyone becoming the owner of what it sets.
///
/// # Errors
/// A config that does not fit the schema, or one that would replace a list, map or object that is owned as one: what is
/// not repeated there would be lost.
pub fn merged(schema: &Schema, live: &Value, config: &Value) -> Result<Value, String> {
    match objections(schema, config).as_slice() {
        [] => {}
        found => return Err(format!("failed to convert patch object to typed object: {}", found.join(", "))),
    }
    let mut wholes = Vec::new();
    replaced(Shape::Struct(schema), config, "", &mut wholes);
    if !wholes.is_empty() {
        let wholes = wholes.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {wholes}"));
    }
    Ok(merge_objects(schema, live, config))
}

/// Paths of what `value` would replace as a whole.
fn replaced(shape: Shape<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(map)) => {
            for (name, value) in map {
                let (kind, field) = shape.below(name);
                below(kind, field, value, &format!("{path}.{name}"), found);
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                below(&list.item, None, item, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

fn below(kind: &Kind, field: Option<&Field>, value: &Value, path: &str, found: &mut Vec<String>) {
    let own = super::shape::shape(kind, field, [Some(value), None]);
    let holds = matches!(kind, Kind::Message(_) | Kind::Map(_) | Kind::List(_));
    if matches!(own, Shape::Leaf) && holds && (value.is_object() || value.is_array()) {
        found.push(path.to_owned());
    } else {
        replaced(own, value, path, found);
    }
}

/// Whether `config` can be applied at all.
///
/// # Errors
/// `managedFields` of its own, or what does not fit the schema.
pub fn check(schema: &Schema, config: &Value) -> Result<(), ApplyError> {
    if config.pointer("/metadata/managedFields").is_some_and(|found| !found.is_null()) {
        return Err(ApplyError::ManagedFields);
    }
    let found = objections(schema, config);
    let why = match found.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    Err(ApplyError::Untyped { object: described(config), why })
}

/// An object as upstream names it: `namespace/name; group/version, Kind=kind`.
fn described(config: &Value) -> String {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    format!("{}/{}; {version}, Kind={}", text("/metadata/namespace"), text("/metadata/name"), text("/kind"))
}

/// Takes out what this applier set before and no longer does, unless someone else owns it.
fn prune(schema: &Schema, merged: Value, managed: &Managed, before: &FieldSet) -> Value {
    let named = |set: &FieldSet| with_named_fields(schema, set);
    let before = named(before);
    let pruned = remove_items(schema, &merged, &before);
    let all = named(&set_of(schema, &merged));
    let owned = managed.entries().iter().fold(FieldSet::default(), |owned, entry| owned.union(entry.set.clone()));
    // Back comes what anyone owns …
    let mut gone = all.clone();
    gone.subtract(&named(&set_of(schema, &pruned)).union(named(&owned)));
    let pruned = remove_items(schema, &merged, &gone);
    // … and what was lost only because what held it was.
    let mut gone = all;
    gone.subtract(&named(&set_of(schema, &pruned)));
    remove_items(schema, &merged, &gone.intersection(&before))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::track_update;
    use super::*;
    use crate::schema::{Schemas, apply_defaults, decode_value};

    fn writer(manager: &str) -> Writer<'_> {
        Writer { manager, api_version: "v1", subresource: "", reset_fields: &[], now: Timestamp::UNIX_EPOCH }
    }

    fn pod(labels: &[(String, bool)], ports: &[(u16, bool)]) -> Value {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, set)| (key.clone(), json!(set.to_string()))).collect();
        let port = |(number, named): &(u16, bool)| match named {
            true => json!({"containerPort": number, "name": format!("p{number}")}),
            false => json!({"containerPort": number}),
        };
        let container =
            json!({"name": "c", "ports": ports.iter().map(port).collect::<Vec<_>>(), "securityContext": {}});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": labels},
            "spec": {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}})
    }

    fn members<T: Strategy>(of: T) -> impl Strategy<Value = Vec<(T::Value, bool)>>
    where
        T::Value: Ord,
    {
        proptest::collection::btree_map(of, any::<bool>(), 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whoever_applies_all_of_the_last_time_again_takes_nothing_out(
            labels in members("[a-d]"), ports in members(80_u16..84), foreign in members("[a-f]"), first in 0_usize..4,
        ) {
            let schema = Schemas::builtin().named("io.k8s.api.core.v1.Pod").unwrap();
            let config = pod(&labels, &ports);
            let less = pod(&labels[..first.min(labels.len())], &ports[..first.min(ports.len())]);
            let applied = apply(schema, None, &less, &writer("own"), false).unwrap().value;
            let mut live = decode_value(schema, applied).unwrap().value;
            apply_defaults(schema, &mut live);
            let before = live.clone();
            for (key, set) in foreign {
                live["metadata"]["labels"][key] = json!(set.to_string());
            }
            track_update(schema, Some(&before), &mut live, &writer("foreign"));

            let kept = take_managed(&mut live).unwrap();
            let mut managed = Managed::decode(&kept).unwrap();
            let before = managed.applied_set(&writer("own")).cloned().unwrap();
            let mut own = set_of(schema, &config);
            strip(&mut own);
            prop_assume!(own.holds(&before));
            managed.entry(Operation::Apply, &writer("own")).set = own;
            let merged = merge_objects(schema, &live, &config);
            prop_assert_eq!(prune(schema, merged.clone(), &managed, &before), merged);
        }
    }
}
