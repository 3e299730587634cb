//! The way to a conversion webhook: by URL or by Service, over TLS, with the authority that the definition names.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use crate::{registry::object, server::Core};

/// How long a webhook may take, as upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The port of a Service where none is given.
const PORT: i64 = 443;

/// A webhook, and the client that last reached it.
#[derive(Default)]
pub struct Webhook {
    client: Mutex<Option<(String, kube::Client)>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook")
    }
}

/// Where a webhook is.
struct Place {
    /// As messages name it.
    url: String,
    /// `https://host:port` that is connected to.
    base: String,
    /// What is asked for there.
    path: String,
    /// The name that its certificate bears, where that is not the host.
    server_name: Option<String>,
}

impl Webhook {
    /// Posts `body` to the webhook that `config` names; the failure as upstream words it.
    pub async fn post(&self, core: &Core, config: &Value, body: &Value) -> Result<Value, String> {
        let place = place(core, config).await?;
        let failed = |why: &dyn fmt::Display| format!("Post {:?}: {why}", place.url);
        let client = self.client(&place, config).map_err(|why| failed(&why))?;
        let bytes = serde_json::to_vec(body).map_err(|why| failed(&why))?;
        let request = http::Request::builder()
            .method("POST")
            .uri(&place.path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::ACCEPT, "application/json, */*")
            .header(http::header::USER_AGENT, "kube-apiserver-conversion")
            .body(bytes)
            .map_err(|why| failed(&why))?;
        let sent = tokio::time::timeout(TIMEOUT, client.request::<Value>(request)).await;
        match sent {
            Err(_) => Err(failed(&"context deadline exceeded")),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
            Ok(Err(error)) => Err(failed(&unreachable_as_go_says(&innermost(&error), &place))),
        }
    }

    fn client(&self, place: &Place, config: &Value) -> Result<kube::Client, String> {
        let key = format!("{} {}", place.base, place.server_name.as_deref().unwrap_or_default());
        let mut kept = self.client.lock();
        if let Some((known, client)) = &*kept
            && *known == key
        {
            return Ok(client.clone());
        }
        let uri: http::Uri = place.base.parse().map_err(|why| format!("{why}"))?;
        let mut settings = kube::Config::new(uri);
        settings.root_cert = authorities(config)?;
        settings.tls_server_name.clone_from(&place.server_name);
        settings.connect_timeout = Some(CONNECT_TIMEOUT);
        settings.read_timeout = Some(TIMEOUT);
        let client = kube::Client::try_from(settings).map_err(|error| innermost(&error))?;
        *kept = Some((key, client.clone()));
        Ok(client)
    }
}

/// A connection that nobody took, in Go's words, which clients know; the rest as it is.
fn unreachable_as_go_says(why: &str, place: &Place) -> String {
    if !why.starts_with("Connection refused") {
        return why.to_owned();
    }
    let host = place.base.split_once("://").map_or(place.base.as_str(), |(_, host)| host);
    let port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) { "" } else { ":443" };
    format!("dial tcp {host}{port}: connect: connection refused")
}

/// What lies behind an error, in its own words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut here = error;
    while let Some(source) = here.source() {
        here = source;
    }
    here.to_string()
}

/// Who may vouch for the webhook; none leaves it to the machine's own list.
fn authorities(config: &Value) -> Result<Option<Vec<Vec<u8>>>, String> {
    let bundle = object::text(config, &["caBundle"]);
    if bundle.is_empty() {
        return Ok(None);
    }
    let unreadable = || "unable to load root certificates: unable to parse bytes as PEM block".to_owned();
    let pem = STANDARD.decode(bundle).map_err(|_| unreadable())?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found: Vec<Vec<u8>> = read.map_err(|_| unreadable())?.into_iter().map(|der| der.to_vec()).collect();
    if found.is_empty() { Err(unreadable()) } else { Ok(Some(found)) }
}

async fn place(core: &Core, config: &Value) -> Result<Place, String> {
    let url = object::text(config, &["url"]);
    if !url.is_empty() {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let query = format!("/{path}?timeout={}s", TIMEOUT.as_secs());
        return Ok(Place {
            url: format!("{scheme}://{host}{query}"),
            base: format!("{scheme}://{host}"),
            path: query,
            server_name: None,
        });
    }
    let text = |key: &str| object::text(config, &["service", key]);
    let (name, namespace) = (text("name"), text("namespace"));
    let port = object::int(config, &["service", "port"]).unwrap_or(PORT);
    let path = format!("/{}?timeout={}s", text("path").trim_start_matches('/'), TIMEOUT.as_secs());
    let server_name = format!("{name}.{namespace}.svc");
    let url = format!("https://{server_name}:{port}{path}");
    let address = address(core, namespace, name, port).await.map_err(|why| format!("Post {url:?}: {why}"))?;
    Ok(Place { url, base: format!("https://{address}"), path, server_name: Some(server_name) })
}

/// Where a Service is reached: at one of its ready endpoints, since its own address means something only on nodes.
async fn address(core: &Core, namespace: &str, name: &str, port: i64) -> Result<String, String> {
    let missing = || format!("service {name:?} not found");
    let find = |plural: &'static str| async move {
        let kind = core.registry.find("", "v1", plural).ok_or_else(missing)?;
        let entry = core.find(kind, namespace, name).await.map_err(|error| error.message)?.ok_or_else(missing)?;
        core.value(kind, &entry).await.map_err(|error| error.message)
    };
    let service = find("services").await?;
    let ports = object::list(&service, &["spec", "ports"]);
    let wanted = ports.iter().find(|own| object::int(own, &["port"]) == Some(port));
    let wanted = wanted.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let none = || format!("no endpoints available for service {name:?}");
    let endpoints = find("endpoints").await.map_err(|_| none())?;
    for subset in object::list(&endpoints, &["subsets"]) {
        let named = |own: &&Value| object::text(own, &["name"]) == object::text(wanted, &["name"]);
        let port = object::list(subset, &["ports"]).iter().find(named).and_then(|own| object::int(own, &["port"]));
        let address = object::list(subset, &["addresses"]).first().map(|address| object::text(address, &["ip"]));
        if let (Some(port), Some(address)) = (port, address) {
            let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            return Ok(format!("{host}:{port}"));
        }
    }
    Err(none())
}
