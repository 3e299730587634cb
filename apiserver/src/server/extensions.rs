//! Extension servers: which groups others serve, whether they do, and what they say of themselves. Kept up to date with every
//! write of an APIService; looked at again and again, so that their condition tells the truth.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use martello_api::{clock, clock::rfc3339_seconds, identity::User, order::Order, status::ApiError};
use martello_pki::{ForeignTrust, Identity, Pki, Profile, foreign_config};
use parking_lot::{Mutex, RwLock};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::pace::{CALM, Pace};
use super::{
    Core,
    backends::{self, Asker, Backend},
    followup,
};
use crate::{
    http::outbound::{self, Outgoing},
    registry::{apiregistration::api_service, object},
};

mod pace;

/// The name under which this server speaks for others; extension servers trust it to say who asks.
pub const FRONT_PROXY: &str = "front-proxy-client";
/// How many are looked at at once: one that is slow does not hold up the others.
const LOOKS_AT_ONCE: usize = 8;
/// How long a server may take to say what it serves.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of what it says.
const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
const AUTHENTICATION: &str = "extension-apiserver-authentication";

type Routes = HashMap<(String, String), Arc<Extension>>;

/// Every group that is served elsewhere.
#[derive(Default)]
pub struct Extensions {
    routes: RwLock<Arc<Routes>>,
    order: Mutex<Order<String>>,
    changed: Notify,
    identity: OnceLock<Identity>,
}

/// A version of a group that is served elsewhere.
pub struct Extension {
    /// The name of its APIService.
    pub name: String,
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Port of the Service.
    pub port: i64,
    /// Priorities of group and version.
    pub priorities: (i64, i64),
    spec: Value,
    tls: Option<Arc<ClientConfig>>,
    state: RwLock<State>,
}

/// What is known of it.
#[derive(Clone, Default)]
struct State {
    available: bool,
    /// Its `APIResourceList`.
    resources: Option<Arc<Value>>,
}

impl Extensions {
    /// Gets the identity under which this server speaks for others, and keeps it fresh.
    pub fn open(&self, core: &Arc<Core>, now: Timestamp) {
        match front_proxy(&core.pki, now) {
            Ok((identity, source)) => {
                let (own, drain) = (identity.clone(), core.drain.clone());
                tokio::spawn(async move { own.run(&source, clock::now, drain).await });
                if self.identity.set(identity).is_err() {
                    tracing::debug!("the identity for extension servers was there already");
                }
            }
            Err(error) => tracing::error!(%error, "no identity for extension servers: none will be asked"),
        }
    }

    /// Notes an APIService as it is since this revision; none for one that is gone.
    pub fn note(&self, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        let Some(told) = object.or(old) else { return };
        let mut routes = self.routes.write();
        if !self.order.lock().admits(object::name(told).to_owned(), object.is_none(), revision) {
            return;
        }
        let mut next = Routes::clone(&routes);
        if let Some(gone) = old {
            next.remove(&key(gone));
        }
        if let Some(service) = object.filter(|service| !api_service::is_local(service)) {
            let known = routes.get(&key(service)).filter(|known| Some(&known.spec) == service.get("spec"));
            let extension = known.map_or_else(|| Arc::new(self.extension(service)), Arc::clone);
            next.insert(key(service), extension);
        }
        *routes = Arc::new(next);
        drop(routes);
        self.changed.notify_one();
    }

    fn extension(&self, service: &Value) -> Extension {
        let text = |path: &[&str]| object::text(service, path).to_owned();
        let number = |path: &[&str]| object::int(service, path).unwrap_or(0);
        let trust = if object::flag(service, &["spec", "insecureSkipTLSVerify"]) {
            Ok(ForeignTrust::DangerouslyAnyone)
        } else {
            let pem = STANDARD.decode(object::text(service, &["spec", "caBundle"])).unwrap_or_default();
            ForeignTrust::from_pem(&pem)
        };
        let tls = trust.and_then(|trust| foreign_config(trust, self.identity.get()));
        Extension {
            name: object::name(service).to_owned(),
            group: text(&["spec", "group"]),
            version: text(&["spec", "version"]),
            namespace: text(&["spec", "service", "namespace"]),
            service: text(&["spec", "service", "name"]),
            port: number(&["spec", "service", "port"]),
            priorities: (number(&["spec", "groupPriorityMinimum"]), number(&["spec", "versionPriority"])),
            spec: service.get("spec").cloned().unwrap_or_default(),
            tls: tls.map_err(|error| tracing::warn!(%error, "an APIService's caBundle can't be used")).ok(),
            state: RwLock::default(),
        }
    }

    /// Says that something changed that is to be looked at.
    pub fn wake(&self) {
        self.changed.notify_one();
    }

