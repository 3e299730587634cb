//! Default ClusterRoles of users and components, and their bindings.

use martello_api::identity::{
    API_SERVER, CONTROLLER_MANAGER, GROUP_AUTHENTICATED, GROUP_BOOTSTRAPPERS, GROUP_MASTERS, GROUP_SERVICE_ACCOUNTS,
    GROUP_UNAUTHENTICATED, SCHEDULER,
};
use serde_json::{Value, json};

use super::{
    READ, READ_WRITE, WRITE, cluster_role, cluster_role_binding, events, group, labeled, on, on_named, on_paths,
    service_account, user,
};

const TO_VIEW: &str = "rbac.authorization.k8s.io/aggregate-to-view";
const TO_EDIT: &str = "rbac.authorization.k8s.io/aggregate-to-edit";
const TO_ADMIN: &str = "rbac.authorization.k8s.io/aggregate-to-admin";

pub(super) fn cluster_roles() -> Vec<Value> {
    let mut roles = everyone();
    roles.extend(users());
    roles.extend(nodes());
    roles.extend(components());
    roles.extend(certificates());
    roles.extend(ours());
    roles
}

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let everyone = || group(GROUP_AUTHENTICATED);
    vec![
        cluster_role_binding("cluster-admin", "cluster-admin", vec![group(GROUP_MASTERS)]),
        cluster_role_binding("system:monitoring", "system:monitoring", vec![group("system:monitoring")]),
        cluster_role_binding("system:discovery", "system:discovery", vec![everyone()]),
        cluster_role_binding("system:basic-user", "system:basic-user", vec![everyone()]),
        cluster_role_binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            vec![everyone(), group(GROUP_UNAUTHENTICATED)],
        ),
        cluster_role_binding("system:node-proxier", "system:node-proxier", vec![user("system:kube-proxy")]),
        cluster_role_binding(
            "system:kube-controller-manager",
            "system:kube-controller-manager",
            vec![user(CONTROLLER_MANAGER)],
        ),
        cluster_role_binding("system:kube-dns", "system:kube-dns", vec![service_account("kube-dns")]),
        cluster_role_binding("system:kube-scheduler", "system:kube-scheduler", vec![user(SCHEDULER)]),
        cluster_role_binding("system:volume-scheduler", "system:volume-scheduler", vec![user(SCHEDULER)]),
        // Nodes are authorized by what their pods need, not by this role: it has no subjects.
        cluster_role_binding("system:node", "system:node", Vec::new()),
        cluster_role_binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            vec![group(GROUP_SERVICE_ACCOUNTS)],
        ),
        cluster_role_binding("martello:controllers", "martello:controllers", vec![user(CONTROLLER_MANAGER)]),
        cluster_role_binding("martello:node-enroller", "martello:node-enroller", vec![group(GROUP_BOOTSTRAPPERS)]),
        cluster_role_binding("martello:server-to-nodes", "system:kubelet-api-admin", vec![user(API_SERVER)]),
    ]
}

fn everyone() -> Vec<Value> {
    vec![
        cluster_role("cluster-admin", vec![on("*", "*", "*"), on_paths("*", "*")]),
        cluster_role(
            "system:discovery",
            vec![on_paths(
                "get",
                "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/",
            )],
        ),
        cluster_role(
            "system:basic-user",
            vec![
                on("create", "authorization.k8s.io", "selfsubjectaccessreviews,selfsubjectrulesreviews"),
                on("create", "authentication.k8s.io", "selfsubjectreviews"),
            ],
        ),
        cluster_role("system:public-info-viewer", vec![on_paths("get", "/healthz,/livez,/readyz,/version,/version/")]),
        cluster_role(
            "system:monitoring",
            vec![
                on_paths(
                    "get",
                    "/flagz,/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*,/statusz",
                ),
                on("get", "", "nodes/metrics"),
            ],
        ),
        cluster_role(
            "system:service-account-issuer-discovery",
            vec![on_paths(
                "get",
                "/.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/",
            )],
        ),
    ]
}

