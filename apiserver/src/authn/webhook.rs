//! Tokens that a webhook knows: it is sent a TokenReview, and what it says is believed for a short while.

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use martello_api::identity::{GROUP_AUTHENTICATED, User};
use martello_pki::{ForeignTrust, foreign_config, foreign_config_as};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{
    bearer::{Bearer, BearerError},
    credentials::Accepted,
    url::Url,
};
use crate::{
    http::outbound::{self, Outgoing},
    registry::object,
};

/// Most answers that are kept.
const MAX_KEPT: usize = 10_000;
/// How long the webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// How often a webhook is asked that fails in a way that may pass, and how long is waited before it is asked again: the
/// second time this long, then half as long again each time. As upstream's.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Why there is no webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookConfigError {
    /// The file can't be read.
    #[error("the token webhook's kubeconfig can't be read: {0}")]
    Read(String),
    /// Something in it is missing or wrong.
    #[error("the token webhook's kubeconfig: {0}")]
    Invalid(&'static str),
    /// Its authority can't be used.
    #[error("the token webhook's kubeconfig: certificate-authority")]
    Trust(#[from] martello_pki::ForeignError),
    /// It names a file that holds no token.
    #[error("the token webhook's kubeconfig: tokenFile")]
    Bearer(#[from] BearerError),
}

/// What is set besides the kubeconfig.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The version of the reviews that are sent.
    pub version: ReviewVersion,
    /// How long an answer is believed, be it yes or no.
    pub believed: Duration,
}

impl Default for Settings {
    /// As upstream has it.
    fn default() -> Self {
        Self { version: ReviewVersion::V1beta1, believed: Duration::from_secs(120) }
    }
}

/// Versions of TokenReviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    /// `v1`.
    V1,
    /// `v1beta1`, which webhooks of before 2019 speak.
    V1beta1,
}

impl std::str::FromStr for ReviewVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "v1" => Ok(Self::V1),
            "v1beta1" => Ok(Self::V1beta1),
            other => Err(format!("{other:?} is neither v1 nor v1beta1")),
        }
    }
}

impl ReviewVersion {
    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "authentication.k8s.io/v1",
            Self::V1beta1 => "authentication.k8s.io/v1beta1",
        }
    }
}

/// Why no answer came.
struct Failure {
    why: String,
    /// Whether the next attempt may fare better.
    passes: bool,
}

/// A webhook.
pub struct TokenWebhook {
    settings: Settings,
    url: Url,
    tls: Arc<ClientConfig>,
    bearer: Bearer,
    known: Mutex<HashMap<Key, Answer>>,
}

/// A token's digest, and for whom it was asked to be.
type Key = (Vec<u8>, Vec<String>);
/// When it was given, and whom it named.
type Answer = (Timestamp, Option<Arc<Accepted>>);

