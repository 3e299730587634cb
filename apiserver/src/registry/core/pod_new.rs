//! What is settled when a pod is made.

use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::pod::{OLD_APP_ARMOR, app_armor_profile},
};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Puts what the pod itself brings where it belongs.
pub fn prepare(pod: &mut Value) {
    let labels = object::at(pod, &["metadata", "labels"]).cloned().unwrap_or_default();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = ["spec", "affinity", kind];
        for term in object::list_mut(pod, &[&path[..], &[PREFERRED]].concat()).into_iter().flatten() {
            if let Some(term) = object::at_mut(term, &["podAffinityTerm"]) {
                own_labels(term, &labels);
            }
        }
        for term in object::list_mut(pod, &[&path[..], &[REQUIRED]].concat()).into_iter().flatten() {
            own_labels(term, &labels);
        }
    }
    for constraint in object::list_mut(pod, &["spec", "topologySpreadConstraints"]).into_iter().flatten() {
        own_labels(constraint, &labels);
    }
    app_armor(pod);
}

/// Where others must share a label with the pod, or must not, its value becomes part of the selector.
fn own_labels(term: &mut Value, labels: &Value) {
    if object::at(term, &["labelSelector"]).is_none_or(Value::is_null) {
        return;
    }
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = object::list(term, &[list]).to_vec();
        let more = keys.iter().filter_map(Value::as_str).filter_map(|key| {
            let value = labels.get(key)?;
            Some(json!({"key": key, "operator": operator, "values": [value]}))
        });
        let more: Vec<Value> = more.collect();
        if !more.is_empty() {
            let mut all = object::list(term, &["labelSelector", "matchExpressions"]).to_vec();
            all.extend(more);
            object::set(term, &["labelSelector"], "matchExpressions", all);
        }
    }
}

/// What a client is told of profiles of AppArmor that are annotations only.
#[must_use]
pub fn app_armor_warnings(pod: &Value) -> Vec<String> {
    if object::text(pod, &["spec", "os", "name"]) == "windows" {
        return Vec::new();
    }
    let whole = object::at(pod, &["spec", "securityContext", "appArmorProfile"]);
    let containers = CONTAINERS.iter().flat_map(|list| object::list(pod, &["spec", list]));
    let told = containers.filter_map(|container| {
        let key = format!("{APP_ARMOR}{}", object::text(container, &["name"]));
        let annotation = object::at(pod, &["metadata", "annotations", &key])?.as_str()?;
        let own = object::at(container, &["securityContext", "appArmorProfile"]);
        let meant = app_armor_profile(annotation);
        // What the pod says as a whole needs no words.
        let said = own.is_some_and(|own| !own.is_null()) || meant.is_some() && meant.as_ref() == whole;
        (!said).then(|| format!("metadata.annotations[{key}]: {OLD_APP_ARMOR}"))
    });
    told.collect()
}

/// Profiles of AppArmor were annotations once: they become fields where these are not set.
pub fn app_armor(pod: &mut Value) {
    if object::text(pod, &["spec", "os", "name"]) == "windows" {
        return;
    }
    let annotations = object::at(pod, &["metadata", "annotations"]).cloned().unwrap_or_default();
    let whole = object::at(pod, &["spec", "securityContext", "appArmorProfile"]).cloned();
    for list in CONTAINERS {
        for container in object::list_mut(pod, &["spec", list]).into_iter().flatten() {
            let key = format!("{APP_ARMOR}{}", object::text(container, &["name"]));
            let Some(profile) = annotations.get(&key).and_then(Value::as_str).and_then(app_armor_profile) else {
                continue;
            };
            let unset = object::at(container, &["securityContext", "appArmorProfile"]).is_none_or(Value::is_null);
            if unset && whole.as_ref() != Some(&profile) {
                object::set(container, &["securityContext"], "appArmorProfile", profile);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_pod_become_part_of_selectors() {
        let term =
            json!({"topologyKey": "z", "labelSelector": {}, "matchLabelKeys": ["a"], "mismatchLabelKeys": ["b", "c"]});
        let mut pod = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"affinity": {"podAffinity": {REQUIRED: [term]}}},
        });
        prepare(&mut pod);
        assert_eq!(
            pod["spec"]["affinity"]["podAffinity"][REQUIRED][0]["labelSelector"]["matchExpressions"],
            json!([
                {"key": "a", "operator": "In", "values": ["1"]},
                {"key": "b", "operator": "NotIn", "values": ["2"]},
            ])
        );
    }

    #[test]
    fn an_annotated_profile_becomes_a_field() {
        let mut pod = json!({
            "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "localhost/x"}},
            "spec": {"containers": [{"name": "c"}]},
        });
        prepare(&mut pod);
        let profile = &pod["spec"]["containers"][0]["securityContext"]["appArmorProfile"];
        assert_eq!(profile, &json!({"type": "Localhost", "localhostProfile": "x"}));
    }

    #[test]
    fn an_annotated_profile_is_told_where_no_field_says_the_same() {
        let told = |annotation: &str, own: Value, whole: Value| {
            let pod = json!({
                "metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": annotation}},
                "spec": {
                    "securityContext": {"appArmorProfile": whole},
                    "containers": [{"name": "c", "securityContext": {"appArmorProfile": own}}],
                },
            });
            app_armor_warnings(&pod)
        };
        let default = json!({"type": "RuntimeDefault"});
        let words = "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead";
        assert_eq!(told("runtime/default", Value::Null, Value::Null), [words]);
        assert_eq!(told("unconfined", Value::Null, default.clone()), [words]);
        assert_eq!(told("localhost/", Value::Null, default.clone()), [words]);
        assert!(told("runtime/default", Value::Null, default.clone()).is_empty());
        assert!(told("unconfined", default, Value::Null).is_empty());
    }
}
