//! Version v1beta1 of the kinds that are stored as version 1: what is asked for exactly stands in the request itself, and
//! what a device is stands under `basic`.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{
    clock,
    resource::{GroupVersionKind, Resource},
    schema::{self, Schemas},
    status::Cause,
};
use serde_json::{Map, Value};

use super::defaults;
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Column, Deleted, Generation, Judged, Strategy},
        object,
    },
    server::Core,
};

/// The view of a kind whose version 1 is `stored`.
pub struct Flat<S> {
    stored: S,
    shape: Shape,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Requests of the claim whose spec is under this path.
    Claim(&'static [&'static str]),
    /// Devices of a slice.
    Slice,
}

/// Fields of a request that version 1 has under `exactly`.
const ASKED: [&str; 7] =
    ["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"];

impl<S: Strategy> Flat<S> {
    /// The view of `stored`.
    pub const fn new(stored: S, shape: Shape) -> Self {
        Self { stored, shape }
    }

    fn stored(&self, object: &Value) -> Value {
        let mut stored = object.clone();
        self.to_stored(&mut stored);
        stored
    }

    /// What a version always writes is written.
    fn normalize(&self, object: &mut Value, version: &'static str) {
        let gvk = GroupVersionKind { version: version.into(), ..self.stored.resource().gvk };
        if let Some(schema) = Schemas::builtin().get(&gvk) {
            schema::normalize(schema, object);
        }
    }
}

impl<S: Strategy> Strategy for Flat<S> {
    fn resource(&self) -> Resource {
        self.stored.resource()
    }

    fn default(&self, object: &mut Value) {
        match self.shape {
            Shape::Claim(path) => {
                let spec = object::at_mut(object, path);
                for request in
                    spec.and_then(|spec| object::list_mut(spec, &["devices", "requests"])).into_iter().flatten()
                {
                    if object::text(request, &["deviceClassName"]).is_empty() {
                        defaults::tolerations(request);
                    } else {
                        defaults::one(request);
                    }
                }
            }
            Shape::Slice => {
                for device in object::list_mut(object, &["spec", "devices"]).into_iter().flatten() {
                    if let Some(basic) = device.get_mut("basic") {
                        defaults::taints(basic, clock::now());
                    }
                }
            }
        }
        self.stored.default(object);
    }

    fn prepare_create(&self, object: &mut Value, now: Timestamp) {
        self.stored.prepare_create(object, now);
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        self.stored.prepare_status(object, old);
    }

    fn status_keeps_metadata(&self) -> bool {
        self.stored.status_keeps_metadata()
    }

    fn reset_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        self.stored.reset_fields(subresource)
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        self.stored.validate(&self.stored(object), causes);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        self.stored.validate_create(&self.stored(object), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        self.stored.validate_update(&self.stored(object), &self.stored(old), causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        self.stored.validate_status(&self.stored(object), &self.stored(old), causes);
    }

    fn generation(&self) -> Generation {
        self.stored.generation()
    }

    fn deleted(&self) -> Deleted {
        self.stored.deleted()
    }

    fn selectable(&self) -> &'static [&'static str] {
        self.stored.selectable()
    }

    fn columns(&self) -> &'static [Column] {
        self.stored.columns()
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        self.stored.row(&self.stored(object))
    }

    /// The rules of version 1 look at an object as it is stored.
    fn judged<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        object: &'a Value,
        old: Option<&'a Value>,
    ) -> Judged<'a> {
        Box::pin(async move {
            let (object, old) = (self.stored(object), old.map(|old| self.stored(old)));
            self.stored.judged(core, call, &object, old.as_ref()).await
        })
    }

    fn to_stored(&self, object: &mut Value) {
        each(object, self.shape, |item| match self.shape {
            Shape::Claim(_) => gather(item),
            Shape::Slice => merge(item, "basic"),
        });
        if self.shape == Shape::Slice {
            for key in ["nodeName", "allNodes"] {
                if object::at(object, &["spec", key]).is_some_and(object::is_zero) {
                    object::remove(object, &["spec"], key);
                }
            }
        }
        self.normalize(object, "v1");
    }

    fn show_stored(&self, object: &mut Value) {
        each(object, self.shape, |item| match self.shape {
            Shape::Claim(_) => merge(item, "exactly"),
            Shape::Slice => spread(item),
        });
        self.normalize(object, "v1beta1");
    }
}

/// Changes each request, or each device.
fn each(object: &mut Value, shape: Shape, change: impl Fn(&mut Value)) {
    let items = match shape {
        Shape::Claim(path) => {
            object::at_mut(object, path).and_then(|spec| object::list_mut(spec, &["devices", "requests"]))
        }
        Shape::Slice => object::list_mut(object, &["spec", "devices"]),
    };
    items.into_iter().flatten().for_each(change);
}

/// What is asked for comes under `exactly`, where anything is.
fn gather(request: &mut Value) {
    let taken: Map<String, Value> =
        ASKED.iter().filter_map(|key| Some(((*key).to_owned(), object::remove(request, &[], key)?))).collect();
    let says = |value: &Value| !matches!(value, Value::Null) && value.as_str() != Some("") && value.as_i64() != Some(0);
    if taken.values().any(says) {
        object::set(request, &[], "exactly", Value::Object(taken));
    }
}

/// What is under `key` comes to stand beside the name.
fn merge(item: &mut Value, key: &str) {
    if let (Some(Value::Object(inner)), Some(outer)) = (object::remove(item, &[], key), item.as_object_mut()) {
        outer.extend(inner);
    }
}

/// What a device is comes under `basic`.
fn spread(device: &mut Value) {
    let Some(fields) = device.as_object_mut() else { return };
    let name = fields.shift_remove("name");
    let basic = std::mem::take(fields);
    fields.extend(name.map(|name| ("name".to_owned(), name)));
    fields.insert("basic".to_owned(), Value::Object(basic));
}
