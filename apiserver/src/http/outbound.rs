//! Requests that others answer in this server's place: connections to them, what is passed on, and what comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use martello_api::status::ApiError;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    body::{BoxError, ReplyBody},
    failed::{dialed, untrusted},
    reply::Reply,
};
use crate::{
    metrics::Lasting,
    server::{Busy, Core, NodeIo},
};

/// How long a connection may take to be made, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that belong to one connection, not to the request.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
];
/// A subprotocol that is a bearer token: browsers can't send another header with a WebSocket.
pub const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
/// From whom a request came, through whom.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A connection to somebody else.
pub type Io = Box<dyn NodeIo>;

/// Why somebody else was not reached.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// No connection.
    #[error("{}", dialed(address, source))]
    Dial {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No TLS.
    #[error("{}", untrusted(.0))]
    Handshake(#[source] std::io::Error),
    /// It took too long.
    #[error("dial tcp {0}: i/o timeout")]
    Slow(String),
    /// The name can't be asked for in TLS.
    #[error("{0:?} is no name of a server")]
    Name(String),
    /// The connection broke.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The request can't be put into words.
    #[error("{0}")]
    Request(#[from] http::Error),
}

/// Connects over TCP.
pub async fn tcp(host: &str, port: u16) -> Result<Io, OutboundError> {
    let address = || format!("{host}:{port}");
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
    let stream = connected
        .map_err(|_| OutboundError::Slow(address()))?
        .map_err(|source| OutboundError::Dial { address: address(), source })?;
    stream.set_nodelay(true).map_err(|source| OutboundError::Dial { address: address(), source })?;
    Ok(Box::new(stream))
}

/// Puts TLS over a connection; the other side must be `name` as far as the configuration asks for that.
pub async fn tls(io: Io, config: Arc<ClientConfig>, name: &str) -> Result<Io, OutboundError> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| OutboundError::Name(name.to_owned()))?;
    let shaken = tokio::time::timeout(CONNECT_TIMEOUT, TlsConnector::from(config).connect(server, io)).await;
    let stream = shaken.map_err(|_| OutboundError::Slow(name.to_owned()))?.map_err(OutboundError::Handshake)?;
    Ok(Box::new(stream))
}

/// A request that is passed on.
pub struct Outgoing {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Whom it names as host.
    pub host: String,
}

/// Whether a request asks for another protocol on its connection. To speak HTTP/2 on it is no such thing here: requests would
/// flow to whatever is behind this server that nobody authorized or recorded, under its name.
#[must_use]
pub fn upgrades(headers: &HeaderMap) -> bool {
    let names =
        |name: header::HeaderName, wanted: &str| tokens(headers, name).any(|one| one.eq_ignore_ascii_case(wanted));
    headers.contains_key(header::UPGRADE)
        && names(header::CONNECTION, "upgrade")
        // What can't be read here may be read behind this server.
        && headers.get_all(header::UPGRADE).iter().all(|value| value.to_str().is_ok())
        && !names(header::UPGRADE, "h2c")
        && !names(header::UPGRADE, "h2")
}

/// What a header lists.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Headers of a request without those of the connection and those that prove or claim an identity. Of an upgrade what asks
/// for it stays.
#[must_use]
pub fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let upgrades = upgrades(headers);
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let key = name.as_str();
        let own = match name == header::UPGRADE {
            true => !upgrades,
            false => {
                HOP_BY_HOP.contains(&key)
                    || tokens(headers, header::CONNECTION).any(|named| named.eq_ignore_ascii_case(key))
            }
        };
        let identity =
            name == header::AUTHORIZATION || ["impersonate-", "x-remote-"].iter().any(|prefix| key.starts_with(prefix));
        let is_rest = matches!(*name, header::HOST | header::CONTENT_LENGTH | header::SEC_WEBSOCKET_PROTOCOL);
        if !own && !identity && !is_rest {
            passed.append(name.clone(), value.clone());
        }
    }
    let protocols: Vec<&str> = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
        .filter(|one| !one.is_empty() && !one.starts_with(TOKEN_PROTOCOL))
        .collect();
    if !protocols.is_empty() {
        add(&mut passed, header::SEC_WEBSOCKET_PROTOCOL.as_str(), &protocols.join(","));
    }
    if upgrades {
        passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    passed
}

/// Tells who asks: the address, behind those through which the request came before.
pub fn forwarded(headers: &mut HeaderMap, address: Option<SocketAddr>) {
    let Some(address) = address else { return };
    let before: Vec<&str> = tokens(headers, FORWARDED_FOR).filter(|one| !one.is_empty()).collect();
    let all = before.into_iter().map(str::to_owned).chain([address.ip().to_canonical().to_string()]);
    let all = all.collect::<Vec<_>>().join(", ");
    headers.remove(FORWARDED_FOR);
    add(headers, FORWARDED_FOR.as_str(), &all);
}

/// What answers in this server's place does not decide which pages of the web may read what this server answers.
pub fn own_origin(headers: &mut HeaderMap) {
    for name in ["credentials", "headers", "methods", "origin"] {
        headers.remove(format!("access-control-allow-{name}"));
    }
}

