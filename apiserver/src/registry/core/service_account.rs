//! ServiceAccounts.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::resource::{GroupVersionKind, Resource};
use serde_json::{Value, json};

use super::{token::TokenRequests, token_secrets};
use crate::{
    registry::{
        kind::{Cell, Column, Connect, Deleted, Strategy, resource},
        object, table,
    },
    server::Core,
};

/// Annotation by which pods may only mount the Secrets that an account lists.
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// ServiceAccounts.
pub struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    fn resource(&self) -> Resource {
        resource("", "v1", "ServiceAccount", "serviceaccounts")
            .short(&["sa"])
            .subresource_of("token", GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest"), &["create"])
            .build()
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        only_names(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value, _now: Timestamp) {
        only_names(object);
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let has = |account: &Value| object::at(account, &["metadata", "annotations", MOUNTABLE]).is_some();
        let new = has(object) && !old.is_some_and(has);
        let told = || {
            format!(
                "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
            )
        };
        new.then(told).into_iter().collect()
    }

    fn columns(&self) -> &'static [Column] {
        &table::NAME_AND_AGE
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        table::name_and_age(object)
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, _revision: u64) {
        if let (None, Some(account)) = (object, old) {
            token_secrets::forget(core, account);
        }
    }

    fn subresource(&self, name: &str) -> Option<&'static dyn Connect> {
        (name == "token").then_some(&TokenRequests as &dyn Connect)
    }
}

/// Of the Secrets that an account may use, only the names are kept.
fn only_names(account: &mut Value) {
    for secret in object::list_mut(account, &["secrets"]).into_iter().flatten() {
        *secret = json!({"name": object::text(secret, &["name"])});
    }
}
