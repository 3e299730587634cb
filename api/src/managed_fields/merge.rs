//! Merging what is applied into what is there, finding what an object sets, and removing items.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map as JsonMap, Value};

use super::set::FieldSet;
use super::shape::{Shape, array, is_untyped, object, shape};
use super::{Kind, Schema, element};
use crate::schema::{Field, List, ListMerge};

/// `live` with `config` applied over it.
pub(super) fn merge_objects(schema: &Schema, live: &Value, config: &Value) -> Value {
    Value::Object(merge_maps(Shape::Struct(schema), object(Some(live)), object(Some(config))))
}

fn merge(kind: &Kind, field: Option<&Field>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (live, config) = match (live, config) {
        (live, None) => return live.cloned(),
        (None, Some(config)) => return Some(config.clone()),
        (Some(live), Some(config)) => (live, config),
    };
    Some(match shape(kind, field, [Some(live), Some(config)]) {
        Shape::Leaf => config.clone(),
        Shape::List(list) => {
            let (ours, theirs) = (array(Some(live)), array(Some(config)));
            if ours.is_none() && theirs.is_none() {
                config.clone()
            } else {
                Value::Array(merge_lists(list, ours, theirs))
            }
        }
        shape => {
            let (ours, theirs) = (object(Some(live)), object(Some(config)));
            // What has no declared form takes the applied one's.
            if theirs.is_none() && (ours.is_none() || is_untyped(kind) && !config.is_null()) {
                config.clone()
            } else {
                Value::Object(merge_maps(shape, ours, theirs))
            }
        }
    })
}

fn merge_maps(
    shape: Shape<'_>,
    live: Option<&JsonMap<String, Value>>,
    config: Option<&JsonMap<String, Value>>,
) -> JsonMap<String, Value> {
    let mut merged = live.cloned().unwrap_or_default();
    for (name, value) in config.into_iter().flatten() {
        let (kind, field) = shape.below(name);
        if let Some(value) = merge(kind, field, live.and_then(|live| live.get(name)), Some(value)) {
            merged.insert(name.clone(), value);
        }
    }
    merged
}

struct Indexed<'v> {
    elements: Vec<String>,
    /// Nothing where an element occurs twice.
    items: HashMap<String, Option<&'v Value>>,
}

fn indexed<'v>(list: &List, items: Option<&'v Vec<Value>>) -> Indexed<'v> {
    let mut found = Indexed { elements: Vec::new(), items: HashMap::new() };
    for (at, item) in items.into_iter().flatten().enumerate() {
        let element = element::of_item(list, item).unwrap_or_else(|| format!("i:{at}"));
        found.items.entry(element.clone()).and_modify(|known| *known = None).or_insert(Some(item));
        found.elements.push(element);
    }
    found
}

/// Items in an order that keeps the relative order of both lists, the applied one's first where they disagree.
fn merge_lists(list: &List, live: Option<&Vec<Value>>, config: Option<&Vec<Value>>) -> Vec<Value> {
    let (left, right) = (indexed(list, live), indexed(list, config));
    let mut shared: VecDeque<&String> =
        right.elements.iter().filter(|element| left.items.contains_key(*element)).collect();
    let mut next_shared = shared.pop_front();
    let mut merged: HashMap<&str, ()> = HashMap::new();
    let mut out = Vec::with_capacity(left.elements.len().max(right.elements.len()));
    let both = |element: &String| {
        let ours = left.items.get(element).copied().flatten();
        let theirs = right.items.get(element).copied().flatten();
        merge(&list.item, None, ours, theirs)
    };
    let (mut l, mut r) = (0, 0);
    while l < left.elements.len() || r < right.elements.len() {
        if let (Some(ours), Some(theirs)) = (left.elements.get(l), right.elements.get(r)) {
            if ours == theirs {
                merged.insert(ours, ());
                out.extend(both(ours));
                (l, r) = (l + 1, r + 1);
                next_shared = shared.pop_front();
                continue;
            }
            if right.items.contains_key(ours) && next_shared.is_some_and(|next| next != ours) {
                l += 1;
                continue;
            }
        }
        if let Some(ours) = left.elements.get(l) {
            if !right.items.contains_key(ours) {
                out.extend(live.and_then(|live| live.get(l)).cloned());
                l += 1;
                continue;
            }
            if merged.contains_key(ours.as_str()) {
                l += 1;
            }
        }
        if let Some(theirs) = right.elements.get(r) {
            merged.insert(theirs, ());
            out.extend(both(theirs));
            r += 1;
            if next_shared == Some(theirs) {
                next_shared = shared.pop_front();
            }
        }
    }
    out
}

