//! The server as a service in this process: a client without a socket, with the identity that the server gives it.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use martello_api::identity::User;

use super::Core;
use crate::{
    authn::Peer,
    http::{
        body::ReplyBody,
        door::{self, Origin},
    },
};

/// A service that passes requests through the door as one user.
#[derive(Clone)]
pub(super) struct InProcess {
    core: Arc<Core>,
    user: Arc<User>,
}

impl InProcess {
    pub(super) fn new(core: Arc<Core>, user: User) -> Self {
        Self { core, user: Arc::new(user) }
    }
}

impl tower::Service<Request<Body>> for InProcess {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let origin = Origin { peer: Peer::Internal(Arc::clone(&self.user)), address: None, visit: None };
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let core = Arc::clone(&self.core);
        Box::pin(async move { Ok(door::serve(core, origin, request).await) })
    }
}
