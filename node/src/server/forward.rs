//! Forwards ports: each connection of the caller becomes one to the pod's own loopback.

use std::{collections::HashMap, sync::Arc};

use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    task::JoinSet,
};

use super::spdy::{frame::header, session::Stream};
use crate::{agent::checks::full, runtime::Runtime};

/// Streams that wait for their other half.
const MOST_HALVES: usize = 256;

/// Serves the pairs of streams that a SPDY peer opens: one for data, one for errors, joined by a request's id.
pub async fn pairs(runtime: Arc<dyn Runtime>, pod_uid: String, mut opened: mpsc::Receiver<Stream>) {
    let mut halves: HashMap<String, Stream> = HashMap::new();
    let mut tasks = JoinSet::new();
    while let Some(stream) = opened.recv().await {
        while tasks.try_join_next().is_some() {}
        // Callers before 1.3 name no request: their pairs are those of one port.
        let request = header(&stream.headers, "requestid").or(header(&stream.headers, "port"));
        let request = request.unwrap_or_default().to_owned();
        let Some(other) = halves.remove(&request) else {
            if halves.len() < MOST_HALVES {
                halves.insert(request, stream);
            }
            continue;
        };
        let is_error = |stream: &Stream| header(&stream.headers, "streamtype") == Some("error");
        let (data, error) = if is_error(&stream) { (other, stream) } else { (stream, other) };
        let port = header(&data.headers, "port").and_then(|port| port.parse().ok());
        tasks.spawn(one(Arc::clone(&runtime), pod_uid.clone(), port, data.io, error.io));
    }
    while tasks.join_next().await.is_some() {}
}

/// Joins `data` with a new connection to `port` on the pod's loopback; what goes wrong is told on `error`.
pub async fn one(
    runtime: Arc<dyn Runtime>,
    pod_uid: String,
    port: Option<u16>,
    mut data: DuplexStream,
    mut error: DuplexStream,
) {
    let result = match port {
        None => Err("the stream names no port".to_owned()),
        Some(port) => match runtime.dial_loopback(&pod_uid, port).await {
            Err(cause) => Err(format!(
                "error forwarding port {port} to pod {pod_uid}: failed to connect to localhost:{port} inside the pod: {}",
                full(&cause)
            )),
            Ok(mut connection) => {
                // Either side may end it at any time; that's no error.
                tokio::io::copy_bidirectional(&mut data, &mut connection).await.ok();
                Ok(())
            }
        },
    };
    if let Err(message) = result {
        error.write_all(message.as_bytes()).await.ok();
    }
    error.shutdown().await.ok();
}
