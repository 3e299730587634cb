//! Admission: what is filled in for a client, and what is refused although it is authorized and well-formed.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use crate::{
    registry::{call::Call, certificates::signing_request, kind::Kind, networking::ingress},
    server::Core,
};

pub mod lifecycle;
pub mod node_restriction;
pub mod pod_security;
pub mod service_account;
pub mod tolerations;

/// What is about to happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
}

/// Fills in what the cluster decides for a client.
pub async fn mutate(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &mut Value,
    _old: Option<&Value>,
) -> Result<(), ApiError> {
    lifecycle::check(core, kind, call, operation, object).await?;
    if is_pod(kind) && operation == Operation::Create {
        service_account::inject(core, kind, call, object).await?;
        tolerations::add(object);
    }
    if operation == Operation::Create && kind.group() == "networking.k8s.io" && kind.name() == "Ingress" {
        ingress::default_class(core, object).await?;
    }
    Ok(())
}

/// Refuses what must not be.
pub async fn validate(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    node_restriction::check(core, kind, call, operation, object, old).await?;
    if let ("certificates.k8s.io", "CertificateSigningRequest", Some(request)) = (kind.group(), kind.name(), object) {
        signing_request::admit(core, kind, call, request, old)?;
    }
    pod_security::check(core, kind, call, operation, object, old).await
}

fn is_pod(kind: &Kind) -> bool {
    kind.group().is_empty() && kind.name() == "Pod"
}
