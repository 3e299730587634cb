//! PersistentVolumeClaims.

use jiff::Timestamp;
use martello_api::{quantity::Quantity, resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{claim_rules as rules, persistent_volume::OLD_CLASS};
use crate::registry::{
    kind::{Column, Deleted, Strategy, resource},
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
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({"phase": "Pending"}));
        rules::settle_sources(object, None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        rules::settle_sources(object, Some(old));
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        rules::check(&Field::new(object, "").at("spec"), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        rules::check_update(object, old, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        rules::check_status(object, causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(&Field::new(object, "").at("spec"))
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

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let phase = object::text(object, &["status", "phase"]);
        let volume = object::text(object, &["spec", "volumeName"]);
        let (capacity, access) = if volume.is_empty() {
            (Value::from(""), String::new())
        } else {
            let capacity = object::text(object, &["status", "capacity", "storage"]);
            let capacity = if capacity.is_empty() { "0" } else { capacity };
            (capacity.into(), modes(object::list(object, &["status", "accessModes"])))
        };
        vec![
            object::name(object).into(),
            if object::is_terminating(object) { "Terminating" } else { phase }.into(),
            volume.into(),
            capacity,
            access.into(),
            class(object).into(),
            or_unset(object, "volumeAttributesClassName"),
            table::age(object, now),
            or_unset(object, "volumeMode"),
        ]
    }
}

/// Fills in what the spec of a claim at `path` leaves out, also in templates of claims.
pub fn default_spec(object: &mut Value, path: &[&str]) {
    if object::at(object, path).is_some_and(Value::is_object) {
        object::set_default(object, path, "volumeMode", "Filesystem");
    }
}

/// What a client is told of the spec of a claim that is taken nevertheless, also in templates of claims.
#[must_use]
pub fn warnings(spec: &Field<'_>) -> Vec<String> {
    let amount = spec.at("resources").at("requests").at("storage").text();
    let fraction = amount.parse::<Quantity>().is_ok_and(|quantity| quantity.millis() % 1000 != 0);
    let path = &spec.path;
    let said = fraction.then(|| {
        format!("{path}.resources.requests[storage]: fractional byte value {amount:?} is invalid, must be an integer")
    });
    said.into_iter().collect()
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
    let annotated = object::text(object, &["metadata", "annotations", OLD_CLASS]);
    if annotated.is_empty() { object::text(object, &["spec", "storageClassName"]) } else { annotated }
}

/// A field of the spec, as columns show it.
#[must_use]
pub fn or_unset(object: &Value, key: &str) -> Value {
    object::at(object, &["spec", key]).filter(|own| !own.is_null()).cloned().unwrap_or_else(|| "<unset>".into())
}
