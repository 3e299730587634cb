//! Secrets of the type `kubernetes.io/service-account-token`: filled with a token of the account that they name. The token is
//! bound to the Secret and holds as long as any other; it is renewed in good time, so that whoever reads the Secret has one
//! that holds. What was copied out of it ends within a day.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use martello_api::{clock, status::ApiError};
use martello_pki::token::{BoundObject, MAX_TOKEN_LIFETIME, TokenSpec};
use serde_json::{Value, json};

use super::{Core, bootstrap, followup, unused_tokens};
use crate::{
    authn::secret_tokens,
    registry::{object, storage},
    store::{ListAt, Page},
};

/// The type of these Secrets.
pub const TYPE: &str = "kubernetes.io/service-account-token";
/// Names the account of a Secret.
pub const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// Tells which account of that name is meant.
pub const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// When the token was made; others are renewed when half of their life is over.
const ISSUED: &str = "martello.dev/token-issued";
/// Tells since when the use of such tokens is noted at their Secrets.
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// How often it is looked for tokens that are to be renewed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(600);

/// Follows a write of a Secret.
pub fn follow(core: &Arc<Core>, secret: &Value) {
    if object::text(secret, &["type"]) != TYPE || !wants(secret, &authority(core), clock::now()).any() {
        return;
    }
    let name = format!("{}/{}", object::namespace(secret), object::name(secret));
    let (core, secret) = (Arc::clone(core), secret.clone());
    followup::spawn("fill a service account's Secret", &name, async move { fill(&core, &secret, clock::now()).await });
}

/// What a Secret lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wants {
    token: bool,
    authority: bool,
    namespace: bool,
}

impl Wants {
    fn any(self) -> bool {
        self.token || self.authority || self.namespace
    }
}

fn authority(core: &Core) -> String {
    STANDARD.encode(core.pki.server_ca_pem())
}

/// What a Secret wants, given the authority that clients are to trust.
fn wants(secret: &Value, authority: &str, now: Timestamp) -> Wants {
    if object::text(secret, &["type"]) != TYPE || object::is_terminating(secret) {
        return Wants::default();
    }
    let data = |key: &str| object::text(secret, &["data", key]);
    let issued: Option<Timestamp> = object::text(secret, &["metadata", "annotations", ISSUED]).parse().ok();
    let is_old = |issued: Timestamp| now.as_second() - issued.as_second() > MAX_TOKEN_LIFETIME.as_secs() / 2;
    Wants {
        token: data("token").is_empty() || issued.is_none_or(is_old),
        authority: data("ca.crt") != authority,
        namespace: data("namespace").is_empty(),
    }
}

async fn fill(core: &Arc<Core>, secret: &Value, now: Timestamp) -> Result<(), ApiError> {
    let (namespace, name) = (object::namespace(secret), object::name(secret));
    let account_name = object::text(secret, &["metadata", "annotations", ACCOUNT_NAME]);
    let find = |plural: &str| core.registry.find("", "v1", plural).ok_or_else(ApiError::no_such_route);
    let account = core.get(find("serviceaccounts")?, namespace, account_name).await?;
    let wanted = object::text(secret, &["metadata", "annotations", ACCOUNT_UID]);
    if !wanted.is_empty() && wanted != &*account.uid {
        return Ok(());
    }
    let secrets = find("secrets")?;
    let entry = core.get(secrets, namespace, name).await?;
    let present = core.value(secrets, &entry).await?;
    let authority = authority(core);
    let wants = wants(&present, &authority, now);
    if !wants.any() {
        return Ok(());
    }
    let mut body = json!({
        "metadata": {
            "resourceVersion": object::text(&present, &["metadata", "resourceVersion"]),
            "annotations": {ACCOUNT_UID: &*account.uid},
        },
        "data": {"ca.crt": authority},
    });
    if wants.namespace {
        object::set(&mut body, &["data"], "namespace", STANDARD.encode(namespace));
    }
    if wants.token {
        let issued = issue(core, (namespace, name), (account_name, &account.uid), &entry.uid, now)?;
        object::set(&mut body, &["data"], "token", STANDARD.encode(issued));
        object::set(&mut body, &["metadata", "annotations"], ISSUED, now.to_string());
    }
    followup::patch(&core.own_client(), &format!("/api/v1/namespaces/{namespace}/secrets/{name}"), &body).await
}

/// A token of an account for a Secret, and bound to it.
fn issue(
    core: &Core,
    (namespace, name): (&str, &str),
    (account, account_uid): (&str, &str),
    uid: &str,
    now: Timestamp,
) -> Result<String, ApiError> {
    let spec = TokenSpec {
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        uid: account_uid.to_owned(),
        lifetime: MAX_TOKEN_LIFETIME,
        secret: Some(BoundObject { name: name.to_owned(), uid: uid.to_owned() }),
        stands_in_secret: true,
        ..TokenSpec::default()
    };
    Ok(core.pki.tokens().issue(spec, now).map_err(ApiError::internal)?.token)
}

