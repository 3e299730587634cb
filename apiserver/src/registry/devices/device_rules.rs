//! What holds for one device of a slice.

use martello_api::{quantity::Quantity, status::Cause};
use serde_json::{Value, json};

use super::{
    claim_status::binding_conditions,
    lists::{each, entries, label_value, named, qualified, set},
    slice_rules::check_counters,
};
use crate::registry::validation::{
    field::{Field, go_form},
    pod::affinity::node_selector,
    text,
    version::Version,
};

/// Most attributes and capacities of a device together, counters it uses, taints it has, and values it lists.
const MAX_ATTRIBUTES: usize = 32;
const MAX_ATTRIBUTE_VALUES: usize = 48;
/// Longest name of an attribute or capacity: a domain, a slash and an identifier.
const MAX_KEY_BYTES: usize = 63 + 1 + 32;
const MAX_CONSUMED: usize = 2;
const MAX_TAINTS: usize = 16;
const MAX_VALUES: usize = 10;
/// Longest value of an attribute.
const MAX_VALUE_BYTES: usize = 64;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Checks a device; `own_place` says whether each device says itself where it can be used from.
pub fn check(device: &Field<'_>, own_place: bool, causes: &mut Vec<Cause>) {
    device.at("name").check(text::dns1123_label, causes);
    let [attributes, capacities] = ["attributes", "capacity"].map(|key| entries(device, key, MAX_KEY_BYTES));
    let total = attributes.len() + capacities.len();
    if total > MAX_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        causes.push(Cause::invalid(device.path.as_str(), &json!(total), &why));
    }
    if attributes.len() > MAX_ATTRIBUTE_VALUES {
        let why = format!("the total number of attribute values must not exceed {MAX_ATTRIBUTE_VALUES}");
        causes.push(Cause::invalid(device.path.as_str(), &json!(attributes.len()), &why));
    }
    // Of a name the map complains, of a value its entry.
    let [named_attributes, named_capacities] = ["attributes", "capacity"].map(|key| device.at(key).path);
    for (name, value) in &attributes {
        qualified(name, &named_attributes, causes);
        attribute(value, causes);
    }
    for (name, capacity) in &capacities {
        qualified(name, &named_capacities, causes);
        if let Some(policy) = capacity.get("requestPolicy") {
            if device.flag("allowMultipleAllocations") {
                request_policy(&policy, capacity, causes);
            } else {
                policy.forbidden("allowMultipleAllocations must be true", causes);
            }
        }
    }
    each(device, "taints", MAX_TAINTS, causes, taint);
    set(
        device,
        "consumesCounters",
        MAX_CONSUMED,
        causes,
        |one, causes| {
            one.at("counterSet").check_required(text::dns1123_label, causes);
            check_counters(one, causes);
        },
        named("counterSet"),
    );
    place(device, own_place, causes);
    binding_conditions(device, causes);
}

fn place(device: &Field<'_>, own_place: bool, causes: &mut Vec<Cause>) {
    let (name, selector, all) = (device.get("nodeName"), device.get("nodeSelector"), device.get("allNodes"));
    if !own_place {
        if name.is_some() || selector.is_some() || all.is_some() {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            causes.push(Cause::invalid(device.path.as_str(), &Value::Null, why));
        }
        return;
    }
    let mut found = Vec::new();
    match name {
        Some(name) if name.text().is_empty() => name.invalid("must not be empty", causes),
        Some(name) => {
            found.push("`nodeName`");
            name.check(text::dns1123_subdomain, causes);
        }
        None => {}
    }
    if let Some(selector) = selector {
        found.push("`nodeSelector`");
        node_selector(&selector, causes);
    }
    match all {
        Some(flag) if flag.value == &Value::Bool(true) => found.push("`allNodes`"),
        Some(flag) => flag.invalid("must be either unset or set to true", causes),
        None => {}
    }
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match found.as_slice() {
        [] => device.required(ONE, causes),
        [_] => {}
        many => {
            causes.push(Cause::invalid(device.path.as_str(), &json!(format!("{{{}}}", many.join(", "))), ONE));
        }
    }
}

