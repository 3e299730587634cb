//! What an outsider and a user of few rights try, and must not reach.

use martello_tests::{
    cluster::Cluster,
    raw::{Answer, Endpoint, Http, whole},
};
use serde_json::{Value, json};

use crate::answers::{ask_as_user, config_map, done, pod, refused};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
/// In every secret of these tests; whoever sees it has seen too much.
const TREASURE: &str = "dHJlYXN1cmU=";

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"key": TREASURE}})
}

/// Gives mallory these rules in the whole cluster.
async fn grant(admin: &Endpoint, rules: Value) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "mallory"}, "rules": rules});
    done(&admin.ask("POST", &format!("{RBAC}/clusterroles"), role.to_string()).await.unwrap());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "mallory"},
        "subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"},
    });
    done(&admin.ask("POST", &format!("{RBAC}/clusterrolebindings"), binding.to_string()).await.unwrap());
}

async fn mallory(admin: &Endpoint, method: &str, path: &str, body: Option<&Value>) -> Answer {
    ask_as_user(admin, "mallory", &[], method, path, body).await
}

#[tokio::test]
async fn who_may_read_one_secret_reads_no_other() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    for name in ["allowed", "other"] {
        done(&admin.ask("POST", SECRETS, secret(name).to_string()).await.unwrap());
    }
    let verbs = ["get", "list", "watch", "deletecollection"];
    grant(&admin, json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["allowed"], "verbs": verbs}]))
        .await;
    let only = "fieldSelector=metadata.name%3Dallowed";
    let brief = "timeoutSeconds=1";
    for path in [
        format!("{SECRETS}/allowed"),
        format!("{SECRETS}/allowed?watch=1&{brief}"),
        format!("{SECRETS}?{only}"),
        format!("{SECRETS}?{only}&watch=1&{brief}"),
        format!("{SECRETS}?{only}&fieldSelector="),
        format!("{SECRETS}?{only}%2Cmetadata.name%3Dother"),
        format!("/api/v1/watch/namespaces/default/secrets/allowed?{brief}"),
        format!("/api/v1/secrets?{only}"),
    ] {
        let text = mallory(&admin, "GET", &path, None).await;
        assert_eq!(text.status, 200, "{path}: {}", text.text());
        assert!(!text.text().contains("\"other\""), "{path}: {}", text.text());
    }
    for path in [
        SECRETS.to_owned(),
        format!("{SECRETS}/other"),
        format!("{SECRETS}?watch=1&{brief}"),
        format!("{SECRETS}?fieldSelector=metadata.namespace!%3Dx%5C,metadata.name%3Dallowed"),
        format!("{SECRETS}?fieldSelector=metadata.namespace!%3Dx%5C%2Cmetadata.name%3Dallowed&watch=1&{brief}"),
        format!("{SECRETS}?fieldSelector=metadata.name!%3Dallowed"),
        format!("{SECRETS}?fieldSelector=&{only}"),
        format!("{SECRETS}?labelSelector=x!%3Dy"),
        "/api/v1/watch/secrets".to_owned(),
        "/api/v1//namespaces/default/secrets".to_owned(),
        "/api/v1/namespaces/default/secrets/".to_owned(),
        "/api/v1/namespaces/default/secrets/allowed%2f..%2fother".to_owned(),
        "/livez/../api/v1/secrets".to_owned(),
        "/livez%2f..%2fapi/v1/secrets".to_owned(),
    ] {
        let answer = mallory(&admin, "GET", &path, None).await;
        assert!(matches!(answer.status, 403 | 404), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains(TREASURE), "{path}");
    }
    refused(&mallory(&admin, "DELETE", &format!("{SECRETS}?{only}"), None).await, 403, "Forbidden");
    let table = [("impersonate-user", "mallory"), ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let shown = admin.ask_with("GET", &format!("{SECRETS}?{only}&includeObject=Object"), &table, "").await.unwrap();
    assert!(!done(&shown).to_string().contains("\"other\""));
}

#[tokio::test]
async fn acting_in_a_pod_takes_the_right_to_create_whatever_the_method() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    done(&admin.ask("POST", PODS, pod("web").to_string()).await.unwrap());
    let rules = json!([{"apiGroups": [""], "resources": ["pods", "pods/exec", "pods/attach", "pods/portforward"], "verbs": ["get"]}]);
    grant(&admin, rules).await;
    let upgrade = [
        ("impersonate-user", "mallory"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ];
    for stream in ["exec?command=id", "attach", "portforward?ports=80"] {
        let path = format!("{PODS}/web/{stream}");
        let name = stream.split('?').next().unwrap_or_default();
        let message = refused(&admin.ask_with("GET", &path, &upgrade, "").await.unwrap(), 403, "Forbidden");
        assert!(message.contains("cannot create") && message.contains(&format!("pods/{name}")), "{message}");
        let message = refused(&mallory(&admin, "GET", &path, None).await, 403, "Forbidden");
        assert!(message.contains("cannot create"), "{message}");
    }
}

