//! What differs between two objects, as sets of paths.

use std::collections::BTreeMap;

use serde_json::Value;

use super::set::FieldSet;
use super::shape::{Shape, array, is_untyped, object, shape};
use super::{Ignored, Kind, Schema, element};
use crate::schema::{Field, List};

/// The difference of two objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

/// What nobody owns: who the object is, and what the server writes about it.
const UNOWNED: [&[&str]; 10] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:resourceVersion"],
];

/// Takes out of `set` what nobody owns.
pub(super) fn strip(set: &mut FieldSet) {
    UNOWNED.iter().for_each(|path| set.forget(path));
    set.prune(&["metadata", "managedFields"]);
}

/// What differs from `old` to `new`; their `managedFields` are left out.
pub(super) fn compare_objects(schema: &Schema, old: &Value, new: &Value) -> Changes {
    let mut changes = fields(Shape::Struct(schema), Some(old), Some(new));
    changes.each(strip);
    changes
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    pub(super) fn exclude(&mut self, ignored: Ignored<'_>) {
        self.each(|set| ignored.take_from(set));
    }

    fn each(&mut self, act: impl Fn(&mut FieldSet)) {
        act(&mut self.added);
        act(&mut self.modified);
        act(&mut self.removed);
    }

    fn attach(&mut self, element: &str, below: Self) {
        self.added.attach(element, below.added);
        self.modified.attach(element, below.modified);
        self.removed.attach(element, below.removed);
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Changes {
    let mut changes = Changes::default();
    match (old, new) {
        (None, Some(_)) => changes.added = FieldSet::leaf(),
        (Some(_), None) => changes.removed = FieldSet::leaf(),
        (Some(old), Some(new)) if old != new => changes.modified = FieldSet::leaf(),
        _ => {}
    }
    changes
}

fn compare(kind: &Kind, field: Option<&Field>, old: Option<&Value>, new: Option<&Value>) -> Changes {
    let shape = shape(kind, field, [old, new]);
    let empty = match shape {
        Shape::Leaf => true,
        Shape::Struct(_) | Shape::Map(_) => object(old).is_none() && object(new).is_none(),
        Shape::List(_) => array(old).is_none() && array(new).is_none(),
    };
    if empty {
        return leaf(old, new);
    }
    let mut changes = match shape {
        // Most lists are as they were, and need not be taken apart to see it.
        Shape::List(_) if old == new => Changes::default(),
        Shape::List(list) => items(list, array(old), array(new)),
        shape => fields(shape, old, new),
    };
    if old.is_none() {
        changes.added.set_member(true);
    }
    if new.is_none() {
        changes.removed.set_member(true);
    }
    // What changes its form is modified, beside what it had or now has below it.
    if let (Some(old), Some(new)) = (old, new)
        && is_untyped(kind)
        && !old.is_null()
        && !new.is_null()
        && old.is_object() != new.is_object()
    {
        changes.modified.set_member(true);
    }
    changes
}

fn fields(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Changes {
    let (old, new) = (object(old), object(new));
    let mut changes = Changes::default();
    let mut visit = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        if name == "managedFields" {
            return;
        }
        let (kind, field) = shape.below(name);
        let below = compare(kind, field, old, new);
        if !below.is_empty() {
            changes.attach(&format!("f:{name}"), below);
        }
    };
    for (name, value) in old.into_iter().flatten() {
        visit(name, Some(value), new.and_then(|new| new.get(name)));
    }
    for (name, value) in new.into_iter().flatten() {
        if old.is_none_or(|old| !old.contains_key(name)) {
            visit(name, None, Some(value));
        }
    }
    changes
}

type ByElement<'v> = BTreeMap<String, Vec<&'v Value>>;

fn by_element<'v>(list: &List, items: Option<&'v Vec<Value>>) -> ByElement<'v> {
    let mut found = ByElement::new();
    for item in items.into_iter().flatten() {
        if let Some(element) = element::of_item(list, item) {
            found.entry(element).or_default().push(item);
        }
    }
    found
}

/// Items that share an element are compared as one.
fn items(list: &List, old: Option<&Vec<Value>>, new: Option<&Vec<Value>>) -> Changes {
    let (mut old, new) = (by_element(list, old), by_element(list, new));
    let mut changes = Changes::default();
    let mut visit = |element: &str, old: &[&Value], new: &[&Value]| {
        let one = |old: Option<&Value>, new: Option<&Value>| compare(&list.item, None, old, new);
        let below = match (old, new) {
            ([], [] | [_]) | ([_], [] | [_]) => one(old.first().copied(), new.first().copied()),
            ([_, _, ..], [_, _, ..]) if old == new => Changes::default(),
            ([_, _, ..], [_, _, ..]) => Changes { modified: FieldSet::leaf(), ..Changes::default() },
            ([_, _, ..], _) => {
                let mut below = one(None, new.first().copied());
                below.removed.set_member(true);
                below
            }
            (_, [_, _, ..]) => {
                let mut below = one(old.first().copied(), None);
                below.added.set_member(true);
                below
            }
        };
        if !below.is_empty() {
            changes.attach(element, below);
        }
    };
    for (element, theirs) in &new {
        let ours = old.remove(element).unwrap_or_default();
        visit(element, &ours, theirs);
    }
    for (element, ours) in &old {
        visit(element, ours, &[]);
    }
    changes
}
