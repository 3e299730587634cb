//! What the API server may ask of a node, as upstream's kubelet serves it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::{
    body::{Frame, Incoming},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::{List, api::core::v1::Pod};
use kube::ResourceExt as _;
use martello_api::clock;
use tokio::sync::mpsc;

use super::{
    Body, exec, forward,
    logs::{self, Options, Output},
    query::Query,
    spdy::session,
    streams::{Outcome, Wanted},
    text, websocket,
};
use crate::{
    agent::{checks::full, context::Context, manager::Pods},
    pods::backoff,
    runtime::{ContainerState, ContainerStatus, ExecSession, ExecSpec, RuntimeError},
};

/// What the server shows.
pub struct Site {
    /// Shared by the agent.
    pub context: Arc<Context>,
    /// The node's pods.
    pub pods: Pods,
}

/// The protocol of a SPDY peer that is told how a command ended.
const SPDY_V4: &str = "v4.channel.k8s.io";
/// The protocol of a SPDY peer that forwards ports.
const SPDY_FORWARD: &str = "portforward.k8s.io";
/// Parts of a log, and streams of a connection, that wait to be taken.
const MOST_WAITING: usize = 16;
/// No port-forward asks for more ports at once: two channels each.
const MOST_PORTS: usize = 100;

/// Why a request isn't served.
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    fn missing(what: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, what.into())
    }
}

impl From<RuntimeError> for Refusal {
    fn from(error: RuntimeError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, full(&error))
    }
}

/// Answers one request of a caller that was admitted, or not.
pub async fn answer(site: Arc<Site>, admitted: Result<(), String>, request: Request<Incoming>) -> Response<Body> {
    if let Err(why) = admitted {
        return text(StatusCode::UNAUTHORIZED, format!("Unauthorized: {why}"));
    }
    let answered = route(site, request).await;
    answered.unwrap_or_else(|Refusal(status, why)| text(status, why))
}

async fn route(site: Arc<Site>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path().to_owned();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST".to_owned()));
    }
    match parts.as_slice() {
        ["healthz"] => Ok(text(StatusCode::OK, "ok")),
        ["pods"] => site.list(),
        ["containerLogs", namespace, pod, container] => site.logs(namespace, pod, container, &query).await,
        ["exec", namespace, pod, container] => site.exec(namespace, pod, None, container, &query, request).await,
        ["exec", namespace, pod, uid, container] => {
            site.exec(namespace, pod, Some(uid), container, &query, request).await
        }
        ["attach", namespace, pod, container] => site.attach(namespace, pod, None, container, &query, request).await,
        ["attach", namespace, pod, uid, container] => {
            site.attach(namespace, pod, Some(uid), container, &query, request).await
        }
        ["portForward", namespace, pod] => site.forward(namespace, pod, None, &query, request),
        ["portForward", namespace, pod, uid] => site.forward(namespace, pod, Some(uid), &query, request),
        _ => Err(Refusal::missing("404 page not found")),
    }
}

