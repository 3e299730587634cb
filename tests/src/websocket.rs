//! A WebSocket client that sends and gets single messages (RFC 6455), and is told how it is refused.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::raw::Endpoint;

/// A connection on which messages pass.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<TlsStream<TcpStream>>,
    /// The protocol that the server chose.
    pub protocol: Option<String>,
}

/// What a server answered instead of switching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// What it said.
    pub body: String,
}

impl WebSocket {
    /// Opens a path in one of these protocols. It shakes hands itself: the library keeps no more of a refusal than came with its
    /// head.
    pub async fn open(endpoint: &Endpoint, path: &str, protocols: &[&str]) -> Result<Result<Self, Refused>> {
        let mut stream = endpoint.open(&[b"http/1.1"]).await?;
        let offered = match protocols {
            [] => String::new(),
            names => format!("Sec-WebSocket-Protocol: {}\r\n", names.join(", ")),
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: martello.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offered}\r\n"
        );
        stream.write_all(head.as_bytes()).await.context("ask for a WebSocket")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.context("read the answer's head")?);
        }
        let head = String::from_utf8(head).context("read the answer's head")?;
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("read the status")?;
        if status != 101 {
            let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.context("read the refusal")?;
            return Ok(Err(Refused { status, body: String::from_utf8_lossy(&body).into_owned() }));
        }
        let protocol = field("sec-websocket-protocol");
        Ok(Ok(Self { stream: WebSocketStream::from_raw_socket(stream, Role::Client, None).await, protocol }))
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        let message = Message::Binary(Bytes::copy_from_slice(message));
        self.stream.send(message).await.context("send a message")
    }

    /// The next message; none when the server closes.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        while let Some(message) = self.stream.next().await {
            match message.context("read a message")? {
                Message::Close(_) => return Ok(None),
                message @ (Message::Binary(_) | Message::Text(_)) => return Ok(Some(message.into_data().into())),
                _ => {}
            }
        }
        bail!("the connection ended without a close")
    }
}
