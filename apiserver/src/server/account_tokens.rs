//! Secrets of the type `kubernetes.io/service-account-token`: filled with a token of the account that they name. The token is
//! bound to the Secret and holds as long as any other; it is renewed in good time, so that whoever reads the Secret has one
//! that holds. What was copied out of it ends within a day.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use martello_api::{clock, status::ApiError};
use martello_pki::token::{BoundObject, MAX_TOKEN_LIFETIME, TokenSpec};
use serde_json::{Value, json};

use super::{Core, bootstrap, followup};
use crate::{
    registry::{object, storage},
    store::{ListAt, Page},
};

/// The type of these Secrets.
pub const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// When the token was made; others are renewed when half of their life is over.
const ISSUED: &str = "martello.dev/token-issued";
/// How often it is looked for tokens that are to be renewed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(600);

/// Follows a write of a Secret.
pub fn follow(core: &Arc<Core>, secret: &Value) {
    if !is_due(secret, clock::now()) {
        return;
    }
    let name = format!("{}/{}", object::namespace(secret), object::name(secret));
    let (core, secret) = (Arc::clone(core), secret.clone());
    followup::spawn("fill a service account's Secret", &name, async move { fill(&core, &secret, clock::now()).await });
}

/// Whether a Secret wants a token.
fn is_due(secret: &Value, now: Timestamp) -> bool {
    if object::text(secret, &["type"]) != TYPE || object::is_terminating(secret) {
        return false;
    }
    let issued: Option<Timestamp> = object::text(secret, &["metadata", "annotations", ISSUED]).parse().ok();
    let missing = ["token", "ca.crt", "namespace"].iter().any(|key| object::at(secret, &["data", key]).is_none());
    missing || issued.is_none_or(|issued| now.as_second() - issued.as_second() > MAX_TOKEN_LIFETIME.as_secs() / 2)
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
    if !is_due(&present, now) {
        return Ok(());
    }
    let spec = TokenSpec {
        namespace: namespace.to_owned(),
        service_account: account_name.to_owned(),
        uid: account.uid.to_string(),
        lifetime: MAX_TOKEN_LIFETIME,
        secret: Some(BoundObject { name: name.to_owned(), uid: entry.uid.to_string() }),
        ..TokenSpec::default()
    };
    let issued = core.pki.tokens().issue(spec, now).map_err(ApiError::internal)?;
    let body = json!({
        "metadata": {
            "resourceVersion": object::text(&present, &["metadata", "resourceVersion"]),
            "annotations": {ACCOUNT_UID: &*account.uid, ISSUED: now.to_string()},
        },
        "data": {
            "token": STANDARD.encode(issued.token),
            "ca.crt": STANDARD.encode(core.pki.server_ca_pem()),
            "namespace": STANDARD.encode(namespace),
        },
    });
    followup::patch(&core.own_client(), &format!("/api/v1/namespaces/{namespace}/secrets/{name}"), &body).await
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

async fn look(core: &Arc<Core>) -> Result<(), ApiError> {
    if let Some(kind) = core.registry.find("", "v1", "secrets") {
        // Others stay sealed.
        let listed = core.store.list(&kind.scope(""), ListAt::Latest, Page::default()).await;
        let listed = listed.map_err(|error| storage::store_failure(&error))?;
        for entry in listed.items.iter().filter(|entry| storage::entry_field(entry, "type") == TYPE) {
            follow(core, &core.value(kind, entry).await?);
        }
    }
    if let Some(kind) = core.registry.find("certificates.k8s.io", "v1", "certificatesigningrequests") {
        bootstrap::all(core, kind).await?.iter().for_each(|request| super::signers::follow(core, request));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_when_half_of_its_life_is_over() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let secret = |issued: &str| {
            json!({"type": TYPE, "metadata": {"annotations": {ISSUED: issued}},
                "data": {"token": "", "ca.crt": "", "namespace": ""}})
        };
        assert!(!is_due(&secret("2026-01-01T13:00:00Z"), now));
        assert!(is_due(&secret("2026-01-01T11:00:00Z"), now));
        assert!(is_due(&json!({"type": TYPE}), now));
        assert!(!is_due(&json!({"type": "Opaque"}), now));
    }
}
