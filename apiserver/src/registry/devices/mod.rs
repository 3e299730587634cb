//! Kinds of the group `resource.k8s.io`: devices, and who asks for them.

use super::kind::{Kind, Lifecycle};
use flat::{Flat, Shape};

mod authority;
pub mod claim;
pub mod claim_rules;
pub mod claim_status;
pub mod class;
pub mod defaults;
pub mod device_rules;
pub mod flat;
pub mod go_form;
pub mod lists;
pub mod pool_status;
pub mod slice;
pub mod slice_rules;
pub mod taint_rule;
pub mod template;

/// The group.
pub const GROUP: &str = "resource.k8s.io";

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    let (v1beta2, v1beta1) = (Lifecycle::Beta(33), Lifecycle::Beta(32));
    let claim = Flat::new(claim::Claims, Shape::Claim(&["spec"]));
    let template = Flat::new(template::Templates, Shape::Claim(&["spec", "spec"]));
    vec![
        Kind::new(class::DeviceClasses),
        Kind::new(claim::Claims),
        Kind::new(template::Templates),
        Kind::new(slice::Slices),
        Kind::in_version(class::DeviceClasses, "v1beta2", v1beta2),
        Kind::in_version(claim::Claims, "v1beta2", v1beta2),
        Kind::in_version(template::Templates, "v1beta2", v1beta2),
        Kind::in_version(slice::Slices, "v1beta2", v1beta2),
        Kind::in_version(taint_rule::TaintRules, "v1beta2", Lifecycle::Beta(36)),
        Kind::in_version(class::DeviceClasses, "v1beta1", v1beta1),
        Kind::in_version(claim, "v1beta1", v1beta1),
        Kind::in_version(template, "v1beta1", v1beta1),
        Kind::in_version(Flat::new(slice::Slices, Shape::Slice), "v1beta1", v1beta1),
        Kind::unstable(taint_rule::TaintRules, Lifecycle::Alpha(Some(36))),
        Kind::unstable(pool_status::PoolStatusRequests, Lifecycle::Alpha(None)),
    ]
}
