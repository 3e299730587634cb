//! PersistentVolumeClaims.

use jiff::Timestamp;
use martello_api::{quantity::Quantity, resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{
    claim_rules as rules,
    persistent_volume::OLD_CLASS,
    pod_defaults::{whole_millis, whole_millis_of},
};
use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::field::Field,
};

/// PersistentVolumeClaims.
pub struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    fn resource(&self) -> Resource {
        resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims").short(&["pvc"]).status().build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &["status"], "phase", "Pending");
        default_spec(object, &["spec"]);
        for part in ["capacity", "allocatedResources"] {
            whole_millis_of(object::at_mut(object, &["status", part]));
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({"phase": "Pending"}));
        rules::settle_sources(object, None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        rules::settle_sources(object, Some(old));
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        rules::check(&Field::new(object, "").at("spec"), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        rules::check_update(object, old, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        rules::check_status(object, causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        const OLD: &str = r#"deprecated since v1.8; use "storageClassName" attribute instead"#;
        let whole = Field::new(object, "");
        let annotated = whole.at("metadata").at("annotations").get(OLD_CLASS).is_some();
        let old = annotated.then(|| format!("metadata.annotations[{OLD_CLASS}]: {OLD}"));
        old.into_iter().chain(warnings(&whole.at("spec"))).collect()
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 9] = [
            Column::name(),
            Column::text("Status", "status.phase"),
            Column::text("Volume", "spec.volumeName"),
            Column::text("Capacity", "status.capacity"),
            Column::text("Access Modes", "status.accessModes"),
            Column::text("StorageClass", "StorageClass of the pvc"),
            Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
            Column::age(),
            Column::text("VolumeMode", "spec.volumeMode").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let phase = object::text(object, &["status", "phase"]);
        let volume = object::text(object, &["spec", "volumeName"]);
        let (capacity, access) = if volume.is_empty() {
            ("", String::new())
        } else {
            let capacity = object::text(object, &["status", "capacity", "storage"]);
            (if capacity.is_empty() { "0" } else { capacity }, modes(object::list(object, &["status", "accessModes"])))
        };
        vec![
            object::name(object).into(),
            if object::is_terminating(object) { "Terminating" } else { phase }.into(),
            volume.into(),
            capacity.into(),
            access.into(),
            class(object).into(),
            or_unset(object, "volumeAttributesClassName"),
            table::age(object),
            or_unset(object, "volumeMode"),
        ]
    }
}

/// Fills in what the spec of a claim at `path` leaves out, also in templates of claims.
pub fn default_spec(object: &mut Value, path: &[&str]) {
    if object::at(object, path).is_some_and(Value::is_object) {
        object::set_default(object, path, "volumeMode", "Filesystem");
        whole_millis(object, &[path, &["resources"]].concat());
    }
}

/// What a client is told of the spec of a claim that is taken nevertheless, also in templates of claims.
#[must_use]
pub fn warnings(spec: &Field<'_>) -> Vec<String> {
    let told = |part: &str| {
        let resources = spec.at("resources");
        let amount = resources.at(part).str("storage");
        let fraction = amount.parse::<Quantity>().is_ok_and(|quantity| quantity.millis() % 1000 != 0);
        let path = format!("{}.{part}[storage]", resources.path);
        fraction.then(|| format!("{path}: fractional byte value {amount:?} is invalid, must be an integer"))
    };
    ["requests", "limits"].into_iter().filter_map(told).collect()
}

/// Modes of access, in short.
#[must_use]
pub fn modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.iter().any(|own| own.as_str() == Some(mode));
    let shown: Vec<&str> = SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect();
    shown.join(",")
}

/// The class of a volume or a claim, by annotation or field.
#[must_use]
pub fn class(object: &Value) -> &str {
    let annotated = object::at(object, &["metadata", "annotations", OLD_CLASS]).and_then(Value::as_str);
    annotated.unwrap_or_else(|| object::text(object, &["spec", "storageClassName"]))
}

/// A field of the spec, as columns show it.
#[must_use]
pub fn or_unset(object: &Value, key: &str) -> Cell {
    let own = object::at(object, &["spec", key]).filter(|own| !own.is_null());
    own.cloned().map_or_else(|| "<unset>".into(), Cell::from)
}
