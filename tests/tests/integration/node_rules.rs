//! A node touches only what its pods need.

use martello_tests::{cluster::Cluster, raw::Endpoint};
use serde_json::{Value, json};

use crate::answers::{ask_as_user, done, pod, refused};

async fn as_node(admin: &Endpoint, method: &str, path: &str, body: Option<&Value>) -> martello_tests::raw::Answer {
    ask_as_user(admin, "system:node:n1", &["system:nodes"], method, path, body).await
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

/// Gives all nodes a right besides their own.
async fn allow_nodes(admin: &Endpoint, rule: Value) {
    let group = "rbac.authorization.k8s.io";
    let named =
        |kind: &str| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "nodes-too"}});
    let (mut role, mut binding) = (named("ClusterRole"), named("ClusterRoleBinding"));
    role["rules"] = json!([rule]);
    binding["subjects"] = json!([{"kind": "Group", "name": "system:nodes", "apiGroup": group}]);
    binding["roleRef"] = json!({"kind": "ClusterRole", "name": "nodes-too", "apiGroup": group});
    for (plural, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        done(&admin.ask("POST", &format!("/apis/{group}/v1/{plural}"), object.to_string()).await.unwrap());
    }
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": "value"}})
}

#[tokio::test]
async fn a_node_reads_the_secrets_of_its_own_pods_only() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    for name in ["n1", "n2"] {
        done(&admin.ask("POST", "/api/v1/nodes", node(name).to_string()).await.unwrap());
    }
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["mine", "theirs"] {
        done(&admin.ask("POST", secrets, secret(name).to_string()).await.unwrap());
    }
    for (name, on, reads) in [("one", "n1", "mine"), ("two", "n2", "theirs")] {
        let mut pod = pod(name);
        pod["spec"]["nodeName"] = json!(on);
        pod["spec"]["volumes"] = json!([{"name": "secret", "secret": {"secretName": reads}}]);
        done(&admin.ask("POST", "/api/v1/namespaces/default/pods", pod.to_string()).await.unwrap());
    }
    done(&as_node(&admin, "GET", &format!("{secrets}/mine"), None).await);
    refused(&as_node(&admin, "GET", &format!("{secrets}/theirs"), None).await, 403, "Forbidden");
    refused(&as_node(&admin, "GET", secrets, None).await, 403, "Forbidden");
    refused(&as_node(&admin, "DELETE", &format!("{secrets}/mine"), None).await, 403, "Forbidden");
    done(&admin.ask("DELETE", "/api/v1/namespaces/default/pods/one?gracePeriodSeconds=0", "").await.unwrap());
    refused(&as_node(&admin, "GET", &format!("{secrets}/mine"), None).await, 403, "Forbidden");
}

#[tokio::test]
async fn a_node_changes_itself_and_no_other() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    done(&as_node(&admin, "POST", "/api/v1/nodes", Some(&node("n1"))).await);
    refused(&as_node(&admin, "POST", "/api/v1/nodes", Some(&node("n2"))).await, 403, "Forbidden");
    done(&admin.ask("POST", "/api/v1/nodes", node("n2").to_string()).await.unwrap());
    let ready = json!({"status": {"capacity": {"cpu": "2"}}});
    let patch = async |name: &str| {
        let headers = [
            ("impersonate-user", "system:node:n1"),
            ("impersonate-group", "system:nodes"),
            ("content-type", "application/merge-patch+json"),
        ];
        admin.ask_with("PATCH", &format!("/api/v1/nodes/{name}/status"), &headers, ready.to_string()).await.unwrap()
    };
    done(&patch("n1").await);
    refused(&patch("n2").await, 403, "Forbidden");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {"holderIdentity": name}});
    done(&as_node(&admin, "POST", leases, Some(&lease("n1"))).await);
    refused(&as_node(&admin, "POST", leases, Some(&lease("n2"))).await, 403, "Forbidden");
    // A node may not place what it likes on itself, nor read what nobody gave it.
    refused(&as_node(&admin, "POST", "/api/v1/namespaces/default/pods", Some(&pod("own"))).await, 403, "Forbidden");
    refused(&as_node(&admin, "GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", None).await, 403, "Forbidden");
}

