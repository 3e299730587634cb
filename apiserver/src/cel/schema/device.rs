//! How large what selectors of devices see can get.

use std::{collections::HashMap, sync::Arc};

use super::{Field, Fields, Schema, Shape};

/// Most attributes and capacities of a device: no map of them has more entries.
const MAX_ENTRIES: u64 = 32;
/// Longest name of a driver, or of what stands before the slash in a name.
const MAX_DOMAIN: u64 = 63;
/// Longest name without that.
const MAX_ID: u64 = 32;
/// Longest value of an attribute.
const MAX_VALUE: u64 = 64;

impl Schema {
    /// Of the variable `device`. Attributes and capacities are in maps by their domains.
    #[must_use]
    pub fn of_device() -> Arc<Self> {
        let fields = [
            ("driver", Self::bounded(Shape::String, MAX_DOMAIN, 0)),
            ("attributes", by_domain(Self::bounded(Shape::Any, MAX_VALUE, 0))),
            ("capacity", by_domain(Self::new(Shape::Any))),
            ("allowMultipleAllocations", Self::bounded(Shape::Bool, 1, 0)),
        ];
        let known: HashMap<String, Field> = fields
            .into_iter()
            .map(|(name, schema)| (name.to_owned(), Field { json: name.into(), schema: Arc::new(schema) }))
            .collect();
        let own = Self::new(Shape::Object(Arc::new(Fields::known("kubernetes.DRADevice", known))));
        Arc::new(Self { variable: Some("device"), ..own })
    }

    /// Of this shape, with so many elements at most, and keys of so many characters.
    fn bounded(shape: Shape, elements: u64, longest_key: u64) -> Self {
        Self { max_elements: Some(elements), longest_key, ..Self::new(shape) }
    }
}

fn by_domain(value: Schema) -> Schema {
    let of_one = Schema::bounded(Shape::Map(Arc::new(value)), MAX_ENTRIES, MAX_ID);
    Schema::bounded(Shape::Map(Arc::new(of_one)), MAX_ENTRIES, MAX_DOMAIN)
}
