//! What a start does: learn what the store holds, and make what every cluster has.

use std::sync::Arc;

use martello_api::{
    identity::{API_SERVER, GROUP_MASTERS, User},
    status::ApiError,
};
use martello_policy::Change;
use serde_json::{Value, json};

use super::{Core, Server};
use crate::{
    flow::upkeep,
    registry::{
        Kind, apiregistration, core::service_allocation, networking::service_addresses, object,
        scheduling::priority_class,
    },
    store::{ListAt, Page},
};

/// Kinds on which decisions rest.
const DECISIVE: [(&str, &str); 5] = [
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("", "pods"),
];
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Tells the authorizer of a change that was committed at this revision.
pub fn tell_authorizer(core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
    let change = match (object, old) {
        (Some(object), _) => match Change::written(object) {
            Ok(change) => change,
            Err(error) => {
                tracing::error!(%error, "an object on which decisions rest could not be read");
                None
            }
        },
        (None, Some(old)) => Change::deleted(old),
        (None, None) => None,
    };
    if let Some(change) = change {
        core.authorizer.tell(change, revision);
    }
}

/// Learns what the store holds.
pub async fn learn(core: &Arc<Core>) -> Result<(), ApiError> {
    let mut changes = Vec::new();
    for (group, plural) in DECISIVE {
        let Some(kind) = core.registry.find(group, "v1", plural) else { continue };
        for object in all(core, kind).await? {
            match Change::written(&object) {
                Ok(change) => changes.extend(change),
                Err(error) => tracing::error!(%error, "an object on which decisions rest could not be read"),
            }
        }
    }
    core.authorizer.replace_all(changes);
    if let Some(kind) = core.registry.find("", "v1", "services") {
        for object in all(core, kind).await? {
            service_allocation::learn(core, &object);
        }
    }
    if let Some(kind) = core.registry.find("networking.k8s.io", "v1", "ipaddresses") {
        for object in all(core, kind).await? {
            service_addresses::learn(core, &object, true, revision(&object));
        }
    }
    for plural in ["prioritylevelconfigurations", "flowschemas"] {
        if let Some(kind) = core.registry.find("flowcontrol.apiserver.k8s.io", "v1", plural) {
            for object in all(core, kind).await? {
                core.flow.note(Some(&object), None, revision(&object));
            }
        }
    }
    if let Some(kind) = core.registry.find("apiregistration.k8s.io", "v1", "apiservices") {
        for object in all(core, kind).await? {
            core.extensions.note(Some(&object), None, revision(&object));
        }
    }
    Ok(())
}

fn revision(object: &Value) -> u64 {
    object::text(object, &["metadata", "resourceVersion"]).parse().unwrap_or(0)
}

/// Every object of a kind.
pub async fn all(core: &Arc<Core>, kind: &Kind) -> Result<Vec<Value>, ApiError> {
    let listed = core.store.list(&kind.scope(""), ListAt::Latest, Page::default()).await;
    let listed = listed.map_err(|error| crate::registry::storage::store_failure(&error))?;
    let mut objects = Vec::with_capacity(listed.items.len());
    for entry in &listed.items {
        objects.push(core.value(kind, entry).await?);
    }
    Ok(objects)
}

