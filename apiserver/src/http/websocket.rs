//! Watches and logs over WebSockets, for browsers, which can't read an answer as it comes (RFC 6455).

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::{Buf as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use martello_api::{attributes::ResourceTarget, status::ApiError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    body::ReplyBody,
    outbound::{TOKEN_PROTOCOL, Takeover},
    reply::{self, Reply},
};
use crate::{registry::object, server::Core};

/// Logs as they are.
const BINARY: &str = "binary.k8s.io";
/// Logs in texts.
const BASE64: &str = "base64.binary.k8s.io";
/// The protocol of remote commands in which single streams end.
const V5: &str = "v5.channel.k8s.io";
/// Its channel on which the end of a command is told.
const ERROR_CHANNEL: u8 = 3;
/// Bytes of a log that are told at once, as upstream does.
const LOG_BYTES: usize = 2048;
/// Clients have nothing to say: longer messages end the connection.
const LONGEST_MESSAGE: usize = 64 << 10;
/// How long a client has to answer the close of the connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is told over a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Events, each in a message.
    Watch,
    /// Bytes.
    Log,
}

/// A request whose answer is to be told over a WebSocket, and the connection for it.
pub struct Spoken {
    told: Told,
    headers: HeaderMap,
    client: Takeover,
}

impl Spoken {
    /// Takes the connection where a watch or a log is asked for over a WebSocket; otherwise it is handed back.
    pub fn of(
        headers: &HeaderMap,
        verb: &str,
        target: &ResourceTarget,
        client: Option<Takeover>,
    ) -> (Option<Self>, Option<Takeover>) {
        let told = match (verb, &*target.resource, target.subresource.as_str()) {
            ("watch", _, "") => Told::Watch,
            (_, "pods", "log") => Told::Log,
            _ => return (None, client),
        };
        match client {
            Some(client) if is_asked(headers) => (Some(Self { told, headers: headers.clone(), client }), None),
            client => (None, client),
        }
    }

    /// Tells what the answer says over the connection. What is no success is answered as ever.
    pub fn tell(self, core: &Core, answer: Reply) -> Reply {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let (head, coding) = match shake(self.told, &self.headers, answer.headers()) {
            Ok(shaken) => shaken,
            Err((code, why)) => return reply::text(code, why),
        };
        let (Takeover { stream, visit, counted }, drain) = (self.client, core.drain.clone());
        let body = answer.into_body();
        tokio::spawn(async move {
            let _counted = counted;
            let io = match stream.await {
                Ok(io) => TokioIo::new(io),
                Err(error) => return tracing::debug!(%error, "a WebSocket was not opened"),
            };
            let sent_off = async {
                match &visit {
                    Some(visit) => visit.over().await,
                    None => std::future::pending().await,
                }
            };
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits())).await;
            tokio::select! {
                () = pour(socket, body, coding) => {}
                () = sent_off => {}
                () = drain.cancelled() => {}
            }
        });
        head
    }
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE)).max_frame_size(Some(LONGEST_MESSAGE))
}

/// Makes a token among the subprotocols what it stands for: the bearer token of the request, unless that has one. The other
/// subprotocols stay; nobody to whom the request is passed on sees the token.
pub fn take_token(headers: &mut HeaderMap) {
    if !is_asked(headers) {
        return;
    }
    let asked: Vec<String> = protocols(headers).map(str::to_owned).collect();
    let (tokens, others): (Vec<&String>, Vec<&String>) = asked.iter().partition(|one| one.starts_with(TOKEN_PROTOCOL));
    // Upstream wants another protocol beside it, since an answer may not name the token.
    let ([token], false) = (tokens.as_slice(), others.is_empty()) else { return };
    let encoded = token.strip_prefix(TOKEN_PROTOCOL).unwrap_or_default();
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let bearer = decoded.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let others: Vec<&str> = others.into_iter().map(String::as_str).collect();
    if let (Some(mut bearer), Ok(others)) = (bearer, HeaderValue::from_str(&others.join(","))) {
        bearer.set_sensitive(true);
        headers.entry(header::AUTHORIZATION).or_insert(bearer);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
}

fn is_asked(headers: &HeaderMap) -> bool {
    let has = |name: header::HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(wanted))
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|one| !one.is_empty())
}

/// How an answer's bytes become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// A line is a text.
    Lines,
    /// Frames with their lengths before them, each a message.
    Frames,
    /// Bytes as they come.
    Bytes,
    /// The same in base64.
    Base64,
    /// All at once.
    Whole,
}