fn users() -> Vec<Value> {
    vec![
        aggregated("admin", TO_ADMIN),
        labeled(aggregated("edit", TO_EDIT), TO_ADMIN),
        labeled(aggregated("view", TO_VIEW), TO_EDIT),
        labeled(cluster_role("system:aggregate-to-admin", admin_rules()), TO_ADMIN),
        labeled(cluster_role("system:aggregate-to-edit", edit_rules()), TO_EDIT),
        labeled(cluster_role("system:aggregate-to-view", view_rules()), TO_VIEW),
    ]
}

fn aggregated(name: &str, label: &str) -> Value {
    let mut role = cluster_role(name, Vec::new());
    if let Some(fields) = role.as_object_mut() {
        let selector = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        fields.insert("aggregationRule".to_owned(), selector);
    }
    role
}

fn admin_rules() -> Vec<Value> {
    vec![
        on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        on(READ_WRITE, "rbac.authorization.k8s.io", "rolebindings,roles"),
    ]
}

fn edit_rules() -> Vec<Value> {
    let workloads = "daemonsets,deployments,deployments/rollback,deployments/scale";
    let replicas = "replicasets,replicasets/scale";
    vec![
        on(READ, "", "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy"),
        on("impersonate", "", "serviceaccounts"),
        on(WRITE, "", "pods,pods/attach,pods/exec,pods/portforward,pods/proxy"),
        on("create", "", "pods/eviction"),
        on(
            WRITE,
            "",
            "configmaps,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,\
             serviceaccounts,services,services/proxy",
        ),
        on("create", "", "serviceaccounts/token"),
        on(WRITE, ",events.k8s.io", "events"),
        on(WRITE, "apps", &format!("{workloads},{replicas},statefulsets,statefulsets/scale")),
        on(WRITE, "autoscaling", "horizontalpodautoscalers"),
        on(WRITE, "batch", "cronjobs,jobs"),
        on(
            WRITE,
            "extensions",
            &format!("{workloads},ingresses,networkpolicies,{replicas},replicationcontrollers/scale"),
        ),
        on(WRITE, "policy", "poddisruptionbudgets"),
        on(WRITE, "networking.k8s.io", "ingresses,networkpolicies"),
        on(READ_WRITE, "coordination.k8s.io", "leases"),
        on(WRITE, "resource.k8s.io", "resourceclaims,resourceclaimtemplates"),
    ]
}

fn view_rules() -> Vec<Value> {
    let workloads = "daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status";
    let replicas = "replicasets,replicasets/scale,replicasets/status";
    vec![
        on(
            READ,
            "",
            "configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,\
             replicationcontrollers/scale,serviceaccounts,services,services/status",
        ),
        on(
            READ,
            "",
            "bindings,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,\
             resourcequotas,resourcequotas/status",
        ),
        on(READ, "", "namespaces"),
        on(READ, ",events.k8s.io", "events"),
        on(READ, "discovery.k8s.io", "endpointslices"),
        on(
            READ,
            "apps",
            &format!("controllerrevisions,{workloads},{replicas},statefulsets,statefulsets/scale,statefulsets/status"),
        ),
        on(READ, "autoscaling", "horizontalpodautoscalers,horizontalpodautoscalers/status"),
        on(READ, "batch", "cronjobs,cronjobs/status,jobs,jobs/status"),
        on(
            READ,
            "extensions",
            &format!("{workloads},ingresses,ingresses/status,networkpolicies,{replicas},replicationcontrollers/scale"),
        ),
        on(READ, "policy", "poddisruptionbudgets,poddisruptionbudgets/status"),
        on(READ, "networking.k8s.io", "ingresses,ingresses/status,networkpolicies"),
        on(READ, "resource.k8s.io", "resourceclaims,resourceclaims/status,resourceclaimtemplates"),
    ]
}

