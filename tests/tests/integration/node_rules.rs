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
