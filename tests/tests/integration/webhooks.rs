//! Webhooks: a real server that is asked, refuses, changes objects, is late, lies, or is not there.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use martello_tests::{
    cluster::Cluster,
    foreign::ForeignServer,
    raw::{Answer, Endpoint},
};
use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
/// Within this a configuration is in force.
const PATIENCE: Duration = Duration::from_secs(5);

/// A webhook server on loopback.
pub(crate) struct Hook {
    pub(crate) port: u16,
    pub(crate) authority: String,
    seen: Arc<Mutex<Vec<Asked>>>,
}

/// A path that was asked, and the review.
type Asked = (String, Value);

impl Hook {
    pub(crate) async fn start() -> Self {
        Self::speaking(&TLS13).await
    }

    async fn speaking(version: &'static SupportedProtocolVersion) -> Self {
        let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let notes = Arc::clone(&seen);
        let server =
            ForeignServer::start(&[version], move |request| answer(request, Arc::clone(&notes))).await.unwrap();
        Self { port: server.port, authority: STANDARD.encode(server.authority_pem), seen }
    }

    /// What was asked about the object of a name that was to be kept, in order.
    pub(crate) fn asked_about(&self, name: &str) -> Vec<Asked> {
        let seen = self.seen.lock().unwrap();
        let is_meant = |review: &Value| {
            let request = &review["request"];
            let own = [&request["name"], &request["object"]["metadata"]["name"]];
            request["dryRun"] != true && own.contains(&&Value::from(name))
        };
        seen.iter().filter(|(_, review)| is_meant(review)).cloned().collect()
    }

    /// The paths that were asked about it, in order.
    pub(crate) fn paths_asked_about(&self, name: &str) -> Vec<String> {
        self.asked_about(name).into_iter().map(|(path, _)| path).collect()
    }

    /// A configuration with one webhook, for ConfigMaps whose label `hook` is the configuration's name.
    pub(crate) fn configuration(&self, kind: &str, name: &str, path: &str, extra: Value) -> Value {
        let mut webhook = json!({
            "name": format!("{name}.example.com"),
            "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.authority},
            "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"]}],
            "objectSelector": {"matchLabels": {"hook": name}},
            "admissionReviewVersions": ["v1"], "sideEffects": "None",
        });
        for (key, value) in extra.as_object().unwrap() {
            webhook[key] = value.clone();
        }
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
            "webhooks": [webhook]})
    }
}

async fn answer(request: Request<Bytes>, notes: Arc<Mutex<Vec<Asked>>>) -> Response<Full<Bytes>> {
    let (path, body) = (request.uri().path().to_owned(), request.into_body());
    let review: Value = serde_json::from_slice(&body).unwrap();
    let asked = &review["request"];
    if path == "/convert" {
        return Response::new(Full::from(converted(&review).to_string()));
    }
    let mut response = json!({"uid": asked["uid"], "allowed": true});
    let patch = |operations: Value| Value::from(STANDARD.encode(operations.to_string()));
    match path.as_str() {
        "/label" => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch(json!([{"op": "add", "path": "/metadata/labels/seen", "value": "yes"}]));
            response["warnings"] = json!(["mind the gap"]);
        }
        "/broken-patch" => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch(json!([{"op": "remove", "path": "/not/there"}]));
        }
        "/judge" if asked["name"] == "bad" || asked["oldObject"]["metadata"]["name"] == "kept" => {
            response["allowed"] = false.into();
            response["status"] = json!({"message": "not this one", "code": 403, "reason": "Forbidden"});
        }
        "/refuse" => {
            response["allowed"] = false.into();
            response["status"] = json!({"message": "never", "code": 403, "reason": "Forbidden"});
        }
        "/first" | "/second" => {
            // Each follows on what came before it.
            let (needs, adds) = if path == "/first" { ("start", "first") } else { ("first", "second") };
            if asked["object"]["data"][needs].is_string() {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = patch(json!([{"op": "add", "path": format!("/data/{adds}"), "value": "yes"}]));
            }
        }
        // What is no key is left out, and what is told already stays.
        "/forge" => {
            response["auditAnnotations"] = json!({"decision": "forbid", "reason": "none", "no key": "x", "a/b": "x"})
        }
        "/longer" => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch(json!([{"op": "replace", "path": "/spec/expirationSeconds", "value": 700}]));
        }
        "/annotate" => response["auditAnnotations"] = json!({"why": "because", "seen": "yes"}),
        "/annotated-label" => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch(json!([{"op": "add", "path": "/metadata/labels/seen", "value": "yes"}]));
            response["auditAnnotations"] = json!({"why": "it was missing"});
        }
        path if path.starts_with("/append/") => {
            // Every call leaves its letter, so that the object tells who was called, and when.
            let before = asked["object"]["data"]["trace"].as_str().unwrap_or_default();
            let after = format!("{before}{}", path.trim_start_matches("/append/"));
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch(json!([{"op": "add", "path": "/data/trace", "value": after}]));
        }
        path if path.starts_with("/once/") => {
            let letter = path.trim_start_matches("/once/");
            if !asked["object"]["data"][letter].is_string() {
                response["patchType"] = "JSONPatch".into();
                response["patch"] = patch(json!([{"op": "add", "path": format!("/data/{letter}"), "value": "yes"}]));
            }
        }
        path if path.starts_with("/mark/") => {
            let at = format!("/metadata/labels/{}", path.trim_start_matches("/mark/"));
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch(json!([{"op": "add", "path": at, "value": "yes"}]));
        }
        "/init" | "/init-once" if path == "/init" || asked["object"]["spec"]["initContainers"].is_null() => {
            let container = json!({"name": "added", "image": "busybox:1"});
            response["patchType"] = "JSONPatch".into();
            response["patch"] = patch(json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}]));
        }
        "/slow" => tokio::time::sleep(Duration::from_secs(20)).await,
        "/other-uid" => response["uid"] = "other".into(),
        "/fails" => {
            let mut answer = Response::new(Full::from("out of order"));
            *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            return answer;
        }
        _ => {}
    }
    notes.lock().unwrap().push((path, review));
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::new(Full::from(review.to_string()))
}

