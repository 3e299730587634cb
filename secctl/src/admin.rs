//! The operator's way to the server of this machine: its local socket, open to the owner of the data only.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "admin.sock";
/// The answers are small objects.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Where the server's data is.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Data directory of the server on this machine.
    #[arg(long, default_value = "/var/lib/martello", env = "MARTELLO_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// Asks the server in `data_dir`; an answer of failure becomes an error with the server's message.
pub async fn ask(data_dir: &Path, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let socket = data_dir.join(SOCKET);
    let stream = UnixStream::connect(&socket).await.with_context(|| {
        format!(
            "connect to the server's local socket {}: is `secctl server` running, and is this its owner?",
            socket.display()
        )
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("secctl/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(bytes)))?;
    let answer = sender.send_request(request).await.with_context(|| format!("{method} {path}"))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{method} {path}: {error}"))?.to_bytes();
    driver.abort();
    let value: Value =
        serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    if !status.is_success() {
        let message =
            value.get("message").and_then(Value::as_str).unwrap_or_else(|| value.as_str().unwrap_or_default());
        bail!("the server answered {status}: {message}");
    }
    Ok(value)
}

/// The text at a path of keys in an answer.
pub fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("the server's answer has no {pointer}"))
}
