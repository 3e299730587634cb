//! The one door: every request, our own components' included, passes here and nowhere else.

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::BodyExt as _;
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    clock, go,
    identity::{ANONYMOUS, User},
    names::path_segment,
    schema::has_protobuf,
    status::ApiError,
};
use martello_policy::{Decision, Permit};
use parking_lot::Mutex;

use super::{
    body::BoxError,
    compress::{compress, takes_gzip},
    extension,
    info::RequestInfo,
    negotiate::{Accepted, NotAcceptable, accept, accept_unrouted, accept_without_tables, content_type, media_type},
    outbound::Takeover,
    query::Query,
    reply::{self, Reply},
    routes,
    track::{deadline, is_long_running, is_proxied, takes_over},
    websocket::{Spoken, take_token},
};
use crate::{
    authn::{self, Peer},
    flow::{Classified, Place},
    metrics::Observed,
    registry::{
        call::{Call, Note, is_for_people},
        codec,
        core::connect_options::ConnectOptions,
        kind::Kind,
        select::equalities,
        verbs,
    },
    server::{Core, Visit, extensions::Extension},
};

/// Largest body of a request, as upstream's.
const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// Longest path and query.
const MAX_URI_BYTES: usize = 16 * 1024;
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

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
    let now = clock::now();
    let limit = match deadline(&info, &query) {
        Ok(limit) => limit,
        Err(error) => {
            let record = core.audit.open(&origin, &Arc::new(User::anonymous()), &info, &request, now);
            return observed.done(record.refused(&error, "asks for a time that is none"));
        }
    };
    let authenticated = authn::authenticate(core, &origin.peer, (request.uri().path(), request.headers()), now).await;
    core.metrics.authenticated(authenticated.is_ok());
    let user = match authenticated {
        Ok(user) => {
            if let Some(visit) = origin.visit.as_ref().filter(|_| user.name != ANONYMOUS) {
                visit.prove(&user.name);
            }
            user
        }
        Err(why) => {
            let nobody = Arc::new(User::anonymous());
            let record = core.audit.open(&origin, &nobody, &info, &request, now);
            return observed.done(record.refused(&ApiError::unauthorized(), &format!("not authenticated: {why}")));
        }
    };
    let authenticated = Arc::clone(&user);
    let user = match authn::impersonate(core, user, request.headers(), info.verb, &info.target) {
        Ok(user) => user,
        Err(error) => {
            let record = core.audit.open(&origin, &authenticated, &info, &request, now);
            let mut reply = record.refused(&error, "may not act as another");
            reply::never_sniffed(&mut reply);
            return observed.done(reply);
        }
    };
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let upgrade = upgrade.map(|stream| Takeover {
        stream,
        visit: origin.visit.as_ref().map(Visit::begin),
        counted: observed.lasting(),
    });
    let switches = upgrade_wanted(request.headers());
    let acts = takes_over(&info.target, switches) || is_proxied(&info.target) || extension_of(core, &info).is_some();
    let record = core.audit.open(&origin, &user, &info, &request, now).made_by(authenticated).acting(acts);
    let (flow, seat) = match seated(core, &origin.peer, &user, &info).await {
        Ok(seated) => seated,
        Err(flow) => {
            let error = ApiError::new(429, "TooManyRequests", "Too many requests, please try again later.");
            let mut reply = record.refused(&error, "no seat in its priority level");
            reply::too_many(&mut reply);
            reply::belongs(&mut reply, &flow);
            return observed.done(reply);
        }
    };
    let mut headers = std::mem::take(request.headers_mut());
    if let Some(host) = request.uri().authority().filter(|_| !headers.contains_key(header::HOST))
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        // HTTP/2 names the host elsewhere.
        headers.insert(header::HOST, host);
    }
    let mut decided = authorize(core, &user, &info, &query, switches);
    if decided.is_err() && user.node_name().is_some() && core.unsettled.settled().await {
        decided = authorize(core, &user, &info, &query, switches);
    }
    let permit = match decided {
        Ok(permit) => permit,
        Err(denied) => {
            let (error, hint) = *denied;
            let mut reply = record.refused(&error, &hint);
            reply::never_sniffed(&mut reply);
            if let Some(flow) = &flow {
                reply::belongs(&mut reply, flow);
            }
            if is_interactive(&headers) {
                reply::warn(&mut reply, &[hint]);
            }
            return observed.done(reply);
        }
    };
    let record = match record.allowed(&permit).await {
        Ok(record) => record,
        Err(error) => return observed.done(reply::failure(&error)),
    };
    let notes = Arc::default();
    let address = origin.address;
    let passed = Passed { user, info, query, limit, headers, permit, upgrade, now, notes: Arc::clone(&notes), address };
    let served = handle(core, passed, request).await;
    drop(seat);
    let mut reply = served.unwrap_or_else(|(error, warnings)| {
        let mut reply = reply::failure(&error);
        reply::warn(&mut reply, &warnings);
        reply
    });
    if let Some(flow) = &flow {
        reply::belongs(&mut reply, flow);
    }
    let notes = std::mem::take(&mut *notes.lock());
    observed.done(record.close(reply, &notes).await)
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

