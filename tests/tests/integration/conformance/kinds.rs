//! Every kind is told in discovery, and lives through all verbs: of itself, of its status, and of its collection.

use serde_json::{Value, json};

use super::{Server, facts};
use crate::answers::refused;

mod life;

use life::{Kind, holds, kind};

fn condition(name: &str) -> Value {
    json!({
        "type": name, "status": "True", "reason": "Tested", "message": "set by a test",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    })
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "life"}}, "spec": {"containers": [{"name": "one", "image": "myapp:1.2.0"}]}})
}

fn workload() -> Value {
    // Nobody acts on what is not wanted, so that only this test changes it.
    json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "life"}}, "template": template()}})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_lives_through_all_verbs() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        flow_schemas_live, priority_levels_live, webhook_configurations_live, admission_policies_live,
        cron_jobs_live, jobs_live, deployments_live, replica_sets_live, replication_controllers_live,
        stateful_sets_live, daemon_sets_live, controller_revisions_live, disruption_budgets_live,
        signing_requests_live, service_accounts_live, ingresses_live, ingress_classes_live,
        network_policies_live, endpoint_slices_live, endpoints_live, services_live, addresses_live,
        config_maps_live, secrets_live, leases_live, pod_templates_live, runtime_classes_live,
        events_live, limit_ranges_live, priority_classes_live, quotas_live,
        csi_drivers_live, csi_nodes_live, csi_capacities_live, storage_classes_live, attachments_live,
        volumes_and_claims_live, nodes_live, roles_live, devices_live, autoscalers_live,
    );
}

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

async fn flow_schemas_live(server: Server) {
    let object = json!({"spec": {
        "matchingPrecedence": 9999, "priorityLevelConfiguration": {"name": "catch-all"},
        "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "nobody-at-all"}}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/none"]}],
        }],
    }});
    let status = Some(json!({"conditions": [condition("Tested")]}));
    Kind { status, ..kind(FLOW, "flowschemas", None, object) }.lives(&server).await;
}

async fn priority_levels_live(server: Server) {
    let object = json!({"spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"},
    }}});
    let status = Some(json!({"conditions": [condition("Tested")]}));
    Kind { status, ..kind(FLOW, "prioritylevelconfigurations", None, object) }.lives(&server).await;
}

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

async fn webhook_configurations_live(server: Server) {
    let object = json!({"webhooks": [{
        "name": "none.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "matchConditions": [{"name": "never", "expression": "false"}],
    }]});
    for plural in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        kind(ADMISSION, plural, None, object.clone()).lives(&server).await;
    }
}

async fn admission_policies_live(server: Server) {
    let matches = json!({"resourceRules": [{
        "apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothings"],
    }]});
    let object = json!({"spec": {"matchConstraints": matches, "validations": [{"expression": "true"}]}});
    let status = Some(json!({"conditions": [condition("Tested")]}));
    Kind { status, ..kind(ADMISSION, "validatingadmissionpolicies", None, object) }.lives(&server).await;
    let binding = json!({"spec": {"policyName": "none.example.com", "validationActions": ["Deny"]}});
    kind(ADMISSION, "validatingadmissionpolicybindings", None, binding).lives(&server).await;
    let patch = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
    let object = json!({"spec": {
        "matchConstraints": matches, "mutations": [patch], "reinvocationPolicy": "Never", "failurePolicy": "Fail",
    }});
    kind(ADMISSION, "mutatingadmissionpolicies", None, object).lives(&server).await;
    let binding = json!({"spec": {"policyName": "none.example.com"}});
    kind(ADMISSION, "mutatingadmissionpolicybindings", None, binding).lives(&server).await;
}

const BATCH: &str = "/apis/batch/v1";

async fn cron_jobs_live(server: Server) {
    server.namespace("cron-jobs").await;
    let mut pod = template();
    pod["spec"]["restartPolicy"] = json!("Never");
    let object = json!({"spec": {"schedule": "0 0 31 2 *", "jobTemplate": {"spec": {"template": pod}}}});
    let status = Some(json!({"lastScheduleTime": "2026-01-02T03:04:05Z"}));
    Kind { status, ..kind(BATCH, "cronjobs", Some("cron-jobs"), object) }.lives(&server).await;
}

async fn jobs_live(server: Server) {
    server.namespace("jobs").await;
    let mut pod = template();
    pod["spec"]["restartPolicy"] = json!("Never");
    let object = json!({"spec": {"suspend": true, "template": pod}});
    let conditions = json!([{"type": "Tested", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}]);
    let status = Some(json!({"conditions": conditions}));
    Kind { status, ..kind(BATCH, "jobs", Some("jobs"), object) }.lives(&server).await;
}

