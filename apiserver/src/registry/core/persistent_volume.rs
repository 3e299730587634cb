//! PersistentVolumes.

use jiff::Timestamp;
use martello_api::{
    clock::{self, rfc3339_seconds},
    resource::Resource,
    status::Cause,
};
use serde_json::{Value, json};

use super::{claim, persistent_volume_rules as rules, pod_defaults::whole_millis_of, volume_sources};
use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::field::Field,
};

/// The annotation that was the class before there was a field.
pub const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// PersistentVolumes.
pub struct PersistentVolumes;

impl Strategy for PersistentVolumes {
    fn resource(&self) -> Resource {
        resource("", "v1", "PersistentVolume", "persistentvolumes").cluster_scoped().short(&["pv"]).status().build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &["status"], "phase", "Pending");
        if object::text(object, &["spec", "persistentVolumeReclaimPolicy"]).is_empty() {
            object::set(object, &["spec"], "persistentVolumeReclaimPolicy", "Retain");
        }
        object::set_default(object, &["spec"], "volumeMode", "Filesystem");
        volume_sources::default(object, &["spec"]);
        whole_millis_of(object::at_mut(object, &["spec", "capacity"]));
    }

    fn prepare_create(&self, object: &mut Value, now: Timestamp) {
        object::set(
            object,
            &[],
            "status",
            json!({"phase": "Pending", "lastPhaseTransitionTime": rfc3339_seconds(now)}),
        );
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        let of = |volume: &Value, key: &str| object::at(volume, &["status", key]).cloned();
        let (since, before) = (of(object, "lastPhaseTransitionTime"), of(old, "lastPhaseTransitionTime"));
        let unset = since.as_ref().is_none_or(Value::is_null);
        if of(object, "phase") == of(old, "phase") {
            if let (true, Some(before)) = (unset, before) {
                object::set(object, &["status"], "lastPhaseTransitionTime", before);
            }
        } else if unset || since == before {
            object::set(object, &["status"], "lastPhaseTransitionTime", rfc3339_seconds(clock::now()));
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        rules::check(&Field::new(object, "").at("spec"), object::name(object), causes);
        rules::mount_options(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        rules::check_update(object, old, causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        rules::warnings(object)
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 11] = [
            Column::name(),
            Column::text("Capacity", "spec.capacity"),
            Column::text("Access Modes", "spec.accessModes"),
            Column::text("Reclaim Policy", "spec.persistentVolumeReclaimPolicy"),
            Column::text("Status", "status.phase"),
            Column::text("Claim", "spec.claimRef"),
            Column::text("StorageClass", "StorageClass of the pv"),
            Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
            Column::text("Reason", "status.reason"),
            Column::age(),
            Column::text("VolumeMode", "spec.volumeMode").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let phase = object::text(object, &["status", "phase"]);
        let claim = object::at(object, &["spec", "claimRef"]).filter(|claim| !claim.is_null());
        let claim = claim.map_or_else(String::new, |claim| {
            format!("{}/{}", object::text(claim, &["namespace"]), object::text(claim, &["name"]))
        });
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "capacity", "storage"]).into(),
            claim::modes(object::list(object, &["spec", "accessModes"])).into(),
            object::text(object, &["spec", "persistentVolumeReclaimPolicy"]).into(),
            if object::is_terminating(object) { "Terminating" } else { phase }.into(),
            claim.into(),
            claim::class(object).into(),
            claim::or_unset(object, "volumeAttributesClassName"),
            object::text(object, &["status", "reason"]).into(),
            table::age(object),
            claim::or_unset(object, "volumeMode"),
        ]
    }
}