impl Site {
    fn pod(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Pod>, Refusal> {
        let found = self.pods.get(namespace, name);
        let found = found.filter(|pod| uid.is_none_or(|uid| pod.uid().as_deref() == Some(uid)));
        found.ok_or_else(|| Refusal::missing(format!("pod {name:?} does not exist on this node")))
    }

    fn list(&self) -> Result<Response<Body>, Refusal> {
        let items = self.pods.all().iter().map(|pod| (**pod).clone()).collect();
        let list = List::<Pod> { items, ..List::default() };
        let json = serde_json::to_string(&list)
            .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let mut response = text(StatusCode::OK, json);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    async fn logs(&self, namespace: &str, pod: &str, name: &str, query: &Query) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, None)?;
        let options = options(query)?;
        let uid = pod.uid().unwrap_or_default();
        let log = self.log_of(&pod, &uid, name, query.is_set(&["previous"])).await?;
        let (sender, mut receiver) = mpsc::channel::<Bytes>(MOST_WAITING);
        let runtime = Arc::clone(&self.context.runtime);
        let (id, path) = (log.id.clone(), log.path.clone());
        let ended: logs::Ended = Box::new(move || {
            let (runtime, uid, id) = (Arc::clone(&runtime), uid.clone(), id.clone());
            Box::pin(async move { !is_running(runtime.as_ref(), &uid, &id).await })
        });
        if !path.exists() {
            return Err(Refusal::missing(format!("the log of container {name:?} is not there any more")));
        }
        tokio::spawn(async move {
            if let Err(error) = logs::stream(&path, options, ended, sender).await {
                tracing::warn!(%error, path = %path.display(), "a log could not be read");
            }
        });
        let stream = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let body = StreamBody::new(stream.map(|part| Ok::<_, std::io::Error>(Frame::data(part))));
        let mut response = Response::new(http_body_util::BodyExt::boxed(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    /// Which run's log is meant.
    async fn log_of(&self, pod: &Pod, uid: &str, name: &str, previous: bool) -> Result<Log, Refusal> {
        let known = crate::pods::spec::find(pod, name).is_some();
        if !known {
            return Err(Refusal::bad(format!("container {name} is not valid for pod {}", pod.name_any())));
        }
        let mut runs: Vec<ContainerStatus> = self.runs(uid).await?;
        runs.retain(|run| run.name == name);
        runs.sort_by_key(|run| run.attempt);
        let waits = || {
            let pod = pod.name_any();
            Refusal::bad(format!("container {name:?} in pod {pod:?} is waiting to start: ContainerCreating"))
        };
        let latest = runs.pop().ok_or_else(waits)?;
        if !previous {
            return Ok(Log { path: latest.log_path, id: latest.id });
        }
        let none = || {
            let pod = pod.name_any();
            Refusal::bad(format!("previous terminated container {name:?} in pod {pod:?} not found"))
        };
        let before = latest.attempt.checked_sub(1).ok_or_else(none)?;
        let dir = latest.log_path.parent().and_then(std::path::Path::parent).ok_or_else(none)?;
        let path = dir.join(crate::pods::spec::log_path(name, before));
        if !path.exists() {
            return Err(none());
        }
        Ok(Log { path, id: crate::pods::spec::container_id(name, before) })
    }

    async fn runs(&self, uid: &str) -> Result<Vec<ContainerStatus>, Refusal> {
        match self.context.runtime.containers(uid).await {
            Ok(runs) => Ok(runs),
            Err(RuntimeError::NoPod { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn running(&self, uid: &str, name: &str) -> Result<String, Refusal> {
        let runs = self.runs(uid).await?;
        let found =
            runs.into_iter().find(|run| run.name == name && matches!(run.state, ContainerState::Running { .. }));
        found.map(|run| run.id).ok_or_else(|| Refusal::missing(format!("container not found ({name:?})")))
    }

    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, uid)?;
        let uid = pod.uid().unwrap_or_default();
        let id = self.running(&uid, container).await?;
        let wanted = wanted(query)?;
        let args: Vec<String> = query.all("command").map(str::to_owned).collect();
        if args.is_empty() {
            return Err(Refusal::bad("you must specify at least 1 command"));
        }
        let runtime = Arc::clone(&self.context.runtime);
        command(request, wanted, async move {
            let spec = ExecSpec { args, terminal: wanted.tty, stdin: wanted.stdin };
            runtime.exec(&uid, &id, spec).await
        })
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        container: &str,
        query: &Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, uid)?;
        let uid = pod.uid().unwrap_or_default();
        let id = self.running(&uid, container).await?;
        let wanted = wanted(query)?;
        let runtime = Arc::clone(&self.context.runtime);
        command(request, wanted, async move { runtime.attach(&uid, &id).await })
    }

    fn forward(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        query: &Query,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let pod = self.pod(namespace, pod, uid)?;
        let uid = pod.uid().unwrap_or_default();
        let runtime = Arc::clone(&self.context.runtime);
        let ports: Vec<u16> = query
            .all("ports")
            .chain(query.all("port"))
            .flat_map(|list| list.split(','))
            .map(|port| port.parse().map_err(|_| Refusal::bad(format!("unable to parse {port:?} as a port"))))
            .collect::<Result<_, _>>()?;
        if ports.len() > MOST_PORTS {
            return Err(Refusal::bad(format!("at most {MOST_PORTS} ports can be forwarded at once")));
        }
        match upgrade_of(request.headers()) {
            Some(Upgrade::Spdy) => {
                let response = switch_spdy(request.headers(), SPDY_FORWARD)?;
                spawn_upgraded(&mut request, move |io| serve_spdy_forward(io, runtime, uid));
                Ok(response)
            }
            Some(Upgrade::WebSocket) => {
                let (response, protocol) =
                    switch_websocket(request.headers(), &[websocket::TUNNEL, websocket::V4, SPDY_FORWARD])?;
                if protocol == websocket::TUNNEL {
                    spawn_upgraded(&mut request, move |io| async move {
                        let (bytes, pump) = websocket::tunnel(io).await;
                        tokio::join!(pump, serve_spdy_forward(bytes, runtime, uid));
                    });
                    return Ok(response);
                }
                if ports.is_empty() {
                    return Err(Refusal::bad("query parameter \"port\" is required"));
                }
                spawn_upgraded(&mut request, move |io| async move {
                    let (forwards, pump) = websocket::ports(io, &ports).await;
                    let all = forwards.into_iter().map(|(port, data, error)| {
                        forward::one(Arc::clone(&runtime), uid.clone(), Some(port), data, error)
                    });
                    tokio::select! {
                        () = pump => {}
                        _ = futures::future::join_all(all) => {}
                    }
                });
                Ok(response)
            }
            None => Err(Refusal::bad("Upgrade request required")),
        }
    }
}

struct Log {
    path: std::path::PathBuf,
    id: String,
}

async fn is_running(runtime: &dyn crate::runtime::Runtime, uid: &str, id: &str) -> bool {
    let runs = runtime.containers(uid).await.unwrap_or_default();
    runs.iter().any(|run| run.id == id && matches!(run.state, ContainerState::Running { .. }))
}

async fn serve_spdy_forward<S>(io: S, runtime: Arc<dyn crate::runtime::Runtime>, uid: String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let (opened, streams) = mpsc::channel(MOST_WAITING);
    let (served, ()) = tokio::join!(session::serve(io, opened), forward::pairs(runtime, uid, streams));
    if let Err(error) = served {
        tracing::debug!(error = full(&error), "a port-forward ended early");
    }
}

/// Switches protocols, then runs what `start` begins and connects it.
fn command(
    mut request: Request<Incoming>,
    wanted: Wanted,
    start: impl Future<Output = Result<ExecSession, RuntimeError>> + Send + 'static,
) -> Result<Response<Body>, Refusal> {
    match upgrade_of(request.headers()) {
        Some(Upgrade::Spdy) => {
            let response = switch_spdy(request.headers(), SPDY_V4)?;
            spawn_upgraded(&mut request, move |io| async move {
                let (opened, streams) = mpsc::channel(MOST_WAITING);
                let run = async {
                    match exec::gather(wanted, streams).await {
                        Ok(streams) => run_command(start, streams).await,
                        Err(why) => tracing::debug!(why, "a remote command's streams were not opened"),
                    }
                };
                let (served, ()) = tokio::join!(session::serve(io, opened), run);
                if let Err(error) = served {
                    tracing::debug!(error = full(&error), "a remote command's connection ended early");
                }
            });
            Ok(response)
        }
        Some(Upgrade::WebSocket) => {
            let (response, _) = switch_websocket(request.headers(), &[websocket::V5, websocket::V4])?;
            spawn_upgraded(&mut request, move |io| async move {
                let (streams, pump) = websocket::command(io, wanted).await;
                tokio::join!(pump, run_command(start, streams));
            });
            Ok(response)
        }
        None => Err(Refusal::bad("Upgrade request required")),
    }
}

async fn run_command(start: impl Future<Output = Result<ExecSession, RuntimeError>>, streams: super::streams::Streams) {
    match start.await {
        Ok(session) => exec::connect(session, streams).await,
        Err(error) => streams.finish(&Outcome::Failed(full(&error))).await,
    }
}

fn spawn_upgraded<F>(request: &mut Request<Incoming>, serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(io) => serve(TokioIo::new(io)).await,
            Err(error) => tracing::debug!(%error, "a connection did not switch protocols"),
        }
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    Spdy,
    WebSocket,
}

fn upgrade_of(headers: &HeaderMap) -> Option<Upgrade> {
    let asked = headers.get(header::UPGRADE)?.to_str().ok()?;
    if asked.eq_ignore_ascii_case("websocket") {
        Some(Upgrade::WebSocket)
    } else if asked.eq_ignore_ascii_case("SPDY/3.1") {
        Some(Upgrade::Spdy)
    } else {
        None
    }
}

/// Every protocol that a header names, in any of the ways in which lists are written.
fn protocols<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty())
}

fn switching(upgrade: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
    response
}

fn switch_spdy(headers: &HeaderMap, protocol: &'static str) -> Result<Response<Body>, Refusal> {
    const NAME: &str = "x-stream-protocol-version";
    if !protocols(headers, NAME).any(|asked| asked == protocol) {
        let asked: Vec<&str> = protocols(headers, NAME).collect();
        let why = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server accepts [{protocol}]"
        );
        return Err(Refusal(StatusCode::FORBIDDEN, why));
    }
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(NAME, HeaderValue::from_static(protocol));
    Ok(response)
}

