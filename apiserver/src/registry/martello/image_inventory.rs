//! ImageInventories: what a node found in an image before it ran it.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use crate::registry::{
    kind::{Cell, Column, Generation, Strategy, resource},
    object, table,
};

/// Summaries of the inventories that nodes made; one per image and node.
pub struct ImageInventories;

impl Strategy for ImageInventories {
    fn resource(&self) -> Resource {
        resource("martello.dev", "v1alpha1", "ImageInventory", "imageinventories")
            .cluster_scoped()
            .short(&["imginv"])
            .build()
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        for path in [&["spec", "manifestDigest"][..], &["spec", "inventory", "digest"]] {
            if object::text(object, path).is_empty() {
                causes.push(Cause::required(path.join("."), ""));
            }
        }
    }

    fn selectable(&self) -> &'static [&'static str] {
        &[]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 5] = [
            Column::name(),
            Column::text("Image", "The first reference by which the image is known."),
            Column::text("Packages", "How many packages were found.").integer(),
            Column::text("Digest", "Digest of the image's manifest.").wide(),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let reference =
            object::list(object, &["spec", "references"]).first().and_then(Value::as_str).unwrap_or("<none>");
        vec![
            object::name(object).into(),
            reference.into(),
            object::int(object, &["spec", "packageCount"]).unwrap_or(0).into(),
            object::text(object, &["spec", "manifestDigest"]).into(),
            table::age(object),
        ]
    }
}
