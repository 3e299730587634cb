//! Default ClusterRoles of upstream's controllers, each bound to the service account of its name in `kube-system`.

use serde_json::Value;

use super::{READ, cluster_role, cluster_role_binding, events, on, on_named, service_account};

pub(super) fn cluster_roles() -> Vec<Value> {
    controllers().into_iter().map(|(name, rules)| cluster_role(&role_name(name), rules)).collect()
}

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let bound = controllers().into_iter().map(|(name, _)| (role_name(name), service_account(name)));
    bound.map(|(role, subject)| cluster_role_binding(&role, &role, vec![subject])).collect()
}

/// The rules of all controllers, each once.
pub(super) fn all_rules() -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for rule in controllers().into_iter().flat_map(|(_, rules)| rules) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

fn role_name(controller: &str) -> String {
    format!("system:controller:{controller}")
}

type Controller = (&'static str, Vec<Value>);

fn controllers() -> Vec<Controller> {
    let mut controllers = workloads();
    controllers.extend(batch());
    controllers.extend(scaling());
    controllers.extend(lifecycle());
    controllers.extend(network());
    controllers.extend(volumes());
    controllers.extend(devices());
    controllers
}

fn workloads() -> Vec<Controller> {
    let pods = "create,delete,list,patch,watch";
    vec![
        (
            "daemon-set-controller",
            vec![
                on(READ, "apps,extensions", "daemonsets"),
                on("update", "apps,extensions", "daemonsets/status"),
                on("update", "apps,extensions", "daemonsets/finalizers"),
                on("list,watch", "", "nodes"),
                on(pods, "", "pods"),
                on("create", "", "pods/binding"),
                on("create,delete,get,list,patch,update,watch", "apps", "controllerrevisions"),
                events(),
            ],
        ),
        (
            "deployment-controller",
            vec![
                on("get,list,update,watch", "apps,extensions", "deployments"),
                on("update", "apps,extensions", "deployments/status"),
                on("update", "apps,extensions", "deployments/finalizers"),
                on("create,delete,get,list,patch,update,watch", "apps,extensions", "replicasets"),
                on("get,list,update,watch", "", "pods"),
                events(),
            ],
        ),
        (
            "replicaset-controller",
            vec![
                on("get,list,update,watch", "apps,extensions", "replicasets"),
                on("update", "apps,extensions", "replicasets/status"),
                on("update", "apps,extensions", "replicasets/finalizers"),
                on(pods, "", "pods"),
                events(),
            ],
        ),
        (
            "replication-controller",
            vec![
                on("get,list,update,watch", "", "replicationcontrollers"),
                on("update", "", "replicationcontrollers/status"),
                on("update", "", "replicationcontrollers/finalizers"),
                on(pods, "", "pods"),
                events(),
            ],
        ),
        (
            "statefulset-controller",
            vec![
                on("list,watch", "", "pods"),
                on(READ, "apps", "statefulsets"),
                on("update", "apps", "statefulsets/status"),
                on("update", "apps", "statefulsets/finalizers"),
                on("create,delete,get,patch,update", "", "pods"),
                on("create,delete,get,list,patch,update,watch", "apps", "controllerrevisions"),
                on("create,get,list,watch", "", "persistentvolumeclaims"),
                on("delete,update", "", "persistentvolumeclaims"),
                on("update", "", "pods/finalizers"),
                events(),
            ],
        ),
    ]
}

fn batch() -> Vec<Controller> {
    vec![
        (
            "job-controller",
            vec![
                on("get,list,patch,update,watch", "batch", "jobs"),
                on("update", "batch", "jobs/status"),
                on("update", "batch", "jobs/finalizers"),
                on("create,delete,list,patch,watch", "", "pods"),
                events(),
            ],
        ),
        (
            "cronjob-controller",
            vec![
                on("get,list,update,watch", "batch", "cronjobs"),
                on("create,delete,get,list,patch,update,watch", "batch", "jobs"),
                on("update", "batch", "cronjobs/status"),
                on("update", "batch", "cronjobs/finalizers"),
                on("delete,list,watch", "", "pods"),
                events(),
            ],
        ),
    ]
}

fn scaling() -> Vec<Controller> {
    vec![
        (
            "horizontal-pod-autoscaler",
            vec![
                on(READ, "autoscaling", "horizontalpodautoscalers"),
                on("update", "autoscaling", "horizontalpodautoscalers/status"),
                on("get,update", "*", "*/scale"),
                on("list,watch", "", "pods"),
                on("list,watch", "metrics.k8s.io", "pods"),
                on(READ, "custom.metrics.k8s.io", "*"),
                on(READ, "external.metrics.k8s.io", "*"),
                events(),
            ],
        ),
        (
            "disruption-controller",
            vec![
                on(READ, "apps,extensions", "deployments"),
                on(READ, "apps,extensions", "replicasets"),
                on(READ, "", "replicationcontrollers"),
                on(READ, "policy", "poddisruptionbudgets"),
                on(READ, "apps", "statefulsets"),
                on("update", "policy", "poddisruptionbudgets/status"),
                on("patch,update", "", "pods/status"),
                on("get", "*", "*/scale"),
                events(),
            ],
        ),
    ]
}

fn lifecycle() -> Vec<Controller> {
    vec![
        (
            "clusterrole-aggregation-controller",
            vec![on("escalate,get,list,patch,update,watch", "rbac.authorization.k8s.io", "clusterroles")],
        ),
        (
            "certificate-controller",
            vec![
                on("delete,get,list,watch", "certificates.k8s.io", "certificatesigningrequests"),
                on(
                    "update",
                    "certificates.k8s.io",
                    "certificatesigningrequests/approval,certificatesigningrequests/status",
                ),
                on_named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
                on_named(
                    "sign",
                    "certificates.k8s.io",
                    "signers",
                    "kubernetes.io/kube-apiserver-client,kubernetes.io/kube-apiserver-client-kubelet,\
                     kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown",
                ),
                on("create", "authorization.k8s.io", "subjectaccessreviews"),
                events(),
            ],
        ),
        ("generic-garbage-collector", vec![on("delete,get,list,patch,update,watch", "*", "*"), events()]),
        (
            "namespace-controller",
            vec![
                on("delete,get,list,watch", "", "namespaces"),
                on("update", "", "namespaces/finalize,namespaces/status"),
                on("delete,deletecollection,get,list,watch", "*", "*"),
            ],
        ),
        (
            "node-controller",
            vec![
                on("delete,get,list,patch,update,watch", "", "nodes"),
                on("patch,update", "", "nodes/status"),
                on("patch,update", "", "pods/status"),
                on("delete,get,list,watch", "", "pods"),
                on(READ, "coordination.k8s.io", "leases"),
                events(),
            ],
        ),
        (
            "pod-garbage-collector",
            vec![on("delete,list,watch", "", "pods"), on(READ, "", "nodes"), on("patch", "", "pods/status")],
        ),
        (
            "resourcequota-controller",
            vec![on("list,watch", "*", "*"), on("update", "", "resourcequotas/status"), events()],
        ),
        ("root-ca-cert-publisher", vec![on("create,update", "", "configmaps"), events()]),
        ("service-account-controller", vec![on("create", "", "serviceaccounts"), events()]),
        ("ttl-after-finished-controller", vec![on("delete,get,list,watch", "batch", "jobs"), events()]),
        ("ttl-controller", vec![on("list,patch,update,watch", "", "nodes"), events()]),
        (
            "legacy-service-account-token-cleaner",
            vec![
                on_named("get", "", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
                on("delete,patch", "", "secrets"),
            ],
        ),
        (
            "validatingadmissionpolicy-status-controller",
            vec![
                on(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
                on("get,patch,update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
                events(),
            ],
        ),
    ]
}

fn network() -> Vec<Controller> {
    vec![
        (
            "endpoint-controller",
            vec![
                on(READ, "", "pods,services"),
                on("create,delete,get,list,update,watch", "", "endpoints"),
                on("create", "", "endpoints/restricted"),
                events(),
            ],
        ),
        (
            "endpointslice-controller",
            vec![
                on(READ, "", "nodes,pods,services"),
                on("update", "", "services/finalizers"),
                on("create,delete,get,list,update,watch", "discovery.k8s.io", "endpointslices"),
                events(),
            ],
        ),
        (
            "endpointslicemirroring-controller",
            vec![
                on(READ, "", "endpoints,services"),
                on("update", "", "services/finalizers"),
                on("update", "", "endpoints/finalizers"),
                on("create,delete,get,list,update,watch", "discovery.k8s.io", "endpointslices"),
                events(),
            ],
        ),
        (
            "service-cidrs-controller",
            vec![
                on("get,list,patch,update,watch", "networking.k8s.io", "servicecidrs"),
                on("patch,update", "networking.k8s.io", "servicecidrs/finalizers"),
                on("patch,update", "networking.k8s.io", "servicecidrs/status"),
                on(READ, "networking.k8s.io", "ipaddresses"),
                events(),
            ],
        ),
        ("route-controller", vec![on("list,watch", "", "nodes"), on("patch", "", "nodes/status"), events()]),
        (
            "service-controller",
            vec![
                on(READ, "", "services"),
                on("patch,update", "", "services/status"),
                on("list,watch", "", "nodes"),
                events(),
            ],
        ),
    ]
}

fn volumes() -> Vec<Controller> {
    vec![
        (
            "attachdetach-controller",
            vec![
                on("list,watch", "", "persistentvolumeclaims,persistentvolumes"),
                on(READ, "", "nodes"),
                on("patch,update", "", "nodes/status"),
                on("list,watch", "", "pods"),
                on("create,delete,get,list,watch", "storage.k8s.io", "volumeattachments"),
                events(),
                on(READ, "storage.k8s.io", "csidrivers"),
                on(READ, "storage.k8s.io", "csinodes"),
            ],
        ),
        (
            "ephemeral-volume-controller",
            vec![
                on(READ, "", "pods"),
                on("update", "", "pods/finalizers"),
                on("create,get,list,watch", "", "persistentvolumeclaims"),
                events(),
            ],
        ),
        (
            "expand-controller",
            vec![
                on("get,list,patch,update,watch", "", "persistentvolumes"),
                on("patch,update", "", "persistentvolumeclaims/status"),
                on(READ, "", "persistentvolumeclaims"),
                events(),
            ],
        ),
        (
            "persistent-volume-binder",
            vec![
                on("create,delete,get,list,update,watch", "", "persistentvolumes"),
                on("update", "", "persistentvolumes/status"),
                on("get,list,update,watch", "", "persistentvolumeclaims"),
                on("update", "", "persistentvolumeclaims/status"),
                on("create,delete,get,list,watch", "", "pods"),
                on(READ, "storage.k8s.io", "storageclasses"),
                on("list,watch", "", "nodes"),
                events(),
                on("watch", "", "events"),
            ],
        ),
        ("pv-protection-controller", vec![on("get,list,update,watch", "", "persistentvolumes"), events()]),
        (
            "pvc-protection-controller",
            vec![on("get,list,update,watch", "", "persistentvolumeclaims"), on(READ, "", "pods"), events()],
        ),
        (
            "volumeattributesclass-protection-controller",
            vec![
                on(READ, "", "persistentvolumeclaims"),
                on(READ, "", "persistentvolumes"),
                on("get,list,update,watch", "storage.k8s.io", "volumeattributesclasses"),
                events(),
            ],
        ),
        (
            "selinux-warning-controller",
            vec![
                events(),
                on(READ, "", "persistentvolumes"),
                on(READ, "", "persistentvolumeclaims"),
                on(READ, "", "pods"),
                on(READ, "storage.k8s.io", "csidrivers"),
            ],
        ),
    ]
}

fn devices() -> Vec<Controller> {
    const GROUP: &str = "resource.k8s.io";
    vec![
        (
            "resource-claim-controller",
            vec![
                on(READ, "", "pods"),
                on("update", "", "pods/finalizers"),
                on("create,delete,get,list,watch", GROUP, "resourceclaims"),
                on("patch,update", GROUP, "resourceclaims,resourceclaims/status"),
                on("patch,update", "", "pods/status"),
                events(),
                on("patch,update", GROUP, "resourceclaims/binding"),
            ],
        ),
        (
            "device-taint-eviction-controller",
            vec![
                on("delete,get,list,watch", "", "pods"),
                on("patch,update", "", "pods/status"),
                on(READ, GROUP, "resourceclaims"),
                on(READ, GROUP, "resourceslices"),
                on(READ, GROUP, "deviceclasses"),
                events(),
            ],
        ),
    ]
}