fn attribute(attribute: &Field<'_>, causes: &mut Vec<Cause>) {
    let known = ["bool", "int", "string", "version"];
    let set: Vec<&str> = known.into_iter().filter(|key| attribute.get(key).is_some()).collect();
    if let Some(text) = attribute.get("string")
        && text.text().len() > MAX_VALUE_BYTES
    {
        causes.push(Cause::too_long(text.path, MAX_VALUE_BYTES));
    }
    if let Some(version) = attribute.get("version") {
        if Version::parse(version.text()).is_none() {
            version.invalid("must be a string compatible with semver.org spec 2.0.0", causes);
        }
        if version.text().len() > MAX_VALUE_BYTES {
            causes.push(Cause::too_long(version.path, MAX_VALUE_BYTES));
        }
    }
    match set.as_slice() {
        [_] => {}
        [] => causes.push(Cause::invalid(attribute.path.as_str(), &json!(""), "exactly one value must be specified")),
        _ => {
            let shown = go_form(attribute.value, &VALUES.map(|(key, name)| (key, name, Value::Null)));
            causes.push(Cause::invalid(attribute.path.as_str(), &shown, "exactly one value must be specified"));
        }
    }
}

/// Values of an attribute, by their names in upstream's internal types.
const VALUES: [(&str, &str); 8] = [
    ("int", "IntValue"),
    ("bool", "BoolValue"),
    ("string", "StringValue"),
    ("version", "VersionValue"),
    ("ints", "IntValues"),
    ("bools", "BoolValues"),
    ("strings", "StringValues"),
    ("versions", "VersionValues"),
];

/// Checks a taint.
pub(super) fn taint(taint: &Field<'_>, causes: &mut Vec<Cause>) {
    tainted_with(taint, causes);
    taint_effect(taint, causes);
}

/// Checks key and value of a taint.
pub(super) fn tainted_with(taint: &Field<'_>, causes: &mut Vec<Cause>) {
    taint.at("key").check(text::label_key, causes);
    let value = taint.at("value");
    if !value.text().is_empty() {
        label_value(&value, causes);
    }
}

/// Checks the effect of a taint.
pub(super) fn taint_effect(taint: &Field<'_>, causes: &mut Vec<Cause>) {
    taint.at("effect").needs_one_of(&EFFECTS, causes);
}

fn quantity(field: &Field<'_>) -> Option<Quantity> {
    match field.value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Checks how much of a capacity can be asked for at once.
fn request_policy(policy: &Field<'_>, capacity: &Field<'_>, causes: &mut Vec<Cause>) {
    let (values, range) = (policy.items("validValues"), policy.get("validRange"));
    let default = policy.at("default");
    let most = capacity.at("value");
    match (values.is_empty(), range) {
        (false, Some(_)) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            policy.forbidden(why, causes);
        }
        (false, None) if default.value.is_null() => default.required("required when validValues is defined", causes),
        (false, None) => valid_values(policy, &values, &default, &most, causes),
        (true, Some(_)) if default.value.is_null() => default.required("required when validRange is defined", causes),
        (true, Some(range)) => valid_range(&range, &default, &most, causes),
        (true, None) => {}
    }
}