/// The head of the answer, and how its bytes are told; or why there is none.
fn shake(told: Told, asked: &HeaderMap, answer: &HeaderMap) -> Result<(Reply, Coding), (u16, String)> {
    let bad = |why: &str| (400, why.to_owned());
    let names: Vec<&str> = protocols(asked).collect();
    let (protocol, coding) = match told {
        Told::Watch => {
            let is_json = answer.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
            let coding = if is_json { Coding::Lines } else { Coding::Frames };
            match names.as_slice() {
                [] => (None, coding),
                [one] => (Some(*one), coding),
                _ => {
                    return Err(bad("bad WebSocket protocol: a watch speaks none of its own, and repeats at most one"));
                }
            }
        }
        Told::Log if names.is_empty() => (None, Coding::Bytes),
        Told::Log => match names.iter().find(|name| [BINARY, BASE64].contains(name)) {
            Some(one) => (Some(*one), if *one == BASE64 { Coding::Base64 } else { Coding::Bytes }),
            None => {
                let why = format!("requested protocol(s) are not supported: {names:?}; supports [{BINARY} {BASE64}]");
                return Err((403, why));
            }
        },
    };
    Ok((switched(asked, protocol)?, coding))
}

/// The head of an answer that switches to a WebSocket; or why there is none.
fn switched(asked: &HeaderMap, protocol: Option<&str>) -> Result<Reply, (u16, String)> {
    let bad = |why: &str| (400, why.to_owned());
    let key = asked.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| bad("missing Sec-WebSocket-Key"))?;
    if asked.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("missing or bad WebSocket Version"));
    }
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let mut head = Response::new(ReplyBody::empty());
    *head.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = head.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.map_err(|_| bad("bad Sec-WebSocket-Key"))?);
    if let Some(protocol) = protocol {
        let protocol = HeaderValue::from_str(protocol).map_err(|_| bad("bad WebSocket protocol"))?;
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(head)
}

/// Whether a client speaks the protocol of remote commands in which single streams end.
pub fn ends_streams(headers: &HeaderMap) -> bool {
    is_asked(headers) && protocols(headers).any(|one| one == V5)
}

/// Tells a client of a remote command, in that protocol, why there is none.
pub fn tell_failure(core: &Core, headers: &HeaderMap, client: Takeover, error: &ApiError) -> Result<Reply, ApiError> {
    let head = switched(headers, Some(V5)).map_err(|(_, why)| ApiError::bad_request(why))?;
    let mut status = error.to_status();
    // A status on a channel does not say what it is.
    for key in ["kind", "apiVersion"] {
        object::remove(&mut status, &[], key);
    }
    let mut message = vec![ERROR_CHANNEL];
    message.extend(status.to_string().into_bytes());
    let (Takeover { stream, visit, counted }, drain) = (client, core.drain.clone());
    tokio::spawn(async move {
        let _counted = (counted, visit);
        let io = match stream.await {
            Ok(io) => TokioIo::new(io),
            Err(error) => return tracing::debug!(%error, "a WebSocket was not opened"),
        };
        let body = ReplyBody::full(message);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits())).await;
        tokio::select! {
            () = pour(socket, body, Coding::Whole) => {}
            () = drain.cancelled() => {}
        }
    });
    Ok(head)
}

/// Sends a body's bytes until it ends or the client goes.
async fn pour<S>(socket: WebSocketStream<S>, body: ReplyBody, coding: Coding)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut source) = socket.split();
    let gone = async {
        while let Some(Ok(message)) = source.next().await {
            if message.is_close() {
                return;
            }
        }
    };
    let send = async {
        if let Some(first) = coding.first() {
            sink.send(first).await?;
        }
        let (mut frames, mut rest) = (body.into_data_stream(), BytesMut::new());
        while let Some(Ok(bytes)) = frames.next().await {
            rest.extend_from_slice(&bytes);
            while let Some(message) = coding.cut(&mut rest) {
                sink.send(message).await?;
            }
        }
        let farewell = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        sink.send(Message::Close(Some(farewell))).await
    };
    tokio::pin!(gone);
    tokio::select! {
        () = &mut gone => {}
        sent = send => {
            // The client is given time to answer the close: cutting it off could take the last message with it.
            if sent.is_ok() && tokio::time::timeout(FAREWELL, gone).await.is_err() {
                tracing::debug!("the client of a WebSocket did not answer its close");
            }
        }
    }
}

impl Coding {
    /// An empty message, by which upstream begins a log.
    fn first(self) -> Option<Message> {
        match self {
            Self::Lines | Self::Frames | Self::Whole => None,
            Self::Bytes => Some(Message::Binary(Bytes::new())),
            Self::Base64 => Some(Message::Text(Utf8Bytes::default())),
        }
    }

