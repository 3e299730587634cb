//! What holds for PersistentVolumeClaims, and for the templates of claims.

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::{Value, json};

use super::persistent_volume_rules::{not_negative, positive};
use crate::registry::{
    object,
    validation::{difference, field::Field, internal, selector, text},
};

/// How a volume may be mounted.
pub const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// How far a claim is with growing.
const RESIZING: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
const SPEC: &str = "io.k8s.api.core.v1.PersistentVolumeClaimSpec";
const FIXED: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const OLD_CLASS: &str = super::persistent_volume::OLD_CLASS;

/// Checks the spec of a new claim.
pub fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    check_beside(spec, &Value::Null, causes);
}

/// Checks the spec of a claim that had the spec `old`, if any.
fn check_beside(spec: &Field<'_>, old: &Value, causes: &mut Vec<Cause>) {
    if spec.count("accessModes") == 0 {
        spec.at("accessModes").required("at least 1 access mode is required", causes);
    }
    if let Some(found) = spec.get("selector") {
        selector::check(Some(found.value), &found.path, causes);
    }
    known_modes(spec, causes);
    let amount = spec.at("resources").at("requests").at("storage");
    let storage = Field::new(amount.value, format!("{}[storage]", spec.at("resources").path));
    if storage.value.is_null() {
        storage.required("", causes);
    } else {
        positive(&storage, causes);
    }
    spec.at("storageClassName").check_if_set(text::dns1123_subdomain, causes);
    if let Some(mode) = spec.get("volumeMode") {
        mode.one_of(&["Block", "Filesystem"], causes);
    }
    sources(spec, old, causes);
    spec.at("volumeAttributesClassName").check_if_set(text::dns1123_subdomain, causes);
}

/// Checks how a volume may be mounted; there must be a way.
pub(super) fn access_modes(spec: &Field<'_>, why: &str, causes: &mut Vec<Cause>) {
    if spec.count("accessModes") == 0 {
        spec.at("accessModes").required(why, causes);
    }
    known_modes(spec, causes);
}

fn known_modes(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let list = spec.at("accessModes");
    let modes = spec.items("accessModes");
    for mode in modes.iter().filter(|mode| !MODES.contains(&mode.text())) {
        causes.push(Cause::not_supported(list.path.as_str(), &json!(mode.text()), &MODES));
    }
    let has = |alone: bool| {
        modes.iter().any(|mode| MODES.contains(&mode.text()) && (mode.text() == "ReadWriteOncePod") == alone)
    };
    if has(true) && has(false) {
        list.forbidden("may not use ReadWriteOncePod with other access modes", causes);
    }
}

fn sources(spec: &Field<'_>, old: &Value, causes: &mut Vec<Cause>) {
    const SOURCES: [&str; 2] = ["dataSource", "dataSourceRef"];
    let group_of = |source: &Value| source.get("apiGroup").filter(|group| !group.is_null()).cloned();
    // Groups were once taken unseen.
    let had_group = SOURCES.iter().any(|key| old.get(key).is_some_and(|source| group_of(source).is_some()));
    for key in SOURCES {
        let Some(source) = spec.get(key) else { continue };
        source.at("name").needs_text(causes);
        source.at("kind").needs_text(causes);
        let (group, kind) = (source.at("apiGroup"), source.str("kind"));
        if group.text().is_empty() && kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            causes.push(Cause::invalid(source.path.as_str(), &json!(kind), why));
        }
        if !had_group {
            group.check_if_set(text::dns1123_subdomain, causes);
        }
        if key == "dataSourceRef" {
            source.at("namespace").check_if_set(text::dns1123_label, causes);
        }
    }
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    if source.value.is_null() || reference.value.is_null() {
        return;
    }
    let elsewhere = !reference.str("namespace").is_empty();
    let same = ["name", "kind"].iter().all(|key| source.str(key) == reference.str(key))
        && group_of(source.value) == group_of(reference.value);
    let why = match (elsewhere, same) {
        (true, _) => "may not be specified when dataSourceRef.namespace is specified",
        (false, false) => "must match dataSourceRef",
        (false, true) => return,
    };
    // Upstream shows the path of the field, which has nothing to show.
    causes.push(Cause::invalid(spec.path.as_str(), &json!({}), why));
}

