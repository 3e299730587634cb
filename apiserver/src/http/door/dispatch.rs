//! What a request comes to that may be served: by whom, and how.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, header};
use jiff::Timestamp;
use martello_api::{
    attributes::{ResourceTarget, Target},
    go,
    identity::User,
    names::path_segment,
    status::ApiError,
};
use martello_policy::Permit;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{
    RequestBody,
    acceptable::accepted,
    request_body::{BODY_TIMEOUT, read_body},
    room::{LARGE_BYTES, OBJECTS, Part},
    roomy::Roomy,
};
use crate::{
    http::{
        compress::{compress, takes_gzip},
        extension,
        info::RequestInfo,
        negotiate::{content_type, media_type},
        outbound::Takeover,
        query::Query,
        reply::{self, Reply},
        routes,
        websocket::Spoken,
    },
    registry::{
        call::{Call, Note},
        codec,
        core::connect_options::ConnectOptions,
        kind::Kind,
        verbs,
    },
    server::{Core, extensions::Extension},
};

/// What got through identity and authorization.
pub(super) struct Passed {
    pub(super) user: Arc<User>,
    pub(super) authenticated: Arc<User>,
    pub(super) info: RequestInfo,
    pub(super) query: Query,
    /// Until when it must be answered, unless it lasts.
    pub(super) ends: Option<Instant>,
    /// Whether it waits for room; those of exempt levels and of the system itself do not.
    pub(super) waits: bool,
    pub(super) headers: HeaderMap,
    pub(super) permit: Permit,
    pub(super) upgrade: Option<Takeover>,
    pub(super) now: Timestamp,
    pub(super) notes: Arc<Mutex<Vec<Note>>>,
    pub(super) address: Option<SocketAddr>,
}

/// A failure, and what the client is told besides.
pub(super) type Refused = (ApiError, Vec<String>);

pub(super) async fn handle(core: &Arc<Core>, passed: Passed, request: Request<RequestBody>) -> Result<Reply, Refused> {
    if passed.info.has_gap {
        let routed = |target: &ResourceTarget| core.registry.has_group(&target.group);
        let has_router = !passed.info.path.starts_with("//") && passed.info.resource().is_some_and(routed);
        return if has_router { Err(plain(ApiError::no_such_route())) } else { Ok(reply::page_not_found()) };
    }
    if let Some(extension) = extension_of(core, &passed.info) {
        return delegated(core, &extension, passed, request).await.map_err(plain);
    }
    let Target::Resource(target) = passed.info.target.clone() else {
        return beside_objects(core, passed, request).await.map_err(plain);
    };
    let Some(kind) = core.registry.reach(&target, passed.address.is_none()) else {
        // A group of which nothing is built in has no router that could answer with an object.
        if core.registry.has_group(&target.group) {
            return Err(plain(ApiError::no_such_route()));
        }
        return Ok(reply::nothing_here(core));
    };
    // Custom kinds have no router that knows methods. What is proxied may be asked for its head and its options, too.
    let is_nameless = passed.info.verb.is_empty();
    let is_odd = match *request.method() {
        Method::OPTIONS => target.subresource != "proxy",
        Method::HEAD => target.subresource != "proxy" || is_nameless,
        _ => is_nameless,
    };
    if is_odd && !kind.is_custom() {
        return Err(plain(ApiError::method_not_allowed()));
    }
    refuse_odd_names(&target).map_err(plain)?;
    on_objects(core, kind, target, passed, request).await
}

/// A failure of which nothing more is told.
fn plain(error: ApiError) -> Refused {
    (error, Vec::new())
}

/// A path is judged as it stands: what lies before an extension server may follow its dots to somewhere else.
fn refuse_detours(path: &str) -> Result<(), ApiError> {
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        let quoted = go::quoted(path);
        return Err(ApiError::bad_request(format!("the path {quoted} must not have segments \".\" or \"..\"")));
    }
    Ok(())
}

/// Serves a request by the extension server that serves its group.
async fn delegated(
    core: &Arc<Core>,
    extension: &Extension,
    passed: Passed,
    request: Request<RequestBody>,
) -> Result<Reply, ApiError> {
    let Passed { user, info, ends, headers, upgrade, address, .. } = passed;
    refuse_detours(&info.path)?;
    let method = request.method().clone();
    let target = request.uri().path_and_query().map_or_else(String::new, |target| target.as_str().to_owned());
    let (body, _part) = if upgrade_wanted(&headers) && !headers.contains_key(header::CONTENT_LENGTH) {
        (Bytes::new(), None)
    } else {
        read_body(request, BODY_TIMEOUT, ends).await?
    };
    let asked = extension::Asked { user: &user, method, target, headers: &headers, body, upgrade, address };
    within(ends, extension::serve(core, extension, asked)).await
}

/// Serves what is no object: discovery, health, and the like.
async fn beside_objects(core: &Arc<Core>, passed: Passed, request: Request<RequestBody>) -> Result<Reply, ApiError> {
    let Passed { user, info, query, ends, headers, .. } = passed;
    let method = request.method().clone();
    let is_read = method == Method::GET;
    let (body, _part) = if is_read { (Bytes::new(), None) } else { read_body(request, BODY_TIMEOUT, ends).await? };
    let reply = routes::serve(core, &user, &method, &info, &query, &headers, body).await;
    Ok(compress(takes_gzip(&headers), reply))
}