/// Names that could lead elsewhere: nothing is ever called so. Of a namespace upstream says so in other words, and after it
/// has tried.
fn refuse_odd_names(target: &ResourceTarget) -> Result<(), ApiError> {
    for (what, name) in [("Namespace", &target.namespace), ("Name", &target.name)] {
        let faults = path_segment(name);
        if !faults.is_empty() {
            let quoted = go::quoted(name);
            return Err(ApiError::bad_request(format!("{what} parameter invalid: {quoted}: {}", faults.join(";"))));
        }
    }
    Ok(())
}

/// What got through identity and authorization.
struct Passed {
    user: Arc<User>,
    info: RequestInfo,
    query: Query,
    limit: Option<Duration>,
    headers: HeaderMap,
    permit: Permit,
    upgrade: Option<Takeover>,
    now: jiff::Timestamp,
    notes: Arc<Mutex<Vec<Note>>>,
    address: Option<SocketAddr>,
}

/// A failure, and what the client is told besides.
type Refused = (ApiError, Vec<String>);

/// A denial, and what would have allowed the request.
type Denied = (ApiError, String);

/// Whether a person reads the answer: `kubectl` shows warnings, and a denial's message itself is upstream's to the letter.
fn is_interactive(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("kubectl"))
}

/// The extension server that serves a request, if it is one's.
fn extension_of(core: &Core, info: &RequestInfo) -> Option<Arc<Extension>> {
    core.extensions.of(&info.path).filter(|extension| !core.registry.has_version(&extension.group, &extension.version))
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

async fn handle(core: &Arc<Core>, passed: Passed, request: Request<RequestBody>) -> Result<Reply, Refused> {
    let plain = |error: ApiError| (error, Vec::new());
    let Passed { user, info, query, limit, headers, permit, upgrade, now, notes, address } = passed;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let gzip = takes_gzip(&headers);
    let method = request.method().clone();
    if info.has_gap {
        let has_router = info.resource().is_some_and(|target| core.registry.has_group(&target.group));
        return if has_router { Err(plain(ApiError::no_such_route())) } else { Ok(reply::page_not_found()) };
    }
    if let Some(extension) = extension_of(core, &info) {
        let target = request.uri().path_and_query().map_or_else(String::new, |target| target.as_str().to_owned());
        let body = if upgrade_wanted(&headers) && !headers.contains_key(header::CONTENT_LENGTH) {
            Bytes::new()
        } else {
            read_body(request, BODY_TIMEOUT).await.map_err(plain)?
        };
        let asked = extension::Asked { user: &user, method, target, headers: &headers, body, upgrade, address };
        let serve = extension::serve(core, &extension, asked);
        let served = within(limit, serve).await;
        return served.map_err(plain);
    }
    let Target::Resource(target) = info.target.clone() else {
        let body =
            if method == Method::GET { Bytes::new() } else { read_body(request, BODY_TIMEOUT).await.map_err(plain)? };
        let reply = routes::serve(core, &user, &method, &info, &query, &headers, body).await;
        return Ok(compress(gzip, reply));
    };
    let Some(kind) = core.registry.reach(&target, address.is_none()) else {
        // A group of which nothing is built in has no router that could answer with an object.
        if core.registry.has_group(&target.group) {
            return Err(plain(ApiError::no_such_route()));
        }
        return Ok(reply::nothing_here(core));
    };
    // Custom kinds have no router that knows methods.
    let is_odd = (method == Method::HEAD && target.subresource != "proxy") || info.verb.is_empty();
    if is_odd && !kind.is_custom() {
        return Err(plain(ApiError::method_not_allowed()));
    }
    refuse_odd_names(&target).map_err(plain)?;
    let accepted = accepted(text(header::ACCEPT), info.verb, &target, &kind).map_err(plain)?;
    let sent_as = text(header::CONTENT_TYPE);
    let content_type = if method == Method::PATCH { media_type(sent_as) } else { content_type(sent_as) }.to_owned();
    let user_agent = text(header::USER_AGENT).to_owned();
    let has_none = method == Method::GET || (upgrade_wanted(&headers) && !headers.contains_key(header::CONTENT_LENGTH));
    let body = if has_none { Bytes::new() } else { read_body(request, BODY_TIMEOUT).await.map_err(plain)? };
    let (spoken, upgrade) = Spoken::of(&headers, info.verb, &target, upgrade);
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let call = Call {
        user,
        verb: info.verb,
        target,
        rest: info.rest,
        query,
        accepted,
        content_type,
        body,
        user_agent,
        now,
        permit,
        warnings: Arc::clone(&warnings),
        notes,
        conversions: codec::Conversions::default(),
        upgrade: Mutex::new(upgrade),
        address,
        connects: ConnectOptions::default(),
        headers,
        method,
    };
    let changes = !matches!(info.verb, "get" | "list" | "watch");
    let binds = changes && call.target.group.is_empty() && matches!(&*call.target.resource, "pods" | "bindings");
    let under_way = binds.then(|| core.unsettled.begin());
    let work = verbs::serve(Arc::clone(core), kind, call);
    let served = match (limit, changes) {
        (None, _) => {
            drop(under_way);
            work.await
        }
        (_, false) => within(limit, work).await,
        // A change that has begun goes on to its end, whether or not anybody waits for the answer: what is stored must
        // become known to the authorizer.
        (_, true) => {
            let work = tokio::spawn(async move {
                let served = work.await;
                drop(under_way);
                served
            });
            let work = async { work.await.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic())) };
            within(limit, work).await
        }
    };
    let told = std::mem::take(&mut *warnings.lock());
    match served {
        Ok(mut reply) => {
            if let Some(spoken) = spoken {
                reply = spoken.tell(core, reply);
            }
            reply::warn(&mut reply, &told);
            Ok(compress(gzip, reply))
        }
        Err(error) => Err((error, told)),
    }
}

