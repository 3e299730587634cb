//! An object in another version of its kind, for rules that name that version.

use std::borrow::Cow;

use serde_json::Value;

use super::matching::Matched;
use crate::registry::{kind::Kind, object};

/// The object as the matched kind shows it.
pub(super) fn shown<'a>(own: &Kind, matched: &Matched, object: &'a Value) -> Cow<'a, Value> {
    match matched {
        Matched::Other(other) if object.is_object() => Cow::Owned(convert(own, other, object.clone())),
        _ => Cow::Borrowed(object),
    }
}

/// And back, after a change.
pub(super) fn back(own: &Kind, matched: &Matched, object: Value) -> Value {
    match matched {
        Matched::Other(other) if object.is_object() => convert(other, own, object),
        _ => object,
    }
}

fn convert(from: &Kind, to: &Kind, mut object: Value) -> Value {
    if from.converts() {
        from.to_stored(&mut object);
    }
    if to.converts() {
        to.show_stored(&mut object);
    }
    object::set(&mut object, &[], "kind", to.name());
    object::set(&mut object, &[], "apiVersion", to.resource.gvk.api_version());
    object
}
