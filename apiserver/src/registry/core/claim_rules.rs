//! What holds for PersistentVolumeClaims, and for the templates of claims.

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::{Value, json};

use super::persistent_volume_rules::positive;
use crate::registry::{
    object,
    validation::{difference, field::Field, internal, selector, text},
};

/// How a volume may be mounted.
pub const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const SPEC: &str = "io.k8s.api.core.v1.PersistentVolumeClaimSpec";
const FIXED: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const OLD_CLASS: &str = super::persistent_volume::OLD_CLASS;

/// Checks the spec of a claim.
pub fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
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
    sources(spec, causes);
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
    let one_pod = modes.iter().filter(|mode| mode.text() == "ReadWriteOncePod").count();
    if one_pod > 0 && one_pod < modes.len() {
        list.forbidden("may not use ReadWriteOncePod with other access modes", causes);
    }
}

fn sources(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.get(key) else { continue };
        source.at("name").needs_text(causes);
        source.at("kind").needs_text(causes);
        let (group, kind) = (source.at("apiGroup"), source.str("kind"));
        if group.text().is_empty() && kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            causes.push(Cause::invalid(source.path.as_str(), &json!(kind), why));
        }
        group.check_if_set(text::dns1123_subdomain, causes);
        if key == "dataSourceRef" {
            source.at("namespace").check_if_set(text::dns1123_label, causes);
        }
    }
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    if source.value.is_null() || reference.value.is_null() {
        return;
    }
    let elsewhere = !reference.str("namespace").is_empty();
    let same = ["name", "kind", "apiGroup"].iter().all(|key| source.str(key) == reference.str(key));
    let why = match (elsewhere, same) {
        (true, _) => "may not be specified when dataSourceRef.namespace is specified",
        (false, false) => "must match dataSourceRef",
        (false, true) => return,
    };
    causes.push(Cause::invalid(spec.path.as_str(), &json!(source.path), why));
}

/// Makes the two fields for the source of data agree: where one was given the other follows.
pub fn settle_sources(claim: &mut Value, old: Option<&Value>) {
    let at = |claim: &Value, key: &str| object::at(claim, &["spec", key]).filter(|own| !own.is_null()).cloned();
    let had = old.is_some_and(|old| at(old, "dataSource").is_some());
    if let Some(source) = at(claim, "dataSource")
        && !had
        && !is_volume_or_snapshot(&source)
    {
        object::remove(claim, &["spec"], "dataSource");
    }
    let (source, reference) = (at(claim, "dataSource"), at(claim, "dataSourceRef"));
    match (source, reference) {
        (Some(source), None) => object::set(claim, &["spec"], "dataSourceRef", source),
        (None, Some(reference)) if object::text(&reference, &["namespace"]).is_empty() => {
            let mut source = reference;
            object::remove(&mut source, &[], "namespace");
            if is_volume_or_snapshot(&source) {
                object::set(claim, &["spec"], "dataSource", source);
            }
        }
        _ => {}
    }
}

fn is_volume_or_snapshot(source: &Value) -> bool {
    let named = !object::text(source, &["name"]).is_empty();
    named
        && matches!(
            (object::text(source, &["apiGroup"]), object::text(source, &["kind"])),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
}

/// Checks a changed claim.
pub fn check_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let spec = |claim: &Value| claim.get("spec").cloned().unwrap_or(Value::Null);
    let (mut now, mut before) = (spec(new), spec(old));
    if object::text(&before, &["volumeName"]).is_empty() {
        object::copy_key(&mut before, &now, "volumeName");
    }
    let annotated = object::at(old, &["metadata", "annotations", OLD_CLASS]).is_some();
    if !annotated && before.get("storageClassName").is_none_or(Value::is_null) {
        object::remove(&mut now, &[], "storageClassName");
    }
    if object::text(new, &["status", "phase"]) == "Bound" {
        if let (Some(own), Some(was)) = (
            object::map_mut(&mut now, &["resources", "requests"]),
            object::at(&before, &["resources", "requests", "storage"]),
        ) {
            own.insert("storage".to_owned(), was.clone());
        }
        object::copy_key(&mut now, &before, "volumeAttributesClassName");
    }
    if !object::semantically_equal(Some(&now), Some(&before)) {
        let diff = difference::unified(&internal::of(SPEC, &before), &internal::of(SPEC, &now));
        causes.push(Cause::forbidden("spec", &format!("{FIXED}\n{diff}")));
    }
    shrunk(new, old, causes);
    let of = |claim: &Value, key: &str| object::at(claim, &["spec", key]).cloned().unwrap_or(Value::Null);
    if of(new, "volumeMode") != of(old, "volumeMode") {
        causes.push(Cause::invalid("volumeMode", &of(new, "volumeMode"), "field is immutable"));
    }
    const CLASS: &str = "volumeAttributesClassName";
    if !of(old, CLASS).is_null() && of(new, CLASS) != of(old, CLASS) {
        let why = match of(new, CLASS).as_str() {
            None => "update from non-nil value to nil is forbidden",
            Some("") => "update from non-nil value to an empty string is forbidden",
            Some(_) => return,
        };
        causes.push(Cause::forbidden(format!("spec.{CLASS}"), why));
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
        if let Ok(quantity) = amount.text().parse::<Quantity>()
            && quantity.is_negative()
        {
            causes.push(Cause::invalid(amount.path, &json!(quantity.units()), "must be a valid resource quantity"));
        }
    }
    for (name, amount) in status.entries("allocatedResources") {
        resource_name(name, &amount, causes);
        if amount.text().starts_with('-') {
            amount.invalid("must be greater than or equal to 0", causes);
        }
    }
    for (name, state) in status.entries("allocatedResourceStatuses") {
        resource_name(name, &state, causes);
        let known = [
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizePending",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
        ];
        state.one_of(&known, causes);
    }
}

fn resource_name(name: &str, field: &Field<'_>, causes: &mut Vec<Cause>) {
    for fault in text::qualified_name(name) {
        causes.push(Cause::invalid(field.path.as_str(), &json!(name), &fault));
    }
    let own = name
        .split_once('/')
        .is_some_and(|(domain, _)| !domain.ends_with("kubernetes.io") && !domain.ends_with("k8s.io"));
    if name != "storage" && !own {
        causes.push(Cause::not_supported(field.path.as_str(), &json!(name), &["storage"]));
    }
}
