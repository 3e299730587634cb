//! Kinds of the group `resource.k8s.io`: devices, and who asks for them.

use super::kind::Kind;

pub mod claim;
pub mod claim_rules;
pub mod claim_status;
pub mod class;
pub mod defaults;
pub mod device_rules;
pub mod go_form;
pub mod lists;
pub mod slice;
pub mod slice_rules;
pub mod template;

/// The group.
pub const GROUP: &str = "resource.k8s.io";

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(class::DeviceClasses),
        Kind::new(claim::Claims),
        Kind::new(template::Templates),
        Kind::new(slice::Slices),
        Kind::in_version(class::DeviceClasses, "v1beta2", Some(33)),
        Kind::in_version(claim::Claims, "v1beta2", Some(33)),
        Kind::in_version(template::Templates, "v1beta2", Some(33)),
        Kind::in_version(slice::Slices, "v1beta2", Some(33)),
    ]
}
