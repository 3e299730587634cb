//! StorageClasses.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::{field::Field, node_labels, text},
};

/// Most parameters of a class.
const MAX_PARAMETERS: usize = 512;
/// Most bytes of all parameters together.
const MAX_PARAMETER_BYTES: usize = 256 * 1024;

/// How often one term is called a duplicate at most.
const MAX_TOLD: usize = 16;

/// StorageClasses.
pub struct StorageClasses;

impl Strategy for StorageClasses {
    fn resource(&self) -> Resource {
        resource("storage.k8s.io", "v1", "StorageClass", "storageclasses").cluster_scoped().short(&["sc"]).build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &[], "reclaimPolicy", "Delete");
        object::set_default(object, &[], "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let class = Field::new(object, "");
        driver(&class.at("provisioner"), causes);
        parameters(&class.at("parameters"), true, causes);
        if !class.str("reclaimPolicy").is_empty() {
            class.at("reclaimPolicy").one_of(&["Delete", "Retain"], causes);
        }
        class.at("volumeBindingMode").one_of(&["Immediate", "WaitForFirstConsumer"], causes);
        topologies(&class, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let [new, old] = [object, old].map(|class| Field::new(class, ""));
        for key in ["parameters", "provisioner", "reclaimPolicy"] {
            unchanged(&new, &old, key, causes);
        }
        let mode = new.at("volumeBindingMode");
        if mode.value != old.at("volumeBindingMode").value {
            mode.invalid("field is immutable", causes);
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let class = Field::new(object, "");
        let terms = class.items("allowedTopologies");
        let keys = terms.iter().flat_map(|term| term.items("matchLabelExpressions")).map(|label| label.at("key"));
        keys.filter_map(|key| node_labels::warning(key.text(), &key.path)).collect()
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 6] = [
            Column::name(),
            Column::text("Provisioner", "provisioner"),
            Column::text("ReclaimPolicy", "reclaimPolicy"),
            Column::text("VolumeBindingMode", "volumeBindingMode"),
            Column::text("AllowVolumeExpansion", "allowVolumeExpansion"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let or = |key: &str, unset: &str| {
            let text = object::text(object, &[key]);
            Cell::from(if text.is_empty() { unset } else { text })
        };
        let annotations = object::at(object, &["metadata", "annotations"]);
        let is_default =
            DEFAULT_CLASS.iter().any(|key| object::text(annotations.unwrap_or(&Value::Null), &[key]) == "true");
        let name = object::name(object);
        vec![
            if is_default { format!("{name} (default)") } else { name.to_owned() }.into(),
            object::text(object, &["provisioner"]).into(),
            or("reclaimPolicy", "Delete"),
            or("volumeBindingMode", "Immediate"),
            object::flag(object, &["allowVolumeExpansion"]).into(),
            table::age(object),
        ]
    }
}

/// Annotations of the class that claims without a class get; the second is the old name.
pub const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Checks the name of what provides volumes.
pub(super) fn driver(name: &Field<'_>, causes: &mut Vec<Cause>) {
    if !name.needs_text(causes) {
        return;
    }
    // Upstream shows it as it is looked at.
    let lower = name.text().to_lowercase();
    for fault in text::qualified_name(&lower) {
        causes.push(Cause::invalid(name.path.as_str(), &json!(lower), &fault));
    }
}

/// Checks the parameters of a class.
pub(super) fn parameters(parameters: &Field<'_>, may_be_empty: bool, causes: &mut Vec<Cause>) {
    let entries = parameters.value.as_object();
    let count = entries.map_or(0, serde_json::Map::len);
    if count > MAX_PARAMETERS {
        causes.push(Cause::too_long(parameters.path.as_str(), MAX_PARAMETERS));
        return;
    }
    let mut bytes = 0;
    for (key, value) in entries.into_iter().flatten() {
        if key.is_empty() {
            causes.push(Cause::invalid(parameters.path.as_str(), &"".into(), "field can not be empty."));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_PARAMETER_BYTES {
        causes.push(Cause::too_long(parameters.path.as_str(), MAX_PARAMETER_BYTES));
    }
    if !may_be_empty && count == 0 {
        parameters.required("must contain at least one key/value pair", causes);
    }
}

/// Forbids a change of `key`.
pub(super) fn unchanged(new: &Field<'_>, old: &Field<'_>, key: &str, causes: &mut Vec<Cause>) {
    let (now, before) = (new.at(key), old.at(key));
    if !object::same(Some(now.value), Some(before.value)) {
        now.forbidden(&format!("updates to {key} are forbidden."), causes);
    }
}

fn topologies(class: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashMap<BTreeMap<&str, BTreeSet<&str>>, usize> = HashMap::new();
    let terms = class.items("allowedTopologies");
    for term in &terms {
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for label in term.items("matchLabelExpressions") {
            let values = label_values(&label, causes);
            let key = label.at("key");
            key.check(text::label_key, causes);
            if labels.insert(key.text(), values).is_some() {
                key.duplicate(causes);
            }
        }
        // Upstream compares with as many empty terms besides.
        let empty = if labels.is_empty() { terms.len() } else { 0 };
        let before = seen.entry(labels).or_default();
        for _ in 0..(*before + empty).min(MAX_TOLD) {
            causes.push(Cause::duplicate(term.at("matchLabelExpressions").path, &"".into()));
        }
        *before += 1;
    }
}

fn label_values<'a>(label: &Field<'a>, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    if label.count("values") == 0 {
        label.at("values").required("", causes);
    }
    for value in label.items("values") {
        if !seen.insert(value.text()) {
            value.duplicate(causes);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_of_a_class_differ() {
        let said = |terms: Value| {
            let (class, mut causes) = (json!({ "allowedTopologies": terms }), Vec::new());
            topologies(&Field::new(&class, ""), &mut causes);
            causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        let term = |value: &str| json!({"matchLabelExpressions": [{"key": "z", "values": [value]}]});
        assert!(said(json!([term("a"), term("b")])).is_empty());
        assert_eq!(said(json!([term("a"), term("a")])), ["allowedTopologies[1].matchLabelExpressions"]);
        assert_eq!(said(json!([{}])), ["allowedTopologies[0].matchLabelExpressions"]);
    }
}
