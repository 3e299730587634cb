//! Users of identity providers.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use martello_api::{clock, identity::User};
use martello_pki::{
    ForeignTrust, foreign_config,
    oidc::{self, Claims, Keys, OidcError},
};
use parking_lot::RwLock;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    config::{ConfigError, Provider},
    mapping::Mapper,
    url::Url,
};
use crate::{
    http::outbound::{self, Outgoing},
    metrics::authentication::Record,
};

/// Largest document of a provider.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// How often a provider is asked for its keys at most, whatever tokens claim: seldom enough that nobody can flood it through
/// this server, and often enough that users with a new key wait for no longer than they notice.
const FETCH_INTERVAL_SECONDS: i64 = 1;
/// How often it is asked for them although no token needs others: a key that it withdrew is believed no longer than this.
const REFRESH: Duration = Duration::from_secs(600);
/// How long is waited before it is asked again where it did not tell them, as upstream's.
const RETRY: Duration = Duration::from_secs(10);
/// How long a provider may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a token of a provider is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The token.
    #[error(transparent)]
    Token(#[from] OidcError),
    /// The keys of the provider are not known.
    #[error("oidc: authenticator not initialized: {0}")]
    Keys(String),
    /// A claim is missing or not as it must be.
    #[error("oidc: {0}")]
    Claim(String),
}

/// A provider and its keys.
pub struct Authenticator {
    provider: Provider,
    mapper: Mapper,
    tls: Arc<ClientConfig>,
    keys: RwLock<Keys>,
    /// When it was last asked; one at a time asks.
    asked: tokio::sync::Mutex<Option<Timestamp>>,
    /// Whether its keys are known.
    known: watch::Sender<bool>,
    record: OnceLock<Record>,
}

impl Authenticator {
    /// Of a provider, the `index`th of its file; it is asked for its keys by [`Self::keep_fresh`], and when a token needs
    /// others.
    pub fn new(provider: Provider, index: usize) -> Result<Self, ConfigError> {
        let untrusted = |error: martello_pki::ForeignError| ConfigError::Invalid {
            path: format!("jwt[{index}].issuer.certificateAuthority"),
            why: error.to_string(),
        };
        let trust = ForeignTrust::from_pem(provider.issuer.certificate_authority.as_bytes()).map_err(untrusted)?;
        let tls = foreign_config(trust, None).map_err(untrusted)?;
        let mapper = Mapper::new(&provider, index)?;
        let (keys, asked, known) = (RwLock::default(), tokio::sync::Mutex::default(), watch::Sender::new(false));
        Ok(Self { provider, mapper, tls, keys, asked, known, record: OnceLock::new() })
    }

    /// What its tokens call it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.provider.issuer.url
    }

    /// Whether its keys are known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self.known.borrow()
    }

    /// Waits until its keys are known.
    pub async fn known(&self) {
        if self.known.subscribe().wait_for(|known| *known).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Asks for its keys now, and from time to time, until `end`.
    pub async fn keep_fresh(&self, record: Record, end: CancellationToken) {
        if self.record.set(record).is_err() {
            return;
        }
        loop {
            let pause = match self.fetch(clock::now(), true).await {
                Ok(()) => REFRESH,
                Err(error) => {
                    tracing::warn!(issuer = self.issuer(), %error, "an identity provider did not tell its keys");
                    RETRY
                }
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The user of a token. Where no key that is known signed it, the provider may have others by now.
    pub async fn user(&self, token: &str, now: Timestamp) -> Result<User, ProviderError> {
        let began = std::time::Instant::now();
        let user = self.find(token, now).await;
        if let Some(record) = self.record.get() {
            record.checked(self.issuer(), user.is_ok(), began.elapsed());
        }
        user
    }

    async fn find(&self, token: &str, now: Timestamp) -> Result<User, ProviderError> {
        let claims = match self.verify(token, now) {
            Err(OidcError::UnknownKey | OidcError::Signature) => {
                self.fetch(now, false).await?;
                self.verify(token, now)?
            }
            verified => verified?,
        };
        self.mapper.user(&claims).map_err(ProviderError::Claim)
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, OidcError> {
        oidc::verify(token, &self.keys.read(), self.issuer(), &self.provider.issuer.audiences, now)
    }

    /// Asks for the keys, unless they were asked for a moment ago and this is not `planned`.
    async fn fetch(&self, now: Timestamp, planned: bool) -> Result<(), ProviderError> {
        let mut asked = self.asked.lock().await;
        let is_recent = |asked: Timestamp| now.as_second() - asked.as_second() < FETCH_INTERVAL_SECONDS;
        if !planned && asked.is_some_and(is_recent) {
            return Ok(());
        }
        let fetched = self.ask().await;
        // Whoever waited meanwhile came before these, and has them.
        *asked = Some(clock::now());
        if let Some(record) = self.record.get() {
            record.fetched(self.issuer(), fetched.as_ref().ok().map(|(document, _)| &**document), now);
        }
        *self.keys.write() = fetched?.1;
        self.known.send_replace(true);
        Ok(())
    }

    /// The keys, and the document in which they stand.
    async fn ask(&self) -> Result<(Bytes, Keys), ProviderError> {
        let issuer = &self.provider.issuer;
        let discovery = if issuer.discovery_url.is_empty() {
            format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'))
        } else {
            issuer.discovery_url.clone()
        };
        let document: Value = serde_json::from_slice(&self.get(&discovery).await?)
            .map_err(|error| ProviderError::Keys(format!("{discovery}: {error}")))?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer.url.as_str()) {
            return Err(ProviderError::Keys(format!("{discovery} speaks of another issuer")));
        }
        let place = document.get("jwks_uri").and_then(Value::as_str).unwrap_or_default();
        let document = self.get(place).await?;
        let keys = Keys::read(&document)?;
        Ok((document, keys))
    }

    async fn get(&self, url: &str) -> Result<Bytes, ProviderError> {
        let failed = |why: String| ProviderError::Keys(format!("{url}: {why}"));
        let parsed = Url::parse(url).ok_or_else(|| failed("it is no https URL".to_owned()))?;
        let asked = async {
            let io = outbound::tcp(&parsed.host, parsed.port).await.map_err(|error| error.to_string())?;
            let io = outbound::tls(io, Arc::clone(&self.tls), &parsed.host).await.map_err(|error| error.to_string())?;
            let mut headers = HeaderMap::new();
            outbound::add(&mut headers, "accept", "application/json");
            let outgoing = Outgoing {
                method: Method::GET,
                target: parsed.path.clone(),
                headers,
                body: Bytes::new(),
                host: parsed.authority(),
            };
            let answer = outbound::exchange(io, outgoing).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            if status != StatusCode::OK {
                return Err(format!("it answered {}", status.as_u16()));
            }
            outbound::collect(answer, MAX_DOCUMENT_BYTES).await.map_err(|error| error.to_string())
        };
        let answered = tokio::time::timeout(FETCH_TIMEOUT, asked).await;
        answered.map_err(|_| failed("it did not answer in time".to_owned()))?.map_err(failed)
    }
}