/// What `work` comes to, if it doesn't take longer than it may.
async fn within(
    limit: Option<Duration>,
    work: impl Future<Output = Result<Reply, ApiError>>,
) -> Result<Reply, ApiError> {
    let Some(limit) = limit else { return work.await };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Ok(reply::late()))
}

fn upgrade_wanted(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

fn accepted(header: &str, verb: &str, target: &ResourceTarget, kind: &Kind) -> Result<Accepted, ApiError> {
    let (subresource, protobuf) = (target.subresource.as_str(), has_protobuf(&kind.resource.gvk));
    if matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy") {
        return Ok(accept(header, false).unwrap_or_default());
    }
    // Reviews and requests are answered, and not kept.
    if kind.is_custom() {
        // Upstream names what it serves elsewhere, too.
        return accept_unrouted(header).map_err(|why| not_acceptable(why, verb, true));
    }
    let is_kept = kind.offers("get") && !matches!(subresource, "binding" | "eviction" | "token");
    let picked = if is_kept { accept(header, protobuf) } else { accept_without_tables(header, protobuf) };
    picked.map_err(|why| not_acceptable(why, verb, protobuf))
}

/// What a client is told that accepts nothing of what there is.
pub(super) fn not_acceptable(why: NotAcceptable, verb: &str, protobuf: bool) -> ApiError {
    let also = if protobuf { ", application/vnd.kubernetes.protobuf" } else { "" };
    let served = format!("application/json, application/yaml{also}");
    match why {
        NotAcceptable::Media => {
            let streams = match (matches!(verb, "list" | "watch"), protobuf) {
                (false, _) => "",
                (true, false) => ", application/json;stream=watch",
                (true, true) => ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
            };
            let message = format!("406: Not Acceptable\n\nAvailable representations: {served}{streams}");
            let mut error = ApiError::new(406, "NotAcceptable", message);
            error.details = Some(Box::default());
            error
        }
        NotAcceptable::Form => {
            let message = format!("only the following media types are accepted: {served}");
            ApiError::new(406, "NotAcceptable", message)
        }
    }
}

