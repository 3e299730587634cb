use std::sync::Arc;

use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
};

use super::*;
use crate::{Authorizer, Change};

fn defaults() -> Authorizer {
    let authorizer = Authorizer::new();
    authorizer.replace_all(objects().iter().filter_map(|object| Change::written(object).unwrap()));
    authorizer
}

fn may(authorizer: &Authorizer, user: &User, verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let target = Target::Resource(ResourceTarget {
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        ..ResourceTarget::default()
    });
    authorizer.authorize(&Attributes { user: Arc::new(user.clone()), verb: verb.to_owned(), target }).is_allowed()
}

fn bind(authorizer: &Authorizer, role: &str, user: &str) {
    let binding = json!({
        "apiVersion": API_VERSION, "kind": "RoleBinding", "metadata": {"namespace": "shop", "name": role},
        "roleRef": {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": role}, "subjects": [super::user(user)],
    });
    authorizer.update(Change::written(&binding).unwrap().unwrap());
}

#[test]
fn every_default_object_is_read_and_named_once() {
    let objects = objects();
    let mut keys: Vec<String> = objects
        .iter()
        .map(|object| {
            assert!(Change::written(object).unwrap().is_some(), "{object}");
            format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"])
        })
        .collect();
    keys.sort();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count);
    assert!(count > 80);
}

#[test]
fn view_reads_no_secrets_edit_writes_no_roles_admin_no_quotas() {
    let authorizer = defaults();
    for role in ["view", "edit", "admin"] {
        bind(&authorizer, role, role);
    }
    let [view, edit, admin] = ["view", "edit", "admin"].map(|name| User::authenticated(name, ["x"]));
    assert!(may(&authorizer, &view, "list", "", "pods", "shop"));
    assert!(!may(&authorizer, &view, "get", "", "secrets", "shop"));
    assert!(!may(&authorizer, &view, "create", "", "pods/exec", "shop"));
    assert!(
        may(&authorizer, &edit, "get", "", "secrets", "shop") && may(&authorizer, &edit, "list", "", "pods", "shop")
    );
    assert!(!may(&authorizer, &edit, "create", API_GROUP, "roles", "shop"));
    assert!(may(&authorizer, &admin, "create", API_GROUP, "roles", "shop"));
    assert!(may(&authorizer, &admin, "create", "", "pods", "shop"));
    assert!(!may(&authorizer, &admin, "create", "", "resourcequotas", "shop"));
    assert!(!may(&authorizer, &admin, "delete", "", "namespaces", "shop"));
    assert!(!may(&authorizer, &admin, "list", "", "pods", "other"));
}

#[test]
fn the_parts_of_aggregated_roles_come_in_the_order_of_their_names() {
    let objects = objects();
    let edit =
        objects.iter().find(|object| object["kind"] == "ClusterRole" && object["metadata"]["name"] == "edit").unwrap();
    let rules = edit["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 27);
    assert_eq!(rules[0]["resources"][0], "pods/attach");
    assert_eq!(rules[15]["resources"][0], "configmaps");
}

#[test]
fn components_may_do_their_work() {
    let authorizer = defaults();
    let scheduler = User::authenticated(martello_api::identity::SCHEDULER, ["x"]);
    assert!(may(&authorizer, &scheduler, "create", "", "pods/binding", "shop"));
    assert!(!may(&authorizer, &scheduler, "get", "", "secrets", "shop"));
    let controllers = User::authenticated(martello_api::identity::CONTROLLER_MANAGER, ["x"]);
    for (verb, group, resource) in [
        ("create", "", "pods"),
        ("patch", "apps", "deployments"),
        ("patch", "apps", "deployments/status"),
        ("update", "apps", "replicasets/status"),
        ("create", "discovery.k8s.io", "endpointslices"),
        ("create", "", "events"),
        ("create", "", "serviceaccounts"),
        ("update", "", "namespaces/finalize"),
        ("delete", "example.com", "things"),
    ] {
        assert!(may(&authorizer, &controllers, verb, group, resource, "shop"), "{verb} {group} {resource}");
    }
    let joining = User::authenticated("system:bootstrap:abcdef", ["system:bootstrappers"]);
    assert!(may(&authorizer, &joining, "create", "martello.dev", "nodeenrollments", ""));
    assert!(!may(&authorizer, &joining, "get", "", "nodes", ""));
}