    /// The next message, cut off from what has come.
    fn cut(self, rest: &mut BytesMut) -> Option<Message> {
        match self {
            Self::Lines => {
                let end = rest.iter().position(|byte| *byte == b'\n')?;
                Utf8Bytes::try_from(rest.split_to(end + 1).freeze()).ok().map(Message::Text)
            }
            Self::Frames => {
                let length = usize::try_from(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
                if rest.len() - 4 < length {
                    return None;
                }
                rest.advance(4);
                Some(Message::Binary(rest.split_to(length).freeze()))
            }
            Self::Bytes | Self::Base64 | Self::Whole if rest.is_empty() => None,
            Self::Whole => Some(Message::Binary(rest.split().freeze())),
            Self::Bytes => Some(Message::Binary(rest.split_to(rest.len().min(LOG_BYTES)).freeze())),
            Self::Base64 => {
                let piece = rest.split_to(rest.len().min(LOG_BYTES));
                Some(Message::Text(STANDARD.encode(piece).into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    fn asked(protocols: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        headers
    }

    fn answer(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    async fn told(coding: Coding, frames: &[&'static [u8]]) -> Vec<Message> {
        let (here, there): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
        let body = ReplyBody::Ready(frames.iter().map(|frame| Bytes::from_static(frame)).collect());
        let server = WebSocketStream::from_raw_socket(here, Role::Server, None).await;
        let pouring = tokio::spawn(pour(server, body, coding));
        let mut client = WebSocketStream::from_raw_socket(there, Role::Client, None).await;
        let mut messages = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if !message.is_close() {
                messages.push(message);
            }
        }
        pouring.await.unwrap();
        messages
    }

    #[tokio::test]
    async fn every_event_is_a_message_however_the_bytes_come() {
        let texts = told(Coding::Lines, &[b"{\"a\":1}\n{\"b\"", b":2}\n"]).await;
        assert_eq!(texts, [Message::text("{\"a\":1}\n"), Message::text("{\"b\":2}\n")]);
        let frames = told(Coding::Frames, &[b"\0\0\0\x02ab\0\0", b"\0\x01c"]).await;
        assert_eq!(frames, [Message::binary(&b"ab"[..]), Message::binary(&b"c"[..])]);
    }

    #[tokio::test]
    async fn a_log_begins_with_an_empty_message() {
        let bytes = told(Coding::Bytes, &[b"out\n"]).await;
        assert_eq!(bytes, [Message::binary(Bytes::new()), Message::binary(&b"out\n"[..])]);
        let texts = told(Coding::Base64, &[b"out\n"]).await;
        assert_eq!(texts, [Message::text(""), Message::text("b3V0Cg==")]);
    }

    #[test]
    fn a_watch_repeats_one_subprotocol_and_a_log_knows_its_own() {
        let shaken = |told, protocols: &str, kind| {
            shake(told, &asked(protocols), &answer(kind)).map(|(head, coding)| {
                let protocol = head.headers().get("sec-websocket-protocol").map(|one| one.to_str().unwrap().to_owned());
                (protocol.unwrap_or_default(), coding)
            })
        };
        let json = "application/json";
        assert_eq!(shaken(Told::Watch, "", json).unwrap(), (String::new(), Coding::Lines));
        assert_eq!(shaken(Told::Watch, BASE64, json).unwrap(), (BASE64.to_owned(), Coding::Lines));
        let protobuf = "application/vnd.kubernetes.protobuf;stream=watch";
        assert_eq!(shaken(Told::Watch, "", protobuf).unwrap(), (String::new(), Coding::Frames));
        assert_eq!(shaken(Told::Watch, "a, b", json).unwrap_err().0, 400);
        let text = "text/plain";
        assert_eq!(shaken(Told::Log, "", text).unwrap(), (String::new(), Coding::Bytes));
        assert_eq!(shaken(Told::Log, "x, binary.k8s.io", text).unwrap(), (BINARY.to_owned(), Coding::Bytes));
        assert_eq!(shaken(Told::Log, BASE64, text).unwrap(), (BASE64.to_owned(), Coding::Base64));
        assert_eq!(shaken(Told::Log, "v4.channel.k8s.io", text).unwrap_err().0, 403);
    }

    #[test]
    fn a_token_among_the_subprotocols_is_the_bearer_token() {
        let mut headers = asked("base64url.bearer.authorization.k8s.io.c2VjcmV0, base64.binary.k8s.io");
        take_token(&mut headers);
        assert_eq!(headers[header::AUTHORIZATION], "Bearer secret");
        assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], BASE64);
        let mut headers = asked("base64url.bearer.authorization.k8s.io.c2VjcmV0, base64.binary.k8s.io");
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer own"));
        take_token(&mut headers);
        assert_eq!(
            (&headers[header::AUTHORIZATION], &headers[header::SEC_WEBSOCKET_PROTOCOL]),
            (&HeaderValue::from_static("Bearer own"), &HeaderValue::from_static(BASE64))
        );
        for untouched in ["base64url.bearer.authorization.k8s.io.c2VjcmV0", BASE64] {
            let mut headers = asked(untouched);
            take_token(&mut headers);
            assert!(!headers.contains_key(header::AUTHORIZATION), "{untouched}");
        }
    }
}
