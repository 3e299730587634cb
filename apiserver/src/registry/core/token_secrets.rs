//! Secrets of the type `kubernetes.io/service-account-token` end with the account that they name, as upstream's controller of
//! tokens sees to: one whose account is gone, or is another one by now, is of no use to anybody.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use crate::{
    registry::{object, storage},
    server::{
        Core,
        account_tokens::{self, ACCOUNT_NAME, ACCOUNT_UID},
        followup,
    },
    store::{ListAt, Page},
};

/// Follows a write of a Secret: one whose account is not there is removed.
pub fn follow(core: &Arc<Core>, secret: &Value) {
    if object::text(secret, &["type"]) != account_tokens::TYPE || object::is_terminating(secret) {
        return;
    }
    let name = format!("{}/{}", object::namespace(secret), object::name(secret));
    let (core, secret) = (Arc::clone(core), secret.clone());
    followup::spawn("remove a Secret without its account", &name, async move { check(&core, &secret).await });
}

/// Follows the end of a ServiceAccount: its Secrets end too.
pub fn forget(core: &Arc<Core>, account: &Value) {
    let name = format!("{}/{}", object::namespace(account), object::name(account));
    let (core, account) = (Arc::clone(core), account.clone());
    followup::spawn("remove the Secrets of an account", &name, async move { remove_all(&core, &account).await });
}

async fn check(core: &Arc<Core>, secret: &Value) -> Result<(), ApiError> {
    let Some(accounts) = core.registry.find("", "v1", "serviceaccounts") else { return Ok(()) };
    let name = object::text(secret, &["metadata", "annotations", ACCOUNT_NAME]);
    let found = core.find(accounts, object::namespace(secret), name).await?;
    if found.is_some_and(|account| is_of(secret, name, &account.uid)) {
        return Ok(());
    }
    remove(core, secret).await
}

async fn remove_all(core: &Arc<Core>, account: &Value) -> Result<(), ApiError> {
    let Some(secrets) = core.registry.find("", "v1", "secrets") else { return Ok(()) };
    let listed = core.store.list(&secrets.scope(object::namespace(account)), ListAt::Latest, Page::default()).await;
    let listed = listed.map_err(|error| storage::store_failure(&error))?;
    for entry in listed.items.iter().filter(|entry| storage::entry_field(entry, "type") == account_tokens::TYPE) {
        let secret = core.value(secrets, entry).await?;
        if is_of(&secret, object::name(account), object::uid(account)) {
            remove(core, &secret).await?;
        }
    }
    Ok(())
}

async fn remove(core: &Arc<Core>, secret: &Value) -> Result<(), ApiError> {
    let (namespace, name, uid) = (object::namespace(secret), object::name(secret), object::uid(secret));
    // Not another one that bears the name by now.
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}?uid={uid}");
    match followup::delete(&core.own_client(), &path).await {
        Err(error) if matches!(error.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// Whether the Secret is meant for this very account; one that names no uid takes whichever bears the name.
fn is_of(secret: &Value, name: &str, uid: &str) -> bool {
    let annotation = |key: &str| object::text(secret, &["metadata", "annotations", key]);
    annotation(ACCOUNT_NAME) == name && matches!(annotation(ACCOUNT_UID), wanted if wanted.is_empty() || wanted == uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_of_the_account_that_it_names_and_of_no_later_one() {
        let secret =
            |name: &str, uid: &str| json!({"metadata": {"annotations": {ACCOUNT_NAME: name, ACCOUNT_UID: uid}}});
        assert!(is_of(&secret("a", ""), "a", "1"));
        assert!(is_of(&secret("a", "1"), "a", "1"));
        assert!(!is_of(&secret("a", "2"), "a", "1"));
        assert!(!is_of(&secret("b", "1"), "a", "1"));
        assert!(is_of(&json!({"metadata": {"annotations": {ACCOUNT_NAME: "a"}}}), "a", "1"));
    }
}