/// Reads a body, bounded in bytes and in time.
async fn read_body(request: Request<RequestBody>, patience: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(patience, collect(request.into_body())).await {
        Ok(collected) => collected,
        Err(_) => Err(ApiError::new(408, "Timeout", "the request's body did not arrive in time")),
    }
}

async fn collect(mut body: RequestBody) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut more = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("reading the request's body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + more.len() + data.len() > MAX_BODY_BYTES {
            return Err(ApiError::too_large(format!("Request entity too large: limit is {MAX_BODY_BYTES}")));
        }
        if first.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&data);
        }
    }
    if more.is_empty() {
        return Ok(first);
    }
    let mut all = Vec::with_capacity(first.len() + more.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(&more);
    Ok(all.into())
}

/// `Audit-Id`, which names the request in the audit log.
pub fn set_audit_id(reply: &mut Reply, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        reply.headers_mut().insert("audit-id", value);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    fn body(frames: impl futures::Stream<Item = Bytes> + Send + 'static) -> Request<RequestBody> {
        let frames = frames.map(|bytes| Ok::<_, BoxError>(Frame::data(bytes)));
        Request::new(StreamBody::new(frames).boxed_unsync())
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_in_time_is_not_waited_for() {
        let dawdling = futures::stream::iter([Bytes::from_static(b"{")]).chain(futures::stream::pending());
        let error = read_body(body(dawdling), Duration::from_millis(10)).await.unwrap_err();
        assert_eq!((error.code, error.reason.as_str()), (408, "Timeout"));
    }

    #[tokio::test]
    async fn a_body_is_cut_off_at_its_limit_whatever_its_pieces() {
        let piece = || Bytes::from(vec![b' '; MAX_BODY_BYTES / 4]);
        let fits = futures::stream::iter(std::iter::repeat_with(piece).take(4));
        assert_eq!(read_body(body(fits), BODY_TIMEOUT).await.unwrap().len(), MAX_BODY_BYTES);
        let endless = futures::stream::iter(std::iter::repeat_with(piece));
        let error = read_body(body(endless), BODY_TIMEOUT).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (413, "Request entity too large: limit is 3145728"));
    }

    #[tokio::test]
    async fn what_is_never_answered_ends_at_its_deadline() {
        let ended = within(Some(Duration::from_millis(1)), std::future::pending()).await;
        assert_eq!(ended.unwrap().status(), 504);
    }
}
