//! Quotas: what is charged, and when.

use super::*;

/// A server with a quota whose status somebody wrote, so that nothing has to be waited for.
async fn with_quota(spec: Value, used: Value) -> Rig {
    let rig = Rig::new().await;
    let quotas = format!("{NAMESPACE}/resourcequotas");
    let hard = spec["hard"].clone();
    done(&rig, Method::POST, &quotas, json!({"metadata": {"name": "q"}, "spec": spec})).await;
    let status = json!({"status": {"hard": hard, "used": used}});
    let answer = patch(&rig, &format!("{quotas}/q/status"), MERGE, status).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
    rig
}

async fn used(rig: &Rig) -> Value {
    done(rig, Method::GET, &format!("{NAMESPACE}/resourcequotas/q"), json!({})).await["status"]["used"].clone()
}

#[tokio::test]
async fn nothing_is_made_while_it_is_unknown_what_there_is() {
    let rig = with_quota(json!({"hard": {"services": "2"}}), json!({"services": "0"})).await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let words = "services \"s\" is forbidden: status unknown for quota: q, resources: services";
    // What is missing is counted soon: the server may be faster now and then.
    for _ in 0..100 {
        let unknown = json!({"status": {"used": null}});
        assert_eq!(patch(&rig, &format!("{NAMESPACE}/resourcequotas/q/status"), MERGE, unknown).await.status, 200);
        let path = format!("{NAMESPACE}/services?dryRun=All");
        let (status, answer) = rig.admin(Method::POST, &path, Some(&service)).await;
        if status == 403 {
            return assert_eq!(answer["message"], words);
        }
    }
    panic!("a Service is made whatever is known of the quota");
}

#[tokio::test]
async fn a_dry_run_is_judged_and_charges_nothing() {
    let rig =
        with_quota(json!({"hard": {"persistentvolumeclaims": "1"}}), json!({"persistentvolumeclaims": "0"})).await;
    let claims = format!("{NAMESPACE}/persistentvolumeclaims");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = |name: &str| json!({"metadata": {"name": name}, "spec": spec});
    done(&rig, Method::POST, &format!("{claims}?dryRun=All"), claim("c")).await;
    assert_eq!(used(&rig).await, json!({"persistentvolumeclaims": "0"}));
    done(&rig, Method::POST, &claims, claim("c")).await;
    assert_eq!(used(&rig).await, json!({"persistentvolumeclaims": "1"}));
    let why = refused(&rig, Method::POST, &format!("{claims}?dryRun=All"), claim("d")).await;
    let one = "persistentvolumeclaims=1";
    let words = format!("exceeded quota: q, requested: {one}, used: {one}, limited: {one}");
    assert_eq!(why, format!("persistentvolumeclaims \"d\" is forbidden: {words}"));
}

#[tokio::test]
async fn a_balancer_without_node_ports_is_charged_for_those_that_it_names() {
    let rig = with_quota(json!({"hard": {"services.nodeports": "1"}}), json!({"services.nodeports": "0"})).await;
    let ports = json!([{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}]);
    let spec = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports});
    let service = json!({"metadata": {"name": "s"}, "spec": spec});
    done(&rig, Method::POST, &format!("{NAMESPACE}/services"), service).await;
    assert_eq!(used(&rig).await, json!({"services.nodeports": "1"}));
}

#[tokio::test]
async fn a_resize_is_charged() {
    let rig = with_quota(json!({"hard": {"requests.cpu": "2"}}), json!({"requests.cpu": "0"})).await;
    let asking = |cpu: &str| json!({"containers": [{"name": "c", "image": "example.com/i", "resources": {"requests": {"cpu": cpu}}}]});
    done(&rig, Method::POST, PODS, pod("p", asking("1"))).await;
    let resize = async |cpu: &str| {
        let body = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        patch(&rig, &format!("{PODS}/p/resize"), STRATEGIC, body).await
    };
    let answer = resize("3").await;
    assert_eq!(answer.status, 403, "{}", answer.message());
    let words = "exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=1, limited: requests.cpu=2";
    assert_eq!(answer.message(), format!("pods \"p\" is forbidden: {words}"));
    assert_eq!(resize("2").await.status, 200);
    assert_eq!(used(&rig).await, json!({"requests.cpu": "2"}));
}

#[tokio::test]
async fn a_claim_is_charged_for_what_was_allocated_if_that_is_more() {
    let name = "requests.storage";
    let rig = with_quota(json!({"hard": {name: "3Gi"}}), json!({name: "0"})).await;
    let claims = format!("{NAMESPACE}/persistentvolumeclaims");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    done(&rig, Method::POST, &claims, json!({"metadata": {"name": "c"}, "spec": spec})).await;
    assert_eq!(used(&rig).await, json!({name: "1Gi"}));
    // What has happened already is counted, and not refused, even where it is too much.
    let status = json!({"status": {"allocatedResources": {"storage": "4Gi"}}});
    let answer = patch(&rig, &format!("{claims}/c/status"), MERGE, status).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
    assert_eq!(used(&rig).await, json!({name: "4Gi"}));
}

#[tokio::test]
async fn a_claim_that_comes_into_a_scope_is_charged_in_whole() {
    let scope = json!({"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]});
    let hard = json!({"persistentvolumeclaims": "0"});
    let spec = json!({"hard": hard, "scopeSelector": {"matchExpressions": [scope]}});
    let rig = with_quota(spec, json!({"persistentvolumeclaims": "0"})).await;
    let claims = format!("{NAMESPACE}/persistentvolumeclaims");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "s", "volumeName": "v",
        "volumeAttributesClassName": "silver", "resources": {"requests": {"storage": "1Gi"}}});
    done(&rig, Method::POST, &claims, json!({"metadata": {"name": "c"}, "spec": spec})).await;
    let own = format!("{claims}/c");
    let answer = patch(&rig, &format!("{own}/status"), MERGE, json!({"status": {"phase": "Bound"}})).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
    let gold = json!({"spec": {"volumeAttributesClassName": "gold"}});
    let answer = patch(&rig, &own, MERGE, gold).await;
    let one = |count: u8| format!("persistentvolumeclaims={count}");
    let words = format!("exceeded quota: q, requested: {}, used: {}, limited: {}", one(1), one(0), one(0));
    assert_eq!((answer.status, answer.message()), (403, format!("persistentvolumeclaims \"c\" is forbidden: {words}")));
}