impl TokenWebhook {
    /// Of a kubeconfig; files that it names are beside it.
    pub fn read(path: &Path, settings: Settings) -> Result<Self, WebhookConfigError> {
        let failed = |error: &dyn std::fmt::Display| WebhookConfigError::Read(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let config: Value = serde_saphyr::from_str(&text).map_err(|error| failed(&error))?;
        let context = current(&config)?;
        let cluster = named(&config, "clusters", context, "cluster")?.and_then(|one| one.get("cluster"));
        let cluster = cluster.ok_or(WebhookConfigError::Invalid("it has no cluster"))?;
        let url = Url::parse(object::text(cluster, &["server"]));
        let url = url.ok_or(WebhookConfigError::Invalid("server must be an https URL"))?;
        let beside = |file: &str| path.parent().unwrap_or(Path::new(".")).join(file);
        // What stands in the file itself goes before files that it names, as kubectl has it.
        let given = |of: &Value, key: &str| -> Result<Vec<u8>, WebhookConfigError> {
            let data = object::text(of, &[&format!("{key}-data")]);
            if !data.is_empty() {
                return STANDARD.decode(data).map_err(|error| failed(&format!("{key}-data: {error}")));
            }
            match object::text(of, &[key]) {
                "" => Ok(Vec::new()),
                file => {
                    let file = beside(file);
                    std::fs::read(&file).map_err(|error| failed(&format!("{}: {error}", file.display())))
                }
            }
        };
        let trust = ForeignTrust::from_pem(&given(cluster, "certificate-authority")?)?;
        let user = named(&config, "users", context, "user")?.and_then(|one| one.get("user"));
        let user = user.unwrap_or(&Value::Null);
        let (chain, key) = (given(user, "client-certificate")?, given(user, "client-key")?);
        let tls = match (chain.is_empty(), key.is_empty()) {
            (true, true) => foreign_config(trust, None)?,
            (false, false) => foreign_config_as(trust, &chain, &key)?,
            _ => return Err(WebhookConfigError::Invalid("client-certificate and client-key go together")),
        };
        let own = |key: &str| Some(object::text(user, &[key])).filter(|text| !text.is_empty());
        let bearer = Bearer::new(own("token").map(str::to_owned), own("tokenFile").map(beside))?;
        Ok(Self { settings, url, tls, bearer, known: Mutex::default() })
    }

    /// Whose token this is, for one of `audiences`; none if the webhook does not know it. `own` are this server's audiences:
    /// a webhook that does not speak of audiences means them.
    pub async fn user(
        &self,
        token: &str,
        (own, audiences): (&[String], &[String]),
        now: Timestamp,
    ) -> Result<Option<Arc<Accepted>>, String> {
        let key = (digest(&SHA256, token.as_bytes()).as_ref().to_vec(), audiences.to_vec());
        let believed = i64::try_from(self.settings.believed.as_secs()).unwrap_or(i64::MAX);
        let fresh = |since: Timestamp| now.as_second() - since.as_second() < believed;
        if let Some((since, known)) = self.known.lock().get(&key)
            && fresh(*since)
        {
            return Ok(known.clone());
        }
        let answered = tokio::time::timeout(TIMEOUT, self.ask_again(token, audiences)).await;
        let review = answered.map_err(|_| "the token webhook did not answer in time".to_owned())??;
        let said = object::text(&review, &["status", "error"]);
        if !object::flag(&review, &["status", "authenticated"]) && !said.is_empty() {
            // It failed to find out, which is not believed for longer than this once.
            return Err(said.to_owned());
        }
        let accepted = accepted(&review, own, audiences).map(Arc::new);
        let mut known = self.known.lock();
        if known.len() >= MAX_KEPT {
            known.retain(|_, (since, _)| fresh(*since));
        }
        if known.len() < MAX_KEPT {
            known.insert(key, (now, accepted.clone()));
        }
        Ok(accepted)
    }

    async fn ask_again(&self, token: &str, audiences: &[String]) -> Result<Value, String> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.ask(token, audiences).await {
                Err(failure) if failure.passes => tokio::time::sleep(pause).await,
                done => return done.map_err(|failure| failure.why),
            }
            pause = pause * 3 / 2;
        }
        self.ask(token, audiences).await.map_err(|failure| failure.why)
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Value, Failure> {
        let failed = |why: String| Failure { why: format!("the token webhook: {why}"), passes: false };
        let review = json!({
            "apiVersion": self.settings.version.api_version(), "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let mut headers = HeaderMap::new();
        outbound::add(&mut headers, "content-type", "application/json");
        outbound::add(&mut headers, "accept", "application/json");
        if let Some(bearer) = self.bearer.token(Instant::now()).await {
            outbound::add(&mut headers, "authorization", &format!("Bearer {bearer}"));
        }
        let outgoing = Outgoing {
            method: Method::POST,
            target: self.url.path.clone(),
            headers,
            body: Bytes::from(review.to_string()),
            host: self.url.authority(),
        };
        let io = outbound::tcp(&self.url.host, self.url.port).await.map_err(|error| failed(error.to_string()))?;
        let io = outbound::tls(io, Arc::clone(&self.tls), &self.url.host).await;
        let io = io.map_err(|error| failed(error.to_string()))?;
        let answer = outbound::exchange(io, outgoing).await.map_err(|error| failed(error.to_string()))?;
        if !answer.status().is_success() {
            let code = answer.status().as_u16();
            let passes = matches!(code, 429 | 500 | 504) || answer.headers().contains_key("retry-after");
            return Err(Failure { passes, ..failed(format!("it answered {code}")) });
        }
        let body = outbound::collect(answer, MAX_ANSWER_BYTES).await.map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
    }
}

/// The context that a kubeconfig says is the current one; none where it says nothing of the kind.
fn current(config: &Value) -> Result<Option<&Value>, WebhookConfigError> {
    let name = object::text(config, &["current-context"]);
    if name.is_empty() {
        return Ok(None);
    }
    let found = object::list(config, &["contexts"]).iter().find(|one| object::text(one, &["name"]) == name);
    found
        .and_then(|one| one.get("context"))
        .map(Some)
        .ok_or(WebhookConfigError::Invalid("current-context is not there"))
}

/// What the context names of a list, or the first of it where there is no context.
fn named<'c>(
    config: &'c Value,
    list: &str,
    context: Option<&Value>,
    key: &str,
) -> Result<Option<&'c Value>, WebhookConfigError> {
    let all = object::list(config, &[list]);
    let Some(context) = context else { return Ok(all.first()) };
    match object::text(context, &[key]) {
        "" => Ok(None),
        name => {
            let found = all.iter().find(|one| object::text(one, &["name"]) == name);
            found.map(Some).ok_or(WebhookConfigError::Invalid("the current context names what is not there"))
        }
    }
}