/// Makes the two fields for the source of data agree: where one was given the other follows.
pub fn settle_sources(claim: &mut Value, old: Option<&Value>) {
    let at = |claim: &Value, key: &str| object::at(claim, &["spec", key]).filter(|own| !own.is_null()).cloned();
    let had = |key: &str| old.is_some_and(|old| at(old, key).is_some());
    let elsewhere = |reference: &Value| !object::text(reference, &["namespace"]).is_empty();
    // CrossNamespaceVolumeDataSource is off.
    if at(claim, "dataSourceRef").is_some_and(|reference| elsewhere(&reference)) && !had("dataSourceRef") {
        object::remove(claim, &["spec"], "dataSourceRef");
    }
    let (source, reference) = (at(claim, "dataSource"), at(claim, "dataSourceRef"));
    match (source, reference) {
        (Some(source), None) => {
            if had("dataSource") || had("dataSourceRef") || is_volume_or_snapshot(&source) {
                object::set(claim, &["spec"], "dataSourceRef", source);
            } else {
                object::remove(claim, &["spec"], "dataSource");
            }
        }
        (None, Some(mut reference)) if !elsewhere(&reference) => {
            object::remove(&mut reference, &[], "namespace");
            object::set(claim, &["spec"], "dataSource", reference);
        }
        _ => {}
    }
}

