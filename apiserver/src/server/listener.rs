//! The listener: TLS, HTTP/2 and HTTP/1.1, limits on everything, and an end that drops nobody.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::Request;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use martello_api::clock;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Core, Server,
    callers::{Callers, Visit},
    http1,
};
use crate::{
    authn::{Peer, credentials},
    http::{
        body::BoxError,
        door::{self, Origin},
        host,
        reply::Reply,
    },
};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of an HTTP/1.1 request.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Largest head of an HTTP/2 request.
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Requests at once on one HTTP/2 connection, as upstream's.
const MAX_STREAMS: u32 = 250;
/// Connections at once, if there may be as many open files; beyond it new ones wait in the kernel.
const MAX_CONNECTIONS: usize = 20_000;
/// Open files that are left for the store, the audit trail and connections to nodes.
const OTHER_FILES: usize = 512;
/// How often an idle HTTP/2 connection is asked whether it is alive.
const PING_PERIOD: Duration = Duration::from_secs(30);
/// How long running requests may take to end once the server is to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait after a failure to accept (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// HTTP/2, as a client asks for it in its handshake.
const HTTP2: &[u8] = b"h2";

/// Why a listener ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address could not be read.
    #[error("reading the address that the server listens on")]
    Address(#[source] std::io::Error),
}

impl Server {
    /// Serves connections of `listener` over TLS until `shutdown`, then lets running requests end.
    ///
    /// # Errors
    /// When the listener's address can't be read.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let address = listener.local_addr().map_err(ServeError::Address)?;
        tracing::info!(%address, "serving");
        let acceptor = TlsAcceptor::from(tls);
        let connections = TaskTracker::new();
        let most = max_connections();
        let places = Arc::new(Semaphore::new(most));
        let callers = Callers::new(most);
        let settings = Settings { http1: Arc::new(http1_settings()), http2: Arc::new(http2_settings()) };
        loop {
            let place = tokio::select! {
                () = shutdown.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (core, acceptor, settings) = (Arc::clone(&self.core), acceptor.clone(), settings.clone());
            let visit = callers.enter(peer.ip(), place.ok());
            connections.spawn(async move {
                let own = Arc::clone(&visit);
                let connection = async move {
                    // On the heap: it is over soon, and its place would be kept for as long as the connection lasts.
                    let shaken = Box::pin(handshake(&core, &acceptor, stream, peer, &own)).await;
                    let Some((stream, origin)) = shaken else { return };
                    converse(core, settings, stream, origin, own).await;
                };
                tokio::select! {
                    () = connection => {}
                    () = visit.over() => tracing::debug!(%peer, "a connection without an identity was closed"),
                }
            });
        }
        drop(listener);
        self.core.drain.cancel();
        connections.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            tracing::warn!("some requests were still running when the server stopped");
        }
        Ok(())
    }
}

/// How each protocol is spoken.
#[derive(Clone)]
struct Settings {
    http1: Arc<conn::http1::Builder>,
    http2: Arc<conn::http2::Builder<TokioExecutor>>,
}

/// Serves the requests of a connection in the protocol that was agreed upon, until there are no more.
async fn converse(
    core: Arc<Core>,
    settings: Settings,
    stream: Box<TlsStream<TcpStream>>,
    origin: Origin,
    visit: Arc<Visit>,
) {
    let (peer, drain) = (origin.address, core.drain.clone());
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    let answer = move |request: Request<Incoming>| {
        let (core, origin, busy) = (Arc::clone(&core), origin.clone(), visit.begin());
        // HTTP/2 has one place for the host, and more than one is no HTTP/2.
        let refusal = if is_http2 { None } else { host::refusal(&request) };
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        async move {
            let reply = match refusal {
                Some(refusal) => refusal,
                None => door::serve(core, origin, request).await,
            };
            drop(busy);
            reply
        }
    };
    // On the heap, each of its own size.
    let ended = if is_http2 {
        Box::pin(serve_http2(&settings.http2, stream, answer, &drain)).await.map_err(BoxError::from)
    } else {
        Box::pin(http1::serve(settings.http1, stream, answer, drain)).await.map_err(BoxError::from)
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error as &dyn std::error::Error, ?peer, "a connection ended");
    }
}

/// Serves a connection of HTTP/2 until its client leaves, or until `drain` and the end of what is running then.
async fn serve_http2<A, F>(
    settings: &conn::http2::Builder<TokioExecutor>,
    stream: Box<TlsStream<TcpStream>>,
    answer: A,
    drain: &CancellationToken,
) -> hyper::Result<()>
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut connection = pin!(settings.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        over = connection.as_mut() => return over,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// How many connections there may be, given how many files this process may open.
fn max_connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let files: usize = files.and_then(|files| files.parse().ok()).unwrap_or(usize::MAX);
    let most = files.saturating_sub(OTHER_FILES).clamp(1, MAX_CONNECTIONS);
    if most < MAX_CONNECTIONS {
        tracing::info!(most, files, "fewer connections than usual: this process may not open more files");
    }
    most
}

fn http1_settings() -> conn::http1::Builder {
    let mut builder = conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        // The buffer alone may hold more, and then more is taken.
        .max_header_size(MAX_HEAD_BYTES)
        .keep_alive(true)
        .pipeline_flush(false);
    builder
}

fn http2_settings() -> conn::http2::Builder<TokioExecutor> {
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(PING_PERIOD)
        .adaptive_window(false);
    builder
}

/// Does the handshake, and finds out once whose connection it is.
async fn handshake(
    core: &Arc<Core>,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    visit: &Arc<Visit>,
) -> Option<(Box<TlsStream<TcpStream>>, Origin)> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "setting TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "a TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!(%peer, "a TLS handshake took too long");
            return None;
        }
    };
    let chain = stream
        .get_ref()
        .1
        .peer_certificates()
        .map(|chain| chain.iter().map(|certificate| certificate.clone().into_owned()).collect::<Vec<_>>());
    let peer_of = match chain {
        None => Peer::Unknown,
        Some(chain) => credentials::certificate_peer(core, &chain, clock::now()),
    };
    if let Peer::Certificate(user, ..) = &peer_of {
        visit.prove(&user.name);
    }
    visit.settle();
    if let Peer::Refused(why) = &peer_of {
        tracing::info!(why = &**why, %peer, "a client certificate was refused; each request will be answered with 401");
    }
    Some((Box::new(stream), Origin { peer: peer_of, address: Some(peer), visit: Some(Arc::clone(visit)) }))
}