/// Whom the webhook's answer speaks of. An answer without audiences comes from one that does not know of them: then the token
/// is for this server, and for nobody else.
fn accepted(review: &Value, own: &[String], wanted: &[String]) -> Option<Accepted> {
    if !object::flag(review, &["status", "authenticated"]) {
        return None;
    }
    let mut user: User = serde::Deserialize::deserialize(object::at(review, &["status", "user"])?).ok()?;
    if user.name.is_empty() {
        return None;
    }
    if !user.is_in(GROUP_AUTHENTICATED) {
        user.groups.push(GROUP_AUTHENTICATED.to_owned());
    }
    let named: Vec<String> =
        object::list(review, &["status", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let meant = if named.is_empty() { own.to_vec() } else { named };
    let audiences: Vec<String> = meant.into_iter().filter(|one| wanted.contains(one)).collect();
    (!audiences.is_empty()).then_some(Accepted { user, audiences, secret: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_speaks_for_whom_it_names() {
        let us = ["us".to_owned()];
        let review = |status: Value| accepted(&json!({"status": status}), &us, &us);
        let known = review(json!({"authenticated": true, "user": {"username": "jane", "groups": ["devs"]}})).unwrap();
        assert_eq!((known.user.name.as_str(), known.audiences.as_slice()), ("jane", &["us".to_owned()][..]));
        assert_eq!(known.user.groups, ["devs", "system:authenticated"]);
        assert!(review(json!({"authenticated": false, "user": {"username": "jane"}})).is_none());
        assert!(review(json!({"authenticated": true, "user": {}})).is_none());
        let others = json!({"authenticated": true, "user": {"username": "jane"}, "audiences": ["others"]});
        assert!(review(others).is_none());
        let silent = json!({"status": {"authenticated": true, "user": {"username": "jane"}}});
        assert!(accepted(&silent, &us, &["vault".to_owned()]).is_none(), "who is silent speaks of this server alone");
    }

    fn read(config: &Value) -> Result<TokenWebhook, WebhookConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, config.to_string()).unwrap();
        TokenWebhook::read(&path, Settings::default())
    }

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBIjCByaADAgECAgEHMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXAwHhcNMjYw\nMTAxMDAwMDAwWhcNMjYwMTAyMDAwMDAwWjAMMQowCAYDVQQDDAFwMFkwEwYHKoZI\nzj0CAQYIKoZIzj0DAQcDQgAErby3fTWm8s8+6pr+XImbAymbaheG+MrvEsU/aQ/p\nO7M8BGQRycFBnevzQ9Fn7ntlDokOXP8XfH8bihEpA89qRaMcMBowGAYDVR0RBBEw\nD4INYS5leGFtcGxlLmNvbTAKBggqhkjOPQQDAgNIADBFAiEAnC4/+rP5Nvz02bZj\nBvpI6lEDY9z9fR2yjcfjF3tyx/MCIDFzDgYjasR2W1eyiNbMmqP3qtkP9WuIhfPy\nbo3Mq3+D\n-----END CERTIFICATE-----\n";

    #[tokio::test]
    async fn the_current_context_says_who_is_asked_and_as_whom() {
        let pem = STANDARD.encode(CERTIFICATE);
        let cluster = |name: &str| {
            json!({"name": name, "cluster": {"server": format!("https://{name}/review"),
                "certificate-authority-data": pem}})
        };
        let mut config = json!({
            "current-context": "second", "clusters": [cluster("a"), cluster("b")],
            "users": [{"name": "x", "user": {"token": "t-x"}}, {"name": "y", "user": {"token": "t-y"}}],
            "contexts": [{"name": "first", "context": {"cluster": "a", "user": "x"}},
                {"name": "second", "context": {"cluster": "b", "user": "y"}}],
        });
        let asked = read(&config).unwrap();
        assert_eq!((asked.url.host.as_str(), asked.bearer.token(Instant::now()).await.as_deref()), ("b", Some("t-y")));
        config["users"][1]["user"] = json!({"client-certificate-data": pem, "client-key-data": pem});
        assert!(matches!(read(&config), Err(WebhookConfigError::Trust(martello_pki::ForeignError::Key))));
        config["users"][1]["user"] = json!({"client-certificate-data": pem});
        assert!(matches!(read(&config), Err(WebhookConfigError::Invalid(_))));
        config["users"][1]["user"] = json!({"tokenFile": "nowhere"});
        assert!(matches!(read(&config), Err(WebhookConfigError::Bearer(_))));
        config["current-context"] = json!("third");
        assert!(matches!(read(&config), Err(WebhookConfigError::Invalid(_))));
    }
}