/// The paths that an object sets.
pub(super) fn set_of(schema: &Schema, value: &Value) -> FieldSet {
    fields_of(Shape::Struct(schema), value)
}

fn fields_of(shape: Shape<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    for (name, value) in object(Some(value)).into_iter().flatten() {
        if name == "managedFields" {
            continue;
        }
        let (kind, field) = shape.below(name);
        let mut below = below(kind, field, value);
        if value.is_null() || value.as_object().is_some_and(JsonMap::is_empty) || !shape.declares(name) {
            below.set_member(true);
        }
        set.attach(format!("f:{name}"), below);
    }
    set
}

fn below(kind: &Kind, field: Option<&Field>, value: &Value) -> FieldSet {
    match shape(kind, field, [Some(value), None]) {
        Shape::Leaf => FieldSet::leaf(),
        Shape::List(list) => {
            let mut set = FieldSet::default();
            for item in array(Some(value)).into_iter().flatten() {
                if let Some(element) = element::of_item(list, item) {
                    let mut below = match list.merge {
                        ListMerge::Keys(_) => below(&list.item, None, item),
                        ListMerge::Set | ListMerge::Atomic => FieldSet::default(),
                    };
                    below.set_member(true);
                    set.attach(element, below);
                }
            }
            set
        }
        shape => fields_of(shape, value),
    }
}

/// `set` with every declared field that it reaches through as a member too.
pub(super) fn with_named_fields(schema: &Schema, set: &FieldSet) -> FieldSet {
    named(Shape::Struct(schema), set)
}

fn named(here: Shape<'_>, set: &FieldSet) -> FieldSet {
    let mut found = FieldSet::default();
    found.set_member(set.is_member());
    for (element, child) in set.children() {
        let name = element.strip_prefix("f:");
        let (kind, field) = here.element(element);
        let marker = Value::Object(JsonMap::new());
        let mut below = named(shape(kind, field, [Some(&marker), None]), child);
        if name.is_some_and(|name| here.declares(name)) {
            below.set_member(true);
        }
        found.attach(element, below);
    }
    found
}

/// `value` without the members of `gone`; what becomes empty by that goes too.
pub(super) fn remove_items(schema: &Schema, value: &Value, gone: &FieldSet) -> Value {
    Value::Object(remove_fields(Shape::Struct(schema), value, gone))
}

fn remove_fields(here: Shape<'_>, value: &Value, gone: &FieldSet) -> JsonMap<String, Value> {
    let mut kept = JsonMap::new();
    for (name, value) in object(Some(value)).into_iter().flatten() {
        match gone.child(&format!("f:{name}")) {
            None => {
                kept.insert(name.clone(), value.clone());
            }
            Some(below) if below.is_member() => {}
            Some(below) => {
                let (kind, field) = here.below(name);
                // What is emptied stays as null, so that who owns it, and nothing in it, goes on owning it.
                kept.insert(name.clone(), remove_below(kind, field, value, below).unwrap_or(Value::Null));
            }
        }
    }
    kept
}

fn remove_below(kind: &Kind, field: Option<&Field>, value: &Value, gone: &FieldSet) -> Option<Value> {
    match shape(kind, field, [Some(value), None]) {
        Shape::Leaf => Some(value.clone()),
        Shape::List(list) => {
            let items = array(Some(value))?;
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                match element::of_item(list, item).and_then(|element| gone.child(&element)) {
                    None => kept.push(item.clone()),
                    Some(below) if below.is_member() => {}
                    Some(below) => kept.extend(remove_below(&list.item, None, item, below)),
                }
            }
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        shape => {
            let kept = remove_fields(shape, value, gone);
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
    }
}
