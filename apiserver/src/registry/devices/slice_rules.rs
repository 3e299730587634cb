//! What holds for ResourceSlices as a whole.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::{
    device_rules,
    lists::{driver, named, pool, set},
};
use crate::registry::{
    object,
    validation::{field::Field, internal, pod::affinity::node_selector, text},
};

const MAX_DEVICES: usize = 128;
/// Of slices that use taints or counters, which are larger.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;

/// Checks a slice, given what it was.
pub fn check(slice: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let whole = Field::new(slice, "");
    let spec = whole.at("spec");
    driver(&spec.at("driver"), causes);
    check_pool(&spec.at("pool"), causes);
    if let Some(old) = old {
        unchanged(&spec, old, causes);
    }
    place(&spec, causes);
    if spec.get("sharedCounters").is_some() && spec.get("devices").is_some() {
        causes.push(Cause::invalid("spec", &json!(""), "only one of `sharedCounters` or `devices` is allowed"));
    }
    let advanced = |device: &Field<'_>| device.count("taints") > 0 || device.count("consumesCounters") > 0;
    let limit = if spec.items("devices").iter().any(advanced) { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
    let own_places = spec.flag("perDeviceNodeSelection");
    set(
        &spec,
        "devices",
        limit,
        causes,
        |device, causes| device_rules::check(device, own_places, causes),
        named("name"),
    );
    set(&spec, "sharedCounters", MAX_COUNTER_SETS, causes, counter_set, named("name"));
}

fn check_pool(own: &Field<'_>, causes: &mut Vec<Cause>) {
    pool(&own.at("name"), causes);
    let (count, generation) = (own.at("resourceSliceCount"), own.at("generation"));
    let number = count.int().unwrap_or(0);
    if number <= 0 {
        causes.push(Cause::invalid(count.path, &json!(number), "must be greater than zero"));
    }
    if generation.int().is_some_and(|number| number < 0) {
        generation.invalid("must be greater than or equal to zero", causes);
    }
}

fn unchanged(spec: &Field<'_>, old: &Value, causes: &mut Vec<Cause>) {
    for path in [&["pool", "name"][..], &["driver"], &["nodeName"]] {
        let new = object::at(spec.value, path);
        let was = object::at(old, &["spec"]).and_then(|spec| object::at(spec, path));
        if new != was {
            let shown = new.unwrap_or(&Value::Null);
            causes.push(Cause::invalid(format!("spec.{}", path.join(".")), shown, "field is immutable"));
        }
    }
}

/// Checks where the devices of the slice can be used from.
fn place(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut found = Vec::new();
    if let Some(name) = spec.get("nodeName") {
        if name.text().is_empty() {
            name.invalid("must be either unset or set to a non-empty string", causes);
        } else {
            found.push("`nodeName`");
            name.check(text::dns1123_subdomain, causes);
        }
    }
    if let Some(selector) = spec.get("nodeSelector") {
        found.push("`nodeSelector`");
        node_selector(&selector, causes);
        if selector.count("nodeSelectorTerms") != 1 {
            let terms = selector.items("nodeSelectorTerms");
            let shown: Vec<Value> =
                terms.iter().map(|term| internal::of("io.k8s.api.core.v1.NodeSelectorTerm", term.value)).collect();
            let (path, why) = (selector.at("nodeSelectorTerms").path, "must have exactly one node selector term");
            causes.push(Cause::invalid(path, &shown.into(), why));
        }
    }
    for (key, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match spec.get(key) {
            Some(flag) if flag.value == &Value::Bool(true) => found.push(shown),
            Some(flag) => flag.invalid("must be either unset or set to true", causes),
            None => {}
        }
    }
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match found.as_slice() {
        [] => spec.required(ONE, causes),
        [_] => {}
        many => {
            let shown = json!(format!("{{{}}}", many.join(", ")));
            causes.push(Cause::invalid("spec", &shown, &format!("{ONE}, but multiple fields are set")));
        }
    }
}

fn counter_set(counters: &Field<'_>, causes: &mut Vec<Cause>) {
    counters.at("name").check_required(text::dns1123_label, causes);
    check_counters(counters, causes);
}

/// Checks counters by name.
pub(super) fn check_counters(owner: &Field<'_>, causes: &mut Vec<Cause>) {
    let (all, counters) = (owner.at("counters"), owner.entries("counters"));
    if counters.is_empty() {
        return all.required("", causes);
    }
    if counters.len() > MAX_COUNTERS {
        return all.too_many(counters.len(), MAX_COUNTERS, causes);
    }
    for (name, _) in counters {
        for fault in text::dns1123_label(name) {
            causes.push(Cause::invalid(all.path.as_str(), &json!(name), &fault));
        }
    }
}
