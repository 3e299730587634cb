//! Forwards ports: each connection of the caller becomes one to the pod's own loopback.

use std::{collections::HashMap, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream},
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
    data: DuplexStream,
    mut error: DuplexStream,
) {
    let result = match port {
        None => Err("the stream names no port".to_owned()),
        Some(port) => match runtime.dial_loopback(&pod_uid, port).await {
            Err(cause) => Err(format!(
                "error forwarding port {port} to pod {pod_uid}: failed to connect to localhost:{port} inside the pod: {}",
                full(&cause)
            )),
            Ok(connection) => {
                join(data, connection).await;
                Ok(())
            }
        },
    };
    if let Err(message) = result {
        error.write_all(message.as_bytes()).await.ok();
    }
    error.shutdown().await.ok();
}

/// Copies both ways until the pod has said all. A caller that has said all still gets its answer; one that has not is
/// not waited for: kubectl before 1.30 keeps its side open until it is told, on the stream for errors, that this is over.
/// Either side may end it at any time; that's no error.
pub async fn join(caller: impl AsyncRead + AsyncWrite, pod: impl AsyncRead + AsyncWrite) {
    let (mut from_caller, mut to_caller) = tokio::io::split(caller);
    let (mut from_pod, mut to_pod) = tokio::io::split(pod);
    let asking = async {
        tokio::io::copy(&mut from_caller, &mut to_pod).await.ok();
        to_pod.shutdown().await.ok();
        std::future::pending::<()>().await;
    };
    let answering = async {
        tokio::io::copy(&mut from_pod, &mut to_caller).await.ok();
        to_caller.shutdown().await.ok();
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn it_is_over_when_the_pod_has_said_all_even_if_the_caller_keeps_its_side_open() {
        let ((mut caller, near), (far, mut pod)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let joined = tokio::spawn(join(near, far));
        caller.write_all(b"ask").await.unwrap();
        let mut asked = [0; 3];
        pod.read_exact(&mut asked).await.unwrap();
        pod.write_all(b"answer").await.unwrap();
        drop(pod);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        joined.await.unwrap();
        assert_eq!((&asked, answer.as_str()), (b"ask", "answer"));
    }

    #[tokio::test]
    async fn a_caller_that_has_said_all_still_gets_its_answer() {
        let ((mut caller, near), (far, mut pod)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let joined = tokio::spawn(join(near, far));
        caller.write_all(b"ask").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut asked = String::new();
        pod.read_to_string(&mut asked).await.unwrap();
        pod.write_all(b"answer").await.unwrap();
        drop(pod);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        joined.await.unwrap();
        assert_eq!((asked.as_str(), answer.as_str()), ("ask", "answer"));
    }
}
