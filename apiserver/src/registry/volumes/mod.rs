//! Kinds of `storage.k8s.io`.

use super::kind::{Kind, Lifecycle};

pub mod attributes_class;
pub mod capacity;
pub mod csi_driver;
pub mod csi_node;
pub mod storage_class;
pub mod volume_attachment;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(csi_driver::CsiDrivers),
        Kind::new(csi_node::CsiNodes),
        Kind::new(capacity::CsiStorageCapacities),
        Kind::new(storage_class::StorageClasses),
        Kind::new(volume_attachment::VolumeAttachments),
        Kind::new(attributes_class::VolumeAttributesClasses),
        Kind::in_version(attributes_class::VolumeAttributesClasses, "v1beta1", Lifecycle::Beta(31)),
    ]
}
