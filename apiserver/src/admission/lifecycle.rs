//! Nothing is made in a namespace that is missing or being deleted, and the namespaces of the system stay.

use std::sync::Arc;

use martello_api::status::{ApiError, Cause};
use serde_json::Value;

use super::{Operation, forbidden};
use crate::{
    registry::{call::Call, kind::Kind},
    server::Core,
};

/// Checks the namespace of what is to be made.
pub async fn check(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &Value,
) -> Result<(), ApiError> {
    if operation != Operation::Create || !kind.resource.namespaced || call.namespace().is_empty() {
        return Ok(());
    }
    if kind.group() == "authorization.k8s.io" {
        return Ok(());
    }
    let Some(namespaces) = core.registry.find("", "v1", "namespaces") else { return Ok(()) };
    let Some(entry) = core.find(namespaces, "", call.namespace()).await? else {
        return Err(ApiError::not_found("", "namespaces", call.namespace()));
    };
    if entry.fields.get("status.phase") != Some("Terminating") {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {} because it is being terminated", call.namespace());
    let mut error = forbidden(kind, call, object, &why);
    if let Some(details) = &mut error.details {
        let message = format!("namespace {} is being terminated", call.namespace());
        details.causes.push(Cause::new("NamespaceTerminating", "metadata.namespace", message));
    }
    Err(error)
}