#[tokio::test]
async fn the_ways_up_are_closed() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    done(&admin.ask("POST", SECRETS, secret("one").to_string()).await.unwrap());
    // All of RBAC's own verbs but those that allow to give more than one has.
    let rbac = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"];
    let verbs = ["get", "list", "create", "update", "patch", "delete"];
    grant(&admin, json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": rbac, "verbs": verbs}])).await;
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let role = |name: &str, labels: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels}, "rules": everything})
    };
    let roles = format!("{RBAC}/clusterroles");
    // Into the roles of others by their label, or with a rule that is said to be aggregated.
    let label = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    refused(&mallory(&admin, "POST", &roles, Some(&role("up", label))).await, 403, "Forbidden");
    let mut aggregated = role("up", json!({}));
    aggregated["rules"] = json!([]);
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {}}]});
    refused(&mallory(&admin, "POST", &roles, Some(&aggregated)).await, 403, "Forbidden");
    let patch = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {}}]}}).to_string();
    let headers = [("impersonate-user", "mallory"), ("content-type", "application/merge-patch+json")];
    refused(&admin.ask_with("PATCH", &format!("{roles}/mallory"), &headers, patch).await.unwrap(), 403, "Forbidden");
    let apply = role("mallory", json!({})).to_string();
    let headers = [("impersonate-user", "mallory"), ("content-type", "application/apply-patch+yaml")];
    let path = format!("{roles}/mallory?fieldManager=m&force=true");
    refused(&admin.ask_with("PATCH", &path, &headers, apply).await.unwrap(), 403, "Forbidden");
    let binding = json!({"subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}]});
    let headers = [("impersonate-user", "mallory"), ("content-type", "application/merge-patch+json")];
    let path = format!("{RBAC}/clusterrolebindings/cluster-admin");
    refused(&admin.ask_with("PATCH", &path, &headers, binding.to_string()).await.unwrap(), 403, "Forbidden");

    // Nor does one act as another: here by a certificate of one's own.
    let kubeconfig = cluster.new_kubeconfig(&["--user", "mallory"]).unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let own = Endpoint::from_kube(&config).unwrap();
    for headers in [
        vec![("impersonate-user", "admin"), ("impersonate-group", "system:masters")],
        vec![("impersonate-user", "mallory"), ("impersonate-group", "system:masters")],
        vec![("impersonate-user", "system:serviceaccount:kube-system:default")],
        vec![("impersonate-user", "system:node:n1"), ("impersonate-group", "system:nodes")],
        vec![("impersonate-user", "mallory"), ("impersonate-extra-scopes", "all")],
        vec![("impersonate-user", "mallory"), ("impersonate-uid", "1")],
    ] {
        let answer = own.ask_with("GET", SECRETS, &headers, "").await.unwrap();
        let message = refused(&answer, 403, "Forbidden");
        assert!(message.contains("cannot impersonate"), "{message}");
    }
    refused(
        &own.ask_with("GET", SECRETS, &[("impersonate-group", "system:masters")], "").await.unwrap(),
        400,
        "BadRequest",
    );
    // What a proxy in front might set is not believed.
    let claims = [("x-remote-user", "admin"), ("x-remote-group", "system:masters"), ("x-forwarded-for", "127.0.0.1")];
    refused(&own.ask_with("GET", SECRETS, &claims, "").await.unwrap(), 403, "Forbidden");
    // Nor are certificates for the asking.
    let certificate = json!({"apiVersion": "martello.dev/v1alpha1", "kind": "ClientCertificate", "metadata": {},
        "spec": {"user": "admin", "groups": ["system:masters"]}});
    let path = "/apis/martello.dev/v1alpha1/clientcertificates";
    refused(&own.ask("POST", path, certificate.to_string()).await.unwrap(), 403, "Forbidden");
}

#[tokio::test]
async fn the_token_of_a_pod_ends_with_the_pod() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    done(&admin.ask("POST", PODS, pod("web").to_string()).await.unwrap());
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web"}}});
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let answer = done(&admin.ask("POST", path, request.to_string()).await.unwrap());
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    let robot = cluster.anonymous().await.unwrap().with_token(&token);
    refused(&robot.ask("GET", SECRETS, "").await.unwrap(), 403, "Forbidden");
    done(&admin.ask("DELETE", &format!("{PODS}/web?gracePeriodSeconds=0"), "").await.unwrap());
    refused(&robot.ask("GET", SECRETS, "").await.unwrap(), 401, "Unauthorized");
    // A pod of the same name is another pod.
    done(&admin.ask("POST", PODS, pod("web").to_string()).await.unwrap());
    refused(&robot.ask("GET", SECRETS, "").await.unwrap(), 401, "Unauthorized");
}

