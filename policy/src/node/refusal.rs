//! Why a node may not do what it asked for, in the words of upstream's node authorizer.

use martello_api::attributes::ResourceTarget;

const LEASES: &str = "kube-node-lease";

/// What is said to `node`; empty where upstream says nothing.
#[must_use]
pub(crate) fn said(node: &str, verb: &str, target: &ResourceTarget) -> String {
    let part = target.subresource.as_str();
    let reads = matches!(verb, "get" | "list" | "watch");
    let changes = matches!(verb, "get" | "create" | "update" | "patch" | "delete");
    let told = match (target.group.as_str(), target.resource.as_str()) {
        ("", "secrets" | "configmaps") if !reads => "can only read resources of this type",
        ("", "secrets" | "configmaps") if !part.is_empty() => "cannot read subresource",
        ("", "secrets" | "configmaps") if target.namespace.is_empty() => "can only read namespaced object of this type",
        ("", "secrets" | "configmaps") => return not_related(node, target),
        ("", "persistentvolumeclaims") if part == "status" => match verb {
            "update" | "patch" => return not_related(node, target),
            _ => "can only get/update/patch this type",
        },
        ("", "serviceaccounts") if verb == "get" && part.is_empty() => return not_related(node, target),
        ("", "serviceaccounts") if verb != "create" || target.name.is_empty() => {
            "can only create tokens for individual service accounts"
        }
        ("", "serviceaccounts") if part != "token" => "can only create token subresource of serviceaccount",
        ("", "serviceaccounts") => return not_related(node, target),
        ("", "persistentvolumeclaims" | "persistentvolumes")
        | ("resource.k8s.io", "resourceclaims")
        | ("storage.k8s.io", "volumeattachments") => match verb {
            "get" if part.is_empty() => return not_related(node, target),
            "get" => "cannot get subresource",
            _ => "can only get individual resources of this type",
        },
        ("coordination.k8s.io", "leases") if !changes => "can only get, create, update, patch, or delete a node lease",
        ("coordination.k8s.io", "leases") if target.namespace != LEASES => {
            return format!("can only access leases in the {LEASES:?} system namespace");
        }
        ("coordination.k8s.io", "leases") => "can only access node lease with the same name as the requesting node",
        ("storage.k8s.io", "csinodes") if !changes => "can only get, create, update, patch, or delete a CSINode",
        ("storage.k8s.io", "csinodes") if !part.is_empty() => "cannot authorize CSINode subresources",
        ("storage.k8s.io", "csinodes") => "can only access CSINode with the same name as the requesting node",
        ("resource.k8s.io", "resourceslices") => return of_slices(node, verb, target),
        ("", "nodes") if part.is_empty() && reads => {
            let other = if target.name.is_empty() { "all nodes".to_owned() } else { format!("'{}'", target.name) };
            return format!("node '{node}' cannot read {other}, only its own Node object");
        }
        ("", "pods") if part.is_empty() && reads => {
            if verb == "get" || !target.name.is_empty() {
                return not_related(node, target);
            }
            "can only list/watch pods with spec.nodeName field selector"
        }
        _ => "",
    };
    told.to_owned()
}

fn of_slices(node: &str, verb: &str, target: &ResourceTarget) -> String {
    let told = match verb {
        _ if !target.subresource.is_empty() => "cannot authorize ResourceSlice subresources",
        "get" | "update" | "patch" | "delete" => return not_related(node, target),
        "watch" | "list" | "deletecollection" => {
            "can only list/watch/deletecollection resourceslices with nodeName field selector"
        }
        "create" => "",
        _ => {
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"
        }
    };
    told.to_owned()
}

fn not_related(node: &str, target: &ResourceTarget) -> String {
    if target.name.is_empty() {
        return "No Object name found".to_owned();
    }
    format!("no relationship found between node '{node}' and this object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_what_it_may_do_instead() {
        let on = |group: &str, resource: &str, namespace: &str, name: &str| ResourceTarget {
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..ResourceTarget::default()
        };
        let all = on("", "nodes", "", "");
        assert_eq!(said("n", "list", &all), "node 'n' cannot read all nodes, only its own Node object");
        assert_eq!(said("n", "get", &on("", "nodes", "", "m")), "node 'n' cannot read 'm', only its own Node object");
        let pods = on("", "pods", "", "");
        assert_eq!(said("n", "watch", &pods), "can only list/watch pods with spec.nodeName field selector");
        assert_eq!(said("n", "list", &on("", "secrets", "a", "")), "No Object name found");
        assert_eq!(said("n", "update", &on("", "secrets", "a", "b")), "can only read resources of this type");
        let lease = on("coordination.k8s.io", "leases", "kube-system", "n");
        assert_eq!(said("n", "get", &lease), "can only access leases in the \"kube-node-lease\" system namespace");
        assert_eq!(said("n", "delete", &on("", "namespaces", "", "x")), "");
    }
}