/// The day since which the use of tokens is noted; it is written down unless it is.
async fn tracked_since(core: &Arc<Core>, now: Timestamp) -> Result<String, ApiError> {
    let kind = core.registry.find("", "v1", "configmaps").ok_or_else(ApiError::no_such_route)?;
    let path = "/api/v1/namespaces/kube-system/configmaps";
    let today = secret_tokens::day(now);
    let data = json!({"since": today});
    let Some(entry) = core.find(kind, "kube-system", TRACKING).await? else {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": TRACKING}, "data": data});
        return bootstrap::create(&core.own_client(), path, &body).await.map(|()| today);
    };
    let present = core.value(kind, &entry).await?;
    let since = object::text(&present, &["data", "since"]);
    if since.parse::<jiff::civil::Date>().is_ok() {
        return Ok(since.to_owned());
    }
    followup::patch(&core.own_client(), &format!("{path}/{TRACKING}"), &json!({"data": data})).await.map(|()| today)
}

/// Looks for Secrets that want a token, and for certificate requests that want an answer, until the server drains.
pub async fn look_after(core: Arc<Core>) {
    loop {
        if let Err(error) = look(&core).await {
            tracing::warn!(%error, "it could not be looked for what is to be signed");
        }
        if core.drain.run_until_cancelled(tokio::time::sleep(RENEWAL_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// What can't be done of it keeps nothing else from being done.
async fn look(core: &Arc<Core>) -> Result<(), ApiError> {
    let renewed = renew(core).await;
    if let Some(kind) = core.registry.find("certificates.k8s.io", "v1", "certificatesigningrequests") {
        match bootstrap::all(core, kind).await {
            Ok(requests) => requests.iter().for_each(|request| super::signers::follow(core, request)),
            Err(error) => tracing::warn!(%error, "certificate requests could not be looked at"),
        }
    }
    let secrets = renewed?;
    match tracked_since(core, clock::now()).await {
        Ok(since) => unused_tokens::clean(core, &secrets, &since).await,
        Err(error) => tracing::warn!(%error, "it is not known since when the use of tokens in Secrets is noted"),
    }
    Ok(())
}

/// Renews the tokens of Secrets; answers these Secrets without what they hold.
async fn renew(core: &Arc<Core>) -> Result<Vec<Value>, ApiError> {
    let Some(kind) = core.registry.find("", "v1", "secrets") else { return Ok(Vec::new()) };
    let listed = core.store.list(&kind.scope(""), ListAt::Latest, Page::default()).await;
    let listed = listed.map_err(|error| storage::store_failure(&error))?;
    let mut secrets = Vec::new();
    // Others stay sealed.
    for entry in listed.items.iter().filter(|entry| storage::entry_field(entry, "type") == TYPE) {
        match core.value(kind, entry).await {
            Ok(mut secret) => {
                follow(core, &secret);
                object::remove(&mut secret, &[], "data");
                secrets.push(secret);
            }
            Err(error) => {
                let (namespace, name) = (entry.key.namespace(), entry.key.name());
                tracing::warn!(namespace, name, %error, "a Secret with a token could not be read");
            }
        }
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_gets_what_it_lacks_and_a_new_token_when_half_of_its_life_is_over() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let secret = |issued: &str| {
            json!({"type": TYPE, "metadata": {"annotations": {ISSUED: issued}},
                "data": {"token": "t", "ca.crt": "ca", "namespace": "n"}})
        };
        let wanted = |secret: &Value| wants(secret, "ca", now);
        let fresh = secret("2026-01-01T13:00:00Z");
        let token = Wants { token: true, ..Wants::default() };
        assert_eq!(wanted(&fresh), Wants::default());
        assert_eq!(wanted(&secret("2026-01-01T11:00:00Z")), token);
        assert_eq!(wants(&fresh, "another", now), Wants { authority: true, ..Wants::default() });
        let without = |key: &str| {
            let mut secret = fresh.clone();
            object::set(&mut secret, &["data"], key, "");
            wanted(&secret)
        };
        assert_eq!(without("token"), token);
        assert_eq!(without("namespace"), Wants { namespace: true, ..Wants::default() });
        assert_eq!(wanted(&json!({"type": TYPE})), Wants { token: true, authority: true, namespace: true });
        assert_eq!(wanted(&json!({"type": "Opaque"})), Wants::default());
    }
}