#[tokio::test]
async fn a_node_gets_one_object_at_a_time_by_no_trick() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    for name in ["mine", "theirs"] {
        done(&admin.ask("POST", SECRETS, secret(name).to_string()).await.unwrap());
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    done(&admin.ask("POST", "/api/v1/nodes", node.to_string()).await.unwrap());
    let mut web = pod("web");
    web["spec"]["nodeName"] = json!("n1");
    web["spec"]["volumes"] = json!([{"name": "secret", "secret": {"secretName": "mine"}}]);
    done(&admin.ask("POST", PODS, web.to_string()).await.unwrap());
    for path in [
        format!("{SECRETS}/mine?watch=1&timeoutSeconds=1"),
        "/api/v1/watch/namespaces/default/secrets/mine?timeoutSeconds=1".to_owned(),
        format!("{SECRETS}?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dmine"),
        format!("{SECRETS}?fieldSelector=metadata.name!%3Dx%5C,metadata.name%3Dmine"),
        format!("{SECRETS}?fieldSelector=metadata.namespace!%3Dx%5C,metadata.name%3Dmine"),
        "/api/v1/secrets?fieldSelector=metadata.namespace%3Ddefault%2Cmetadata.name%3Dtheirs".to_owned(),
    ] {
        let answer = ask_as_user(&admin, "system:node:n1", &["system:nodes"], "GET", &path, None).await;
        let shows = answer.status == 200 && answer.text().contains("\"theirs\"");
        assert!(!shows, "{path}: {}", answer.text());
    }
    // A node's name alone, without the group, is nobody.
    let answer = ask_as_user(&admin, "system:node:n1", &[], "GET", &format!("{SECRETS}/mine"), None).await;
    refused(&answer, 403, "Forbidden");
}

#[tokio::test]
async fn who_owns_a_namespace_reaches_nothing_outside_it_through_it() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    done(&admin.ask("POST", "/api/v1/nodes", node.to_string()).await.unwrap());
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "all"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "mallory"},
        "subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "all", "apiGroup": "rbac.authorization.k8s.io"},
    });
    for (plural, object) in [("roles", role), ("rolebindings", binding)] {
        done(&admin.ask("POST", &format!("{RBAC}/namespaces/default/{plural}"), object.to_string()).await.unwrap());
    }
    let own = mallory(&admin, "GET", "/api/v1/namespaces/default", None).await;
    assert_eq!(done(&own)["metadata"]["name"], "default");
    let body = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    let through = "/api/v1/namespaces/default";
    for (method, path) in [
        ("GET", format!("{through}/nodes/n1/proxy/pods")),
        ("GET", format!("{through}/nodes/n1/status")),
        ("PATCH", format!("{through}/nodes/n1/status")),
        ("GET", format!("{through}/namespaces/kube-system")),
        ("PATCH", format!("{through}/namespaces/kube-system")),
        ("DELETE", format!("{through}/namespaces/kube-system")),
        ("PATCH", format!("{through}/namespaces/kube-system/status")),
        ("PUT", format!("{through}/namespaces/kube-system/finalize")),
        ("GET", format!("{through}/persistentvolumes/v/status")),
        ("GET", "/apis/apiextensions.k8s.io/v1/namespaces/default/customresourcedefinitions/c/status".to_owned()),
    ] {
        let headers = [("impersonate-user", "mallory"), ("content-type", "application/merge-patch+json")];
        let answer = admin.ask_with(method, &path, &headers, body.to_string()).await.unwrap();
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
        assert!(!answer.text().contains("not found") || answer.text().contains("could not find"), "{path}");
    }
    let untouched = done(&admin.ask("GET", "/api/v1/namespaces/kube-system", "").await.unwrap());
    assert_eq!(untouched["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], Value::Null);
}

#[tokio::test]
async fn names_that_strangers_invent_do_not_stay_in_the_metrics() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let stranger = cluster.anonymous().await.unwrap();
    for attempt in 0..20 {
        let path = format!("/apis/invented{attempt}.example/v1/invented{attempt}?limit=1");
        refused(&stranger.ask("GET", &path, "").await.unwrap(), 403, "Forbidden");
        let path = format!("/api/v1/namespaces/default/pods/x/invented{attempt}");
        refused(&stranger.ask("GET", &path, "").await.unwrap(), 403, "Forbidden");
    }
    refused(&stranger.ask("GET", PODS, "").await.unwrap(), 403, "Forbidden");
    let metrics = admin.ask("GET", "/metrics", "").await.unwrap().text();
    assert!(!metrics.contains("invented"), "{metrics}");
    let counted = metrics.lines().find(|line| line.contains("resource=\"pods\"") && line.contains("code=\"403\""));
    assert!(counted.is_some(), "{metrics}");
}

