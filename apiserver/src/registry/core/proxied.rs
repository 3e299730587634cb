//! `proxy` of pods, Services and nodes: HTTP, and whatever it switches to, passed on to what listens there.

use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Method, header};
use martello_api::status::ApiError;
use martello_pki::{ForeignTrust, foreign_config};
use rustls::ClientConfig;

use super::node_proxy::{NodeAddress, address_of};
use crate::{
    http::{
        body::ReplyBody,
        outbound::{self, Io, Outgoing},
        reply::{self, Reply},
        rewrite,
    },
    registry::{
        call::Call,
        kind::{Connect, Kind, Served},
    },
    server::{
        Core,
        backends::{self, Asker, Backend},
    },
};

/// Whose proxy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A pod's.
    Pod,
    /// A Service's.
    Service,
    /// A node's agent, or what else listens on the node.
    Node,
}

/// `scheme:name:port`, of which scheme and port may be left out.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

fn asked(text: &str) -> Option<Asked<'_>> {
    let (scheme, name, port) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let known = matches!(scheme, "" | "http" | "https") && !name.is_empty();
    known.then_some(Asked { https: scheme == "https", name, port })
}

/// What answers, and how it is reached.
enum Way {
    Backend(Backend),
    Agent(NodeAddress),
}

impl Connect for Proxied {
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move {
            let upgrades = outbound::upgrades(&call.headers);
            let prefix = prefix(kind, &call);
            let asked = asked(call.name()).ok_or_else(|| self.malformed(call.name()))?;
            let way = self.way(core, &call, &asked).await?;
            if call.rest.is_empty() && !upgrades && matches!(call.method, Method::GET | Method::HEAD) {
                return Ok(to_root(&prefix, call.raw_query()));
            }
            let unreachable = |error: outbound::OutboundError| {
                if upgrades {
                    return ApiError::new(500, "", format!("error dialing backend: {error}"));
                }
                ApiError::unavailable(format!("error trying to reach service: {error}"))
            };
            let (io, host) = connect(core, &way, &asked).await.map_err(unreachable)?;
            let outgoing = outgoing(&call, &prefix);
            let asked_for = outgoing.host.clone();
            let answer = outbound::exchange(io, outgoing).await.map_err(unreachable)?;
            let client = call.upgrade.lock().take().filter(|_| upgrades);
            let code = answer.status().as_u16();
            if upgrades && code != 101 && code < 400 {
                return Err(ApiError::new(500, "", format!("invalid upgrade response: status code {code}")));
            }
            let hosts = [host.as_str(), asked_for.as_str()];
            let page = !upgrades && rewrite::is_page(answer.headers());
            if !page {
                let mut reply = outbound::pass_back(core, answer, client);
                if !upgrades {
                    outbound::own_origin(reply.headers_mut());
                    rewrite::location(reply.headers_mut(), &prefix, &hosts);
                }
                return Ok(reply);
            }
            let (parts, body) = answer.into_parts();
            let body = http::Response::new(body);
            let html = outbound::collect(body, rewrite::MAX_PAGE_BYTES).await;
            let html = html.map_err(|error| ApiError::unavailable(format!("reading a page to pass it on: {error}")))?;
            let html = rewrite::page(&String::from_utf8_lossy(&html), &prefix, &hosts);
            let mut reply = http::Response::new(ReplyBody::full(html));
            *reply.status_mut() = parts.status;
            *reply.headers_mut() = parts.headers;
            for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
                reply.headers_mut().remove(name);
            }
            outbound::own_origin(reply.headers_mut());
            rewrite::location(reply.headers_mut(), &prefix, &hosts);
            Ok(reply)
        })
    }
}