    /// Says that a Service, or where it leads, changed: whoever is behind it is looked at anew.
    pub fn service_changed(&self, namespace: &str, service: &str) {
        let routes = Arc::clone(&self.routes.read());
        if routes.values().any(|one| one.namespace == namespace && one.service == service) {
            self.wake();
        }
    }

    /// Who serves a path, where it is somebody else.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<Arc<Extension>> {
        let routes = self.routes.read();
        if routes.is_empty() {
            return None;
        }
        let (group, version) = version_of(path)?;
        routes.get(&(group.to_owned(), version.to_owned())).map(Arc::clone)
    }

    /// All, the first of each group first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Extension>> {
        let mut all: Vec<Arc<Extension>> = self.routes.read().values().cloned().collect();
        all.sort_by(|left, right| {
            let key = |one: &Extension| (std::cmp::Reverse(one.priorities.0), one.group.clone());
            key(left).cmp(&key(right)).then(right.priorities.1.cmp(&left.priorities.1))
        });
        all
    }
}

/// The group and version that a path lies in: objects and what is below them, or the schemas of that version and nothing else,
/// since who may read schemas may not read whatever an extension server takes a path below them for.
fn version_of(path: &str) -> Option<(&str, &str)> {
    let (path, is_schema) = path.strip_prefix("/openapi/v3").map_or((path, false), |path| (path, true));
    let mut segments = path.strip_prefix("/apis/")?.split('/');
    let found = (segments.next()?, segments.next()?);
    let is_more = segments.any(|segment| !segment.is_empty());
    (!(is_schema && is_more)).then_some(found)
}

fn key(service: &Value) -> (String, String) {
    let text = |key: &str| object::text(service, &["spec", key]).to_owned();
    (text("group"), text("version"))
}

fn front_proxy(pki: &Pki, now: Timestamp) -> Result<(Identity, martello_pki::FromSigner), ApiError> {
    let profile = Profile::User { name: FRONT_PROXY.to_owned(), groups: Vec::new() };
    pki.identity(profile, now).map_err(ApiError::internal)
}

impl Extension {
    /// Whether it answered when it was last looked at.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.state.read().available
    }

    /// What it says it serves.
    #[must_use]
    pub fn resources(&self) -> Option<Arc<Value>> {
        self.state.read().resources.clone()
    }

    /// Sends a request there.
    pub async fn ask(
        &self,
        core: &Arc<Core>,
        mut outgoing: Outgoing,
    ) -> Result<http::Response<hyper::body::Incoming>, String> {
        let config = self.tls.clone().ok_or("its caBundle can't be used")?;
        let found =
            backends::of_service(core, &self.namespace, &self.service, &self.port.to_string(), Asker::Configuration)
                .await;
        let backend: Backend = found.map_err(|error| error.message)?;
        let name = format!("{}.{}.svc", self.service, self.namespace);
        outgoing.host.clone_from(&name);
        let io = backend.connect(core).await.map_err(|error| error.to_string())?;
        let io = outbound::tls(io, config, &name).await.map_err(|error| error.to_string())?;
        outbound::exchange(io, outgoing).await.map_err(|error| error.to_string())
    }
}

/// Headers that say who asks, to a server that trusts this one to say so.
pub fn identify(headers: &mut HeaderMap, user: &User) {
    outbound::add(headers, "x-remote-user", &user.name);
    if let Some(uid) = &user.uid {
        outbound::add(headers, "x-remote-uid", uid);
    }
    for group in &user.groups {
        outbound::add(headers, "x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        values.iter().for_each(|value| outbound::add(headers, &name, value));
    }
}

/// A key of the extra facts as part of a header's name.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.to_lowercase().bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

/// Looks at extension servers until the server drains, and writes down what it finds.
pub async fn look_after(core: Arc<Core>) {
    let mut pace = Pace::default();
    loop {
        if let Err(error) = publish(&core).await {
            tracing::warn!(%error, "what extension servers need to know could not be published");
        }
        let all = core.extensions.all();
        let wait = |pace: &Pace, one: &Extension, now| pace.wait(&one.name, one.is_available(), now);
        let now = Instant::now();
        let due: Vec<_> = all.iter().filter(|one| wait(&pace, one, now).is_zero()).cloned().collect();
        pace.look(due.iter().map(|one| one.name.as_str()), now);
        let looked_at = futures::stream::iter(due);
        looked_at.for_each_concurrent(LOOKS_AT_ONCE, |extension| check(Arc::clone(&core), extension)).await;
        let now = Instant::now();
        let pause = all.iter().map(|one| wait(&pace, one, now)).min().unwrap_or(CALM);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.extensions.changed.notified() => pace.urge(),
            () = core.drain.cancelled() => return,
        }
    }
}