/// A review of a conversion, answered: the objects in the version that is wanted, with the old version written down.
fn converted(review: &Value) -> Value {
    let (request, wanted) = (&review["request"], &review["request"]["desiredAPIVersion"]);
    let objects: Vec<Value> = request["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| {
            let mut object = object.clone();
            let host_port = |object: &mut Value| {
                let parts = json!([object["host"], object["port"]]);
                object.as_object_mut().unwrap().retain(|key, _| key != "host" && key != "port");
                object["hostPort"] = format!("{}:{}", parts[0].as_str().unwrap(), parts[1].as_str().unwrap()).into();
            };
            match wanted.as_str().unwrap().rsplit('/').next().unwrap() {
                "v1" if object["host"].is_string() => host_port(&mut object),
                "v2" if object["hostPort"].is_string() => {
                    let both = object["hostPort"].as_str().unwrap().to_owned();
                    let (host, port) = both.split_once(':').unwrap();
                    object.as_object_mut().unwrap().remove("hostPort");
                    (object["host"], object["port"]) = (host.into(), port.into());
                }
                _ => {}
            }
            object["apiVersion"] = wanted.clone();
            object
        })
        .collect();
    let response = json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects});
    json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response})
}

fn config_map(name: &str, hook: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"hook": hook}}}).to_string()
}

async fn make(admin: &Endpoint, path: &str, body: &Value) {
    let made = admin.ask("POST", path, body.to_string()).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
}

