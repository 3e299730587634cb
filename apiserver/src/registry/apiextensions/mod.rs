//! Kinds of the group `apiextensions.k8s.io`.

use super::kind::Kind;

pub mod defaults;
pub mod definition;
pub mod rules;
pub mod schema;
pub mod shown;
pub mod spec;
pub mod structural;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(definition::CustomResourceDefinitions)]
}

#[cfg(test)]
mod tests;
