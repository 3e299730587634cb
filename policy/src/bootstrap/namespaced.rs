//! Default Roles of the system's namespaces, and their bindings.

use martello_api::identity::{CONTROLLER_MANAGER, SCHEDULER};
use serde_json::Value;

use super::{events, on, on_named, role, role_binding, service_account, user};

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";

pub(super) fn objects() -> Vec<Value> {
    let watch = "get,list,watch";
    let manager = "system::leader-locking-kube-controller-manager";
    let scheduler = "system::leader-locking-kube-scheduler";
    let reader = "extension-apiserver-authentication-reader";
    vec![
        role(SYSTEM, reader, vec![on_named(watch, "", "configmaps", "extension-apiserver-authentication")]),
        role(SYSTEM, manager, leader("kube-controller-manager")),
        role(SYSTEM, scheduler, leader("kube-scheduler")),
        role(SYSTEM, "system:controller:bootstrap-signer", vec![on(watch, "", "secrets")]),
        role(SYSTEM, "system:controller:cloud-provider", vec![on("create,get,list,update,watch", "", "configmaps")]),
        role(SYSTEM, "system:controller:token-cleaner", vec![on("delete,get,list,watch", "", "secrets"), events()]),
        role(
            PUBLIC,
            "system:controller:bootstrap-signer",
            vec![on(watch, "", "configmaps"), on_named("update", "", "configmaps", "cluster-info"), events()],
        ),
        role_binding(
            SYSTEM,
            "system::extension-apiserver-authentication-reader",
            reader,
            vec![user(CONTROLLER_MANAGER), user(SCHEDULER)],
        ),
        role_binding(
            SYSTEM,
            manager,
            manager,
            vec![user(CONTROLLER_MANAGER), service_account("kube-controller-manager")],
        ),
        role_binding(SYSTEM, scheduler, scheduler, vec![user(SCHEDULER), service_account("kube-scheduler")]),
        bound(SYSTEM, "bootstrap-signer"),
        bound(SYSTEM, "cloud-provider"),
        bound(SYSTEM, "token-cleaner"),
        bound(PUBLIC, "bootstrap-signer"),
    ]
}

fn leader(name: &str) -> Vec<Value> {
    vec![on("watch", "", "configmaps"), on_named("get,update", "", "configmaps", name)]
}

fn bound(namespace: &str, controller: &str) -> Value {
    let name = format!("system:controller:{controller}");
    role_binding(namespace, &name, &name, vec![service_account(controller)])
}
