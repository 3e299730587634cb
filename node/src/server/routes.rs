//! What the API server may ask of a node, as upstream's kubelet serves it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use k8s_openapi::{List, api::core::v1::Pod};
use kube::ResourceExt as _;
use martello_api::{clock, query::Query};
use tokio::sync::mpsc;

use super::{
    Body, Refusal,
    logs::{self, Options, Output},
    text,
};
use crate::{
    agent::{context::Context, roster::Pods},
    pods::backoff,
    runtime::{ContainerState, ContainerStatus, RuntimeError},
};

/// What the server shows.
pub struct Site {
    /// Shared by the agent.
    pub context: Arc<Context>,
    /// The node's pods.
    pub pods: Pods,
}

/// Parts of a log, and streams of a connection, that wait to be taken.
pub(super) const MOST_WAITING: usize = 16;
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
        ["stream", namespace, pod, port] => site.stream(namespace, pod, port, request).await,
        _ => Err(Refusal::missing("404 page not found")),
    }
}

impl Site {
    pub(super) fn pod(&self, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Pod>, Refusal> {
        let found = self.pods.get(namespace, name);
        let found = found.filter(|pod| uid.is_none_or(|uid| pod.uid().as_deref() == Some(uid)));
        found.ok_or_else(|| Refusal::missing("pod does not exist"))
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
        let log = self.log_of(&pod, &uid, name, query.is_set("previous")).await?;
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

    pub(super) async fn running(&self, uid: &str, name: &str) -> Result<String, Refusal> {
        let runs = self.runs(uid).await?;
        let found =
            runs.into_iter().find(|run| run.name == name && matches!(run.state, ContainerState::Running { .. }));
        let missing = || Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("container not found ({name:?})"));
        found.map(|run| run.id).ok_or_else(missing)
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

fn options(query: &Query) -> Result<Options, Refusal> {
    let number = |name: &str| match query.get(name) {
        "" => Ok(None),
        text => text.parse::<u64>().map(Some).map_err(|_| Refusal::bad(format!("invalid {name}: {text:?}"))),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => {
            let ago = Duration::from_secs(seconds);
            let epoch = jiff::Timestamp::UNIX_EPOCH;
            Some(backoff::later(epoch, backoff::between(epoch, clock::now()).saturating_sub(ago)))
        }
        // Old clients write `null` for none.
        (None, "" | "null") => None,
        (None, text) => Some(text.parse().map_err(|_| Refusal::bad(format!("invalid sinceTime: {text:?}")))?),
    };
    let stream = match query.get("stream") {
        "Stdout" => Some(Output::Stdout),
        "Stderr" => Some(Output::Stderr),
        _ => None,
    };
    Ok(Options {
        follow: query.is_set("follow"),
        tail: number("tailLines")?,
        since,
        timestamps: query.is_set("timestamps"),
        limit_bytes: number("limitBytes")?,
        stream,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_nonsense_is_refused() {
        let read = |text: &str| options(&Query::parse(text));
        let made = read("follow=true&tailLines=10&timestamps=true&limitBytes=5").ok().unwrap();
        assert_eq!((made.follow, made.tail, made.limit_bytes), (true, Some(10), Some(5)));
        assert!(read("tailLines=-1").is_err() && read("sinceTime=yesterday").is_err());
        assert!(read("sinceTime=null").is_ok());
    }
}
