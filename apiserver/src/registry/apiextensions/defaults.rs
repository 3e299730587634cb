//! Whether the defaults of a schema fit it.

use martello_api::{schema::prune, status::Cause};
use serde_json::json;

use crate::{
    crd::{check::check as check_value, expressions::Expressions, rules::Rules, shape, table::table},
    registry::validation::field::Field,
};

const META_FIELDS: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// Checks every default of a whole object's schema.
pub fn check(root: &Field<'_>, causes: &mut Vec<Cause>) {
    below(root, true, false, causes);
}

/// Checks the defaults below `schema`. What would stand beyond the values of a map is not followed: upstream doesn't.
fn below(schema: &Field<'_>, is_root: bool, in_meta: bool, causes: &mut Vec<Cause>) {
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let in_meta = in_meta && !embedded;
    if let (false, Some(default)) = (is_root, schema.get("default")) {
        one(schema, &default, in_meta, causes);
    }
    let items = schema.at("items");
    if items.value.is_object() {
        below(&items, false, in_meta, causes);
    }
    for (name, property) in schema.entries("properties") {
        let is_meta = META_FIELDS.contains(&name);
        if !(is_root && is_meta) {
            below(&property, false, in_meta || embedded && is_meta, causes);
        }
    }
}

fn one(schema: &Field<'_>, default: &Field<'_>, in_meta: bool, causes: &mut Vec<Cause>) {
    let rules = Rules::of(schema.value);
    let before = causes.len();
    if !in_meta {
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
    if causes.len() > checked || causes.len() > before && in_meta {
        return;
    }
    if let Some(expressions) = Expressions::of_part(schema.value) {
        causes.extend(expressions.evaluate_default(default.value, &default.path));
    }
}