fn nodes() -> Vec<Value> {
    vec![
        cluster_role("system:node", node_rules()),
        cluster_role(
            "system:node-bootstrapper",
            vec![on("create,get,list,watch", "certificates.k8s.io", "certificatesigningrequests")],
        ),
        cluster_role("martello:node-enroller", vec![on("create", "martello.dev", "nodeenrollments")]),
        cluster_role(
            "system:node-problem-detector",
            vec![on("get", "", "nodes"), on("patch", "", "nodes/status"), events()],
        ),
        cluster_role(
            "system:node-proxier",
            vec![
                on("list,watch", "", "endpoints,services"),
                on("get,list,watch", "", "nodes"),
                events(),
                on("list,watch", "networking.k8s.io", "servicecidrs"),
                on("list,watch", "discovery.k8s.io", "endpointslices"),
            ],
        ),
        cluster_role(
            "system:kubelet-api-admin",
            vec![
                on("get,list,watch", "", "nodes"),
                on("proxy", "", "nodes"),
                on("*", "", "nodes/log,nodes/metrics,nodes/proxy,nodes/stats"),
                on("*", "", "nodes/configz,nodes/healthz,nodes/pods"),
            ],
        ),
    ]
}

fn node_rules() -> Vec<Value> {
    vec![
        on("create", "authentication.k8s.io", "tokenreviews"),
        on("create", "authorization.k8s.io", "localsubjectaccessreviews,subjectaccessreviews"),
        on(READ, "", "services"),
        on("create,get,list,watch", "", "nodes"),
        on("patch,update", "", "nodes/status"),
        on("patch,update", "", "nodes"),
        events(),
        on(READ, "", "pods"),
        on("create,delete", "", "pods"),
        on("patch,update", "", "pods/status"),
        on("create", "", "pods/eviction"),
        on(READ, "", "configmaps,secrets"),
        on("get", "", "persistentvolumeclaims,persistentvolumes"),
        on("get", "", "endpoints"),
        on("create,get,list,watch", "certificates.k8s.io", "certificatesigningrequests"),
        on("create,delete,get,patch,update", "coordination.k8s.io", "leases"),
        on("get", "storage.k8s.io", "volumeattachments"),
        on("create", "", "serviceaccounts/token"),
        on("get,patch,update", "", "persistentvolumeclaims/status"),
        on(READ, "storage.k8s.io", "csidrivers"),
        on("create,delete,get,patch,update", "storage.k8s.io", "csinodes"),
        on(READ, "node.k8s.io", "runtimeclasses"),
        on("get", "resource.k8s.io", "resourceclaims"),
        on("deletecollection", "resource.k8s.io", "resourceslices"),
        on("get", "", "serviceaccounts"),
    ]
}

fn components() -> Vec<Value> {
    vec![
        cluster_role(
            "system:auth-delegator",
            vec![
                on("create", "authentication.k8s.io", "tokenreviews"),
                on("create", "authorization.k8s.io", "subjectaccessreviews"),
            ],
        ),
        cluster_role(
            "system:heapster",
            vec![on(READ, "", "events,namespaces,nodes,pods"), on(READ, "extensions", "deployments")],
        ),
        cluster_role("system:kube-aggregator", vec![on(READ, "", "endpoints,services")]),
        cluster_role("system:kube-dns", vec![on("list,watch", "", "endpoints,services")]),
        cluster_role("system:kube-controller-manager", controller_manager_rules()),
        cluster_role("system:kube-scheduler", scheduler_rules()),
        cluster_role(
            "system:volume-scheduler",
            vec![
                on("get,list,patch,update,watch", "", "persistentvolumes"),
                on(READ, "storage.k8s.io", "storageclasses"),
                on("get,list,patch,update,watch", "", "persistentvolumeclaims"),
            ],
        ),
        cluster_role(
            "system:persistent-volume-provisioner",
            vec![
                on("create,delete,get,list,watch", "", "persistentvolumes"),
                on("get,list,update,watch", "", "persistentvolumeclaims"),
                on(READ, "storage.k8s.io", "storageclasses"),
                on("watch", "", "events"),
                events(),
            ],
        ),
    ]
}

