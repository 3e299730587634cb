//! HTTP as registries speak it: one login, tokens where they are asked for, and a limit on every answer.
//!
//! A registry is a stranger. It may answer a small question with bytes without end, lead elsewhere, or ask for the login to
//! be sent where others can read it: none of that is gone along with.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use reqwest::header::{ACCEPT, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use tokio::sync::RwLock;

use super::challenge::{Challenge, challenge};

/// Waiting longer than this for a connection, the registry is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A registry that is silent for longer is stuck.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A token is a few kilobytes, and so is what a registry says about a failure.
const MAX_ANSWER: u64 = 64 << 10;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client could not be made.
    #[error("an HTTP client for registries can't be set up")]
    Setup(#[source] reqwest::Error),
    /// The registry could not be reached, or broke off.
    #[error("the request failed")]
    Request(#[source] reqwest::Error),
    /// The answer is longer than what was asked for can be.
    #[error("the answer has more than {0} bytes")]
    TooLong(u64),
    /// The registry refused.
    #[error("the registry answered {0}")]
    Status(StatusCode),
    /// The registry names a place for tokens that the login must not be sent to.
    #[error("the registry asks for a login at {0:?}, which is not reached over TLS")]
    Realm(String),
    /// The answer of the place for tokens holds none.
    #[error("the registry's token service gave no token")]
    NoToken,
}

impl HttpError {
    /// Whether another login, or one at all, might help.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Self::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) | Self::NoToken)
    }

    /// Whether the registry does not have what was asked for.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Status(StatusCode::NOT_FOUND))
    }
}

/// One repository of one registry, as one login sees it.
pub(super) struct Repository {
    http: reqwest::Client,
    /// `https://registry/v2/name`
    base: String,
    name: String,
    login: Option<(String, String)>,
    plain: bool,
    authorization: RwLock<Option<Authorization>>,
}

#[derive(Clone)]
enum Authorization {
    Basic(String, String),
    Bearer(String),
}

impl Repository {
    /// A repository that is reached over TLS, or without where `plain` says so.
    pub(super) fn new(
        registry: &str,
        name: &str,
        login: Option<(String, String)>,
        plain: bool,
        authorities_pem: &[Vec<u8>],
    ) -> Result<Self, HttpError> {
        let mut authorities = Vec::new();
        for pem in authorities_pem {
            authorities.extend(reqwest::Certificate::from_pem_bundle(pem).map_err(HttpError::Setup)?);
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("martello/", env!("CARGO_PKG_VERSION")))
            // Redirects (to where blobs lie) must not lead out of TLS.
            .https_only(!plain)
            .tls_certs_merge(authorities)
            .build()
            .map_err(HttpError::Setup)?;
        // Docker's registry goes by another name than its images.
        let host = if registry == "docker.io" { "index.docker.io" } else { registry };
        let scheme = if plain { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{name}");
        Ok(Self { http, base, name: name.to_owned(), login, plain, authorization: RwLock::default() })
    }

    /// A document of at most `most` bytes, of one of these media types.
    pub(super) async fn manifest(&self, reference: &str, accepted: &[&str], most: u64) -> Result<Bytes, HttpError> {
        let response = self.get(&format!("{}/manifests/{reference}", self.base), Some(&accepted.join(", "))).await?;
        bounded(response, most).await
    }

    /// A blob, as it comes. The reader must know when to stop.
    pub(super) async fn blob(
        &self,
        digest: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, HttpError>> + Send + Unpin + use<>, HttpError> {
        let response = self.get(&format!("{}/blobs/{digest}", self.base), None).await?;
        Ok(Box::pin(response.bytes_stream().map_err(HttpError::Request)))
    }

    /// Asks; if the registry wants to know who asks, tells it and asks once more.
    async fn get(&self, url: &str, accepted: Option<&str>) -> Result<Response, HttpError> {
        let ask = |authorization: Option<Authorization>| {
            let request = self.http.get(url);
            let request = match accepted {
                Some(accepted) => request.header(ACCEPT, accepted),
                None => request,
            };
            authorize(request, authorization).send()
        };
        let known = self.authorization.read().await.clone();
        let response = ask(known).await.map_err(HttpError::Request)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return checked(response);
        }
        let Some(authorization) = self.log_in(response.headers()).await? else { return checked(response) };
        *self.authorization.write().await = Some(authorization.clone());
        checked(ask(Some(authorization)).await.map_err(HttpError::Request)?)
    }

    /// What to show, given what the registry asks for; none if there is nothing to show.
    async fn log_in(&self, headers: &HeaderMap) -> Result<Option<Authorization>, HttpError> {
        let asked = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| challenge(value.to_str().ok()?)).next();
        match (asked, &self.login) {
            (Some(Challenge::Basic), Some((user, password))) => {
                Ok(Some(Authorization::Basic(user.clone(), password.clone())))
            }
            (Some(Challenge::Bearer { realm, service }), login) => {
                self.token(&realm, service.as_deref(), login.as_ref()).await.map(Some)
            }
            (Some(Challenge::Basic), None) | (None, _) => Ok(None),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        login: Option<&(String, String)>,
    ) -> Result<Authorization, HttpError> {
        let refused = || HttpError::Realm(realm.chars().take(200).collect());
        let url = Url::parse(realm).map_err(|_| refused())?;
        // A registry without TLS is on this machine, and so must be its place for tokens.
        let is_ours = self.plain && url.host_str().is_some_and(super::is_loopback);
        if url.scheme() != "https" && !is_ours {
            return Err(refused());
        }
        let mut query = vec![("scope", format!("repository:{}:pull", self.name))];
        query.extend(service.map(|service| ("service", service.to_owned())));
        let request = self.http.get(url).query(&query);
        let login = login.map(|(user, password)| Authorization::Basic(user.clone(), password.clone()));
        let response = authorize(request, login).send().await.map_err(HttpError::Request)?;
        let body = bounded(checked(response)?, MAX_ANSWER).await?;
        let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|_| HttpError::NoToken)?;
        let token = ["token", "access_token"].into_iter().find_map(|key| answer.get(key)?.as_str());
        token.map(|token| Authorization::Bearer(token.to_owned())).ok_or(HttpError::NoToken)
    }
}

fn authorize(request: RequestBuilder, authorization: Option<Authorization>) -> RequestBuilder {
    match authorization {
        Some(Authorization::Basic(user, password)) => request.basic_auth(user, Some(password)),
        Some(Authorization::Bearer(token)) => request.bearer_auth(token),
        None => request,
    }
}

/// The body of a failure is not read: its status says enough.
fn checked(response: Response) -> Result<Response, HttpError> {
    if response.status().is_success() { Ok(response) } else { Err(HttpError::Status(response.status())) }
}

/// The body, if it has at most `most` bytes; not one byte more is kept.
async fn bounded(mut response: Response, most: u64) -> Result<Bytes, HttpError> {
    if response.content_length().is_some_and(|length| length > most) {
        return Err(HttpError::TooLong(most));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(HttpError::Request)? {
        if (body.len() + chunk.len()) as u64 > most {
            return Err(HttpError::TooLong(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}
