//! Specs as upstream's internal types show them in messages: every field by its Go name, null where unset.

use serde_json::{Value, json};

use crate::registry::{object, validation::field::go_form};

/// The spec of a claim.
#[must_use]
pub fn claim(spec: &Value) -> Value {
    let devices = spec.get("devices").unwrap_or(&Value::Null);
    json!({"Devices": {
        "Requests": list(devices, "requests", request),
        "Constraints": list(devices, "constraints", |one| {
            shown(one, &[("requests", "Requests"), ("matchAttribute", "MatchAttribute"), ("distinctAttribute", "DistinctAttribute")])
        }),
        "Config": list(devices, "config", |one| {
            let mut config = shown(one, &[("requests", "Requests")]);
            object::set(&mut config, &[], "Opaque", opaque(one));
            config
        }),
    }})
}

/// The spec of a template: its metadata stands beside the spec, as it is.
#[must_use]
pub fn template(spec: &Value) -> Value {
    let mut form = spec.get("metadata").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    object::set(&mut form, &[], "Spec", claim(spec.get("spec").unwrap_or(&Value::Null)));
    form
}

fn list(owner: &Value, key: &str, form: impl Fn(&Value) -> Value) -> Value {
    match owner.get(key).and_then(Value::as_array) {
        Some(items) if !items.is_empty() => items.iter().map(form).collect(),
        _ => Value::Null,
    }
}

fn shown(value: &Value, fields: &[(&str, &str)]) -> Value {
    let fields: Vec<(&str, &str, Value)> = fields.iter().map(|(key, name)| (*key, *name, Value::Null)).collect();
    go_form(value, &fields)
}

fn opaque(config: &Value) -> Value {
    match config.get("opaque").filter(|opaque| opaque.is_object()) {
        Some(opaque) => json!({
            "Driver": object::text(opaque, &["driver"]),
            "Parameters": opaque.get("parameters").cloned().unwrap_or_default(),
        }),
        None => Value::Null,
    }
}

fn request(request: &Value) -> Value {
    let exact = request.get("exactly").filter(|exact| exact.is_object());
    json!({
        "Name": object::text(request, &["name"]),
        "Exactly": exact.map_or(Value::Null, |exact| asked(exact, true)),
        "FirstAvailable": list(request, "firstAvailable", |one| {
            let mut form = json!({"Name": object::text(one, &["name"])});
            if let (Some(form), Value::Object(rest)) = (form.as_object_mut(), asked(one, false)) {
                form.extend(rest);
            }
            form
        }),
    })
}

fn asked(request: &Value, exact: bool) -> Value {
    let mut form = json!({
        "DeviceClassName": object::text(request, &["deviceClassName"]),
        "Selectors": list(request, "selectors", |one| {
            let expression = object::at(one, &["cel", "expression"]).cloned();
            json!({"CEL": expression.map_or(Value::Null, |expression| json!({"Expression": expression}))})
        }),
        "AllocationMode": object::text(request, &["allocationMode"]),
        "Count": object::int(request, &["count"]).unwrap_or(0),
    });
    if exact {
        object::set(&mut form, &[], "AdminAccess", request.get("adminAccess").cloned().unwrap_or_default());
    }
    let tolerations = list(request, "tolerations", |one| {
        let text = |key: &'static str, name: &'static str| (key, name, json!(""));
        go_form(
            one,
            &[
                text("key", "Key"),
                text("operator", "Operator"),
                text("value", "Value"),
                text("effect", "Effect"),
                ("tolerationSeconds", "TolerationSeconds", Value::Null),
            ],
        )
    });
    object::set(&mut form, &[], "Tolerations", tolerations);
    let capacity = request.get("capacity").filter(|capacity| capacity.is_object());
    let capacity = capacity.map_or(Value::Null, |capacity| json!({"Requests": capacity.get("requests")}));
    object::set(&mut form, &[], "Capacity", capacity);
    form
}
