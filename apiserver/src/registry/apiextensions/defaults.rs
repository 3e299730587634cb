//! Whether the defaults of a schema fit it.

use std::{cell::OnceCell, rc::Rc};

use martello_api::{schema::prune, status::Cause};
use serde_json::{Value, json};

use crate::{
    crd::{check::check as check_value, expressions::Expressions, rules::Rules, shape, table::table},
    registry::validation::field::Field,
};

const META_FIELDS: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// Checks every default of a whole object's schema.
pub fn check(root: &Field<'_>, causes: &mut Vec<Cause>) {
    let place = Place::of(root.value);
    if let Some(default) = root.get("default") {
        // It is never filled in, and held against the schema as that of an object within another.
        let mut whole = root.value.clone();
        if let Value::Object(map) = &mut whole {
            map.insert("x-kubernetes-embedded-resource".to_owned(), json!(true));
        }
        one(&Field::new(&whole, ""), &default, &place, causes);
    }
    below(root, true, &place, causes);
}

/// Where a schema stands within the whole object that it belongs to.
struct Place<'v> {
    /// The schema of that object.
    root: &'v Value,
    /// Its rules, read once however many defaults are held against them.
    rules: Rc<OnceCell<Rules>>,
    /// The way there from it; an item of a list has no name.
    steps: Vec<Option<&'v str>>,
    /// Within what every object has.
    in_meta: bool,
}

impl<'v> Place<'v> {
    /// The whole object of a schema.
    fn of(root: &'v Value) -> Self {
        Self { root, rules: Rc::default(), steps: Vec::new(), in_meta: false }
    }

    fn step(&self, step: Option<&'v str>, in_meta: bool) -> Self {
        let steps = self.steps.iter().copied().chain([step]).collect();
        Self { root: self.root, rules: Rc::clone(&self.rules), steps, in_meta }
    }

    /// The least object that has a value here.
    fn object_around(&self, value: &Value) -> Value {
        let mut object = self.steps.iter().rev().fold(value.clone(), |inner, step| match step {
            Some(name) => json!({ *name: inner }),
            None => json!([inner]),
        });
        if let Some(map) = object.as_object_mut() {
            map.entry("kind").or_insert_with(|| json!("Validation"));
            map.entry("apiVersion").or_insert_with(|| json!("validation/v1"));
        }
        object
    }
}

/// Checks the defaults below `schema`. What would stand beyond the values of a map is not followed: upstream doesn't.
fn below<'v>(schema: &Field<'v>, is_root: bool, place: &Place<'v>, causes: &mut Vec<Cause>) {
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let own = Place::of(schema.value);
    let place = if embedded { &own } else { place };
    if let (false, Some(default)) = (is_root, schema.get("default")) {
        one(schema, &default, place, causes);
    }
    let items = schema.at("items");
    if items.value.is_object() {
        below(&items, false, &place.step(None, place.in_meta), causes);
    }
    for (name, property) in schema.entries("properties") {
        let in_meta = place.in_meta || (embedded || is_root) && META_FIELDS.contains(&name);
        below(&property, false, &place.step(Some(name), in_meta), causes);
    }
}

fn one(schema: &Field<'_>, default: &Field<'_>, place: &Place<'_>, causes: &mut Vec<Cause>) {
    let rules = Rules::of(schema.value).of_default();
    if place.in_meta {
        if let Some(why) = bad_metadata(place, default.value) {
            let why = format!("must result in valid metadata: {why}");
            causes.push(Cause::invalid(default.path.as_str(), &shape::sorted(default.value), &why));
            return;
        }
    } else {
        let holder = table(&json!({"type": "object", "properties": {"default": schema.value}}), String::new());
        let mut pruned = json!({"default": default.value});
        prune(&holder, &mut pruned);
        if pruned.get("default") != Some(default.value) {
            let why = "must not have unknown fields";
            causes.push(Cause::invalid(default.path.as_str(), &shape::sorted(default.value), why));
        }
        let before = causes.len();
        shape::embedded_at(&rules, default.value, &default.path, causes);
        if causes.len() > before {
            return;
        }
    }
    let checked = causes.len();
    check_value(&rules, default.value, None, &default.path, causes);
    if causes.len() > checked {
        return;
    }
    if let Some(expressions) = Expressions::of_part(schema.value) {
        causes.extend(expressions.evaluate_default(default.value, &default.path));
    }
}

/// What is wrong with the metadata of the least object that has this default.
fn bad_metadata(place: &Place<'_>, default: &Value) -> Option<String> {
    let rules = place.rules.get_or_init(|| {
        let mut rules = Rules::of(place.root);
        rules.object.embedded = true;
        rules
    });
    let mut causes = Vec::new();
    shape::embedded_at(rules, &place.object_around(default), "", &mut causes);
    let told: Vec<String> =
        causes.into_iter().map(|cause| format!("{}: {}", cause.field.trim_start_matches('.'), cause.message)).collect();
    match told.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(schema: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&Field::new(schema, ""), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_default_has_no_unknown_fields_whatever_its_type() {
        assert_eq!(
            faults(&json!({"type": "object", "properties": {"a": {"type": "string", "default": {"x": 1}}}})),
            [
                "properties[a].default: Invalid value: {\"x\":1}: must not have unknown fields",
                "properties[a].default: Invalid value: \"object\":  in body must be of type string: \"object\"",
            ]
        );
        let either = json!({"type": "object", "properties": {
            "a": {"x-kubernetes-int-or-string": true, "default": 1.5}}});
        assert_eq!(faults(&either), Vec::<String>::new());
    }

    #[test]
    fn the_default_of_a_whole_object_is_one() {
        let of = |default: Value| faults(&json!({"type": "object", "default": default}));
        assert_eq!(of(json!([])), ["default: Invalid value: \"array\":  in body must be of type object: \"array\""]);
        assert_eq!(of(json!({})), ["default.apiVersion: Required value", "default.kind: Required value"]);
        assert_eq!(of(json!({"apiVersion": "v1", "kind": "X"})), Vec::<String>::new());
    }

    #[test]
    fn defaults_within_metadata_result_in_metadata() {
        let named = |name: Value| {
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {
                "name": {"type": "string", "default": name}}}}})
        };
        assert_eq!(faults(&named(json!("a"))), Vec::<String>::new());
        let found = faults(&named(json!("a/b")));
        let start = "properties[metadata].properties[name].default: Invalid value: \"a/b\": must result in valid metadata: \
                     metadata.name: Invalid value: \"a/b\": ";
        assert!(found.len() == 1 && found[0].starts_with(start), "{found:?}");
    }
}
