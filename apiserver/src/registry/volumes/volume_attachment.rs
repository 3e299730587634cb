//! VolumeAttachments.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::csi_driver::driver_name;
use crate::registry::{
    core::persistent_volume_rules,
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::{field::Field, internal, text},
};

/// Most bytes of what an attacher leaves for a node.
const MAX_METADATA_BYTES: usize = 256 * 1024;
/// Longest message of an error.
const MAX_MESSAGE: usize = 1024;
const ONE_SOURCE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
const SPEC: &str = "io.k8s.api.storage.v1.VolumeAttachmentSpec";

/// VolumeAttachments.
pub struct VolumeAttachments;

impl Strategy for VolumeAttachments {
    fn resource(&self) -> Resource {
        resource("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments").cluster_scoped().status().build()
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({"attached": false}));
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        spec.at("attacher").needs_text(causes);
        source(&spec.at("source"), causes);
        spec.at("nodeName").check(text::dns1123_subdomain, causes);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        if !spec.str("attacher").is_empty() {
            driver_name(&spec.at("attacher"), causes);
        }
        if let Some(name) = spec.at("source").get("persistentVolumeName") {
            name.check(text::dns1123_subdomain, causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // Upstream looks at all of it once more.
        self.validate(object, causes);
        let (new, before) = (object.get("spec"), old.get("spec"));
        if !object::same_of(SPEC, new, before) {
            let shown = internal::of(SPEC, new.unwrap_or(&Value::Null));
            causes.push(Cause::invalid("spec", &shown, "field is immutable"));
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        // Upstream looks at it twice.
        for _ in 0..2 {
            status(&Field::new(object, "").at("status"), causes);
        }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 6] = [
            Column::name(),
            Column::text("Attacher", "spec.attacher").as_name(),
            Column::text("PV", "spec.source.persistentVolumeName"),
            Column::text("Node", "spec.nodeName"),
            Column::text("Attached", "status.attached").boolean(),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "attacher"]).into(),
            object::text(object, &["spec", "source", "persistentVolumeName"]).into(),
            object::text(object, &["spec", "nodeName"]).into(),
            object::flag(object, &["status", "attached"]).into(),
            table::age(object),
        ]
    }
}

fn status(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let bytes: usize =
        status.entries("attachmentMetadata").iter().map(|(key, value)| key.len() + value.text().len()).sum();
    if bytes > MAX_METADATA_BYTES {
        causes.push(Cause::too_long("status.attachmentMetadata", MAX_METADATA_BYTES));
    }
    for key in ["attachError", "detachError"] {
        let error = status.at(key);
        if error.str("message").len() > MAX_MESSAGE {
            // Upstream tells the other limit.
            causes.push(Cause::too_long(error.at("message").path, MAX_METADATA_BYTES));
        }
        let code = error.at("errorCode");
        if code.int().is_some_and(|number| number < 0) {
            code.invalid(&format!("must be between 0 and {}, inclusive", i32::MAX), causes);
        }
    }
}

fn source(source: &Field<'_>, causes: &mut Vec<Cause>) {
    match (source.get("inlineVolumeSpec"), source.get("persistentVolumeName")) {
        (None, None) => source.required(ONE_SOURCE, causes),
        (Some(_), Some(_)) => source.forbidden(ONE_SOURCE, causes),
        (None, Some(name)) if name.text().is_empty() => {
            name.required("must specify non empty persistentVolumeName", causes);
        }
        (None, Some(_)) => {}
        (Some(spec), None) => persistent_volume_rules::inline(&spec, causes),
    }
}