fn valid_values(
    policy: &Field<'_>,
    values: &[Field<'_>],
    default: &Field<'_>,
    most: &Field<'_>,
    causes: &mut Vec<Cause>,
) {
    let amounts: Vec<Option<Quantity>> = values.iter().map(quantity).collect();
    for (pair, value) in amounts.windows(2).zip(values.iter().skip(1)) {
        if let [Some(first), Some(second)] = pair
            && first > second
        {
            value.invalid("values must be sorted in ascending order", causes);
        }
    }
    set(
        policy,
        "validValues",
        MAX_VALUES,
        causes,
        |value, causes| {
            if let (Some(own), Some(limit)) = (quantity(value), quantity(most))
                && own > limit
            {
                value.invalid(&format!("option is larger than capacity value: {}", most.text()), causes);
            }
        },
        |value| json!(quantity(value).map(|amount| amount.units().to_string()).unwrap_or_default()),
    );
    let wanted = quantity(default);
    if !amounts.contains(&wanted) {
        let all = policy.at("validValues").path;
        causes.push(Cause::invalid(all, default.value, "default value is not valid according to the requestPolicy"));
    }
}

fn valid_range(range: &Field<'_>, default: &Field<'_>, most: &Field<'_>, causes: &mut Vec<Cause>) {
    let (low, high, step) = (range.at("min"), range.at("max"), range.at("step"));
    let Some(min) = quantity(&low) else { return low.required("required when validRange is defined", causes) };
    let (wanted, limit) = (quantity(default), quantity(most));
    let above = |left: &Option<Quantity>, right: &Option<Quantity>| match (left, right) {
        (Some(left), Some(right)) => left > right,
        _ => false,
    };
    let (min, max) = (Some(min), quantity(&high));
    if above(&min, &limit) {
        low.invalid(&format!("min is larger than capacity value: {}", most.text()), causes);
    }
    if above(&min, &wanted) {
        let why = format!("default is less than min: {}", low.text());
        causes.push(Cause::invalid(low.path.as_str(), default.value, &why));
    }
    if above(&min, &max) {
        causes.push(Cause::invalid(high.path.as_str(), low.value, &format!("min is larger than max: {}", high.text())));
    }
    if above(&max, &limit) {
        high.invalid(&format!("max is larger than capacity value: {}", most.text()), causes);
    }
    if above(&wanted, &max) {
        let why = format!("default is more than max: {}", high.text());
        causes.push(Cause::invalid(high.path.as_str(), default.value, &why));
    }
    if let (Some(step_size), Some(min)) = (quantity(&step), &min) {
        let (unit, from) = (step_size.units(), min.units());
        if unit <= 0 {
            return step.invalid("must be greater than zero", causes);
        }
        let one = *min + step_size;
        if above(&Some(one), &limit) {
            step.invalid(&format!("one step {one} is larger than capacity value: {}", most.text()), causes);
        }
        for value in [Some(default), Some(&high)].into_iter().flatten() {
            if let Some(amount) = quantity(value)
                && (amount.units() - from) % unit != 0
            {
                let why = format!("value is not a multiple of a given step ({}) from ({})", step.text(), low.text());
                causes.push(Cause::invalid(step.path.as_str(), value.value, &why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_names_the_map_complains_and_of_values_the_entry() {
        let device = json!({"name": "d", "attributes": {"a b": {"string": "x", "bool": true}}});
        let mut causes = Vec::new();
        check(&Field::new(&device, "d"), false, &mut causes);
        let said: Vec<_> = causes.into_iter().map(|cause| (cause.field, cause.message)).collect();
        assert_eq!(said.len(), 2);
        assert_eq!(said[0].0, "d.attributes");
        assert_eq!(
            said[1],
            (
                "d.attributes[a b]".to_owned(),
                r#"Invalid value: {"IntValue":null,"BoolValue":true,"StringValue":"x","VersionValue":null,"IntValues":null,"BoolValues":null,"StringValues":null,"VersionValues":null}: exactly one value must be specified"#.to_owned()
            )
        );
    }

    #[test]
    fn a_range_holds_its_default_and_fits() {
        let faults = |policy: Value| {
            let capacity = json!({"value": "4Gi", "requestPolicy": policy});
            let capacity = Field::new(&capacity, "c");
            let mut causes = Vec::new();
            request_policy(&capacity.at("requestPolicy"), &capacity, &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert_eq!(
            faults(json!({"default": "1Gi", "validRange": {"min": "1Gi", "max": "4Gi", "step": "1Gi"}})),
            Vec::<String>::new()
        );
        assert_eq!(
            faults(json!({"default": "1Gi", "validRange": {"min": "2Gi", "step": "4Gi"}})),
            [
                r#"c.requestPolicy.validRange.min: Invalid value: "1Gi": default is less than min: 2Gi"#,
                r#"c.requestPolicy.validRange.step: Invalid value: "4Gi": one step 6Gi is larger than capacity value: 4Gi"#,
                r#"c.requestPolicy.validRange.step: Invalid value: "1Gi": value is not a multiple of a given step (4Gi) from (2Gi)"#,
            ]
        );
        assert_eq!(
            faults(json!({"default": "1Gi", "validValues": ["1Gi", "1024Mi"]})),
            [r#"c.requestPolicy.validValues[1]: Duplicate value: "1073741824""#]
        );
    }
}
