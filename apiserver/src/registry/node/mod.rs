//! Kinds of `node.k8s.io`.

use super::kind::Kind;

pub mod runtime_class;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(runtime_class::RuntimeClasses)]
}
