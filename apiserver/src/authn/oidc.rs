//! Users of identity providers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use martello_api::identity::User;
use martello_pki::{
    ForeignTrust, foreign_config,
    oidc::{self, Claims, Keys, OidcError},
};
use parking_lot::RwLock;
use rustls::ClientConfig;
use serde_json::Value;

use super::{
    config::{ConfigError, Provider},
    mapping::Mapper,
    url::Url,
};
use crate::http::outbound::{self, Outgoing};

/// Largest document of a provider.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// How often a provider is asked for its keys at most, whatever tokens claim.
const FETCH_INTERVAL_SECONDS: i64 = 10;
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
    keys: RwLock<(Keys, Option<Timestamp>)>,
    fetching: tokio::sync::Mutex<()>,
}

impl Authenticator {
    /// Of a provider, the `index`th of its file; its keys are asked for when they are first needed.
    pub fn new(provider: Provider, index: usize) -> Result<Self, ConfigError> {
        let untrusted = |error: martello_pki::ForeignError| ConfigError::Invalid {
            path: format!("jwt[{index}].issuer.certificateAuthority"),
            why: error.to_string(),
        };
        let trust = ForeignTrust::from_pem(provider.issuer.certificate_authority.as_bytes()).map_err(untrusted)?;
        let tls = foreign_config(trust, None).map_err(untrusted)?;
        let mapper = Mapper::new(&provider, index)?;
        Ok(Self { provider, mapper, tls, keys: RwLock::default(), fetching: tokio::sync::Mutex::default() })
    }

    /// What its tokens call it.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.provider.issuer.url
    }

    /// The user of a token. Keys that are not known are asked for.
    pub async fn user(&self, token: &str, now: Timestamp) -> Result<User, ProviderError> {
        let claims = match self.verify(token, now) {
            Err(OidcError::UnknownKey) => {
                self.fetch(now).await?;
                self.verify(token, now)?
            }
            verified => verified?,
        };
        self.mapper.user(&claims).map_err(ProviderError::Claim)
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, OidcError> {
        let keys = self.keys.read();
        oidc::verify(token, &keys.0, self.issuer(), &self.provider.issuer.audiences, now)
    }

    async fn fetch(&self, now: Timestamp) -> Result<(), ProviderError> {
        let _one_at_a_time = self.fetching.lock().await;
        let asked = self.keys.read().1;
        if asked.is_some_and(|asked| now.as_second() - asked.as_second() < FETCH_INTERVAL_SECONDS) {
            return Ok(());
        }
        self.keys.write().1 = Some(now);
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
        let keys = Keys::read(&self.get(place).await?)?;
        self.keys.write().0 = keys;
        Ok(())
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
