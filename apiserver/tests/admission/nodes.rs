//! What a node may write, whatever roles give it.

use super::*;

/// A server with the node `n1`, which roles let write more than nodes may by themselves.
async fn with_node() -> (Rig, Value) {
    let rig = Rig::new().await;
    let node = done(&rig, Method::POST, "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let group = "rbac.authorization.k8s.io";
    let rule = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let role = json!({"metadata": {"name": "nodes-too"}, "rules": [rule]});
    let binding = json!({
        "metadata": {"name": "nodes-too"},
        "subjects": [{"kind": "Group", "name": "system:nodes", "apiGroup": group}],
        "roleRef": {"kind": "ClusterRole", "name": "nodes-too", "apiGroup": group},
    });
    done(&rig, Method::POST, &format!("/apis/{group}/v1/clusterroles"), role).await;
    done(&rig, Method::POST, &format!("/apis/{group}/v1/clusterrolebindings"), binding).await;
    (rig, node["metadata"]["uid"].clone())
}

fn mirror(uid: &Value, spec: Value) -> Value {
    let mut mirror = pod("static", spec);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "abc"});
    mirror["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
    mirror["spec"]["nodeName"] = json!("n1");
    mirror
}

#[tokio::test]
async fn a_mirror_pod_neither_refers_to_anything_nor_holds_up_its_node() {
    let (rig, uid) = with_node().await;
    let container = |more: Value| {
        let mut container = json!({"name": "c", "image": "example.com/i"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let token = json!({"serviceAccountToken": {"path": "t"}});
    let secrets = "a mirror pod may not reference secrets";
    for (spec, why) in [
        (json!({"serviceAccountName": "default"}), "a mirror pod may not reference service accounts"),
        (json!({"imagePullSecrets": [{"name": "s"}]}), secrets),
        (container(json!({"envFrom": [{"secretRef": {"name": "s"}}]})), secrets),
        (container(json!({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]})), secrets),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [token]}}]}),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ] {
        let told = as_node(&rig, Method::POST, PODS, &mirror(&uid, spec)).await;
        assert_eq!(told, (403, format!("pods \"static\" is forbidden: {why}")));
    }
    let own = |change: &dyn Fn(&mut Value)| {
        let mut mirror = mirror(&uid, json!({}));
        change(&mut mirror);
        mirror
    };
    let elsewhere = "node \"n1\" can only create pods with spec.nodeName set to itself";
    for (mirror, why) in [
        (own(&|mirror| mirror["spec"]["nodeName"] = json!("n2")), elsewhere),
        (
            own(&|mirror| mirror["metadata"]["ownerReferences"][0]["controller"] = json!(false)),
            "node \"n1\" can only create pods with a controller owner reference set to itself",
        ),
        (
            own(&|mirror| mirror["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = json!(true)),
            "node \"n1\" must not set blockOwnerDeletion on an owner reference",
        ),
    ] {
        let told = as_node(&rig, Method::POST, PODS, &mirror).await;
        assert_eq!(told, (403, format!("pods \"static\" is forbidden: {why}")));
    }
    assert_eq!(as_node(&rig, Method::POST, PODS, &mirror(&uid, json!({}))).await.0, 201);
}

#[tokio::test]
async fn a_node_writes_what_bears_its_name_and_nothing_of_others() {
    let (rig, _) = with_node().await;
    let leases = |namespace: &str| format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
    let (code, why) = as_node(&rig, Method::POST, &leases("default"), &lease("n1")).await;
    let words = "can only access leases in the \"kube-node-lease\" system namespace";
    assert_eq!((code, why.as_str()), (403, &*format!("leases.coordination.k8s.io \"n1\" is forbidden: {words}")));
    let (code, why) = as_node(&rig, Method::POST, &leases("kube-node-lease"), &lease("n2")).await;
    assert_eq!(code, 403);
    assert!(why.ends_with("can only access node lease with the same name as the requesting node"), "{why}");
    assert_eq!(as_node(&rig, Method::POST, &leases("kube-node-lease"), &lease("n1")).await.0, 201);

    let slice = |node: &str| {
        let pool = json!({"name": node, "generation": 1, "resourceSliceCount": 1});
        json!({"metadata": {"name": "slice"}, "spec": {"driver": "d.example.com", "nodeName": node, "pool": pool}})
    };
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    let (code, why) = as_node(&rig, Method::POST, slices, &slice("n2")).await;
    assert_eq!(code, 403);
    assert!(why.ends_with("can only create ResourceSlice with the same NodeName as the requesting node"), "{why}");
    assert_eq!(as_node(&rig, Method::POST, slices, &slice("n1")).await.0, 201);
    done(&rig, Method::DELETE, &format!("{slices}/slice"), json!({})).await;
    done(&rig, Method::POST, slices, slice("n2")).await;
    assert_eq!(as_node(&rig, Method::DELETE, &format!("{slices}/slice"), &json!({})).await.0, 403);

    let nodes = "/apis/storage.k8s.io/v1/csinodes";
    let csi = |name: &str| json!({"metadata": {"name": name}, "spec": {"drivers": []}});
    let (code, why) = as_node(&rig, Method::POST, nodes, &csi("n2")).await;
    assert_eq!(code, 403);
    assert!(why.ends_with("can only access CSINode with the same name as the requesting node"), "{why}");
    assert_eq!(as_node(&rig, Method::POST, nodes, &csi("n1")).await.0, 201);
}

#[tokio::test]
async fn a_node_tells_of_a_claim_what_its_volume_became_and_nothing_else() {
    let (rig, _) = with_node().await;
    let claims = format!("{NAMESPACE}/persistentvolumeclaims");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    done(&rig, Method::POST, &claims, json!({"metadata": {"name": "c"}, "spec": spec})).await;
    let status = format!("{claims}/c/status");
    assert_eq!(
        as_node(&rig, Method::PATCH, &status, &json!({"status": {"capacity": {"storage": "1Gi"}}})).await.0,
        200
    );
    let words = "node \"n1\" is not allowed to update fields other than status.quantity and status.conditions";
    for change in [json!({"status": {"phase": "Lost"}}), json!({"metadata": {"labels": {"a": "b"}}})] {
        let told = as_node(&rig, Method::PATCH, &status, &change).await;
        assert_eq!(told, (403, format!("persistentvolumeclaims \"c\" is forbidden: {words}")));
    }
}

#[tokio::test]
async fn a_node_gives_its_pods_no_claims_and_no_labels() {
    let (rig, _) = with_node().await;
    let resources = json!({"limits": {"example.com/gpu": "1"}});
    let container = json!({"name": "c", "image": "example.com/i", "resources": resources});
    done(&rig, Method::POST, PODS, pod("own", json!({"nodeName": "n1", "containers": [container]}))).await;
    let status = format!("{PODS}/own/status");
    let mapping = json!({"containerName": "c", "resourceName": "example.com/gpu", "requestName": "r"});
    let claim = json!({"resourceClaimName": "theirs", "requestMappings": [mapping]});
    let told = as_node(&rig, Method::PATCH, &status, &json!({"status": {"extendedResourceClaimStatus": claim}})).await;
    let words = "node \"n1\" cannot update resource claim statues";
    assert_eq!(told, (403, format!("pods \"own\" is forbidden: {words}")));
    let told = as_node(&rig, Method::PATCH, &status, &json!({"metadata": {"labels": {"a": "b"}}})).await;
    let words = "node \"n1\" cannot update labels through pod status";
    assert_eq!(told, (403, format!("pods \"own\" is forbidden: {words}")));
}