impl Proxied {
    fn malformed(self, name: &str) -> ApiError {
        let what = match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Node => "node",
        };
        ApiError::bad_request(format!("invalid {what} request {name:?}"))
    }

    async fn way(self, core: &Arc<Core>, call: &Call, asked: &Asked<'_>) -> Result<Way, ApiError> {
        let number = asked.port.parse::<u16>().ok();
        if !asked.port.is_empty() && number.is_none() && self != Self::Service {
            return Err(self.malformed(call.name()));
        }
        match self {
            Self::Pod => backends::of_pod(core, call.namespace(), asked.name, number).await.map(Way::Backend),
            Self::Service => {
                backends::of_service(core, call.namespace(), asked.name, asked.port, Asker::User(call.name()))
                    .await
                    .map(Way::Backend)
            }
            Self::Node => {
                let agent = address_of(core, asked.name).await?;
                Ok(match number {
                    Some(port) if port != agent.port => Way::Backend(backends::of_host(&agent.host, port).await?),
                    _ => Way::Agent(agent),
                })
            }
        }
    }
}

async fn connect(core: &Core, way: &Way, asked: &Asked<'_>) -> Result<(Io, String), outbound::OutboundError> {
    match way {
        Way::Agent(node) => {
            let host = format!("{}:{}", node.host, node.port);
            let dialed = core.nodes.dial(&node.name, &node.host, node.port).await;
            let io = dialed.map_err(|error| outbound::OutboundError::Dial {
                address: host.clone(),
                source: std::io::Error::other(error.to_string()),
            })?;
            Ok((io, host))
        }
        Way::Backend(backend) => {
            let host = backend.host();
            let io = backend.connect(core).await?;
            match (asked.https, anyone()) {
                (true, Some(config)) => {
                    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
                    let io = outbound::tls(io, config, name.trim_matches(['[', ']'])).await?;
                    Ok((io, host))
                }
                _ => Ok((io, host)),
            }
        }
    }
}

/// What runs in a pod has whatever certificate it made for itself: as upstream, it is not verified.
fn anyone() -> Option<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    CONFIG.get_or_init(|| foreign_config(ForeignTrust::DangerouslyAnyone, None).ok()).clone()
}

/// The path of the proxy itself.
fn prefix(kind: &Kind, call: &Call) -> String {
    let (plural, name) = (&kind.resource.plural, call.name());
    match call.namespace() {
        "" => format!("/api/v1/{plural}/{name}/proxy"),
        namespace => format!("/api/v1/namespaces/{namespace}/{plural}/{name}/proxy"),
    }
}

/// A page at the root has links that are relative to the root: its path must end with a slash.
fn to_root(prefix: &str, query: &str) -> Reply {
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let mut reply = reply::reply(301, HeaderValue::from_static("text/plain; charset=utf-8"), ReplyBody::empty());
    if let Ok(location) = HeaderValue::from_str(&format!("{prefix}/{query}")) {
        reply.headers_mut().insert(header::LOCATION, location);
    }
    reply
}

fn outgoing(call: &Call, prefix: &str) -> Outgoing {
    let path = encoded(call.connects.path.trim_start_matches('/'));
    let query = if call.raw_query().is_empty() { String::new() } else { format!("?{}", call.raw_query()) };
    let mut headers = outbound::passed_on(&call.headers);
    outbound::forwarded(&mut headers, call.address);
    if !outbound::upgrades(&call.headers) {
        // Pages are read to be rewritten.
        headers.remove(header::ACCEPT_ENCODING);
        headers.remove("x-forwarded-uri");
        outbound::add(&mut headers, "x-forwarded-uri", &format!("{prefix}/{path}"));
    }
    // What listens there sees the name by which the client knows this server, as upstream has it.
    let host = call.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Outgoing {
        method: call.method.clone(),
        target: format!("/{path}{query}"),
        headers,
        body: call.body.clone(),
        host: host.to_owned(),
    }
}

/// A path as it is written in a request.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_bear_scheme_and_port() {
        assert_eq!(asked("web"), Some(Asked { https: false, name: "web", port: "" }));
        assert_eq!(asked("web:80"), Some(Asked { https: false, name: "web", port: "80" }));
        assert_eq!(asked("https:web:"), Some(Asked { https: true, name: "web", port: "" }));
        assert_eq!(asked("https:web:tls"), Some(Asked { https: true, name: "web", port: "tls" }));
        assert_eq!(asked("ftp:web:21"), None);
        assert_eq!(asked("a:b:c:d"), None);
    }

    #[test]
    fn paths_are_written_as_they_were() {
        assert_eq!(encoded("a b/ü?.html"), "a%20b/%C3%BC%3F.html");
    }
}
