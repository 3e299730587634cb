//! The one door: every request, our own components' included, passes here and nowhere else.

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, header, uri::PathAndQuery};
use jiff::Timestamp;
use martello_api::{
    attributes::{Attributes, Target},
    clock, go,
    identity::{ANONYMOUS, User},
    status::ApiError,
};
use martello_policy::{Decision, Permit};
use tokio::time::Instant;

use super::{
    body::BoxError,
    info::RequestInfo,
    outbound::Takeover,
    query::Query,
    reply::{self, Reply},
    track::{deadline, is_long_running, is_proxied, takes_over},
    websocket::take_token,
};
use crate::{
    authn::{self, Acting, AuthnError, Known, Peer, secret_tokens::SecretUse},
    flow::{Classified, Place},
    metrics::{Lasting, Observed},
    registry::{call::is_for_people, select::equalities},
    server::{Core, Visit, audit::Record},
};

mod acceptable;
mod dispatch;
mod request_body;
mod room;
mod roomy;

pub(super) use acceptable::not_acceptable;

use dispatch::{Passed, extension_of, handle, upgrade_wanted};

/// Longest path and query.
const MAX_URI_BYTES: usize = 16 * 1024;

/// Body of a request, wherever it comes from.
pub type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Who sent a request, and how.
#[derive(Clone, Debug)]
pub struct Origin {
    /// What the connection proved.
    pub peer: Peer,
    /// From where; none for our own components in this process.
    pub address: Option<SocketAddr>,
    /// The connection, if it is one from outside.
    pub visit: Option<Arc<Visit>>,
}

/// Serves one request. Never fails and never panics: a bug answers 500.
pub fn serve(core: Arc<Core>, origin: Origin, request: Request<RequestBody>) -> BoxFuture<'static, Reply> {
    Box::pin(guarded(core, origin, request))
}

async fn guarded(core: Arc<Core>, origin: Origin, request: Request<RequestBody>) -> Reply {
    let observed = Observed::start(&core.metrics);
    let is_head = request.method() == Method::HEAD;
    let [accept, agent] = [header::ACCEPT, header::USER_AGENT].map(|name| request.headers().get(name).cloned());
    let uri = request.uri().clone();
    let served = AssertUnwindSafe(pass(&core, origin, request, observed)).catch_unwind().await;
    let mut reply = served.unwrap_or_else(|_| {
        tracing::error!("a request handler panicked; the request was answered with 500");
        reply::failure(&ApiError::internal("this request caused apiserver to panic. Look in the logs for details."))
    });
    if reply.status().as_u16() >= 400 {
        let text = |sent: Option<HeaderValue>| {
            sent.and_then(|value| value.to_str().ok().map(str::to_owned)).unwrap_or_default()
        };
        let query = Query::parse(uri.query().unwrap_or_default());
        reply::negotiate_failure(&mut reply, &text(accept), is_for_people(&query, &text(agent)));
    }
    if is_head {
        *reply.body_mut() = super::body::ReplyBody::empty();
    }
    reply
}

async fn pass(core: &Arc<Core>, origin: Origin, mut request: Request<RequestBody>, mut observed: Observed) -> Reply {
    if request.uri().path_and_query().map_or(0, |path| path.as_str().len()) > MAX_URI_BYTES {
        return reply::failure(&ApiError::new(414, "", "the request's path and query are too long"));
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
    take_token(request.headers_mut());
    observed.about(&info, &query, &core.registry);
    let arrival = Arrival { core, origin, info, query, now: clock::now() };
    let reply = arrival.admit(request, observed.lasting()).await.unwrap_or_else(|refusal| *refusal);
    observed.done(reply)
}

/// A request that is about to be looked at: all of it but its method, headers and body.
struct Arrival<'c> {
    core: &'c Arc<Core>,
    origin: Origin,
    info: RequestInfo,
    query: Query,
    now: Timestamp,
}

