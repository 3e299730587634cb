//! The way to a webhook: a URL or a Service, over TLS that the configuration's authority vouches for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use martello_pki::{ForeignTrust, foreign_config};
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde_json::Value;

use crate::{
    http::{failed::UNKNOWN_AUTHORITY, outbound, reviewed::Answer},
    registry::object,
    server::{
        Core,
        backends::{self, Asker},
    },
};

/// Most bytes of an answer: as much as a request may have, and twice what was asked about, which may be the objects of a whole
/// list that are converted, or one that is told again as a patch in base64.
const MAX_ANSWER_BYTES: usize = 3 * 1024 * 1024;

/// How long a webhook that did not answer in time is taken to be silent.
const SILENCE: Duration = Duration::from_secs(10);

type Sender = http1::SendRequest<Full<Bytes>>;

/// Calls one webhook, and keeps a connection to it.
pub(crate) struct Caller {
    target: Target,
    tls: Result<Arc<ClientConfig>, String>,
    idle: Mutex<Option<Sender>>,
    /// When a part of the system last waited for it in vain.
    silent: Mutex<Option<Instant>>,
}

enum Target {
    Url { text: String, host: String, port: u16, path: String },
    Service { namespace: String, name: String, port: i64, path: String },
    Odd(String),
}

impl Caller {
    /// Of a `clientConfig`.
    pub(crate) fn new(config: &Value) -> Self {
        let (target, tls) = (Target::parse(config), tls(object::text(config, &["caBundle"])));
        Self { target, tls, idle: Mutex::default(), silent: Mutex::default() }
    }

    /// Whether a part of the system waited for it in vain a moment ago: who may go on without it need not try again so
    /// soon.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.lock().is_some_and(|since| since.elapsed() < SILENCE)
    }

    /// Sends a review; the error is upstream's reason why nothing came back.
    pub(crate) async fn call(&self, core: &Core, review: &Value, timeout: Duration) -> Result<Answer, String> {
        self.call_for(core, review, timeout, false).await
    }

    /// The same. `open` says that who asks may go on without it: only they tell each other that it is silent, since what
    /// a user waited for in vain must not let others pass.
    pub(crate) async fn call_for(
        &self,
        core: &Core,
        review: &Value,
        timeout: Duration,
        open: bool,
    ) -> Result<Answer, String> {
        let body = Bytes::from(review.to_string());
        let seconds = timeout.as_secs();
        let url = format!("{}?timeout={seconds}s", self.target.url());
        let posted = |why: &str| format!("Post {url:?}: {why}");
        let answered = tokio::time::timeout(timeout, self.exchange(core, body, seconds)).await;
        if answered.is_ok() {
            *self.silent.lock() = None;
        } else if open {
            *self.silent.lock() = Some(Instant::now());
        }
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(posted(&why)),
            Err(_) => Err(posted("context deadline exceeded")),
        }
    }

    async fn exchange(&self, core: &Core, body: Bytes, seconds: u64) -> Result<Answer, String> {
        let kept = self.idle.lock().take().filter(|sender| !sender.is_closed());
        if let Some(sender) = kept
            && let Ok(answer) = self.send(sender, body.clone(), seconds).await
        {
            return Ok(answer);
        }
        let sender = self.connect(core).await?;
        self.send(sender, body, seconds).await
    }

    async fn send(&self, mut sender: Sender, body: Bytes, seconds: u64) -> Result<Answer, String> {
        let most = MAX_ANSWER_BYTES + 2 * body.len();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}?timeout={seconds}s", self.target.path()))
            .header(header::HOST, self.target.host())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        sender.ready().await.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let content_type = answer.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes().to_vec();
        if !sender.is_closed() {
            *self.idle.lock() = Some(sender);
        }
        Ok(Answer { status, content_type, body })
    }

    async fn connect(&self, core: &Core) -> Result<Sender, String> {
        let io = match &self.target {
            Target::Url { host, port, .. } => outbound::tcp(host, *port).await,
            Target::Service { namespace, name, port, .. } => {
                let found = backends::of_service(core, namespace, name, &port.to_string(), Asker::Configuration).await;
                found.map_err(|error| error.message)?.connect(core).await
            }
            Target::Odd(why) => return Err(why.clone()),
        };
        let io = io.map_err(|error| error.to_string())?;
        let name = self.target.server_name();
        let stream = outbound::tls(io, self.tls.clone()?, &name).await.map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
        Ok(sender)
    }
}

impl Target {
    fn parse(config: &Value) -> Self {
        if let Some(service) = config.get("service").filter(|service| service.is_object()) {
            let path = object::text(service, &["path"]);
            return Self::Service {
                namespace: object::text(service, &["namespace"]).to_owned(),
                name: object::text(service, &["name"]).to_owned(),
                port: object::int(service, &["port"]).unwrap_or(443),
                path: format!("/{}", path.trim_start_matches('/')),
            };
        }
        let url = object::text(config, &["url"]);
        let Some(rest) = url.strip_prefix("https://") else {
            return Self::Odd(format!("webhook URL {url:?} is no https URL"));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        match port.map_or(Ok(443), str::parse) {
            Ok(port) => Self::Url { text: url.to_owned(), host: host.to_owned(), port, path: format!("/{path}") },
            Err(_) => Self::Odd(format!("webhook URL {url:?} has an invalid port")),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Url { text, .. } => text.clone(),
            Self::Service { namespace, name, port, path } => format!("https://{name}.{namespace}.svc:{port}{path}"),
            Self::Odd(_) => String::new(),
        }
    }

    fn path(&self) -> &str {
        match self {
            Self::Url { path, .. } | Self::Service { path, .. } => path,
            Self::Odd(_) => "/",
        }
    }

    fn host(&self) -> String {
        match self {
            Self::Url { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Url { host, port, .. } => format!("{host}:{port}"),
            Self::Service { namespace, name, port, .. } => format!("{name}.{namespace}.svc:{port}"),
            Self::Odd(_) => String::new(),
        }
    }

    /// Whom the certificate must name.
    fn server_name(&self) -> String {
        match self {
            Self::Url { host, .. } => host.clone(),
            Self::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
            Self::Odd(_) => String::new(),
        }
    }
}

/// A client that trusts the authorities of a bundle, and nobody where there is none.
fn tls(bundle: &str) -> Result<Arc<ClientConfig>, String> {
    let unusable = |why: &dyn std::fmt::Display| format!("unable to load root certificates: {why}");
    let pem = STANDARD.decode(bundle).map_err(|error| unusable(&error))?;
    if pem.is_empty() {
        return Err(UNKNOWN_AUTHORITY.to_owned());
    }
    let trust = ForeignTrust::from_pem(&pem).map_err(|error| error.to_string())?;
    foreign_config(trust, None).map_err(|error| unusable(&error))
}
