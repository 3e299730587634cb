//! Accepts connections: TLS, the caller's certificate, then HTTP/1.1 with upgrades.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::routes::{self, Site};
use crate::agent::{context::Context, roster::Pods};

/// No more connections are served at once: each exec or port-forward holds one.
const MOST_CONNECTIONS: usize = 1_024;
/// Whoever hasn't shown its certificate by then is sent away.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
/// Whoever hasn't sent its request by then is sent away.
const LONGEST_HEAD: Duration = Duration::from_secs(30);
/// After a failed accept (no descriptors left), this long nobody is let in.
const PAUSE: Duration = Duration::from_millis(100);

/// Says whether the holder of this certificate chain may use the server; otherwise why not.
pub type Admit = dyn Fn(&[CertificateDer<'static>]) -> Result<(), String> + Send + Sync;
/// The TLS configuration to use for the next connection. It must ask for a client certificate.
pub type Tls = dyn Fn() -> Arc<ServerConfig> + Send + Sync;

/// Who gets in, and how.
#[derive(Clone)]
pub struct Door {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The TLS configuration to use for the next connection.
    pub tls: Arc<Tls>,
    /// Who gets in.
    pub admit: Arc<Admit>,
}

/// Begins to listen; the future serves until told to stop.
///
/// # Errors
/// If the address can't be listened on.
pub async fn listen(
    context: Arc<Context>,
    pods: Pods,
    door: Door,
    shutdown: CancellationToken,
) -> io::Result<impl Future<Output = ()> + Send> {
    let listener = TcpListener::bind(door.listen).await?;
    let site = Arc::new(Site { context, pods });
    Ok(accept_all(listener, site, door, shutdown))
}

async fn accept_all(listener: TcpListener, site: Arc<Site>, door: Door, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (site, door) = (Arc::clone(&site), door.clone());
        tokio::spawn(async move {
            serve(stream, site, door).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, site: Arc<Site>, door: Door) {
    // Small messages of a terminal must not wait for each other.
    stream.set_nodelay(true).ok();
    let acceptor = TlsAcceptor::from((door.tls)());
    let stream = match tokio::time::timeout(LONGEST_HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let admitted = (door.admit)(chain);
    let service = service_fn(move |request| {
        let (site, admitted) = (Arc::clone(&site), admitted.clone());
        async move { Ok::<_, std::convert::Infallible>(routes::answer(site, admitted, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
