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

use super::{config::Provider, url::Url};
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
    tls: Arc<ClientConfig>,
    keys: RwLock<(Keys, Option<Timestamp>)>,
    fetching: tokio::sync::Mutex<()>,
}

impl Authenticator {
    /// Of a provider; its keys are asked for when they are first needed.
    pub fn new(provider: Provider) -> Result<Self, martello_pki::ForeignError> {
        let trust = ForeignTrust::from_pem(provider.issuer.certificate_authority.as_bytes())?;
        let tls = foreign_config(trust, None)?;
        Ok(Self { provider, tls, keys: RwLock::default(), fetching: tokio::sync::Mutex::default() })
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
        self.map(&claims)
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

    /// The user that the claims speak of.
    fn map(&self, claims: &Claims) -> Result<User, ProviderError> {
        let missing = |claim: &str| ProviderError::Claim(format!("parse username claims {claim:?}: claim not present"));
        for rule in &self.provider.claim_validation_rules {
            if claims.get(&rule.claim).and_then(Value::as_str) != Some(rule.required_value.as_str()) {
                return Err(ProviderError::Claim(format!("claim {:?} has not the required value", rule.claim)));
            }
        }
        let maps = &self.provider.claim_mappings;
        let name = claims.get(&maps.username.claim).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| missing(&maps.username.claim))?;
        let unverified = claims.get("email_verified").is_some_and(|verified| verified != &Value::Bool(true));
        if maps.username.claim == "email" && unverified {
            return Err(ProviderError::Claim("email not verified".to_owned()));
        }
        let prefixed = |prefix: &Option<String>, text: &str| format!("{}{text}", prefix.as_deref().unwrap_or_default());
        let groups: Vec<String> = match claims.get(&maps.groups.claim) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let groups = groups.iter().map(|group| prefixed(&maps.groups.prefix, group));
        let mut user = User::authenticated(prefixed(&maps.username.prefix, name), groups);
        // What only the server itself may say of somebody.
        if user.name.starts_with("system:") {
            return Err(ProviderError::Claim("username must not begin with system:".to_owned()));
        }
        let reserved =
            |group: &String| group.starts_with("system:") && group != martello_api::identity::GROUP_AUTHENTICATED;
        if user.groups.iter().any(reserved) {
            return Err(ProviderError::Claim("groups must not begin with system:".to_owned()));
        }
        user.uid = claims.get(&maps.uid.claim).and_then(Value::as_str).map(str::to_owned);
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authn::config::AuthenticationConfiguration;

    fn map(claims: Value) -> Result<User, String> {
        let yaml = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: https://idp.example.com\n    audiences: [k]\n    certificateAuthority: pem\n  claimValidationRules: [{claim: hd, requiredValue: example.com}]\n  claimMappings:\n    username: {claim: email, prefix: 'idp:'}\n    groups: {claim: roles, prefix: 'idp:'}\n    uid: {claim: sub}\n";
        let provider = AuthenticationConfiguration::read(yaml).unwrap().jwt.remove(0);
        let tls = foreign_config(ForeignTrust::DangerouslyAnyone, None).unwrap();
        let authenticator =
            Authenticator { provider, tls, keys: RwLock::default(), fetching: tokio::sync::Mutex::default() };
        let Value::Object(claims) = claims else { panic!() };
        authenticator.map(&claims).map_err(|error| error.to_string())
    }

    #[test]
    fn claims_become_a_user() {
        let claims = json!({"hd": "example.com", "email": "jane@example.com", "roles": ["devs"], "sub": "7"});
        let user = map(claims).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_deref()), ("idp:jane@example.com", Some("7")));
        assert_eq!(user.groups, ["idp:devs", "system:authenticated"]);
    }

    #[test]
    fn claims_that_do_not_fit_make_nobody() {
        assert!(map(json!({"hd": "other", "email": "a"})).unwrap_err().contains("hd"));
        assert!(map(json!({"hd": "example.com"})).unwrap_err().contains("claim not present"));
        let unverified = json!({"hd": "example.com", "email": "a", "email_verified": false});
        assert_eq!(map(unverified).unwrap_err(), "oidc: email not verified");
    }
}