const APPS: &str = "/apis/apps/v1";

async fn deployments_live(server: Server) {
    server.namespace("deployments").await;
    let status = Some(json!({"conditions": [{"type": "Tested", "status": "True", "reason": "R", "message": "M"}]}));
    Kind { status, ..kind(APPS, "deployments", Some("deployments"), workload()) }.lives(&server).await;
}

async fn replica_sets_live(server: Server) {
    server.namespace("replica-sets").await;
    let status = Some(json!({"conditions": [{"type": "Tested", "status": "True", "reason": "R", "message": "M"}]}));
    Kind { status, ..kind(APPS, "replicasets", Some("replica-sets"), workload()) }.lives(&server).await;
}

async fn replication_controllers_live(server: Server) {
    server.namespace("controllers").await;
    let object = json!({"spec": {"replicas": 0, "selector": {"app": "life"}, "template": template()}});
    let status = Some(json!({"conditions": [{"type": "Tested", "status": "True", "reason": "R", "message": "M"}]}));
    Kind { status, ..kind("/api/v1", "replicationcontrollers", Some("controllers"), object) }.lives(&server).await;
}

async fn stateful_sets_live(server: Server) {
    server.namespace("stateful-sets").await;
    let mut object = workload();
    object["spec"]["serviceName"] = json!("life");
    let status = Some(json!({"conditions": [{"type": "Tested", "status": "True", "reason": "R", "message": "M"}]}));
    Kind { status, ..kind(APPS, "statefulsets", Some("stateful-sets"), object) }.lives(&server).await;
}

async fn daemon_sets_live(server: Server) {
    server.namespace("daemon-sets").await;
    let object = json!({"spec": {"selector": {"matchLabels": {"app": "life"}}, "template": template()}});
    let status = Some(json!({"conditions": [{"type": "Tested", "status": "True", "reason": "R", "message": "M"}]}));
    Kind { status, ..kind(APPS, "daemonsets", Some("daemon-sets"), object) }.lives(&server).await;
}

async fn controller_revisions_live(server: Server) {
    server.namespace("revisions").await;
    let object = json!({"revision": 3, "data": {"spec": {"any": "thing"}}});
    kind(APPS, "controllerrevisions", Some("revisions"), object).lives(&server).await;
}

async fn disruption_budgets_live(server: Server) {
    server.namespace("budgets").await;
    let object = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "life"}}}});
    let status = Some(json!({"conditions": [condition("Tested")]}));
    Kind { status, ..kind("/apis/policy/v1", "poddisruptionbudgets", Some("budgets"), object) }.lives(&server).await;
}

async fn signing_requests_live(server: Server) {
    use base64::Engine as _;
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["life.example.com".to_owned()]).unwrap();
    let request = parameters.serialize_request(&key).unwrap().pem().unwrap();
    let request = base64::engine::general_purpose::STANDARD.encode(request);
    let base = "/apis/certificates.k8s.io/v1";
    let object = json!({"spec": {"request": request, "signerName": "example.com/none", "usages": ["server auth"]}});
    let (collection, one) = (format!("{base}/certificatesigningrequests"), "approved");
    let status = Some(json!({"certificate": Value::Null}));
    Kind { status, ..kind(base, "certificatesigningrequests", None, object.clone()) }.lives(&server).await;

    let mut approved = object;
    approved["metadata"]["name"] = json!(one);
    server.post(&collection, &approved).await;
    let approval = format!("{collection}/{one}/approval");
    assert_eq!(server.get(&approval).await["metadata"]["name"], one);
    let conditions = json!([{"type": "Approved", "status": "True", "reason": "R", "message": "M"}]);
    let patched = server.merge(&approval, &json!({"status": {"conditions": conditions}})).await;
    assert!(holds(&patched["status"]["conditions"], &conditions), "{patched}");
    let updated =
        server.change(&approval, |object| object["status"]["conditions"][0]["reason"] = json!("Changed")).await;
    assert_eq!(updated["status"]["conditions"][0]["reason"], "Changed");
}

async fn service_accounts_live(server: Server) {
    server.namespace("accounts").await;
    let object = json!({"automountServiceAccountToken": false});
    kind("/api/v1", "serviceaccounts", Some("accounts"), object).lives(&server).await;
}

const NETWORKING: &str = "/apis/networking.k8s.io/v1";

async fn ingresses_live(server: Server) {
    server.namespace("ingresses").await;
    let backend = json!({"service": {"name": "none", "port": {"number": 80}}});
    let status = Some(json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}));
    let object = json!({"spec": {"defaultBackend": backend}});
    Kind { status, ..kind(NETWORKING, "ingresses", Some("ingresses"), object) }.lives(&server).await;
}

