//! Kinds of our own group.

use super::kind::Kind;

pub mod image_inventory;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(image_inventory::ImageInventories)]
}