async fn check(core: Arc<Core>, extension: Arc<Extension>) {
    let found = look(&core, &extension).await;
    if let Err(error) = write(&core, &extension, &found).await
        && error.code != 404
    {
        tracing::warn!(name = extension.name, %error, "the condition of an APIService could not be written");
    }
}

/// A finding: status, reason and message of the condition.
type Finding = (&'static str, &'static str, String);

async fn look(core: &Arc<Core>, extension: &Extension) -> Finding {
    let finding = match reachable(core, extension).await {
        Err(finding) => finding,
        Ok(host) => match discover(core, extension, &host).await {
            Ok(resources) => {
                *extension.state.write() = State { available: true, resources: Some(Arc::new(resources)) };
                return ("True", "Passed", "all checks passed".to_owned());
            }
            Err(why) => ("False", "FailedDiscoveryCheck", why),
        },
    };
    extension.state.write().available = false;
    finding
}

/// Whether there is somebody to ask, and how that is called.
async fn reachable(core: &Arc<Core>, extension: &Extension) -> Result<String, Finding> {
    let (service, namespace) = (&extension.service, &extension.namespace);
    let missing = ("False", "ServiceNotFound", format!("service/{service} in {namespace:?} is not present"));
    let unknown = |reason: &'static str, error: &ApiError| {
        let why = format!("service/{service} in {namespace:?} cannot be checked due to: {}", error.message);
        ("Unknown", reason, why)
    };
    let Some(kind) = core.registry.find("", "v1", "services") else { return Err(missing) };
    let found = match core.find(kind, namespace, service).await {
        Ok(Some(entry)) => core.value(kind, &entry).await,
        Ok(None) => return Err(missing),
        Err(error) => Err(error),
    };
    let found = found.map_err(|error| unknown("ServiceAccessError", &error))?;
    let text = |key: &str| object::text(&found, &["spec", key]).to_owned();
    match text("type").as_str() {
        "ExternalName" => return Ok(text("externalName")),
        "ClusterIP" => {}
        _ => return Ok(text("clusterIP")),
    }
    let ports = object::list(&found, &["spec", "ports"]);
    let port = ports.iter().find(|port| object::int(port, &["port"]) == Some(extension.port)).ok_or_else(|| {
        let why = format!("service/{service} in {namespace:?} is not listening on port {}", extension.port);
        ("False", "ServicePortError", why)
    })?;
    let slices = backends::slices(core, namespace, service).await;
    let slices = slices.map_err(|error| unknown("EndpointsAccessError", &error))?;
    if slices.is_empty() {
        let why = format!("cannot find endpointslices for service/{service} in {namespace:?}");
        return Err(("False", "EndpointsNotFound", why));
    }
    let name = object::text(port, &["name"]);
    if backends::endpoints(&slices, name).is_empty() {
        let why =
            format!("endpointslices for service/{service} in {namespace:?} have no addresses with port name {name:?}");
        return Err(("False", "MissingEndpoints", why));
    }
    Ok(match text("clusterIP").as_str() {
        "" | "None" => format!("{service}.{namespace}.svc"),
        address => address.to_owned(),
    })
}

/// Asks a server what it serves; `host` is what messages call it.
async fn discover(core: &Arc<Core>, extension: &Extension, host: &str) -> Result<Value, String> {
    let target = format!("/apis/{}/{}", extension.group, extension.version);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let url = format!("https://{host}:{}{target}", extension.port);
    let mut headers = HeaderMap::new();
    outbound::add(&mut headers, "accept", "application/json");
    identify(&mut headers, &User::authenticated("system:kube-aggregator", ["system:masters"]));
    let outgoing = Outgoing { method: Method::GET, target, headers, body: Bytes::new(), host: String::new() };
    let failed = |why: String| format!("failing or missing response from {url}: {why}");
    let asked = tokio::time::timeout(CHECK_TIMEOUT, async {
        let answer = extension.ask(core, outgoing).await?;
        let status = answer.status();
        let body = outbound::collect(answer, MAX_DOCUMENT_BYTES).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((status, body))
    });
    let (status, body) = asked.await.map_err(|_| failed("it did not answer in time".to_owned()))?.map_err(failed)?;
    if !status.is_success() {
        return Err(failed(format!("bad status from {url}: {}", status.as_u16())));
    }
    serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
}

