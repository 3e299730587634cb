//! Admission: what is filled in for a client, and what is refused although it is authorized and well-formed.

use std::{sync::Arc, time::Instant};

use martello_api::status::ApiError;
use serde_json::Value;

use crate::{
    metrics::admission::Step,
    registry::{
        call::Call,
        certificates::{signing_request, trust_bundle},
        kind::Kind,
        networking::ingress,
        object,
        options::DeleteOptions,
        verbs::scale,
    },
    server::Core,
};

pub mod dynamic;
pub mod lifecycle;
pub mod limits;
pub mod mountable_secrets;
pub mod node_restriction;
pub mod pod_security;
pub mod priority;
pub mod quota;
pub mod runtime_class;
pub mod service_account;
pub mod tolerations;
mod topology;
pub mod volumes;

/// What is about to happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Somebody connects to what it stands for: exec, attach, port-forward, proxy.
    Connect,
}

/// Fills in what the cluster decides for a client, and what its users' policies and webhooks do.
pub async fn mutate(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let started = Instant::now();
    let mutated = change(core, kind, call, operation, object, old).await;
    core.metrics.admission.step(Step::Mutating, operation, started.elapsed(), mutated.is_err());
    mutated
}

async fn change(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    fill_in(core, kind, call, operation, object, old).await?;
    let round = dynamic::mutate(core, kind, call, operation, object, old).await?;
    if let Some(round) = round.filter(dynamic::Round::changed) {
        fill_in(core, kind, call, operation, object, old).await?;
        dynamic::mutate_again(core, kind, call, operation, object, old, round).await?;
    }
    Ok(())
}

/// Fills in what the cluster decides for who writes a subresource.
pub async fn fill_part(core: &Arc<Core>, kind: &Kind, call: &Call, object: &mut Value) -> Result<(), ApiError> {
    limits::fill(core, kind, call, Operation::Update, object).await
}

/// Lets policies and webhooks change what a subresource writes; of a status nothing else is taken.
pub async fn mutate_part(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    object: &mut Value,
    old: &Value,
    only_status: bool,
) -> Result<(), ApiError> {
    let is_scale = is_scale(call);
    let (mut made, scaled);
    let old = if is_scale {
        made = scale::admitted(kind, object)?;
        scaled = scale::admitted(kind, old)?;
        &scaled
    } else {
        made = object.clone();
        old
    };
    let round = dynamic::mutate(core, kind, call, Operation::Update, &mut made, Some(old)).await?;
    let Some(round) = round.filter(dynamic::Round::changed) else { return Ok(()) };
    dynamic::mutate_again(core, kind, call, Operation::Update, &mut made, Some(old), round).await?;
    if is_scale {
        scale::take_admitted(kind, object, &made);
    } else if only_status {
        crate::registry::object::copy_key(object, &made, "status");
    } else {
        *object = made;
    }
    Ok(())
}

/// Fills in what the cluster decides for a client. It may be asked twice of one object.
async fn fill_in(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    // In upstream's order: each sees what those before it filled in.
    lifecycle::check(core, kind, call, operation, object).await?;
    limits::fill(core, kind, call, operation, object).await?;
    let new_pod = is_pod(kind) && operation == Operation::Create;
    if new_pod {
        service_account::inject(core, kind, call, object).await?;
    }
    if is_pod(kind) {
        priority::resolve(core, kind, call, object, old).await?;
    }
    if new_pod {
        topology::of_pod(core, object).await?;
    }
    if is_pod(kind) && call.target.subresource.is_empty() {
        tolerations::add(object);
    }
    if operation == Operation::Create {
        volumes::fill(core, kind, object).await?;
    }
    if new_pod {
        runtime_class::fill(core, kind, call, object).await?;
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
    let started = Instant::now();
    let mut judged = check(core, kind, call, operation, object, old).await;
    if judged.is_ok() {
        judged = match (object, old) {
            // Policies and webhooks see what was sent, not what it changes.
            (Some(object), Some(old)) if is_scale(call) && core.hooks.may_validate() => {
                let (object, old) = (scale::admitted(kind, object)?, scale::admitted(kind, old)?);
                dynamic::validate(core, kind, call, operation, Some(&object), Some(&old)).await
            }
            _ => dynamic::validate(core, kind, call, operation, object, old).await,
        };
    }
    core.metrics.admission.step(Step::Validating, operation, started.elapsed(), judged.is_err());
    judged
}

/// Fills in what is created below an object, an eviction, a binding or a request for a token. Whoever carries it out looks
/// at it then, and has it judged after that.
pub async fn fill_below(core: &Arc<Core>, kind: &Kind, call: &Call, mut object: Value) -> Result<Value, ApiError> {
    lifecycle::check(core, kind, call, Operation::Create, &object).await?;
    if is_pod(kind) && call.target.subresource == "binding" {
        topology::of_binding(core, &mut object).await?;
    }
    dynamic::changed(core, kind, call, Operation::Create, object).await
}

/// Judges what is created below an object, or a question that is answered and not kept, as what it is.
pub async fn judge_below(core: &Arc<Core>, kind: &Kind, call: &Call, object: &Value) -> Result<(), ApiError> {
    dynamic::validate(core, kind, call, Operation::Create, Some(object), None).await
}

/// Refuses a delete that must not be. Its options count as they were read, since they may be in the body or the query.
pub async fn validate_delete(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    check(core, kind, call, Operation::Delete, None, Some(old)).await?;
    dynamic::validate_delete(core, kind, call, old, options).await
}

/// Refuses what the cluster itself does not allow.
async fn check(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    limits::check(core, kind, call, operation, object).await?;
    mountable_secrets::check_ephemeral(core, kind, call, operation, object).await?;
    node_restriction::check(core, kind, call, operation, object, old).await?;
    if let ("certificates.k8s.io", "CertificateSigningRequest", Some(request)) = (kind.group(), kind.name(), object) {
        signing_request::admit(core, kind, call, request, old)?;
    }
    if let ("certificates.k8s.io", "ClusterTrustBundle", Some(bundle)) = (kind.group(), kind.name(), object) {
        trust_bundle::admit(core, kind, call, bundle, old)?;
    }
    pod_security::check(core, kind, call, operation, object, old).await?;
    if (kind.group(), kind.name()) == ("scheduling.k8s.io", "PriorityClass") {
        priority::check_class(core, kind, operation, object).await?;
    }
    volumes::check_growth(core, kind, call, operation, object, old).await?;
    if let Some(pod) = object
        && is_pod(kind)
        && operation == Operation::Create
    {
        runtime_class::check(core, kind, call, pod).await?;
    }
    Ok(())
}

/// What refusals call an object: by the name that the request has, or the object, or what its name is to be made of.
fn told<'a>(call: &'a Call, object: &'a Value) -> &'a str {
    let names = [call.name(), object::name(object), object::text(object, &["metadata", "generateName"])];
    names.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown")
}

/// 403 in the words of admission.
fn forbidden(kind: &Kind, call: &Call, object: &Value, why: &str) -> ApiError {
    kind.forbidden(told(call, object), why)
}

fn is_scale(call: &Call) -> bool {
    call.target.subresource == "scale"
}

fn is_pod(kind: &Kind) -> bool {
    kind.group().is_empty() && kind.name() == "Pod"
}