/// Serves a request about objects of a kind.
async fn on_objects(
    core: &Arc<Core>,
    kind: Arc<Kind>,
    target: ResourceTarget,
    passed: Passed,
    request: Request<RequestBody>,
) -> Result<Reply, Refused> {
    let Passed { user, authenticated, info, query, ends, waits, headers, permit, upgrade, now, notes, address } =
        passed;
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let gzip = takes_gzip(&headers);
    let method = request.method().clone();
    let accepted = accepted(text(header::ACCEPT), info.verb, &target, &kind).map_err(plain)?;
    let sent_as = text(header::CONTENT_TYPE);
    let content_type = if method == Method::PATCH { media_type(sent_as) } else { content_type(sent_as) }.to_owned();
    let user_agent = text(header::USER_AGENT).to_owned();
    let is_read = method == Method::GET || info.verb == "watch";
    let has_none = is_read || (upgrade_wanted(&headers) && !headers.contains_key(header::CONTENT_LENGTH));
    let read =
        if has_none { (Bytes::new(), None) } else { read_body(request, BODY_TIMEOUT, ends).await.map_err(plain)? };
    let (body, part) = read;
    let (spoken, upgrade) = Spoken::of(&headers, info.verb, &target, upgrade);
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let call = Call {
        user,
        authenticated,
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
    let served = carried_out(core, kind, (call, part), (ends, waits)).await;
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

/// How many bytes a change is about: those of its body, or of the object as it was a moment ago.
async fn size_of(core: &Core, kind: &Kind, call: &Call) -> usize {
    if call.name().is_empty() || call.body.len() >= LARGE_BYTES {
        return call.body.len();
    }
    let there = core.at_hand(kind, call.namespace(), call.name()).await;
    there.map_or(0, |entry| entry.bytes().len()).max(call.body.len())
}

/// Serves a call within the time that it may take; the body of one that lasts has a part of the room for such. A change of what is large waits
/// for room and goes on in turns: to decode, merge and compare an object of megabytes takes seconds, and each of a few threads
/// is all that many others have.
async fn carried_out(
    core: &Arc<Core>,
    kind: Arc<Kind>,
    (call, part): (Call, Part),
    (ends, waits): (Option<Instant>, bool),
) -> Result<Reply, ApiError> {
    let changes = !matches!(call.verb, "get" | "list" | "watch");
    // Its body came too late: nothing has begun.
    if ends.is_some_and(|ends| ends <= Instant::now()) {
        return Ok(reply::late());
    }
    let size = if changes { size_of(core, &kind, &call).await } else { 0 };
    // What lasts would keep its room from others.
    let room = if let Some(ends) = ends.filter(|_| waits) { OBJECTS.part(size, ends).await? } else { None };
    let binds = changes && call.target.group.is_empty() && matches!(&*call.target.resource, "pods" | "bindings");
    let under_way = binds.then(|| core.unsettled.begin());
    let work = verbs::serve(Arc::clone(core), kind, call);
    let work: BoxFuture<'static, _> = if size >= LARGE_BYTES { Box::pin(Roomy::new(work)) } else { work };
    let held = (under_way, room, part);
    match (ends, changes) {
        (None, _) => {
            let (under_way, _room, _part) = held;
            drop(under_way);
            work.await
        }
        (_, false) => within(ends, work).await,
        // A change that has begun goes on to its end, whether or not anybody waits for the answer: what is stored must
        // become known to the authorizer.
        (_, true) => {
            let work = tokio::spawn(async move {
                let served = work.await;
                drop(held);
                served
            });
            let work = async { work.await.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic())) };
            within(ends, work).await
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

/// The extension server that serves a request, if it is one's.
pub(super) fn extension_of(core: &Core, info: &RequestInfo) -> Option<Arc<Extension>> {
    core.extensions.of(&info.path).filter(|extension| !core.registry.has_version(&extension.group, &extension.version))
}

/// What `work` comes to, if it comes to an end in time.
async fn within(ends: Option<Instant>, work: impl Future<Output = Result<Reply, ApiError>>) -> Result<Reply, ApiError> {
    let Some(ends) = ends else { return work.await };
    timeout_at(ends, work).await.unwrap_or_else(|_| Ok(reply::late()))
}

pub(super) fn upgrade_wanted(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_lead_nowhere_at_an_extension_server() {
        for path in ["/apis/g/v1/namespaces/a/things/../../b/things/x", "/apis/g/v1/things/x/log/./y", "/apis/g/v1/.."]
        {
            assert_eq!(refuse_detours(path).unwrap_err().code, 400, "{path}");
        }
        for path in ["/apis/g/v1/things/a..b", "/apis/g/v1/things/...", "/apis/g/v1/", "/apis/g/v1/things/x/files/.git"]
        {
            assert!(refuse_detours(path).is_ok(), "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_never_answered_ends_at_its_deadline() {
        let ended = within(Some(Instant::now()), std::future::pending()).await;
        assert_eq!(ended.unwrap().status(), 504);
    }
}