fn switch_websocket(headers: &HeaderMap, known: &[&'static str]) -> Result<(Response<Body>, &'static str), Refusal> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| Refusal::bad("missing Sec-WebSocket-Key"))?;
    let asked: Vec<&str> = protocols(headers, "sec-websocket-protocol").collect();
    let protocol = asked.iter().find_map(|asked| known.iter().find(|known| *known == asked)).copied();
    let protocol = protocol.ok_or_else(|| {
        Refusal::bad(format!("requested WebSocket protocols {asked:?} are not supported; use one of {known:?}"))
    })?;
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let accept = HeaderValue::from_str(&accept).map_err(|_| Refusal::bad("invalid Sec-WebSocket-Key"))?;
    let mut response = switching("websocket");
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok((response, protocol))
}

/// Which streams a query asks for, under the names that upstream's kubelet and API server use.
fn wanted(query: &Query) -> Result<Wanted, Refusal> {
    let wanted = Wanted {
        stdin: query.is_set(&["input", "stdin"]),
        stdout: query.is_set(&["output", "stdout"]),
        stderr: query.is_set(&["error", "stderr"]),
        tty: query.is_set(&["tty"]),
    };
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(Refusal::bad("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(wanted)
}

fn options(query: &Query) -> Result<Options, Refusal> {
    let number = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| Refusal::bad(format!("invalid {name}: {text:?}"))),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime").filter(|text| !text.is_empty())) {
        (Some(seconds), _) => {
            let ago = Duration::from_secs(seconds);
            let epoch = jiff::Timestamp::UNIX_EPOCH;
            Some(backoff::later(epoch, backoff::between(epoch, clock::now()).saturating_sub(ago)))
        }
        (None, Some(text)) => Some(text.parse().map_err(|_| Refusal::bad(format!("invalid sinceTime: {text:?}")))?),
        (None, None) => None,
    };
    let stream = match query.get("stream") {
        Some("Stdout") => Some(Output::Stdout),
        Some("Stderr") => Some(Output::Stderr),
        _ => None,
    };
    Ok(Options {
        follow: query.is_set(&["follow"]),
        tail: number("tailLines")?,
        since,
        timestamps: query.is_set(&["timestamps"]),
        limit_bytes: number("limitBytes")?,
        stream,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_negotiated_from_lists_of_any_form() {
        let mut headers = HeaderMap::new();
        headers.append("x-stream-protocol-version", HeaderValue::from_static("v5.channel.k8s.io"));
        headers.append("x-stream-protocol-version", HeaderValue::from_static("v4.channel.k8s.io, v3.channel.k8s.io"));
        assert!(switch_spdy(&headers, SPDY_V4).is_ok());
        assert!(switch_spdy(&headers, SPDY_FORWARD).is_err());
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("v5.channel.k8s.io,v4.channel.k8s.io"));
        let (response, protocol) = switch_websocket(&headers, &[websocket::V5, websocket::V4]).ok().unwrap();
        assert_eq!(protocol, websocket::V5);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn options_are_read_and_nonsense_is_refused() {
        let read = |text: &str| options(&Query::parse(text));
        let made = read("follow=true&tailLines=10&timestamps=true&limitBytes=5").ok().unwrap();
        assert_eq!((made.follow, made.tail, made.limit_bytes), (true, Some(10), Some(5)));
        assert!(read("tailLines=-1").is_err() && read("sinceTime=yesterday").is_err());
    }
}