#[tokio::test]
async fn pods_beyond_the_level_are_refused_by_every_way_in() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin_with_pods().await.unwrap();
    let mut privileged = pod("x");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let message = refused(&admin.ask("POST", PODS, privileged.to_string()).await.unwrap(), 403, "Forbidden");
    assert!(message.starts_with("pods \"x\" is forbidden: violates Martello pod security: privileged"), "{message}");
    done(&admin.ask("POST", PODS, pod("plain").to_string()).await.unwrap());
    let debugger = json!({"spec": {"ephemeralContainers": [
        {"name": "d", "image": "i", "securityContext": {"privileged": true}}]}});
    let path = format!("{PODS}/plain/ephemeralcontainers");
    let merge = "application/strategic-merge-patch+json";
    refused(&admin.ask_as("PATCH", &path, merge, debugger.to_string()).await.unwrap(), 403, "Forbidden");
    let apply = format!("{PODS}/x?fieldManager=m");
    let answer = admin.ask_as("PATCH", &apply, "application/apply-patch+yaml", privileged.to_string()).await.unwrap();
    refused(&answer, 403, "Forbidden");
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": privileged["spec"]}}});
    let answer =
        admin.ask("POST", "/apis/apps/v1/namespaces/default/deployments", deployment.to_string()).await.unwrap();
    done(&answer);
    let warning = answer.headers.get("warning").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(warning.contains("privileged"), "{warning}");
    // In so many words, a namespace takes them.
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}).to_string();
    let merge = "application/merge-patch+json";
    done(&admin.ask_as("PATCH", "/api/v1/namespaces/default", merge, label).await.unwrap());
    done(&admin.ask("POST", PODS, privileged.to_string()).await.unwrap());
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}}).to_string();
    refused(&admin.ask_as("PATCH", "/api/v1/namespaces/default", merge, label).await.unwrap(), 422, "Invalid");
}

#[tokio::test]
async fn who_acts_as_another_is_recorded_and_denials_name_their_record() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let maps = "/api/v1/namespaces/default/configmaps";
    let denied = mallory(&admin, "POST", maps, Some(&config_map("as-another"))).await;
    refused(&denied, 403, "Forbidden");
    let id = denied.headers.get("audit-id").and_then(|id| id.to_str().ok()).unwrap().to_owned();
    let liar = cluster.anonymous().await.unwrap().with_token("x").ask("GET", maps, "").await.unwrap();
    refused(&liar, 401, "Unauthorized");
    let other = liar.headers.get("audit-id").and_then(|id| id.to_str().ok()).unwrap().to_owned();
    // The record of a change is written before it is answered, and with it all that came before.
    done(&admin.ask("POST", maps, config_map("after").to_string()).await.unwrap());
    let (data, key) = (cluster.data_dir(), cluster.root_key_path());
    let (data, key) = (data.to_string_lossy(), key.to_string_lossy());
    let arguments = ["audit", "tail", "--json", "-n", "5000", "--data-dir", &data, "--root-key-file", &key];
    let trail = cluster.secctl(&arguments).unwrap();
    let events: Vec<Value> = trail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = events.iter().find(|event| event["auditID"] == *id).unwrap();
    assert_eq!(event["user"]["username"], "admin", "{event}");
    assert_eq!(event["impersonatedUser"]["username"], "mallory", "{event}");
    let event = events.iter().find(|event| event["auditID"] == *other).unwrap();
    assert_eq!(event["user"]["username"], "system:anonymous", "{event}");
    let why = event["annotations"]["authorization.k8s.io/reason"].as_str().unwrap();
    assert!(why.starts_with("not authenticated: the bearer token was refused"), "{why}");
}