async fn ingress_classes_live(server: Server) {
    let object = json!({"spec": {"controller": "example.com/controller"}});
    kind(NETWORKING, "ingressclasses", None, object).lives(&server).await;
}

async fn network_policies_live(server: Server) {
    server.namespace("policies").await;
    kind(NETWORKING, "networkpolicies", Some("policies"), json!({"spec": {"podSelector": {}}})).lives(&server).await;
}

async fn addresses_live(server: Server) {
    let object = json!({"spec": {"cidrs": ["10.123.0.0/24"]}});
    let status = Some(json!({"conditions": [condition("Tested")]}));
    // Three of one range: a range that others hold too goes at once.
    Kind { status, ..kind(NETWORKING, "servicecidrs", None, object) }.lives(&server).await;
    let path = format!("{NETWORKING}/ipaddresses");
    let of = json!({"group": "", "resource": "services", "namespace": "default", "name": "none"});
    let address = |name: &str| json!({"metadata": {"name": name}, "spec": {"parentRef": of}});
    server.post(&path, &address("10.123.0.7")).await;
    let one = format!("{path}/10.123.0.7");
    let patched = server.merge(&one, &json!({"metadata": {"labels": {"life": "address"}}})).await;
    assert_eq!(patched["metadata"]["labels"]["life"], "address");
    let answer = server.ask("POST", &path, &address("10.123.0.007")).await;
    refused(&answer, 422, "Invalid");
    server.delete(&format!("{path}?labelSelector=life%3Daddress")).await;
    server.gone(&one).await;
}

async fn endpoint_slices_live(server: Server) {
    server.namespace("slices").await;
    let object = json!({
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"name": "web", "port": 80}],
    });
    kind("/apis/discovery.k8s.io/v1", "endpointslices", Some("slices"), object).lives(&server).await;
}

async fn endpoints_live(server: Server) {
    server.namespace("endpoints").await;
    let object = json!({"subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]});
    kind("/api/v1", "endpoints", Some("endpoints"), object).lives(&server).await;
}

async fn services_live(server: Server) {
    server.namespace("services").await;
    let object = json!({"spec": {"ports": [{"port": 80}]}});
    let status = Some(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}));
    let mut balanced = object.clone();
    balanced["spec"]["type"] = json!("LoadBalancer");
    Kind { status, ..kind("/api/v1", "services", Some("services"), balanced) }.lives(&server).await;
    kind("/api/v1", "services", Some("services"), object).lives(&server).await;
}

async fn config_maps_live(server: Server) {
    server.namespace("maps").await;
    kind("/api/v1", "configmaps", Some("maps"), json!({"data": {"key": "value"}})).lives(&server).await;
}

async fn secrets_live(server: Server) {
    server.namespace("secrets").await;
    kind("/api/v1", "secrets", Some("secrets"), json!({"stringData": {"key": "value"}})).lives(&server).await;
}

async fn leases_live(server: Server) {
    server.namespace("leases").await;
    let object = json!({"spec": {"holderIdentity": "one", "leaseDurationSeconds": 30, "renewTime": "2026-01-02T03:04:05.000000Z"}});
    kind("/apis/coordination.k8s.io/v1", "leases", Some("leases"), object).lives(&server).await;
}

async fn pod_templates_live(server: Server) {
    server.namespace("templates").await;
    kind("/api/v1", "podtemplates", Some("templates"), json!({"template": template()})).lives(&server).await;
}

async fn runtime_classes_live(server: Server) {
    kind("/apis/node.k8s.io/v1", "runtimeclasses", None, json!({"handler": "own"})).lives(&server).await;
}

async fn events_live(server: Server) {
    server.namespace("events").await;
    let about = json!({"kind": "Pod", "namespace": "events", "name": "one"});
    let old = json!({"involvedObject": about, "reason": "Tested", "message": "M", "type": "Normal"});
    kind("/api/v1", "events", Some("events"), old).lives(&server).await;
    server.namespace("new-events").await;
    let about = json!({"kind": "Pod", "namespace": "new-events", "name": "one"});
    let new = json!({
        "regarding": about, "reason": "Tested", "note": "M", "type": "Normal", "action": "Testing",
        "eventTime": "2026-01-02T03:04:05.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
    });
    kind("/apis/events.k8s.io/v1", "events", Some("new-events"), new).lives(&server).await;
}

async fn limit_ranges_live(server: Server) {
    server.namespace("limits").await;
    let object = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    kind("/api/v1", "limitranges", Some("limits"), object).lives(&server).await;
}

