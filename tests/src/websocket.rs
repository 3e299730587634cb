//! A WebSocket client that sends and gets single messages (RFC 6455), and is told how it is refused.

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::raw::Endpoint;

/// The longest message that a test takes.
const LONGEST: u64 = 8 << 20;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A connection on which messages pass.
#[derive(Debug)]
pub struct WebSocket {
    stream: TlsStream<TcpStream>,
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
    /// Opens a path in one of these protocols.
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
        Ok(Ok(Self { stream, protocol: field("sec-websocket-protocol") }))
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &[u8]) -> Result<()> {
        self.frame(BINARY, message).await
    }

    async fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![FINAL | kind];
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(short @ ..126), _) => frame.push(MASKED | short),
            (_, Ok(middle)) => {
                frame.push(MASKED | 126);
                frame.extend(middle.to_be_bytes());
            }
            _ => {
                frame.push(MASKED | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        // A mask of zeros changes nothing.
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await.context("send a message")
    }

    /// The next message; none when the server closes.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut whole = Vec::new();
        loop {
            let first = self.stream.read_u8().await.context("read a frame")?;
            let length = match self.stream.read_u8().await.context("read a frame's length")? {
                126 => u64::from(self.stream.read_u16().await.context("read a frame's length")?),
                127 => self.stream.read_u64().await.context("read a frame's length")?,
                short => u64::from(short),
            };
            ensure!(length <= LONGEST, "a message of {length} bytes");
            let mut payload = vec![0; usize::try_from(length).context("read a frame's length")?];
            self.stream.read_exact(&mut payload).await.context("read a message")?;
            match first & 0x0f {
                CLOSE => return Ok(None),
                PING => self.frame(PONG, &payload).await?,
                PONG => {}
                _ => {
                    whole.extend(payload);
                    if first & FINAL != 0 {
                        return Ok(Some(whole));
                    }
                }
            }
        }
    }
}
