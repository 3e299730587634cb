//! The local socket: the operator's way in on the server's own machine, through the same door.

use std::{
    convert::Infallible,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Request;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use martello_api::identity::{GROUP_MASTERS, User};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Core, Server};
use crate::{
    authn::Peer,
    http::door::{self, Origin},
};

/// Connections at once: an operator needs one.
const MAX_CONNECTIONS: usize = 16;

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("opening the local socket {path}")]
pub struct LocalError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

impl Server {
    /// Serves the owner of the server's process, and nobody else, over a socket at `path`, until `shutdown`. Whoever
    /// connects is known by the kernel's word (peer credentials), and is the user `system:local:<uid>` with all rights;
    /// what they ask passes the door, and is audited.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub fn serve_local(&self, path: &Path, shutdown: CancellationToken) -> Result<JoinHandle<()>, LocalError> {
        let failed = |source| LocalError { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let owner = std::fs::metadata(path).map_err(failed)?.uid();
        let core = Arc::clone(&self.core);
        let path = path.to_owned();
        Ok(tokio::spawn(async move {
            accept(core, listener, owner, shutdown).await;
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(%error, path = %path.display(), "the local socket was gone already");
            }
        }))
    }
}

async fn accept(core: Arc<Core>, listener: UnixListener, owner: u32, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Some(Ok(place)) = shutdown.run_until_cancelled(Arc::clone(&places).acquire_owned()).await else { return };
        let stream = match shutdown.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!(%error, "accepting a local connection");
                continue;
            }
        };
        let Some(user) = user_of(&stream, owner) else { continue };
        let core = Arc::clone(&core);
        tokio::spawn(async move {
            let _place = place;
            serve(core, stream, user).await;
        });
    }
}

/// The user at the other end: root, or the owner of the server's process.
fn user_of(stream: &UnixStream, owner: u32) -> Option<User> {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            tracing::warn!(%error, "a local connection without credentials was refused");
            return None;
        }
    };
    if uid != owner && uid != 0 {
        tracing::warn!(uid, "a local connection of another user was refused");
        return None;
    }
    Some(User::authenticated(format!("system:local:{uid}"), [GROUP_MASTERS]))
}

async fn serve(core: Arc<Core>, stream: UnixStream, user: User) {
    let origin = Origin { peer: Peer::Internal(Arc::new(user)), address: None, visit: None };
    let service = service_fn(move |request: Request<Incoming>| {
        let (core, origin) = (Arc::clone(&core), origin.clone());
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        async move { Ok::<_, Infallible>(door::serve(core, origin, request).await) }
    });
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a local connection ended");
    }
}