async fn priority_classes_live(server: Server) {
    kind("/apis/scheduling.k8s.io/v1", "priorityclasses", None, json!({"value": 7})).lives(&server).await;
}

async fn quotas_live(server: Server) {
    server.namespace("quotas").await;
    let object = json!({"spec": {"hard": {"cpu": "1", "memory": "500Mi"}}});
    let status = Some(json!({"hard": {"cpu": "1", "memory": "500Mi"}}));
    Kind { status, ..kind("/api/v1", "resourcequotas", Some("quotas"), object) }.lives(&server).await;
}

const STORAGE: &str = "/apis/storage.k8s.io/v1";

async fn csi_drivers_live(server: Server) {
    kind(STORAGE, "csidrivers", None, json!({"spec": {"attachRequired": false}})).lives(&server).await;
}

async fn csi_nodes_live(server: Server) {
    let object = json!({"spec": {"drivers": [{"name": "driver.example.com", "nodeID": "one"}]}});
    kind(STORAGE, "csinodes", None, object).lives(&server).await;
}

async fn csi_capacities_live(server: Server) {
    server.namespace("capacities").await;
    let object = json!({"storageClassName": "none", "capacity": "1Gi"});
    kind(STORAGE, "csistoragecapacities", Some("capacities"), object).lives(&server).await;
}

async fn storage_classes_live(server: Server) {
    kind(STORAGE, "storageclasses", None, json!({"provisioner": "example.com/none"})).lives(&server).await;
    let object = json!({"driverName": "example.com", "parameters": {"a": "b"}});
    kind(STORAGE, "volumeattributesclasses", None, object).lives(&server).await;
}

async fn attachments_live(server: Server) {
    let source = json!({"persistentVolumeName": "none"});
    let object = json!({"spec": {"attacher": "driver.example.com", "nodeName": "none", "source": source}});
    let status = Some(json!({"attached": true}));
    Kind { status, ..kind(STORAGE, "volumeattachments", None, object) }.lives(&server).await;
}

async fn volumes_and_claims_live(server: Server) {
    server.namespace("claims").await;
    let claim = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}},
    }});
    let conditions = json!([{"type": "Tested", "status": "True", "reason": "R", "message": "M"}]);
    let status = Some(json!({"conditions": conditions}));
    Kind { status, ..kind("/api/v1", "persistentvolumeclaims", Some("claims"), claim) }.lives(&server).await;
    let volume = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": "driver.example.com", "volumeHandle": "h"},
    }});
    let status = Some(json!({"message": "set by a test"}));
    Kind { status, ..kind("/api/v1", "persistentvolumes", None, volume) }.lives(&server).await;
}

async fn nodes_live(server: Server) {
    let status = Some(json!({"capacity": {"example.com/thing": "5"}}));
    Kind { status, ..kind("/api/v1", "nodes", None, json!({})) }.lives(&server).await;
}

async fn roles_live(server: Server) {
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    server.namespace("roles").await;
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    kind(RBAC, "roles", Some("roles"), rules.clone()).lives(&server).await;
    kind(RBAC, "clusterroles", None, rules).lives(&server).await;
    let subjects = json!([{"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"}]);
    let refers = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let binding = json!({"roleRef": refers, "subjects": subjects});
    kind(RBAC, "rolebindings", Some("roles"), binding.clone()).lives(&server).await;
    kind(RBAC, "clusterrolebindings", None, binding).lives(&server).await;
}

async fn devices_live(server: Server) {
    const DEVICES: &str = "/apis/resource.k8s.io/v1";
    server.namespace("devices").await;
    kind(DEVICES, "deviceclasses", None, json!({"spec": {}})).lives(&server).await;
    let request = json!({"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "none"}}]}});
    kind(DEVICES, "resourceclaims", Some("devices"), json!({"spec": request})).lives(&server).await;
    let template = json!({"spec": {"spec": request}});
    kind(DEVICES, "resourceclaimtemplates", Some("devices"), template).lives(&server).await;
    let pool = json!({"name": "pool", "resourceSliceCount": 1, "generation": 1});
    let slice = json!({"spec": {"driver": "driver.example.com", "pool": pool, "nodeName": "none", "devices": []}});
    kind(DEVICES, "resourceslices", None, slice).lives(&server).await;
}

async fn autoscalers_live(server: Server) {
    server.namespace("autoscalers").await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"});
    let object = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": target}});
    for base in ["/apis/autoscaling/v1", "/apis/autoscaling/v2"] {
        kind(base, "horizontalpodautoscalers", Some("autoscalers"), object.clone()).lives(&server).await;
    }
}
