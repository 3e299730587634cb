//! Tokens that a webhook knows: it is sent a TokenReview, and what it says is believed for a short while.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use martello_api::identity::{GROUP_AUTHENTICATED, User};
use martello_pki::{ForeignTrust, foreign_config};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{credentials::Accepted, url::Url};
use crate::{
    http::outbound::{self, Outgoing},
    registry::object,
};

/// How long an answer is believed, as upstream's default.
const BELIEVED_SECONDS: i64 = 120;
/// Most answers that are kept.
const MAX_KEPT: usize = 10_000;
/// How long the webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

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
}

/// A webhook.
pub struct TokenWebhook {
    url: Url,
    tls: Arc<ClientConfig>,
    bearer: Option<String>,
    known: Mutex<HashMap<Key, Answer>>,
}

/// A token's digest, and for whom it was asked to be.
type Key = (Vec<u8>, Vec<String>);
/// When it was given, and whom it named.
type Answer = (Timestamp, Option<Arc<Accepted>>);

impl TokenWebhook {
    /// Of a kubeconfig; files that it names are beside it.
    pub fn read(path: &Path) -> Result<Self, WebhookConfigError> {
        let failed = |error: &dyn std::fmt::Display| WebhookConfigError::Read(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let config: Value = serde_saphyr::from_str(&text).map_err(|error| failed(&error))?;
        let cluster = object::list(&config, &["clusters"]).first().and_then(|one| one.get("cluster"));
        let cluster = cluster.ok_or(WebhookConfigError::Invalid("it has no cluster"))?;
        let url = Url::parse(object::text(cluster, &["server"]));
        let url = url.ok_or(WebhookConfigError::Invalid("server must be an https URL"))?;
        let file = object::text(cluster, &["certificate-authority"]);
        let pem = if file.is_empty() {
            STANDARD.decode(object::text(cluster, &["certificate-authority-data"])).unwrap_or_default()
        } else {
            let beside = path.parent().unwrap_or(Path::new(".")).join(file);
            std::fs::read(&beside).map_err(|error| failed(&error))?
        };
        let tls = foreign_config(ForeignTrust::from_pem(&pem)?, None)?;
        let user = object::list(&config, &["users"]).first().and_then(|one| one.get("user"));
        let bearer = user.map(|user| object::text(user, &["token"])).filter(|token| !token.is_empty());
        Ok(Self { url, tls, bearer: bearer.map(str::to_owned), known: Mutex::default() })
    }

    /// Whose token this is, for one of `audiences`; none if the webhook does not know it.
    pub async fn user(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Option<Arc<Accepted>>, String> {
        let key = (digest(&SHA256, token.as_bytes()).as_ref().to_vec(), audiences.to_vec());
        let fresh = |since: Timestamp| now.as_second() - since.as_second() < BELIEVED_SECONDS;
        if let Some((since, known)) = self.known.lock().get(&key)
            && fresh(*since)
        {
            return Ok(known.clone());
        }
        let answered = tokio::time::timeout(TIMEOUT, self.ask(token, audiences)).await;
        let review = answered.map_err(|_| "the token webhook did not answer in time".to_owned())??;
        let accepted = accepted(&review, audiences).map(Arc::new);
        let mut known = self.known.lock();
        if known.len() >= MAX_KEPT {
            known.retain(|_, (since, _)| fresh(*since));
        }
        if known.len() < MAX_KEPT {
            known.insert(key, (now, accepted.clone()));
        }
        Ok(accepted)
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Value, String> {
        let failed = |why: String| format!("the token webhook: {why}");
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let mut headers = HeaderMap::new();
        outbound::add(&mut headers, "content-type", "application/json");
        outbound::add(&mut headers, "accept", "application/json");
        if let Some(bearer) = &self.bearer {
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
            return Err(failed(format!("it answered {}", answer.status().as_u16())));
        }
        let body = outbound::collect(answer, MAX_ANSWER_BYTES).await.map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
    }
}

/// Whom the webhook's answer speaks of. An answer without audiences comes from one that does not know of them: then the token
/// is for this server.
fn accepted(review: &Value, wanted: &[String]) -> Option<Accepted> {
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
    let audiences: Vec<String> =
        if named.is_empty() { wanted.to_vec() } else { named.into_iter().filter(|one| wanted.contains(one)).collect() };
    (!audiences.is_empty()).then_some(Accepted { user, audiences })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_speaks_for_whom_it_names() {
        let review = |status: Value| accepted(&json!({"status": status}), &["us".to_owned()]);
        let known = review(json!({"authenticated": true, "user": {"username": "jane", "groups": ["devs"]}})).unwrap();
        assert_eq!((known.user.name.as_str(), known.audiences.as_slice()), ("jane", &["us".to_owned()][..]));
        assert_eq!(known.user.groups, ["devs", "system:authenticated"]);
        assert!(review(json!({"authenticated": false, "user": {"username": "jane"}})).is_none());
        assert!(review(json!({"authenticated": true, "user": {}})).is_none());
        let others = json!({"authenticated": true, "user": {"username": "jane"}, "audiences": ["others"]});
        assert!(review(others).is_none());
    }
}