impl Arrival<'_> {
    /// Takes the request from step to step: who sends it, as whom, when, whether that may be, and what it comes to. Whoever
    /// serves it on after the answer's head holds `counted`.
    async fn admit(
        self,
        mut request: Request<RequestBody>,
        counted: Option<Arc<Lasting>>,
    ) -> Result<Reply, Box<Reply>> {
        let core = self.core;
        if self.info.is_unfinished {
            return Err(self.unfinished(&request));
        }
        let limit = deadline(&self.info, &self.query)
            .map_err(|error| self.turned_away(&request, &error, "asks for a time that is none"))?;
        let authenticated = self.authenticated((request.uri().path(), request.headers())).await;
        let Known { user: authenticated, secret } = authenticated.map_err(|why| {
            let record = self.record(&request, &Arc::new(User::anonymous())).noted(why.notes().into_iter());
            Box::new(record.refused(&ApiError::unauthorized(), &format!("not authenticated: {why}")))
        })?;
        let Acting { user, constraint } = self.impersonated(&request, &authenticated)?;
        let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
        let upgrade =
            upgrade.map(|stream| Takeover { stream, visit: self.origin.visit.as_ref().map(Visit::begin), counted });
        let switches = upgrade_wanted(request.headers());
        let target = &self.info.target;
        let acts = takes_over(target, switches) || is_proxied(target) || extension_of(core, &self.info).is_some();
        let record = self.record(&request, &user).made_by(Arc::clone(&authenticated), constraint).acting(acts);
        let record = record.noted(secret.iter().flat_map(SecretUse::notes));
        let (flow, seat) = match seated(core, &self.origin.peer, &user, &self.info).await {
            Ok(seated) => seated,
            Err(flow) => return Err(too_many(record, &flow)),
        };
        let headers = with_host(&mut request);
        let permit = match self.authorized(&user, switches).await {
            Ok(permit) => permit,
            Err(denied) => return Err(forbidden(record, *denied, flow.as_ref(), &headers)),
        };
        let record = record.allowed(&permit).await.map_err(|error| Box::new(reply::failure(&error)))?;
        let notes = Arc::default();
        let Self { origin, info, query, now, .. } = self;
        let address = origin.address;
        let ends = limit.map(|limit| Instant::now() + limit);
        let passed = Passed {
            user,
            waits: seat.as_ref().is_some_and(Place::is_limited) && !authenticated.is_part_of_system(),
            authenticated,
            info,
            query,
            ends,
            headers,
            permit,
            upgrade,
            now,
            notes: Arc::clone(&notes),
            address,
        };
        let served = handle(core, passed, request).await;
        let mut reply = served.unwrap_or_else(|(error, warnings)| {
            let mut reply = reply::failure(&error);
            reply::warn(&mut reply, &warnings);
            reply
        });
        if let Some(ends) = ends {
            reply.body_mut().made_with(seat, ends);
        }
        if let Some(flow) = &flow {
            reply::belongs(&mut reply, flow);
        }
        if let Some(warning) = secret.as_ref().and_then(SecretUse::warning) {
            reply::warn(&mut reply, &[warning.to_owned()]);
        }
        let notes = std::mem::take(&mut *notes.lock());
        Ok(record.close(reply, &notes).await)
    }

    /// Opens the record of the request, which `user` sent.
    fn record(&self, request: &Request<RequestBody>, user: &Arc<User>) -> Record {
        self.core.audit.open(&self.origin, user, &self.info, request, self.now)
    }

    /// Refuses a request of which nobody knows who sent it.
    fn turned_away(&self, request: &Request<RequestBody>, error: &ApiError, why: &str) -> Box<Reply> {
        Box::new(self.record(request, &Arc::new(User::anonymous())).refused(error, why))
    }

    /// Refuses a request that does not say what it is about, in upstream's words and form.
    fn unfinished(&self, request: &Request<RequestBody>) -> Box<Reply> {
        let uri = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let why = format!("failed to create RequestInfo: unable to determine kind and namespace from url, {uri}");
        let mut refused = *self.turned_away(request, &ApiError::internal(&why), "does not say what it is about");
        if refused.status().as_u16() != 500 {
            return Box::new(refused);
        }
        let text = format!("Internal Server Error: {}: {why}\n", go::quoted(uri));
        let mut reply = reply::text(500, text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"));
        if let Some(id) = refused.headers_mut().remove("audit-id") {
            reply.headers_mut().insert("audit-id", id);
        }
        Box::new(reply)
    }

    /// Who sent the request, by its path and headers.
    async fn authenticated(&self, request: (&str, &HeaderMap)) -> Result<Known, AuthnError> {
        let authenticated = authn::authenticate(self.core, &self.origin.peer, request, self.now).await;
        self.core.metrics.authenticated(authenticated.is_ok());
        let known = authenticated?;
        if let Some(visit) = self.origin.visit.as_ref().filter(|_| known.user.name != ANONYMOUS) {
            visit.prove(&known.user.name);
        }
        Ok(known)
    }

    /// As whom the request acts.
    fn impersonated(&self, request: &Request<RequestBody>, authenticated: &Arc<User>) -> Result<Acting, Box<Reply>> {
        let user = Arc::clone(authenticated);
        authn::impersonate(self.core, user, request.headers(), self.info.verb, &self.info.target).map_err(|error| {
            let mut reply = self.record(request, authenticated).refused(&error, "may not act as another");
            reply::never_sniffed(&mut reply);
            Box::new(reply)
        })
    }

    /// Whether the request may be served. To a node that is denied, what is under way may give what it lacks.
    async fn authorized(&self, user: &Arc<User>, switches: bool) -> Result<Permit, Box<Denied>> {
        let mut decided = authorize(self.core, user, &self.info, &self.query, switches);
        if decided.is_err() && user.node_name().is_some() && self.core.unsettled.settled().await {
            decided = authorize(self.core, user, &self.info, &self.query, switches);
        }
        decided
    }
}

