//! The flow schemas and priority levels that every cluster has: the mandatory ones, which can't be changed, and those that
//! are suggested, which are kept as they are here unless somebody takes the annotation away.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::registry::object;

/// Says that the server keeps the spec as it is here.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// The mandatory objects: levels, then schemas.
pub static MANDATORY: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let last = json!({
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0},
    });
    vec![
        level("exempt", exempt),
        level("catch-all", last),
        schema("exempt", "exempt", 1, None, json!([rule(&[group("system:masters")], &[everything()], &[any_path()])])),
        schema(
            "catch-all",
            "catch-all",
            10_000,
            Some("ByUser"),
            json!([rule(&everybody(), &[everything()], &[any_path()])]),
        ),
    ]
});

/// The suggested objects: levels, then schemas.
pub static SUGGESTED: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut objects = vec![
        level("system", limited(30, 33, 64, 6)),
        level("node-high", limited(40, 25, 64, 6)),
        level("leader-election", limited(10, 0, 16, 4)),
        level("workload-high", limited(40, 50, 128, 6)),
        level("workload-low", limited(100, 90, 128, 6)),
        level("global-default", limited(20, 50, 128, 6)),
    ];
    objects.extend(suggested_schemas());
    objects
});

/// Requests that wait in one queue at most, in every suggested level.
const QUEUE_LENGTH: i64 = 50;

fn limited(shares: i64, lendable: i64, queues: i64, hand: i64) -> Value {
    json!({
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable,
            "limitResponse": {
                "type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH},
            },
        },
    })
}

fn suggested_schemas() -> Vec<Value> {
    let all = |subjects: &[Value]| json!([rule(subjects, &[everything()], &[any_path()])]);
    let leases = in_namespaces(&["get", "create", "update"], "coordination.k8s.io", &["leases"]);
    let by_user = Some("ByUser");
    let controller_manager = || user("system:kube-controller-manager");
    let health = json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]});
    let nodes = json!({
        "verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": true, "namespaces": ["*"],
    });
    vec![
        schema("system-nodes", "system", 500, by_user, all(&[group("system:nodes")])),
        schema(
            "system-node-high",
            "node-high",
            400,
            by_user,
            json!([rule(
                &[group("system:nodes")],
                &[nodes, in_namespaces(&["*"], "coordination.k8s.io", &["leases"])],
                &[]
            )]),
        ),
        schema("probes", "exempt", 2, None, json!([rule(&everybody(), &[], &[health])])),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            by_user,
            json!([rule(
                &[controller_manager(), user("system:kube-scheduler"), account("kube-system", "*")],
                &[leases],
                &[]
            )]),
        ),
        schema("kube-controller-manager", "workload-high", 800, Some("ByNamespace"), all(&[controller_manager()])),
        schema("kube-scheduler", "workload-high", 800, Some("ByNamespace"), all(&[user("system:kube-scheduler")])),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            Some("ByNamespace"),
            all(&[account("kube-system", "*")]),
        ),
        schema("service-accounts", "workload-low", 9000, by_user, all(&[group("system:serviceaccounts")])),
        schema("global-default", "global-default", 9900, by_user, all(&everybody())),
    ]
}

fn level(name: &str, spec: Value) -> Value {
    whole("PriorityLevelConfiguration", name, spec)
}

fn schema(name: &str, level: &str, precedence: i64, distinguisher: Option<&str>, rules: Value) -> Value {
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": rules,
    });
    if let Some(method) = distinguisher {
        object::set(&mut spec, &[], "distinguisherMethod", json!({"type": method}));
    }
    whole("FlowSchema", name, spec)
}

fn whole(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": VERSION,
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

fn rule(subjects: &[Value], resources: &[Value], paths: &[Value]) -> Value {
    let mut rule = json!({"subjects": subjects});
    for (key, rules) in [("resourceRules", resources), ("nonResourceRules", paths)] {
        if !rules.is_empty() {
            object::set(&mut rule, &[], key, rules);
        }
    }
    rule
}

fn everything() -> Value {
    json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]})
}

fn in_namespaces(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]})
}

fn any_path() -> Value {
    json!({"verbs": ["*"], "nonResourceURLs": ["*"]})
}

fn everybody() -> [Value; 2] {
    [group("system:unauthenticated"), group("system:authenticated")]
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}})
}

/// The spec of the mandatory object of this kind and name.
#[must_use]
pub fn mandatory_spec(kind: &str, name: &str) -> Option<&'static Value> {
    let found = MANDATORY.iter().find(|one| object::text(one, &["kind"]) == kind && object::name(one) == name);
    found.and_then(|one| one.get("spec"))
}
