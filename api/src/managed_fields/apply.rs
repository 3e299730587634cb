//! Server-side apply.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::listed;
use super::compare::{compare_objects, strip};
use super::entries::{Entry, Managed, Operation};
use super::merge::{merge_objects, remove_items, set_of, with_named_fields};
use super::set::FieldSet;
use super::shape::Shape;
use super::versions::{Alike, Convert, Differences, Unconverted, seen};
use super::{
    Applied, ApplyError, Conflict, Kind, Schema, Writer, empty_object, last_applied, put_managed, rfc3339_seconds,
    take_managed,
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
    let alike = Alike(schema);
    let versions = writer.versions.unwrap_or(&alike);
    let mut base = live.cloned().unwrap_or_else(|| empty_object(schema, config));
    let kept = take_managed(&mut base);
    let mut managed = kept.as_ref().and_then(Managed::decode).unwrap_or_default();
    if managed.is_empty() && live.is_some() {
        let first = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        let blank = empty_object(schema, &base);
        let mut changes = compare_objects(schema, &blank, &base);
        changes.exclude(writer.reset_fields);
        managed.update(changes, Differences::new(versions, (&blank, &base), writer.reset_fields), &first)?;
    }
    managed.reconcile(versions, &base)?;
    let before = managed.applied(writer).cloned();
    let mut own = set_of(schema, config);
    writer.reset_fields.take_from(&mut own);
    let whole = own.clone();
    strip(&mut own);
    {
        let entry = managed.entry(Operation::Apply, writer);
        entry.set = own;
        writer.api_version.clone_into(&mut entry.api_version);
    }
    let merged = merge_objects(schema, &base, config);
    // What is applied again with all that was applied before takes nothing out.
    let dropped = before.filter(|before| {
        let holds = |own: &Entry| own.api_version == before.api_version && own.set.holds(&before.set);
        !before.set.is_empty() && !managed.applied(writer).is_some_and(holds)
    });
    let mut value = match dropped {
        Some(before) => prune(versions, merged, &managed, whole, (&before, writer.api_version))?,
        None => merged,
    };
    let mut changed = compare_objects(schema, &base, &value);
    // Who owns what does not tell in which order things stand.
    let unchanged = changed.is_empty() && base == value;
    changed.exclude(writer.reset_fields);
    let allowed = live.filter(|_| !force && writer.manager == last_applied::MANAGER);
    let allowed = allowed.and_then(|live| last_applied::owned(schema, live, writer.api_version)).unwrap_or_default();
    let mut differences = Differences::new(versions, (&base, &value), writer.reset_fields);
    differences.know(writer.api_version, changed);
    let conflicts = take_over(&mut managed, differences, &allowed, writer)?;
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

/// Takes from others what changed, and what is gone, each in the version in which it owns it. Answers what they would
/// have to be asked for.
fn take_over(
    managed: &mut Managed,
    mut differences: Differences<'_>,
    allowed: &FieldSet,
    writer: &Writer<'_>,
) -> Result<Vec<Conflict>, Unconverted> {
    let mut conflicts = Vec::new();
    for entry in managed.others_mut(writer) {
        let changed = match differences.within(&entry.api_version) {
            Ok(changed) => changed,
            Err(Unconverted::Missing) => {
                entry.set = FieldSet::default();
                continue;
            }
            Err(error) => return Err(error),
        };
        let contested = entry.set.intersection(&changed.modified.clone().union(changed.added.clone()));
        let manager = entry.display();
        let mut refused = contested.clone();
        refused.subtract(allowed);
        conflicts.extend(refused.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
        entry.set.subtract(&contested);
        entry.set.subtract(&changed.removed);
    }
    Ok(conflicts)
}

/// `live` with `config` merged over it by the schema, without anyone becoming the owner of what it sets.
///
/// # Errors
/// A config that does not fit the schema, or one that would replace a list, map or object that is owned as one: what is
/// not repeated there would be lost.
pub fn merged(schema: &Schema, live: &Value, config: &Value) -> Result<Value, String> {
    if let Some(why) = listed(schema, config) {
        return Err(format!("failed to convert patch object to typed object: {why}"));
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
    let untyped = |why| Err(ApplyError::Untyped { object: described(config), why });
    listed(schema, config).map_or(Ok(()), untyped)
}

/// An object as upstream names it: `namespace/name; group/version, Kind=kind`.
fn described(config: &Value) -> String {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    format!("{}/{}; {version}, Kind={}", text("/metadata/namespace"), text("/metadata/name"), text("/kind"))
}

/// Takes out what this applier set before and no longer does, unless someone else owns it. `config` is all that it sets now:
/// the name, too, which nobody is told to own, and which keeps the metadata.
fn prune(
    versions: &dyn Convert,
    merged: Value,
    managed: &Managed,
    config: FieldSet,
    (before, own): (&Entry, &str),
) -> Result<Value, Unconverted> {
    let failed = |what: &str, error: Unconverted| match error {
        Unconverted::Failed(why) => Unconverted::Failed(format!("failed to prune fields: {what}{why}")),
        other => other,
    };
    let whole = match seen(versions, &merged, &before.api_version) {
        Ok(whole) => whole,
        Err(Unconverted::Missing) => return Ok(merged),
        Err(error) => return Err(failed("failed to convert merged object to last applied version: ", error)),
    };
    let last = with_named_fields(whole.schema, &before.set);
    let mut pruned = remove_items(whole.schema, &whole.value, &last);
    // Back comes what anyone owns, in the version of what was pruned first …
    let mut owned = BTreeMap::from([((own != before.api_version, own), config)]);
    for entry in managed.entries() {
        let version = entry.api_version.as_str();
        let place = owned.entry((version != before.api_version, version)).or_default();
        *place = std::mem::take(place).union(entry.set.clone());
    }
    for ((_, version), owned) in owned {
        if let Some(kept) = with_owned(versions, &whole.value, &pruned, version, &owned)
            .map_err(|error| failed("failed add back owned items: ", error))?
        {
            pruned = kept;
        }
    }
    // … and what was lost only because what held it was.
    let pruned = match seen(versions, &pruned, &before.api_version) {
        Ok(pruned) => set_of(pruned.schema, &pruned.value),
        Err(Unconverted::Missing) => return Ok(merged),
        Err(error) => {
            let what = "failed add back dangling items: failed to convert pruned object to last applied version: ";
            return Err(failed(what, error));
        }
    };
    let mut gone = with_named_fields(whole.schema, &set_of(whole.schema, &whole.value));
    gone.subtract(&with_named_fields(whole.schema, &pruned));
    let left = remove_items(whole.schema, &whole.value, &gone.intersection(&last));
    seen(versions, &left, own).map(|left| left.value.into_owned()).map_err(|error| failed("", error))
}

/// What of `whole` is left in `pruned` or `owned`, in a version; nothing where there is no such version.
fn with_owned(
    versions: &dyn Convert,
    whole: &Value,
    pruned: &Value,
    version: &str,
    owned: &FieldSet,
) -> Result<Option<Value>, Unconverted> {
    let within = |object, which: &str| match seen(versions, object, version) {
        Ok(seen) => Ok(Some(seen)),
        Err(Unconverted::Missing) => Ok(None),
        Err(Unconverted::Failed(why)) => {
            Err(Unconverted::Failed(format!("failed to convert {which} object at version {version}: {why}")))
        }
        Err(Unconverted::Later) => Err(Unconverted::Later),
    };
    let (Some(whole), Some(pruned)) = (within(whole, "merged")?, within(pruned, "pruned")?) else { return Ok(None) };
    let named = |set: &FieldSet| with_named_fields(whole.schema, set);
    let mut gone = named(&set_of(whole.schema, &whole.value));
    gone.subtract(&named(&set_of(pruned.schema, &pruned.value)).union(named(owned)));
    Ok(Some(remove_items(whole.schema, &whole.value, &gone)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Ignored, track_update};
    use super::*;
    use crate::schema::{Schemas, apply_defaults, decode_value};

    fn writer(manager: &str) -> Writer<'_> {
        let (reset_fields, now) = (Ignored::NOTHING, Timestamp::UNIX_EPOCH);
        Writer { manager, api_version: "v1", subresource: "", reset_fields, now, versions: None }
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

    #[test]
    fn the_last_label_goes_and_the_metadata_stay() {
        let schema = Schemas::builtin().named("io.k8s.api.core.v1.ConfigMap").unwrap();
        let config = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        let labelled = config(json!({"name": "a", "labels": {"x": "y"}}));
        let mut live = apply(schema, None, &labelled, &writer("own"), false).unwrap().value;
        live["metadata"]["uid"] = json!("u");
        let bare = config(json!({"name": "a"}));
        let applied = apply(schema, Some(&live), &bare, &writer("own"), false).unwrap().value;
        assert_eq!(applied["metadata"]["name"], "a");
        assert_eq!(applied["metadata"]["uid"], "u");
        assert_eq!(applied["metadata"].get("labels"), None);
    }

    #[test]
    fn an_apply_that_changes_the_order_alone_is_told_with_its_time() {
        let schema = Schemas::builtin().named("io.k8s.api.core.v1.ConfigMap").unwrap();
        let config = |finalizers: [&str; 2]| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": finalizers}});
        let live = apply(schema, None, &config(["x.y/a", "x.y/b"]), &writer("first"), false).unwrap().value;
        let same = apply(schema, Some(&live), &config(["x.y/a", "x.y/b"]), &writer("second"), false).unwrap();
        assert!(same.unchanged);
        let turned = apply(schema, Some(&live), &config(["x.y/b", "x.y/a"]), &writer("second"), false).unwrap();
        assert!(!turned.unchanged);
        let metadata = &turned.value["metadata"];
        assert_eq!(metadata["finalizers"], json!(["x.y/b", "x.y/a"]));
        assert!(metadata["managedFields"].as_array().unwrap().iter().all(|entry| entry.get("time").is_some()));
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
            track_update(schema, Some(&before), &mut live, &writer("foreign")).unwrap();

            let kept = take_managed(&mut live).unwrap();
            let mut managed = Managed::decode(&kept).unwrap();
            let before = managed.applied(&writer("own")).cloned().unwrap();
            let whole = set_of(schema, &config);
            let mut own = whole.clone();
            strip(&mut own);
            prop_assume!(own.holds(&before.set));
            managed.entry(Operation::Apply, &writer("own")).set = own;
            let merged = merge_objects(schema, &live, &config);
            prop_assert_eq!(prune(&Alike(schema), merged.clone(), &managed, whole, (&before, "v1")).unwrap(), merged);
        }
    }
}
