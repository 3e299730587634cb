//! Groups that others serve: when they are there, what discovery and OpenAPI tell of them, and what their servers learn of who
//! asks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use martello_tests::{cluster::Cluster, foreign::ForeignServer, raw::Endpoint};
use rustls::version::TLS13;
use serde_json::{Value, json};

use crate::{
    answers::{done, refused},
    node_agent::until,
};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const GROUP: &str = "/apis/ext.example.com";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What the extension server of these tests says: its resources, and of any other path what it was told of who asks.
fn extension(request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let version = path.rsplit('/').next().unwrap_or_default();
    let body = match path {
        "/apis/ext.example.com/v1" | "/apis/ext.example.com/v2" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("ext.example.com/{version}"),
            "resources": [
                {"name": "things", "kind": "Thing", "singularName": "thing", "namespaced": true, "verbs": ["get", "list"],
                    "shortNames": ["th"], "categories": ["all"]},
                {"name": "things/status", "kind": "Thing", "singularName": "", "namespaced": true, "verbs": ["get"]},
            ],
        }),
        _ => {
            let told = request.headers().iter().filter(|(name, _)| name.as_str().starts_with("x-remote-"));
            let told: Vec<_> = told.map(|(name, value)| json!([name.as_str(), value.to_str().unwrap()])).collect();
            json!({"path": path, "query": request.uri().query(), "told": told})
        }
    };
    Response::builder().header("content-type", "application/json").body(Full::from(body.to_string())).unwrap()
}

async fn serve(port: u16) -> ForeignServer {
    let answer = |request: Request<Bytes>| std::future::ready(extension(&request));
    ForeignServer::start_at(&format!("127.0.0.1:{port}"), "ext.default.svc", &[&TLS13], answer).await.unwrap()
}

fn api_service(version: &str, service: &str, port: u16, authority: &str, priorities: (i64, i64)) -> Value {
    json!({"metadata": {"name": format!("{version}.ext.example.com")}, "spec": {
        "group": "ext.example.com", "version": version, "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1,
        "service": {"namespace": "default", "name": service, "port": port}, "caBundle": STANDARD.encode(authority)}})
}

async fn make(admin: &Endpoint, path: &str, body: &Value) -> Value {
    done(&admin.ask("POST", path, body.to_string()).await.unwrap())
}

async fn merge(admin: &Endpoint, path: &str, patch: &Value) {
    done(&admin.ask_as("PATCH", path, "application/merge-patch+json", patch.to_string()).await.unwrap());
}

/// Waits until an APIService's condition is like that, and answers its message.
async fn condition(admin: &Endpoint, version: &str, status: &str, reason: &str) -> String {
    until(reason, async || {
        let found = admin.ask("GET", &format!("{API_SERVICES}/{version}.ext.example.com"), "").await.unwrap().json();
        let condition = &found["status"]["conditions"][0];
        let fits = condition["type"] == "Available" && condition["status"] == status && condition["reason"] == reason;
        fits.then(|| condition["message"].as_str().unwrap().to_owned())
    })
    .await
}

/// The names of groups, as a document lists them.
fn names(document: &Value, items: &str, name: &str) -> Vec<String> {
    let items = document[items].as_array().unwrap().iter();
    items.map(|item| item.pointer(name).and_then(Value::as_str).unwrap_or_default().to_owned()).collect()
}

async fn aggregated(admin: &Endpoint) -> Value {
    done(&admin.ask_with("GET", "/apis", &[("accept", AGGREGATED)], "").await.unwrap())
}