async fn write(core: &Arc<Core>, extension: &Extension, (status, reason, message): &Finding) -> Result<(), ApiError> {
    let kind = core.registry.find(api_service::GROUP, "v1", "apiservices").ok_or_else(ApiError::no_such_route)?;
    let entry = core.get(kind, "", &extension.name).await?;
    let present = core.value(kind, &entry).await?;
    let conditions = object::list(&present, &["status", "conditions"]);
    let old = conditions.iter().find(|one| object::text(one, &["type"]) == api_service::AVAILABLE);
    let text = |key: &str| old.map_or("", |old| object::text(old, &[key]));
    if (text("status"), text("reason"), text("message")) == (*status, *reason, message.as_str()) {
        return Ok(());
    }
    let since =
        if text("status") == *status { text("lastTransitionTime").to_owned() } else { rfc3339_seconds(clock::now()) };
    let condition = json!({
        "type": api_service::AVAILABLE, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since,
    });
    let path = format!("/apis/{}/v1/apiservices/{}/status", api_service::GROUP, extension.name);
    followup::patch(&core.own_client(), &path, &json!({"status": {"conditions": [condition]}})).await
}

/// Publishes whom extension servers are to trust, and by which headers they learn who asks.
async fn publish(core: &Arc<Core>) -> Result<(), ApiError> {
    let authorities = core.pki.trust().load().clients.pem().to_owned();
    let data = json!({
        "client-ca-file": authorities,
        "requestheader-allowed-names": json!([FRONT_PROXY]).to_string(),
        "requestheader-client-ca-file": authorities,
        "requestheader-extra-headers-prefix": json!(["X-Remote-Extra-"]).to_string(),
        "requestheader-group-headers": json!(["X-Remote-Group"]).to_string(),
        "requestheader-uid-headers": json!(["X-Remote-Uid"]).to_string(),
        "requestheader-username-headers": json!(["X-Remote-User"]).to_string(),
    });
    let kind = core.registry.find("", "v1", "configmaps").ok_or_else(ApiError::no_such_route)?;
    if let Some(entry) = core.find(kind, "kube-system", AUTHENTICATION).await? {
        if core.value(kind, &entry).await?.get("data") == Some(&data) {
            return Ok(());
        }
        let path = format!("/api/v1/namespaces/kube-system/configmaps/{AUTHENTICATION}");
        return followup::patch(&core.own_client(), &path, &json!({"data": data})).await;
    }
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": AUTHENTICATION}, "data": data});
    super::bootstrap::create(&core.own_client(), "/api/v1/namespaces/kube-system/configmaps", &body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(group: &str, remote: bool) -> Value {
        let service = if remote { json!({"namespace": "n", "name": "s", "port": 443}) } else { Value::Null };
        json!({"metadata": {"name": format!("v1.{group}")},
            "spec": {"group": group, "version": "v1", "service": service, "insecureSkipTLSVerify": remote}})
    }

    #[test]
    fn schemas_of_an_extension_server_lead_nowhere_else() {
        let of = |path| version_of(path);
        for path in ["/apis/g/v1", "/apis/g/v1/", "/apis/g/v1/namespaces/a/things/b", "/openapi/v3/apis/g/v1"] {
            assert_eq!(of(path), Some(("g", "v1")), "{path}");
        }
        for path in [
            "/openapi/v3/apis/g/v1/../../../../apis/g/v1/things",
            "/openapi/v3/apis/g/v1/things",
            "/openapi/v3apis/g/v1",
            "/openapi/v3/openapi/v3/apis/g/v1",
            "/apis/g",
            "/api/g/v1",
            "/apis//g/v1",
            "//apis/g/v1",
        ] {
            assert!(of(path).is_none_or(|(group, _)| group.is_empty()), "{path}");
        }
    }

    #[test]
    fn only_what_others_serve_is_passed_on() {
        let extensions = Extensions::default();
        extensions.note(Some(&service("a.example.com", true)), None, 1);
        extensions.note(Some(&service("b.example.com", false)), None, 1);
        assert!(extensions.of("/apis/a.example.com/v1/things").is_some());
        assert!(extensions.of("/apis/a.example.com/v1").is_some());
        assert!(extensions.of("/openapi/v3/apis/a.example.com/v1").is_some());
        for own in ["/apis/a.example.com/v2", "/apis/a.example.com", "/apis/b.example.com/v1", "/api/v1/pods"] {
            assert!(extensions.of(own).is_none(), "{own}");
        }
        extensions.note(None, Some(&service("a.example.com", true)), 2);
        assert!(extensions.of("/apis/a.example.com/v1/things").is_none());
    }

    #[test]
    fn who_asks_is_told_in_headers() {
        let mut user = User::authenticated("jane", ["devs"]);
        user.extra.insert("example.com/Scopes".to_owned(), vec!["a".to_owned()]);
        let mut headers = HeaderMap::new();
        identify(&mut headers, &user);
        assert_eq!(headers["x-remote-user"], "jane");
        assert_eq!(headers.get_all("x-remote-group").iter().count(), 2);
        assert_eq!(headers["x-remote-extra-example.com%2fscopes"], "a");
    }
}
