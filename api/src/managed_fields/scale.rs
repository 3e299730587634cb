//! Who owns the number of replicas that is written through a scale: the owners of the number in the object are those of the
//! number in the scale, and what a write makes of them is carried back. A write of any other field passes them by.

use serde_json::Value;

use super::entries::{Entry, Managed};
use super::set::FieldSet;

/// The version in which a scale is owned.
pub const SCALE_VERSION: &str = "autoscaling/v1";
/// Where a scale has its number.
const IN_SCALE: [&str; 2] = ["spec", "replicas"];

/// Where objects of a version have their number: an empty path in a version without a scale, nothing where there is no such
/// version.
pub type ReplicasIn<'a> = &'a dyn Fn(&str) -> Option<Vec<String>>;

/// The `managedFields` of the scale of `live`: whoever owns its number.
#[must_use]
pub fn owners_of_scale(live: &Value, replicas_in: ReplicasIn<'_>) -> Vec<Value> {
    let owns = |entry: &Entry| {
        let path = replicas_in(&entry.api_version).filter(|path| !path.is_empty());
        path.is_some_and(|path| entry.set.holds(&set_of_path(&path)))
    };
    let mut owners = managed(live);
    owners.keep(owns);
    for entry in owners.entries_mut() {
        SCALE_VERSION.clone_into(&mut entry.api_version);
        entry.set = set_of_path(&IN_SCALE);
    }
    owners.encode()
}

/// The `managedFields` of an object of `api_version` that was `live` before `scale` was written with those that it has now:
/// who lost the number in the scale loses it in the object.
#[must_use]
pub fn owners_after_scale(live: &Value, scale: &Value, api_version: &str, replicas_in: ReplicasIn<'_>) -> Vec<Value> {
    let before = managed(live);
    let mut through = managed(scale);
    through.keep(|entry| entry.set.holds(&set_of_path(&IN_SCALE)));
    let mut after = before.clone();
    for entry in after.entries_mut() {
        let Some(path) = replicas_in(&entry.api_version) else {
            entry.set = FieldSet::default();
            continue;
        };
        let number = set_of_path(&path);
        if path.is_empty() || !entry.set.holds(&number) {
            continue;
        }
        // Who updated did so in the object's version, and is somebody else in that of the scale.
        let own = entry.identifier();
        if through.entries().iter().any(|entry| entry.identifier() == own) {
            through.keep(|entry| entry.identifier() != own);
        } else {
            entry.set.subtract(&number);
        }
    }
    let number = replicas_in(api_version).unwrap_or_default();
    for entry in through.entries_mut() {
        let own = entry.identifier();
        let known = before.entries().iter().find(|entry| entry.identifier() == own);
        entry.time = known.and_then(|entry| entry.time.clone());
        api_version.clone_into(&mut entry.api_version);
        entry.set = set_of_path(&number);
    }
    after.join(through);
    after.encode()
}

fn managed(object: &Value) -> Managed {
    object.pointer("/metadata/managedFields").and_then(Managed::decode).unwrap_or_default()
}

fn set_of_path(path: &[impl AsRef<str>]) -> FieldSet {
    path.iter().rev().fold(FieldSet::leaf(), |below, name| {
        let mut above = FieldSet::default();
        above.attach(format!("f:{}", name.as_ref()), below);
        above
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const THEN: Option<&str> = Some("2026-01-01T00:00:00Z");

    /// `v1` has a scale, `v2` has none, and there is no other version.
    fn replicas_in(version: &str) -> Option<Vec<String>> {
        match version {
            "g/v1" => Some(vec!["spec".to_owned(), "replicas".to_owned()]),
            "g/v2" => Some(Vec::new()),
            _ => None,
        }
    }

    fn entry(manager: &str, operation: &str, version: &str, time: Option<&str>, fields: &[&str]) -> Value {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|name| (format!("f:{name}"), json!({}))).collect();
        let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}});
        if let Some(time) = time {
            entry["time"] = json!(time);
        }
        entry
    }

    fn through_scale(mut entry: Value) -> Value {
        entry["subresource"] = json!("scale");
        entry
    }

    fn object(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    fn after(live: &Value, scale: &[Value]) -> Vec<Value> {
        owners_after_scale(live, &object(scale), "g/v1", &replicas_in)
    }

    #[test]
    fn a_scale_is_owned_by_whoever_owns_the_number_in_a_version_with_a_scale() {
        let live = object(&[
            entry("a", "Apply", "g/v1", THEN, &["name", "replicas"]),
            entry("b", "Update", "g/v1", THEN, &["name"]),
            entry("c", "Update", "g/v2", THEN, &["replicas"]),
        ]);
        let wanted = [entry("a", "Apply", SCALE_VERSION, THEN, &["replicas"])];
        assert_eq!(owners_of_scale(&live, &replicas_in), wanted);
    }

    #[test]
    fn who_writes_the_number_through_a_scale_takes_it_from_its_owners_and_has_no_time() {
        let live = object(&[
            entry("a", "Apply", "g/v1", THEN, &["name", "replicas"]),
            entry("b", "Update", "g/v1", THEN, &["replicas"]),
            entry("c", "Update", "g/v2", THEN, &["replicas"]),
        ]);
        let scale = [through_scale(entry("w", "Update", SCALE_VERSION, THEN, &["replicas"]))];
        let wanted = [
            entry("a", "Apply", "g/v1", THEN, &["name"]),
            through_scale(entry("w", "Update", "g/v1", None, &["replicas"])),
            entry("c", "Update", "g/v2", THEN, &["replicas"]),
        ];
        assert_eq!(after(&live, &scale), wanted);
    }

    #[test]
    fn what_nobody_owns_in_the_scale_any_more_nobody_owns_in_the_object() {
        let live = object(&[
            entry("a", "Apply", "g/v1", THEN, &["name", "replicas"]),
            entry("gone", "Update", "g/v9", THEN, &["name"]),
        ]);
        assert_eq!(after(&live, &[]), [entry("a", "Apply", "g/v1", THEN, &["name"])]);
    }

    #[test]
    fn an_applier_keeps_the_number_and_an_updater_keeps_it_apart() {
        let live = object(&[
            entry("a", "Apply", "g/v1", THEN, &["replicas"]),
            entry("b", "Update", "g/v1", THEN, &["name", "replicas"]),
        ]);
        let scale = owners_of_scale(&live, &replicas_in);
        let wanted = [
            entry("a", "Apply", "g/v1", THEN, &["replicas"]),
            entry("b", "Update", "g/v1", None, &["replicas"]),
            entry("b", "Update", "g/v1", THEN, &["name"]),
        ];
        assert_eq!(after(&live, &scale), wanted);
        // The two are one manager, of whom the last entry counts.
        assert!(owners_of_scale(&object(&wanted[1..]), &replicas_in).is_empty());
    }
}