/// The answer to a request for which its priority level has no seat.
fn too_many(record: Record, flow: &Classified) -> Box<Reply> {
    let error = ApiError::new(429, "TooManyRequests", "Too many requests, please try again later.");
    let mut reply = record.refused(&error, "no seat in its priority level");
    reply::too_many(&mut reply);
    reply::belongs(&mut reply, flow);
    Box::new(reply)
}

/// The answer to a request that may not be served.
fn forbidden(record: Record, (error, hint): Denied, flow: Option<&Classified>, headers: &HeaderMap) -> Box<Reply> {
    let mut reply = record.refused(&error, &hint);
    reply::never_sniffed(&mut reply);
    if let Some(flow) = flow {
        reply::belongs(&mut reply, flow);
    }
    if is_interactive(headers) {
        reply::warn(&mut reply, &[hint]);
    }
    Box::new(reply)
}

/// The headers of a request, with its host: HTTP/2 names that elsewhere, and what is named there counts (RFC 9112, 3.2.2, and
/// RFC 9113, 8.3.1).
fn with_host(request: &mut Request<RequestBody>) -> HeaderMap {
    let mut headers = std::mem::take(request.headers_mut());
    if let Some(host) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        headers.insert(header::HOST, host);
    }
    headers
}

/// Where a request belongs, and its seat there. Our own components in this process are never kept waiting; what lasts takes
/// no seat, since it would never give it back.
async fn seated(
    core: &Core,
    peer: &Peer,
    user: &User,
    info: &RequestInfo,
) -> Result<(Option<Classified>, Option<Place>), Classified> {
    if matches!(peer, Peer::Internal(_)) {
        return Ok((None, None));
    }
    let Some(flow) = core.flow.classify(user, info.verb, &info.target) else { return Ok((None, None)) };
    if is_long_running(info) {
        return Ok((Some(flow), None));
    }
    match core.flow.seat(&flow).await {
        Ok(place) => Ok((Some(flow), Some(place))),
        Err(turned) => {
            tracing::debug!(user = user.name, verb = info.verb, path = info.path, %turned, "turned away");
            Err(flow)
        }
    }
}

/// A denial, and what would have allowed the request.
type Denied = (ApiError, String);

/// Whether a person reads the answer: `kubectl` shows warnings, and a denial's message itself is upstream's to the letter.
fn is_interactive(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("kubectl"))
}

fn authorize(
    core: &Core,
    user: &Arc<User>,
    info: &RequestInfo,
    query: &Query,
    switches: bool,
) -> Result<Permit, Box<Denied>> {
    let mut target = info.target.clone();
    if let Target::Resource(target) = &mut target
        && query.has("fieldSelector")
        && matches!(info.verb, "list" | "watch" | "deletecollection")
    {
        target.selected_fields = equalities(query.get("fieldSelector"));
    }
    let ask = |verb: &str, target: Target| {
        let attributes = Attributes { user: Arc::clone(user), verb: verb.to_owned(), target };
        core.authorizer.authorize(&attributes)
    };
    let decision = if info.verb == "get" && takes_over(&info.target, switches) {
        // A WebSocket begins with a GET, which reads nothing: it takes the right to create, too (upstream since 1.35).
        match ask("get", target.clone()) {
            Decision::Allow(_) => ask("create", target),
            denied @ Decision::Deny(_) => denied,
        }
    } else {
        ask(info.verb, target)
    };
    match decision {
        Decision::Allow(permit) => Ok(permit),
        Decision::Deny(denial) => {
            tracing::debug!(user = user.name, denied = denial.message(), hint = denial.hint(), "denied");
            Err(Box::new((denial.to_api_error(), denial.hint())))
        }
    }
}

/// `Audit-Id`, which names the request in the audit log.
pub fn set_audit_id(reply: &mut Reply, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        reply.headers_mut().insert("audit-id", value);
    }
}