fn is_volume_or_snapshot(source: &Value) -> bool {
    matches!(
        (object::text(source, &["apiGroup"]), object::text(source, &["kind"])),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

/// Checks a changed claim.
pub fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let spec = |claim: &Value| claim.get("spec").cloned().unwrap_or(Value::Null);
    let (mut now, mut before) = (spec(new), spec(old));
    // Upstream checks the spec of an update twice, and lists what it finds twice.
    for _ in 0..2 {
        check_beside(&Field::new(new, "").at("spec"), &before, causes);
    }
    if object::text(&before, &["volumeName"]).is_empty() {
        object::copy_key(&mut before, &now, "volumeName");
    }
    class_given(new, old, &mut now, &before, causes);
    if object::text(new, &["status", "phase"]) == "Bound" {
        if let (Some(own), Some(was)) = (
            object::at_mut(&mut now, &["resources", "requests"]).and_then(Value::as_object_mut),
            object::at(&before, &["resources", "requests", "storage"]),
        ) {
            own.insert("storage".to_owned(), was.clone());
        }
        object::copy_key(&mut now, &before, "volumeAttributesClassName");
    }
    if !object::same_of(SPEC, Some(&now), Some(&before)) {
        let diff = difference::unified(&internal::of(SPEC, &before), &internal::of(SPEC, &now));
        causes.push(Cause::forbidden("spec", &format!("{FIXED}\n{diff}")));
    }
    shrunk(new, old, causes);
    let of = |claim: &Value, key: &str| object::at(claim, &["spec", key]).cloned().unwrap_or(Value::Null);
    if of(new, "volumeMode") != of(old, "volumeMode") {
        causes.push(Cause::invalid("volumeMode", &of(new, "volumeMode"), "field is immutable"));
    }
    const CLASS: &str = "volumeAttributesClassName";
    let applied = object::at(old, &["status", "currentVolumeAttributesClassName"]).is_some_and(|own| !own.is_null());
    if applied && of(new, CLASS) != of(old, CLASS) {
        let to = match of(new, CLASS).as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let why = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        causes.push(Cause::forbidden(format!("spec.{CLASS}"), &why));
    }
}

/// A claim without a class may be given one, that of its old annotation where it has that; `now` is then shown without.
fn class_given(new: &Value, old: &Value, now: &mut Value, before: &Value, causes: &mut Vec<Cause>) {
    let annotation = |claim| object::at(claim, &["metadata", "annotations", OLD_CLASS]).and_then(Value::as_str);
    let (own, was) = (annotation(new), annotation(old));
    let class = object::at(now, &["storageClassName"]).and_then(Value::as_str);
    let had = before.get("storageClassName").is_some_and(|class| !class.is_null());
    let fits = !had && class.is_some() && (was.is_none() || was == class);
    let upgraded = fits && was.is_some() && (own.is_none() || own == was);
    if !upgraded && own.unwrap_or_default() != was.unwrap_or_default() {
        let path = format!("metadata.annotations.{OLD_CLASS}");
        causes.push(Cause::invalid(path, &json!(own.unwrap_or_default()), "field is immutable"));
    }
    if fits {
        object::remove(now, &[], "storageClassName");
    }
}

/// A claim may shrink only while growing failed: never below what there is already.
fn shrunk(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let amount = |claim: &Value, path: &[&str]| object::text(claim, path).parse::<Quantity>().unwrap_or_default();
    let asked = ["spec", "resources", "requests", "storage"];
    let (now, before) = (amount(new, &asked), amount(old, &asked));
    if now < before && now <= amount(old, &["status", "capacity", "storage"]) {
        causes.push(Cause::forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"));
    }
}

/// Checks a changed status.
pub fn check_status(claim: &Value, causes: &mut Vec<Cause>) {
    let status = Field::new(claim, "").at("status");
    for (_, amount) in status.entries("capacity") {
        not_negative(&amount, causes);
    }
    let states = status.at("allocatedResourceStatuses");
    for (name, state) in status.entries("allocatedResourceStatuses") {
        resource_name(name, &states, causes);
        if !RESIZING.contains(&state.text()) {
            // Upstream shows the name and not the state.
            causes.push(Cause::not_supported(states.path.as_str(), &json!(name), &RESIZING));
        }
    }
    let amounts = status.at("allocatedResources");
    for (name, amount) in status.entries("allocatedResources") {
        if resource_name(name, &amounts, causes) {
            not_negative(&amount, causes);
        }
    }
}

/// Checks the name of what a claim has; answers whether it is one.
fn resource_name(name: &str, field: &Field<'_>, causes: &mut Vec<Cause>) -> bool {
    let faults = text::qualified_name(name);
    for fault in &faults {
        causes.push(Cause::invalid(field.path.as_str(), &json!(name), fault));
    }
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    let known = name == "storage" || !native;
    if faults.is_empty() && !known {
        causes.push(Cause::not_supported(field.path.as_str(), &json!(name), &["storage"]));
    }
    faults.is_empty() && known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_follow_each_other() {
        let settled = |spec: Value, old: Option<Value>| {
            let (mut claim, old) = (json!({ "spec": spec }), old.map(|spec| json!({ "spec": spec })));
            settle_sources(&mut claim, old.as_ref());
            claim["spec"].take()
        };
        let odd = json!({"apiGroup": "a.io", "kind": "B", "name": "c"});
        assert_eq!(settled(json!({ "dataSource": odd }), None), json!({}));
        assert_eq!(
            settled(json!({ "dataSource": odd }), Some(json!({ "dataSourceRef": odd }))),
            json!({"dataSource": odd, "dataSourceRef": odd})
        );
        assert_eq!(settled(json!({ "dataSourceRef": odd }), None), json!({"dataSource": odd, "dataSourceRef": odd}));
        let elsewhere = json!({"apiGroup": "a.io", "kind": "B", "name": "c", "namespace": "d"});
        assert_eq!(settled(json!({ "dataSourceRef": elsewhere }), None), json!({}));
    }

    #[test]
    fn sources_must_match() {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1"}},
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "a", "apiGroup": ""},
        });
        let mut causes = Vec::new();
        check(&Field::new(&spec, "spec"), &mut causes);
        let said: Vec<&str> = causes.iter().map(|cause| cause.message.as_str()).collect();
        assert_eq!(said, ["Invalid value: {}: must match dataSourceRef"]);
    }

    #[test]
    fn a_selector_of_everything_is_not_one_that_is_left_out() {
        let bare = json!({"spec": {
            "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "storageClassName": "a",
            "resources": {"requests": {"storage": "1Gi"}},
        }});
        let mut selecting = bare.clone();
        selecting["spec"]["selector"] = json!({});
        let faults = |new: &Value, old: &Value| {
            let mut causes = Vec::new();
            check_update(new, old, &mut causes);
            causes.len()
        };
        assert_eq!(faults(&selecting, &selecting), 0);
        assert_eq!(faults(&selecting, &bare), 1);
    }
}