/// Tries a create that keeps nothing until it is answered with this code: the configuration is then in force.
async fn until(admin: &Endpoint, name: &str, hook: &str, status: u16) -> Answer {
    let start = Instant::now();
    loop {
        let answer = admin.ask("POST", &format!("{CONFIG_MAPS}?dryRun=All"), config_map(name, hook)).await.unwrap();
        if answer.status == status {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{} {}", answer.status, answer.text());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_webhook_changes_and_another_refuses() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let hook = Hook::start().await;
    make(&admin, VALIDATING, &hook.configuration("ValidatingWebhookConfiguration", "judge", "/judge", json!({}))).await;
    let refusal = until(&admin, "bad", "judge", 403).await.json();
    assert_eq!(refusal["message"], "admission webhook \"judge.example.com\" denied the request: not this one");
    assert_eq!(refusal["reason"], "Forbidden");
    let made = admin.ask("POST", CONFIG_MAPS, config_map("kept", "judge")).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let kept = admin.ask("DELETE", &format!("{CONFIG_MAPS}/kept"), "").await.unwrap();
    assert_eq!(kept.status, 403, "{}", kept.text());
    make(&admin, MUTATING, &hook.configuration("MutatingWebhookConfiguration", "label", "/label", json!({}))).await;
    let start = Instant::now();
    let labelled = loop {
        let path = format!("{CONFIG_MAPS}?dryRun=All");
        let made = admin.ask("POST", &path, config_map("a", "label")).await.unwrap();
        if made.json()["metadata"]["labels"]["seen"] == "yes" {
            break made;
        }
        assert!(start.elapsed() < PATIENCE, "{}", made.text());
    };
    assert!(labelled.headers.get_all("warning").iter().any(|told| told.to_str().unwrap().contains("mind the gap")));
    let seen = hook.seen.lock().unwrap();
    let (_, review) = seen.iter().rev().find(|(_, review)| review["request"]["name"] == "a").unwrap();
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["request"]["operation"], "CREATE");
    assert_eq!(review["request"]["dryRun"], true);
    assert_eq!(review["request"]["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(review["request"]["object"]["metadata"]["name"], "a");
    assert!(review["request"]["userInfo"]["groups"].as_array().is_some_and(|groups| !groups.is_empty()));
}

#[tokio::test]
async fn a_webhook_of_tls_1_2_is_called_and_one_without_a_bundle_is_not_trusted() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let hook = Hook::speaking(&TLS12).await;
    let kind = "ValidatingWebhookConfiguration";
    make(&admin, VALIDATING, &hook.configuration(kind, "judge", "/judge", json!({}))).await;
    until(&admin, "bad", "judge", 403).await;
    let mut unvouched = hook.configuration(kind, "unvouched", "/judge", json!({}));
    unvouched["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null;
    make(&admin, VALIDATING, &unvouched).await;
    let message = until(&admin, "x", "unvouched", 500).await.json()["message"].as_str().unwrap().to_owned();
    let told = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(message.ends_with(told), "{message}");
}

#[tokio::test]
async fn a_webhook_that_fails_decides_as_its_policy_says() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let hook = Hook::start().await;
    let kind = "ValidatingWebhookConfiguration";
    for (name, path, told) in [
        (
            "fails",
            "/fails",
            "failed to call webhook: an error on the server (\"out of order\") has prevented the request from succeeding",
        ),
        ("uid", "/other-uid", "received invalid webhook response: expected response.uid="),
        ("slow", "/slow", "context deadline exceeded"),
    ] {
        make(&admin, VALIDATING, &hook.configuration(kind, name, path, json!({"timeoutSeconds": 1}))).await;
        let message = until(&admin, "x", name, 500).await.json()["message"].as_str().unwrap().to_owned();
        let start = format!("Internal error occurred: failed calling webhook \"{name}.example.com\": ");
        assert!(message.starts_with(&start) && message.contains(told), "{message}");
    }
    let mut closed = hook.configuration(kind, "closed", "/", json!({}));
    closed["webhooks"][0]["clientConfig"]["url"] = "https://127.0.0.1:1/".into();
    make(&admin, VALIDATING, &closed).await;
    let message = until(&admin, "x", "closed", 500).await.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        "Internal error occurred: failed calling webhook \"closed.example.com\": failed to call webhook: \
         Post \"https://127.0.0.1:1/?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    let untrusted = Hook::start().await;
    let mut foreign = hook.configuration(kind, "foreign", "/", json!({}));
    foreign["webhooks"][0]["clientConfig"]["caBundle"] = untrusted.authority.as_str().into();
    make(&admin, VALIDATING, &foreign).await;
    let message = until(&admin, "x", "foreign", 500).await.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.ends_with("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        "{message}"
    );
    let ignored = hook.configuration(kind, "ignored", "/fails", json!({"failurePolicy": "Ignore"}));
    make(&admin, VALIDATING, &ignored).await;
    let made = admin.ask("POST", CONFIG_MAPS, config_map("ignored", "ignored")).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let broken = hook.configuration("MutatingWebhookConfiguration", "broken", "/broken-patch", json!({}));
    make(&admin, MUTATING, &broken).await;
    until(&admin, "x", "broken", 500).await;
}

#[tokio::test]
async fn conditions_and_dry_runs_are_kept_from_a_webhook() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let hook = Hook::start().await;
    let kind = "ValidatingWebhookConfiguration";
    let effects = hook.configuration(kind, "effects", "/judge", json!({"sideEffects": "NoneOnDryRun"}));
    make(&admin, VALIDATING, &effects).await;
    until(&admin, "bad", "effects", 403).await;
    let conditions = json!([{"name": "only-bad", "expression": "object.metadata.name == 'bad'"}]);
    let chosen = hook.configuration(kind, "chosen", "/fails", json!({"matchConditions": conditions}));
    make(&admin, VALIDATING, &chosen).await;
    until(&admin, "bad", "chosen", 500).await;
    let made = admin.ask("POST", CONFIG_MAPS, config_map("good", "chosen")).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let unclear = json!([{"name": "odd", "expression": "object.nothing == 1"}]);
    let unclear = hook.configuration(kind, "unclear", "/", json!({"matchConditions": unclear}));
    make(&admin, VALIDATING, &unclear).await;
    let message = until(&admin, "x", "unclear", 403).await.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("expression 'object.nothing == 1' resulted in error: no such key: nothing"), "{message}");
}

#[tokio::test]
async fn a_dead_webhook_does_not_stop_the_controllers() {
    const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let dead = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "dead"},
        "webhooks": [{
            "name": "dead.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [{"operations": ["*"], "apiGroups": ["discovery.k8s.io"], "apiVersions": ["v1"],
                "resources": ["endpointslices"]}],
            "admissionReviewVersions": ["v1"], "sideEffects": "None",
        }],
    });
    make(&admin, VALIDATING, &dead).await;
    let own = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "own"},
        "addressType": "IPv4", "endpoints": []});
    let start = Instant::now();
    while admin.ask("POST", &format!("{SLICES}?dryRun=All"), own.to_string()).await.unwrap().status != 500 {
        assert!(start.elapsed() < PATIENCE);
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"selector": {"app": "s"}, "ports": [{"port": 80}]}});
    make(&admin, "/api/v1/namespaces/default/services", &service).await;
    let start = Instant::now();
    let of_service = format!("{SLICES}?labelSelector=kubernetes.io%2Fservice-name%3Ds");
    loop {
        let listed = admin.ask("GET", &of_service, "").await.unwrap().json();
        if listed["items"].as_array().is_some_and(|items| !items.is_empty()) {
            break;
        }
        assert!(start.elapsed() < 6 * PATIENCE, "{listed}");
    }
}
