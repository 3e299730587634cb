//! Connections that switch from HTTP to streams: WebSocket, or SPDY for older peers.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;

use super::{Body, Refusal, text};

/// The protocol of a SPDY peer that is told by a `Status` how a command ended; in those before, it is told in words.
pub(super) const SPDY_V4: &str = "v4.channel.k8s.io";
/// The first protocol of a SPDY peer whose terminal's size may change.
pub(super) const SPDY_V3: &str = "v3.channel.k8s.io";
/// What is spoken over SPDY for remote commands.
pub(super) const SPDY_OF_COMMANDS: [&str; 4] = [SPDY_V4, SPDY_V3, "v2.channel.k8s.io", "channel.k8s.io"];
/// The protocol of a SPDY peer that forwards ports.
pub(super) const SPDY_FORWARD: &str = "portforward.k8s.io";

pub(super) fn spawn_upgraded<F>(
    request: &mut Request<Incoming>,
    serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(io) => serve(TokioIo::new(io)).await,
            Err(error) => tracing::debug!(%error, "a connection did not switch protocols"),
        }
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    Spdy,
    WebSocket,
}

pub(super) fn upgrade_of(headers: &HeaderMap) -> Option<Upgrade> {
    let asked = headers.get(header::UPGRADE)?.to_str().ok()?;
    if asked.eq_ignore_ascii_case("websocket") {
        Some(Upgrade::WebSocket)
    } else if asked.eq_ignore_ascii_case("SPDY/3.1") {
        Some(Upgrade::Spdy)
    } else {
        None
    }
}

/// Every protocol that a header names, in any of the ways in which lists are written.
fn protocols<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

fn switching(upgrade: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
    response
}

/// The protocol of the API server that speaks to a port of a pod.
const STREAM: &str = "martello-tcp";

pub(super) fn switch_stream(headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
    let asked = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    if asked == Some(STREAM) { Ok(switching(STREAM)) } else { Err(Refusal::bad("Upgrade request required")) }
}

/// The protocol that is spoken with a SPDY peer: the first of its own that is known here.
pub(super) fn switch_spdy(
    headers: &HeaderMap,
    known: &[&'static str],
) -> Result<(Response<Body>, &'static str), Refusal> {
    const NAME: &str = "x-stream-protocol-version";
    let asked: Vec<&str> = protocols(headers, NAME).collect();
    if asked.is_empty() {
        let count = headers.len();
        let why = format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with {count} headers"
        );
        return Err(Refusal::bad(why));
    }
    let protocol = asked.iter().find_map(|asked| known.iter().find(|known| *known == asked)).copied();
    let protocol = protocol.ok_or_else(|| {
        let (asked, known) = (asked.join(" "), known.join(" "));
        let why = "unable to upgrade: unable to negotiate protocol";
        Refusal(StatusCode::FORBIDDEN, format!("{why}: client supports [{asked}], server accepts [{known}]"))
    })?;
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(NAME, HeaderValue::from_static(protocol));
    Ok((response, protocol))
}

/// The protocol that is spoken with a client: the first of its own that is known here. One that names none gets what bears no
/// name, where that is known, as upstream has it; as upstream, too, one of whose protocols none is known is not told more
/// than that.
pub(super) fn switch_websocket(
    headers: &HeaderMap,
    known: &[&'static str],
) -> Result<(Response<Body>, &'static str), Refusal> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| Refusal::bad("missing Sec-WebSocket-Key"))?;
    let asked: Vec<&str> = protocols(headers, "sec-websocket-protocol").collect();
    let unnamed = [""];
    let wanted: &[&str] = if asked.is_empty() { &unnamed } else { &asked };
    let protocol = wanted.iter().find_map(|asked| known.iter().find(|known| *known == asked)).copied();
    let protocol = protocol.ok_or_else(|| Refusal(StatusCode::FORBIDDEN, String::new()))?;
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let accept = HeaderValue::from_str(&accept).map_err(|_| Refusal::bad("invalid Sec-WebSocket-Key"))?;
    let mut response = switching("websocket");
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if !protocol.is_empty() {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((response, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::websocket;

    #[test]
    fn protocols_are_negotiated_from_lists_of_any_form() {
        let mut headers = HeaderMap::new();
        headers.append("x-stream-protocol-version", HeaderValue::from_static("v5.channel.k8s.io"));
        headers.append("x-stream-protocol-version", HeaderValue::from_static("v4.channel.k8s.io, v3.channel.k8s.io"));
        let (response, protocol) = switch_spdy(&headers, &SPDY_OF_COMMANDS).ok().unwrap();
        assert_eq!(protocol, SPDY_V4);
        assert_eq!(response.headers()["x-stream-protocol-version"], SPDY_V4);
        let Refusal(status, why) = switch_spdy(&headers, &[SPDY_FORWARD]).err().unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(why.ends_with(
            "client supports [v5.channel.k8s.io v4.channel.k8s.io v3.channel.k8s.io], server accepts [portforward.k8s.io]"
        ));
        let Refusal(status, _) = switch_spdy(&HeaderMap::new(), &SPDY_OF_COMMANDS).err().unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("v5.channel.k8s.io,v4.channel.k8s.io"));
        let (response, protocol) = switch_websocket(&headers, &[websocket::V5, websocket::V4]).ok().unwrap();
        assert_eq!(protocol, websocket::V5);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn who_names_no_protocol_gets_the_one_without_a_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let (response, protocol) = switch_websocket(&headers, &[websocket::V4, websocket::UNNAMED]).ok().unwrap();
        assert_eq!(protocol, "");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
        assert!(switch_websocket(&headers, &[websocket::V4]).is_err());
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("v9.channel.k8s.io"));
        let Refusal(status, why) = switch_websocket(&headers, &[websocket::V4, websocket::UNNAMED]).err().unwrap();
        assert_eq!((status, why.as_str()), (StatusCode::FORBIDDEN, ""));
    }
}
