//! What the key keepers offer: users of certificates and tokens, and new tokens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use martello_api::{identity::User, status::ApiError};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::{registry::object, server::Core};

/// Claims of a service account token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Namespace of the account.
    pub namespace: String,
    /// Name and UID of the account.
    pub account: (String, String),
    /// Name and UID of the pod that it is bound to.
    pub pod: Option<(String, String)>,
    /// Name and UID of the Secret that it is bound to.
    pub secret: Option<(String, String)>,
    /// Name and UID of the pod's node.
    pub node: Option<(String, String)>,
    /// For whom it is.
    pub audiences: Vec<String>,
    /// Identifier of the token.
    pub id: String,
}

/// A token that was made.
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// A service account.
    Account(Claims),
    /// Someone else (a machine that joins), of whom there is no object.
    User(User),
}

/// The keeper of certificates and tokens.
pub trait Credentials: Send + Sync + 'static {
    /// The user whom a chain of client certificates, the leaf first, belongs to.
    fn certificate_user(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Result<User, String>;

    /// What a token proves, its signature and time checked. Audiences are the caller's to check.
    fn verify_token(&self, token: &str, now: Timestamp) -> Result<Proven, String>;

    /// Makes a token.
    fn issue_token(&self, claims: &Claims, lifetime: Duration, now: Timestamp) -> Result<IssuedToken, String>;

    /// The audiences of this server.
    fn audiences(&self) -> Vec<String>;

    /// Issuer of the tokens.
    fn issuer(&self) -> String;

    /// Public keys of the tokens, as a JSON Web Key Set.
    fn jwks(&self) -> Value;

    /// PEM of the authority that servers are verified by.
    fn server_ca(&self) -> String;
}

/// A user of a token, and for whom the token is.
pub struct Accepted {
    /// The user.
    pub user: User,
    /// Audiences that both sides know.
    pub audiences: Vec<String>,
}

/// The user of a token: signature, time and audience hold, and what it is bound to exists.
pub async fn token_user(core: &Arc<Core>, token: &str, wanted: &[String], now: Timestamp) -> Result<Accepted, String> {
    let claims = match core.credentials.verify_token(token, now)? {
        Proven::User(user) => return Ok(Accepted { user, audiences: core.credentials.audiences() }),
        Proven::Account(claims) => claims,
    };
    let own = core.credentials.audiences();
    let wanted = if wanted.is_empty() { &own } else { wanted };
    let audiences: Vec<String> = claims.audiences.iter().filter(|one| wanted.contains(one)).cloned().collect();
    if audiences.is_empty() {
        return Err(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", claims.audiences));
    }
    check_account(core, &claims).await.map_err(|error| error.message)?;
    Ok(Accepted { user: user_of(&claims), audiences })
}

fn user_of(claims: &Claims) -> User {
    const PREFIX: &str = "authentication.kubernetes.io/";
    let (name, uid) = &claims.account;
    let mut user = User::service_account(&claims.namespace, name);
    user.uid = Some(uid.clone());
    let mut extra = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        extra.insert(format!("{PREFIX}{key}"), vec![value.to_owned()]);
    };
    if !claims.id.is_empty() {
        put("credential-id", &format!("JTI={}", claims.id));
    }
    if let Some((name, uid)) = &claims.pod {
        put("pod-name", name);
        put("pod-uid", uid);
    }
    if let Some((name, uid)) = &claims.node {
        put("node-name", name);
        put("node-uid", uid);
    }
    user.extra = extra;
    user
}

async fn check_account(core: &Arc<Core>, claims: &Claims) -> Result<(), ApiError> {
    let same = |plural: &'static str, bound: &(String, String)| {
        let (name, uid) = bound.clone();
        async move {
            let kind = core.registry.find("", "v1", plural).ok_or_else(ApiError::unauthorized)?;
            let entry = core.get(kind, &claims.namespace, &name).await?;
            if *entry.uid != *uid {
                return Err(ApiError::new(401, "Unauthorized", format!("{plural} {name:?} is another one by now")));
            }
            Ok(entry)
        }
    };
    same("serviceaccounts", &claims.account).await?;
    if let Some(pod) = &claims.pod {
        let entry = same("pods", pod).await?;
        let kind = core.registry.find("", "v1", "pods").ok_or_else(ApiError::unauthorized)?;
        let value = core.value(kind, &entry).await?;
        if ended_long_ago(&value, martello_api::clock::now()) {
            return Err(ApiError::new(401, "Unauthorized", "the pod of the token is gone"));
        }
    }
    if let Some(secret) = &claims.secret {
        same("secrets", secret).await?;
    }
    Ok(())
}

/// Grace after which the token of a pod that is being deleted ends, as upstream's.
const DELETED_GRACE_SECONDS: i64 = 60;

fn ended_long_ago(object: &Value, now: Timestamp) -> bool {
    let deleted = object::text(object, &["metadata", "deletionTimestamp"]);
    deleted.parse::<Timestamp>().is_ok_and(|deleted| now.as_second() - deleted.as_second() > DELETED_GRACE_SECONDS)
}