#[tokio::test]
async fn a_certificate_that_ends_ends_its_connection_too() {
    let cluster = Cluster::start().await.unwrap();
    let short = cluster.new_kubeconfig(&["--ttl", "4s"]).unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&short).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let mut connection = Endpoint::from_kube(&config).unwrap().connect(Http::Two).await.unwrap();
    let mut interval = tokio::time::interval(std::time::Duration::from_millis(200));
    let mut seen = Vec::new();
    while seen.last() != Some(&401) && seen.len() < 100 {
        interval.tick().await;
        let request = connection.request("GET", SECRETS, &[], hyper::body::Bytes::new()).unwrap();
        seen.push(whole(connection.send(request).await.unwrap()).await.unwrap().status);
    }
    assert_eq!((seen.first(), seen.last()), (Some(&200), Some(&401)), "{seen:?}");
}

#[tokio::test]
async fn a_stranger_who_opens_connections_without_end_shuts_nobody_out() {
    use tokio::io::AsyncReadExt as _;
    /// As many as one address may have, and more than enough beside.
    const FLOOD: usize = 450;
    const KEPT: usize = 200;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut early = admin.connect(Http::Two).await.unwrap();
    let stranger = cluster.anonymous().await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..FLOOD {
        idle.push(stranger.open(&[b"h2"]).await.unwrap());
    }
    // From the very address of the flood: who has an identity is served, on a new connection and on an old one.
    done(&admin.ask("GET", SECRETS, "").await.unwrap());
    let request = early.request("GET", SECRETS, &[], hyper::body::Bytes::new()).unwrap();
    assert_eq!(whole(early.send(request).await.unwrap()).await.unwrap().status, 200);
    // Strangers are served, too, and the oldest of the flood have gone.
    assert_eq!(stranger.ask("GET", "/readyz", "").await.unwrap().status, 200);
    let closed = idle.iter_mut().take(FLOOD - KEPT).map(|stream| async move {
        // The server's settings come first; then nothing but the end.
        let mut rest = Vec::new();
        tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut rest)).await.is_ok()
    });
    assert!(futures::future::join_all(closed).await.into_iter().all(|closed| closed));
}

/// A frame of HTTP/2 (RFC 9113).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends frames until the server says GOAWAY, and returns its error code; none if it just ends the connection.
async fn goaway(endpoint: &Endpoint, frames: Vec<u8>) -> Option<u32> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stream = endpoint.open(&[b"h2"]).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sending = async move {
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, b"")].concat();
        // The server may well hang up while this is being sent.
        drop(writer.write_all(&preface).await);
        drop(writer.write_all(&frames).await);
        std::future::pending::<()>().await;
    };
    let reading = async {
        loop {
            let mut head = [0; 9];
            reader.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            reader.read_exact(&mut payload).await.ok()?;
            if head[3] == 7 {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
    };
    tokio::select! {
        code = tokio::time::timeout(std::time::Duration::from_secs(30), reading) => code.expect("the server went along"),
        () = sending => None,
    }
}

#[tokio::test]
async fn requests_that_are_withdrawn_at_once_end_the_connection() {
    let mut cluster = Cluster::start().await.unwrap();
    let stranger = cluster.anonymous().await.unwrap();
    // GET https://a/ with static names of HPACK, and CANCEL: "rapid reset", CVE-2023-44487.
    let head = [0x82, 0x84, 0x87, 0x41, 1, b'a'];
    let reset = |stream| [frame(1, 0b101, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())].concat();
    let flood: Vec<u8> = (0..5_000_u32).flat_map(|number| reset(2 * number + 1)).collect();
    const ENHANCE_YOUR_CALM: u32 = 11;
    assert_eq!(goaway(&stranger, flood).await, Some(ENHANCE_YOUR_CALM));
    // A head that goes on without end in CONTINUATION frames, CVE-2024-27316.
    let piece: Vec<u8> = [&[0, 1, b'x', 127, 0x81, 0x3f][..], &[b'y'; 8_192]].concat();
    let endless = [frame(1, 1, 1, &head), (0..4_000).flat_map(|_| frame(9, 0, 1, &piece)).collect()].concat();
    let code = goaway(&stranger, endless).await;
    assert!(code.is_none_or(|code| code != 0), "{code:?}");
    let admin = cluster.admin().await.unwrap();
    done(&admin.ask("GET", SECRETS, "").await.unwrap());
}