fn controller_manager_rules() -> Vec<Value> {
    vec![
        events(),
        on("create", "coordination.k8s.io", "leases"),
        on_named("get,update", "coordination.k8s.io", "leases", "kube-controller-manager"),
        on("create", "", "secrets,serviceaccounts"),
        on("delete", "", "secrets"),
        on("get", "", "configmaps,namespaces,secrets,serviceaccounts"),
        on("update", "", "secrets,serviceaccounts"),
        on("create", "authentication.k8s.io", "tokenreviews"),
        on("create", "authorization.k8s.io", "subjectaccessreviews"),
        on("list,watch", "*", "*"),
        on("create", "", "serviceaccounts/token"),
    ]
}

fn scheduler_rules() -> Vec<Value> {
    let claims = "get,list,patch,update,watch";
    vec![
        events(),
        on("create", "coordination.k8s.io", "leases"),
        on_named("get,list,update,watch", "coordination.k8s.io", "leases", "kube-scheduler"),
        on(READ_WRITE, "coordination.k8s.io", "leasecandidates"),
        on(READ, "", "nodes"),
        on("delete,get,list,watch", "", "pods"),
        on("create", "", "bindings,pods/binding"),
        on("patch,update", "", "pods/status"),
        on(READ, "", "replicationcontrollers,services"),
        on(READ, "apps,extensions", "replicasets"),
        on(READ, "apps", "statefulsets"),
        on(READ, "policy", "poddisruptionbudgets"),
        on(READ, "", "persistentvolumeclaims,persistentvolumes"),
        on("create", "authentication.k8s.io", "tokenreviews"),
        on("create", "authorization.k8s.io", "subjectaccessreviews"),
        on(READ, "storage.k8s.io", "csinodes"),
        on(READ, "storage.k8s.io", "volumeattachments"),
        on(READ, "", "namespaces"),
        on(READ, "storage.k8s.io", "csidrivers"),
        on(READ, "storage.k8s.io", "csistoragecapacities"),
        on(READ, "resource.k8s.io", "deviceclasses"),
        on(claims, "resource.k8s.io", "resourceclaims"),
        on(claims, "resource.k8s.io", "resourceclaims/status"),
        on("update", "", "pods/finalizers"),
        on(READ, "resource.k8s.io", "resourceslices"),
        on("create,delete", "resource.k8s.io", "resourceclaims"),
        on("patch,update", "resource.k8s.io", "resourceclaims/binding"),
    ]
}

fn certificates() -> Vec<Value> {
    let group = "certificates.k8s.io";
    let approver = |name: &str, signer: &str| cluster_role(name, vec![on_named("approve", group, "signers", signer)]);
    vec![
        cluster_role(
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![on("create", group, "certificatesigningrequests/nodeclient")],
        ),
        cluster_role(
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![on("create", group, "certificatesigningrequests/selfnodeclient")],
        ),
        approver("system:certificates.k8s.io:legacy-unknown-approver", "kubernetes.io/legacy-unknown"),
        approver("system:certificates.k8s.io:kubelet-serving-approver", "kubernetes.io/kubelet-serving"),
        approver("system:certificates.k8s.io:kube-apiserver-client-approver", "kubernetes.io/kube-apiserver-client"),
        approver(
            "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
            "kubernetes.io/kube-apiserver-client-kubelet",
        ),
    ]
}

/// Our controllers run as one component with one identity, where upstream's take a service account each.
fn ours() -> Vec<Value> {
    let mut rules = super::controllers::all_rules();
    rules.push(on(READ_WRITE, "", "endpoints,pods,serviceaccounts"));
    rules.push(on(READ_WRITE, "apps", "controllerrevisions,deployments,replicasets"));
    rules.push(on(READ_WRITE, "discovery.k8s.io", "endpointslices"));
    rules.push(on("get,patch,update", "apps", "deployments/status,replicasets/status"));
    rules.push(on("get,patch,update", "", "nodes,nodes/status,pods/status"));
    rules.push(on("create", "", "configmaps,pods/eviction"));
    rules.push(on("get,patch,update", "", "configmaps"));
    rules.push(on(READ_WRITE, "coordination.k8s.io", "leases"));
    vec![cluster_role("martello:controllers", rules)]
}
