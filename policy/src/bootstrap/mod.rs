//! The roles and bindings that exist from the first start: upstream's, and the few that our components need besides.
//!
//! The server creates what is missing and, where an object's annotation
//! `rbac.authorization.kubernetes.io/autoupdate` still says `true`, gives back rules and subjects that it lost.

mod cluster_roles;
mod controllers;
mod namespaced;
mod repair;

use martello_api::k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::{Map, Value, json};

pub use repair::repaired;

use crate::rbac::aggregate;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const API_GROUP: &str = "rbac.authorization.k8s.io";
/// Verbs of readers.
const READ: &str = "get,list,watch";
/// Verbs of writers who do not read.
const WRITE: &str = "create,delete,deletecollection,patch,update";
/// Verbs of who may do all but the special verbs.
const READ_WRITE: &str = "create,delete,deletecollection,get,list,patch,update,watch";

/// Every default object, ready to be created: roles before the bindings that refer to them, and the aggregated ones filled.
#[must_use]
pub fn objects() -> Vec<Value> {
    let mut roles = cluster_roles::cluster_roles();
    roles.extend(controllers::cluster_roles());
    fill_aggregated(&mut roles);
    let mut objects = roles;
    objects.extend(cluster_roles::cluster_role_bindings());
    objects.extend(controllers::cluster_role_bindings());
    objects.extend(namespaced::objects());
    objects
}

/// What exists besides where ClusterTrustBundles are served: every workload may read whom it may trust.
#[must_use]
pub fn trust_bundle_objects() -> Vec<Value> {
    const NAME: &str = "system:cluster-trust-bundle-discovery";
    vec![
        cluster_role(NAME, vec![on(READ, "certificates.k8s.io", "clustertrustbundles")]),
        cluster_role_binding(NAME, NAME, vec![group("system:serviceaccounts")]),
    ]
}

/// `view` is part of `edit`, and `edit` of `admin`: in this order one pass each is enough.
fn fill_aggregated(roles: &mut [Value]) {
    for name in ["view", "edit", "admin"] {
        let typed: Vec<ClusterRole> =
            roles.iter().filter_map(|role| serde_json::from_value(role.clone()).ok()).collect();
        let Some(own) = typed.iter().find(|role| role.metadata.name.as_deref() == Some(name)) else { continue };
        let rules = aggregate(own, &typed);
        for role in roles.iter_mut().filter(|role| role.pointer("/metadata/name").and_then(Value::as_str) == Some(name))
        {
            if let (Some(rules), Some(fields)) = (&rules, role.as_object_mut()) {
                fields.insert("rules".to_owned(), json!(rules));
            }
        }
    }
}

/// A rule on resources: lists are separated by commas, and the core group is the empty text.
fn on(verbs: &str, groups: &str, resources: &str) -> Value {
    json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)})
}

/// A rule on resources of certain names.
fn on_named(verbs: &str, groups: &str, resources: &str, names: &str) -> Value {
    let mut rule = on(verbs, groups, resources);
    if let Some(fields) = rule.as_object_mut() {
        fields.insert("resourceNames".to_owned(), json!(list(names)));
    }
    rule
}

/// A rule on paths.
fn on_paths(verbs: &str, paths: &str) -> Value {
    json!({"verbs": list(verbs), "nonResourceURLs": list(paths)})
}

/// Writing events, as nearly every component does.
fn events() -> Value {
    on("create,patch,update", ",events.k8s.io", "events")
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').collect()
}

fn cluster_role(name: &str, rules: Vec<Value>) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "ClusterRole", "metadata": metadata(name, None), "rules": rules})
}

fn role(namespace: &str, name: &str, rules: Vec<Value>) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "Role", "metadata": metadata(name, Some(namespace)), "rules": rules})
}

fn cluster_role_binding(name: &str, role: &str, subjects: Vec<Value>) -> Value {
    let mut binding = json!({
        "apiVersion": API_VERSION, "kind": "ClusterRoleBinding", "metadata": metadata(name, None),
        "roleRef": {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": role},
    });
    if let (false, Some(fields)) = (subjects.is_empty(), binding.as_object_mut()) {
        fields.insert("subjects".to_owned(), Value::Array(subjects));
    }
    binding
}

fn role_binding(namespace: &str, name: &str, role: &str, subjects: Vec<Value>) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "RoleBinding", "metadata": metadata(name, Some(namespace)),
        "roleRef": {"apiGroup": API_GROUP, "kind": "Role", "name": role}, "subjects": subjects,
    })
}

fn user(name: &str) -> Value {
    json!({"apiGroup": API_GROUP, "kind": "User", "name": name})
}

fn group(name: &str) -> Value {
    json!({"apiGroup": API_GROUP, "kind": "Group", "name": name})
}

fn service_account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"})
}

/// With a further label, as the parts of aggregated roles have it.
fn labeled(mut object: Value, label: &str) -> Value {
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.insert(label.to_owned(), json!("true"));
    }
    object
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name));
    if let Some(namespace) = namespace {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    metadata.insert("labels".to_owned(), json!({"kubernetes.io/bootstrapping": "rbac-defaults"}));
    metadata.insert("annotations".to_owned(), json!({"rbac.authorization.kubernetes.io/autoupdate": "true"}));
    Value::Object(metadata)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
