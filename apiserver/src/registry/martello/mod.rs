//! Kinds of our own group.

use std::sync::LazyLock;

use martello_api::schema::Schema;

use super::kind::Kind;

pub mod image_inventory;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::new(image_inventory::ImageInventories)]
}

/// A schema that keeps whatever it is given.
#[must_use]
pub fn open_schema() -> &'static Schema {
    static OPEN: LazyLock<Schema> = LazyLock::new(|| {
        let mut open = Schema::of("dev.martello.Open", Vec::new());
        open.preserve_unknown = true;
        open
    });
    &OPEN
}