#[tokio::test]
async fn a_node_neither_sheds_its_restrictions_nor_moves_its_pods_elsewhere() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    let mut own = node("n1");
    own["metadata"]["labels"] = json!({"node-restriction.kubernetes.io/quarantine": "yes", "plain": "yes"});
    done(&admin.ask("POST", "/api/v1/nodes", own.to_string()).await.unwrap());
    let patch = async |path: &str, body: Value| {
        let headers = [
            ("impersonate-user", "system:node:n1"),
            ("impersonate-group", "system:nodes"),
            ("content-type", "application/merge-patch+json"),
        ];
        admin.ask_with("PATCH", path, &headers, body.to_string()).await.unwrap()
    };
    let me = "/api/v1/nodes/n1";
    done(&patch(me, json!({"metadata": {"labels": {"plain": null}}})).await);
    for forbidden in [
        json!({"metadata": {"labels": {"node-restriction.kubernetes.io/quarantine": null}}}),
        json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0d4bdb23-6dd4-4a3d-8a55-93b0a7ac0e5f"}]}}),
        json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
    ] {
        refused(&patch(me, forbidden).await, 403, "Forbidden");
    }
    let mut web = pod("web");
    web["spec"]["nodeName"] = json!("n1");
    let pods = "/api/v1/namespaces/default/pods";
    done(&admin.ask("POST", pods, web.to_string()).await.unwrap());
    let status = format!("{pods}/web/status");
    done(&patch(&status, json!({"status": {"phase": "Running"}})).await);
    refused(&patch(&status, json!({"metadata": {"labels": {"app": "bank"}}})).await, 403, "Forbidden");
    let claims = json!({"status": {"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "theirs"}]}});
    let answer = patch(&status, claims).await;
    assert!(matches!(answer.status, 403 | 422), "{}", answer.text());
}

#[tokio::test]
async fn a_node_makes_mirror_pods_that_refer_to_nothing() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    let uid = done(&as_node(&admin, "POST", "/api/v1/nodes", Some(&node("n1"))).await)["metadata"]["uid"].clone();
    // By themselves nodes make no pods here.
    allow_nodes(&admin, json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]})).await;
    let mirror = |uid: Value, spec: Value| {
        let mut mirror = pod("static-n1");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "abc"});
        mirror["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
        mirror["spec"]["nodeName"] = json!("n1");
        for (field, value) in spec.as_object().into_iter().flatten() {
            mirror["spec"][field] = value.clone();
        }
        mirror
    };
    let pods = "/api/v1/namespaces/default/pods";
    let stranger = json!("0d4bdb23-6dd4-4a3d-8a55-93b0a7ac0e5f");
    for (uid, spec) in [
        (stranger, json!({})),
        (uid.clone(), json!({"volumes": [{"name": "v", "secret": {"secretName": "theirs"}}]})),
        (uid.clone(), json!({"volumes": [{"name": "v", "configMap": {"name": "theirs"}}]})),
        (uid.clone(), json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "theirs"}}]})),
    ] {
        let answer = as_node(&admin, "POST", pods, Some(&mirror(uid, spec.clone()))).await;
        let message = refused(&answer, 403, "Forbidden");
        assert!(message.contains("node ") || message.contains("a mirror pod may not"), "{spec}: {message}");
    }
    done(&as_node(&admin, "POST", pods, Some(&mirror(uid, json!({})))).await);
}

#[tokio::test]
async fn a_node_gets_tokens_for_the_audiences_of_its_pods_only() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    done(&admin.ask("POST", "/api/v1/nodes", node("n1").to_string()).await.unwrap());
    let mut web = pod("web");
    web["spec"]["nodeName"] = json!("n1");
    web["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 3600}}]}}]);
    let made = done(&admin.ask("POST", "/api/v1/namespaces/default/pods", web.to_string()).await.unwrap());
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let ask = async |audiences: Value| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": made["metadata"]["uid"]});
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
            "audiences": audiences, "boundObjectRef": bound}});
        as_node(&admin, "POST", path, Some(&body)).await
    };
    done(&ask(json!(["vault"])).await);
    // The volume that admission adds asks for this server's own audience.
    done(&ask(json!([])).await);
    for audiences in [json!(["sts.amazonaws.com"]), json!(["vault", "sts.amazonaws.com"])] {
        refused(&ask(audiences).await, 403, "Forbidden");
    }
    let verbs = ["request-serviceaccounts-token-audience"];
    allow_nodes(&admin, json!({"apiGroups": [""], "resources": ["sts.amazonaws.com"], "verbs": verbs})).await;
    done(&ask(json!(["sts.amazonaws.com"])).await);
}