/// Sends a request, and waits for the head of the answer.
pub async fn exchange(io: Io, outgoing: Outgoing) -> Result<Response<Incoming>, OutboundError> {
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(io)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to somebody else ended");
        }
    });
    let mut request = Request::builder().method(outgoing.method).uri(outgoing.target).body(Full::new(outgoing.body))?;
    *request.headers_mut() = outgoing.headers;
    if let Ok(host) = HeaderValue::from_str(&outgoing.host) {
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(sender.send_request(request).await?)
}

/// The whole of an answer's body, bounded.
pub async fn collect(answer: Response<Incoming>, limit: usize) -> Result<Bytes, BoxError> {
    Ok(Limited::new(answer.into_body(), limit).collect().await?.to_bytes())
}

/// Passes an answer on as it comes. One that takes the connection over joins both ends.
pub fn pass_back(core: &Core, answer: Response<Incoming>, client: Option<Takeover>) -> Reply {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match client {
            Some(client) => switch(core, answer, client),
            None => super::reply::failure(&ApiError::internal("the connection can't be taken over")),
        };
    }
    let (parts, body) = answer.into_parts();
    let mut reply = Response::new(frames(body));
    *reply.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        if !HOP_BY_HOP.contains(&name.as_str()) {
            reply.headers_mut().append(name.clone(), value.clone());
        }
    }
    reply
}

/// A client's connection that is to be taken over. It counts as the client's until the stream ends.
pub struct Takeover {
    pub(super) stream: hyper::upgrade::OnUpgrade,
    pub(super) visit: Option<Busy>,
    /// It counts among the streams, too.
    pub(super) counted: Option<Arc<Lasting>>,
}

/// The frames of a body, as they come.
#[must_use]
pub fn frames(body: Incoming) -> ReplyBody {
    let frames = BodyStream::new(body).filter_map(|frame| {
        let data = match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(BoxError::from(error))),
        };
        std::future::ready(data)
    });
    ReplyBody::Stream(Box::pin(frames))
}

/// Joins both ends of a connection that is taken over: the bytes pass unread.
pub fn switch(core: &Core, answer: Response<Incoming>, client: Takeover) -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in answer.headers() {
        reply.headers_mut().append(name.clone(), value.clone());
    }
    let drain = core.drain.clone();
    tokio::spawn(async move {
        let Takeover { stream, visit, counted: _counted } = client;
        let sent_off = async {
            match &visit {
                Some(visit) => visit.over().await,
                None => std::future::pending().await,
            }
        };
        let (other, client) = match tokio::try_join!(hyper::upgrade::on(answer), stream) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a stream was not taken over"),
        };
        let (mut other, mut client) = (TokioIo::new(other), TokioIo::new(client));
        tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut client, &mut other) => {
                if let Err(error) = copied {
                    tracing::debug!(%error, "a stream ended");
                }
            }
            () = sent_off => {}
            () = drain.cancelled() => {}
        }
    });
    reply
}

/// Adds a header; one that can't be written is left out.
pub fn add(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_and_connections_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("impersonate-user", "jane"),
            ("x-remote-user", "jane"),
            ("x-remote-extra-scopes", "a"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("cookie", "a=b"),
            ("upgrade", "websocket"),
        ] {
            add(&mut headers, name, value);
        }
        let names = |headers: &HeaderMap| passed_on(headers).keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&headers), ["cookie"], "an upgrade that Connection does not name is none");
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, X-Hop, upgrade"));
        assert_eq!(names(&headers), ["cookie", "upgrade", "connection"]);
        assert_eq!(
            passed_on(&headers)[header::CONNECTION],
            "Upgrade",
            "what else it named was between us and the client"
        );
        for http2 in ["h2c", "websocket, H2C", "h2"] {
            headers.insert(header::UPGRADE, HeaderValue::from_static(http2));
            assert_eq!(names(&headers), ["cookie"], "{http2}: requests would pass that nobody authorized");
        }
    }

    #[test]
    fn a_token_among_subprotocols_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        let token = "base64url.bearer.authorization.k8s.io.c2VjcmV0";
        add(&mut headers, "sec-websocket-protocol", token);
        assert!(passed_on(&headers).is_empty(), "alone, it proves nobody's identity, and is a token all the same");
        add(&mut headers, "sec-websocket-protocol", &format!("chat, {token}, , v2"));
        assert_eq!(passed_on(&headers)[header::SEC_WEBSOCKET_PROTOCOL], "chat,v2");
    }

    #[test]
    fn no_backend_opens_this_server_to_other_origins() {
        let mut headers = HeaderMap::new();
        for name in ["origin", "credentials", "methods", "headers"] {
            add(&mut headers, &format!("access-control-allow-{name}"), "*");
        }
        add(&mut headers, "access-control-max-age", "1");
        own_origin(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["access-control-max-age"]);
    }

    #[test]
    fn who_asks_is_told_behind_those_before() {
        let mut headers = HeaderMap::new();
        forwarded(&mut headers, Some("[::ffff:192.0.2.1]:7".parse().unwrap()));
        assert_eq!(headers[FORWARDED_FOR], "192.0.2.1");
        add(&mut headers, "x-forwarded-for", "198.51.100.7");
        forwarded(&mut headers, Some("[2001:db8::1]:7".parse().unwrap()));
        assert_eq!(headers[FORWARDED_FOR], "192.0.2.1, 198.51.100.7, 2001:db8::1");
        assert_eq!(headers.get_all(FORWARDED_FOR).iter().count(), 1);
        forwarded(&mut headers, None);
        assert_eq!(headers.len(), 1);
    }
}