fn group_of(document: &Value) -> Option<&Value> {
    document["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "ext.example.com")
}

#[tokio::test]
async fn a_group_is_there_as_long_as_its_server() {
    let server = serve(0).await;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    assert!(group_of(&aggregated(&admin).await).is_none());
    let named = json!({"metadata": {"name": "ext"}, "spec": {"type": "ExternalName", "externalName": "127.0.0.1"}});
    make(&admin, SERVICES, &named).await;
    let (port, authority) = (server.port, server.authority_pem.clone());
    make(&admin, API_SERVICES, &api_service("v1", "ext", port, &authority, (2000, 10))).await;
    make(&admin, API_SERVICES, &api_service("v2", "ext", port, &authority, (1500, 20))).await;
    for version in ["v1", "v2"] {
        assert_eq!(condition(&admin, version, "True", "Passed").await, "all checks passed");
    }

    // The group stands where its priority puts it, and its versions in their order.
    let list = done(&admin.ask("GET", "/apis", "").await.unwrap());
    let groups = names(&list, "groups", "/name");
    let place = |name: &str| groups.iter().position(|group| group == name).unwrap();
    assert!(place("flowcontrol.apiserver.k8s.io") < place("ext.example.com"), "{groups:?}");
    assert!(place("ext.example.com") < place("martello.dev"), "{groups:?}");
    let versions = json!([
        {"groupVersion": "ext.example.com/v2", "version": "v2"}, {"groupVersion": "ext.example.com/v1", "version": "v1"}]);
    let listed = &list["groups"][place("ext.example.com")];
    assert_eq!((&listed["versions"], &listed["preferredVersion"]), (&versions, &versions[0]));
    let group = done(&admin.ask("GET", GROUP, "").await.unwrap());
    assert_eq!(
        (&group["kind"], &group["versions"], &group["preferredVersion"]),
        (&json!("APIGroup"), &versions, &versions[0])
    );
    let document = aggregated(&admin).await;
    assert_eq!(names(&document, "items", "/metadata/name"), groups);
    let kind = json!({"group": "", "version": "", "kind": "Thing"});
    let things = json!([{"resource": "things", "responseKind": kind, "scope": "Namespaced", "singularResource": "thing",
        "verbs": ["get", "list"], "shortNames": ["th"], "categories": ["all"],
        "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"]}]}]);
    let of = |freshness: &str| {
        json!([{"version": "v2", "freshness": freshness, "resources": things},
        {"version": "v1", "freshness": freshness, "resources": things}])
    };
    assert_eq!(group_of(&document).unwrap()["versions"], of("Current"));
    let third = done(&admin.ask("GET", "/openapi/v3", "").await.unwrap());
    assert!(third["paths"]["apis/ext.example.com/v1"].is_object(), "{third}");

    // It goes: who asks is told, and then all are.
    server.stop();
    let things = format!("{GROUP}/v1/namespaces/default/things");
    let last = until("it is not reached", async || {
        let answer = admin.ask("GET", &things, "").await.unwrap();
        (answer.status == 503).then(|| answer.text())
    })
    .await;
    assert!(last.starts_with("error trying to reach service: ") || last == "service unavailable\n", "{last}");
    let message = condition(&admin, "v1", "False", "FailedDiscoveryCheck").await;
    let words = format!("failing or missing response from https://127.0.0.1:{port}{GROUP}/v1: ");
    assert!(message.starts_with(&words), "{message}");
    let answer = admin.ask("GET", &things, "").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, "service unavailable\n"));
    condition(&admin, "v2", "False", "FailedDiscoveryCheck").await;
    assert_eq!(group_of(&aggregated(&admin).await).unwrap()["versions"], of("Stale"));
    assert_eq!(done(&admin.ask("GET", GROUP, "").await.unwrap())["versions"], versions);

    // It comes back, with another certificate, of which the APIServices learn.
    let server = serve(port).await;
    for version in ["v1", "v2"] {
        let path = format!("{API_SERVICES}/{version}.ext.example.com");
        merge(&admin, &path, &json!({"spec": {"caBundle": STANDARD.encode(&server.authority_pem)}})).await;
        condition(&admin, version, "True", "Passed").await;
    }
    assert_eq!(done(&admin.ask("GET", &things, "").await.unwrap())["path"], things);
    for version in ["v1", "v2"] {
        done(&admin.ask("DELETE", &format!("{API_SERVICES}/{version}.ext.example.com"), "").await.unwrap());
    }
    assert!(group_of(&aggregated(&admin).await).is_none());
    for path in [GROUP, &things] {
        assert_eq!(admin.ask("GET", path, "").await.unwrap().status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_extension_server_learns_from_this_one_who_asks() {
    let server = serve(0).await;
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let named = json!({"metadata": {"name": "ext"}, "spec": {"type": "ExternalName", "externalName": "127.0.0.1"}});
    make(&admin, SERVICES, &named).await;
    make(&admin, API_SERVICES, &api_service("v1", "ext", server.port, &server.authority_pem, (1000, 10))).await;
    condition(&admin, "v1", "True", "Passed").await;
    let path = format!("{GROUP}/v1/namespaces/default/things/one");
    let claims = [
        ("impersonate-user", "jane"),
        ("impersonate-uid", "u-7"),
        ("impersonate-group", "devs"),
        ("impersonate-extra-acme.com%2fproject", "a"),
        ("impersonate-extra-acme.com%2fproject", "b"),
        ("x-remote-user", "root"),
        ("x-remote-uid", "0"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scopes", "all"),
    ];
    // Authorization comes first, and is this server's.
    let denied = admin.ask_with("GET", &path, &claims, "").await.unwrap();
    assert_eq!(
        refused(&denied, 403, "Forbidden"),
        "things.ext.example.com \"one\" is forbidden: User \"jane\" cannot get resource \"things\" in API group \
         \"ext.example.com\" in the namespace \"default\""
    );
    let group = "rbac.authorization.k8s.io";
    let rbac = format!("/apis/{group}/v1");
    let rules = json!([{"apiGroups": ["ext.example.com"], "resources": ["things"], "verbs": ["get"]}]);
    make(&admin, &format!("{rbac}/clusterroles"), &json!({"metadata": {"name": "things"}, "rules": rules})).await;
    let binding = json!({"metadata": {"name": "things"}, "subjects": [{"kind": "User", "name": "jane", "apiGroup": group}],
        "roleRef": {"kind": "ClusterRole", "name": "things", "apiGroup": group}});
    make(&admin, &format!("{rbac}/clusterrolebindings"), &binding).await;
    let answer = done(&admin.ask_with("GET", &format!("{path}?a=b%2Fc"), &claims, "").await.unwrap());
    assert_eq!((&answer["path"], &answer["query"]), (&json!(path), &json!("a=b%2Fc")));
    let mut told: Vec<(&str, &str)> = answer["told"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("x-remote-extra-acme.com%2fproject", "a"),
            ("x-remote-extra-acme.com%2fproject", "b"),
            ("x-remote-group", "devs"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-uid", "u-7"),
            ("x-remote-user", "jane"),
        ]
    );
    // Whom the server is to believe is published.
    let place = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let published = done(&admin.ask("GET", place, "").await.unwrap())["data"].clone();
    assert_eq!(published["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    assert_eq!(published["requestheader-uid-headers"], "[\"X-Remote-Uid\"]");
}

#[tokio::test]
async fn what_keeps_a_server_from_being_asked_is_told_as_it_changes() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let authority = String::from_utf8(cluster.authority_pem().await.unwrap()).unwrap();
    make(&admin, API_SERVICES, &api_service("v1", "ext", 443, &authority, (1000, 10))).await;
    let message = condition(&admin, "v1", "False", "ServiceNotFound").await;
    assert_eq!(message, "service/ext in \"default\" is not present");
    // Of one that never answered nothing is known.
    let document = aggregated(&admin).await;
    assert_eq!(group_of(&document).unwrap()["versions"], json!([{"version": "v1", "freshness": "Stale"}]));
    let service = json!({"metadata": {"name": "ext"}, "spec": {"ports": [{"name": "https", "port": 8443}]}});
    let address = make(&admin, SERVICES, &service).await["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let message = condition(&admin, "v1", "False", "ServicePortError").await;
    assert_eq!(message, "service/ext in \"default\" is not listening on port 443");
    merge(&admin, &format!("{SERVICES}/ext"), &json!({"spec": {"ports": [{"name": "https", "port": 443}]}})).await;
    let message = condition(&admin, "v1", "False", "EndpointsNotFound").await;
    assert_eq!(message, "cannot find endpointslices for service/ext in \"default\"");
    let slice = json!({
        "metadata": {"name": "ext-1", "labels": {"kubernetes.io/service-name": "ext"}}, "addressType": "IPv4",
        "ports": [{"name": "https", "port": 443}],
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}],
    });
    make(&admin, SLICES, &slice).await;
    let message = condition(&admin, "v1", "False", "MissingEndpoints").await;
    assert_eq!(message, "endpointslices for service/ext in \"default\" have no addresses with port name \"https\"");
    // Somebody is there, who is none: nothing listens, or at least no such server.
    let ready = json!({"endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": true}}]});
    merge(&admin, &format!("{SLICES}/ext-1"), &ready).await;
    let message = condition(&admin, "v1", "False", "FailedDiscoveryCheck").await;
    assert!(
        message.starts_with(&format!("failing or missing response from https://{address}:443{GROUP}/v1: ")),
        "{message}"
    );
    done(&admin.ask("DELETE", &format!("{SERVICES}/ext"), "").await.unwrap());
    condition(&admin, "v1", "False", "ServiceNotFound").await;
}