/// Makes what every cluster has, by the same door as everything else.
pub async fn ensure(server: &Server) -> Result<(), ApiError> {
    let client = server.client(User::authenticated(API_SERVER, [GROUP_MASTERS]));
    for name in NAMESPACES {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(&client, "/api/v1/namespaces", &body).await?;
    }
    for class in &priority_class::SYSTEM_CLASSES {
        let body = priority_class::object_of(class);
        create(&client, "/apis/scheduling.k8s.io/v1/priorityclasses", &body).await?;
    }
    let mut defaults = martello_policy::bootstrap::objects();
    if server.core.registry.resources().any(|one| one.plural == "clustertrustbundles") {
        defaults.extend(martello_policy::bootstrap::trust_bundle_objects());
    }
    for object in defaults {
        let path =
            collection(server, &object).ok_or_else(|| ApiError::internal("a default object of an unknown kind"))?;
        match send(&client, "POST", &path, &object).await {
            Err(error) if error.code == 409 => give_back(&client, &path, &object).await?,
            other => other?,
        }
    }
    ensure_extensions(server, &client).await?;
    let (host, port) = server.core.advertise;
    let address = server.core.services.server_address();
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": labels},
        "spec": {
            "clusterIP": address.to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    // Looked for first: a second one would be told that its address is taken, not that its name is.
    match get(&client, "/api/v1/namespaces/default/services/kubernetes").await {
        Err(error) if error.code == 404 => create(&client, "/api/v1/namespaces/default/services", &service).await?,
        other => drop(other?),
    }
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": host.to_string()}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    replace(&client, "/api/v1/namespaces/default/endpoints", "kubernetes", &endpoints).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if host.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [host.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    replace(&client, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", "kubernetes", &slice).await
}

/// Makes what says who serves what, who is served first, and where addresses of Services come from.
async fn ensure_extensions(server: &Server, client: &kube::Client) -> Result<(), ApiError> {
    upkeep::ensure(&server.core).await?;
    for object in apiregistration::local::services(&server.core.registry) {
        create(client, "/apis/apiregistration.k8s.io/v1/apiservices", &object).await?;
    }
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [server.core.services.network().to_string()]},
    });
    create(client, "/apis/networking.k8s.io/v1/servicecidrs", &range).await
}

/// The path of the collection that an object belongs to.
fn collection(server: &Server, object: &Value) -> Option<String> {
    let (version, kind) = (object::text(object, &["apiVersion"]), object::text(object, &["kind"]));
    let found =
        server.core.registry.builtin_by(|one| one.name() == kind && one.resource.gvk.api_version() == version)?;
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = &found.resource.plural;
    Some(match object::namespace(object) {
        "" => format!("/{root}/{version}/{plural}"),
        namespace => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
    })
}

/// Makes an object unless it is there.
pub async fn create(client: &kube::Client, path: &str, body: &Value) -> Result<(), ApiError> {
    match send(client, "POST", path, body).await {
        Err(error) if error.code == 409 => Ok(()),
        other => other,
    }
}

/// Gives a default role or binding back what it lost, and what a former version did not give it.
async fn give_back(client: &kube::Client, path: &str, wanted: &Value) -> Result<(), ApiError> {
    let path = format!("{path}/{}", object::name(wanted));
    // One that went in the meantime is made at the next start.
    let Ok(present) = get(client, &path).await else { return Ok(()) };
    let Some(repaired) = martello_policy::bootstrap::repaired(&present, wanted) else { return Ok(()) };
    match send(client, "PUT", &path, &repaired).await {
        Err(error) if matches!(error.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// Makes an object, or makes it what it should be.
async fn replace(client: &kube::Client, path: &str, name: &str, body: &Value) -> Result<(), ApiError> {
    match send(client, "POST", path, body).await {
        Err(error) if error.code == 409 => send(client, "PUT", &format!("{path}/{name}"), body).await,
        other => other,
    }
}

/// Sends an object.
pub async fn send(client: &kube::Client, method: &str, path: &str, body: &Value) -> Result<(), ApiError> {
    let bytes =
        serde_json::to_vec(body).map_err(|error| ApiError::internal(format!("{method} {path} at start: {error}")))?;
    ask(client, method, path, bytes).await.map(drop)
}

async fn get(client: &kube::Client, path: &str) -> Result<Value, ApiError> {
    ask(client, "GET", path, Vec::new()).await
}

async fn ask(client: &kube::Client, method: &str, path: &str, body: Vec<u8>) -> Result<Value, ApiError> {
    let failed = |why: String| ApiError::internal(format!("{method} {path} at start: {why}"));
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::USER_AGENT, "kube-apiserver")
        .body(body)
        .map_err(|error| failed(error.to_string()))?;
    match client.request::<Value>(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(ApiError::new(status.code, &status.reason, status.message.clone())),
        Err(error) => Err(failed(error.to_string())),
    }
}
