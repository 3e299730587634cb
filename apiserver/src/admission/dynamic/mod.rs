//! Admission that the cluster's users configure: policies in CEL and webhooks.
//!
//! What is configured is compiled once, when it is written, and published to the request path by a watch of the store:
//! a request sees it milliseconds later. Nothing here reads configuration from the store while a request waits.

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use super::Operation;
use crate::{
    registry::{call::Call, core::connect_options::ConnectOptions, kind::Kind, options::DeleteOptions},
    server::Core,
};

mod binding;
pub(crate) mod call_webhook;
mod conditions;
mod equivalent;
mod exempt;
mod input;
mod matching;
mod mutating;
mod native;
mod patching;
mod policy;
mod request;
mod review;
mod snapshot;
mod source;
mod type_check;
mod validating;
mod webhook;
mod webhooks;

pub use snapshot::Hooks;
pub use source::{follow, learn};
pub use type_check::run as check_types;

use request::Request;

/// What was changed in a first round, and what is to be called again should others change the object.
pub struct Round {
    policies: mutating::Called,
    webhooks: webhooks::Called,
}

impl Round {
    /// Whether a policy or webhook had something to change: then all that fill in anything are asked once more.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.policies.changed || self.webhooks.changed
    }
}

/// Lets policies and webhooks change what is to be written.
pub async fn mutate(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Option<Round>, ApiError> {
    let hooks = core.hooks.load();
    if !hooks.mutates() || exempt::resource(kind) || is_judged(call, operation) {
        return Ok(None);
    }
    let request = Request::new(core, kind, call, operation, Some(object), old).await?;
    let mut round = Round { policies: mutating::Called::default(), webhooks: webhooks::Called::default() };
    if !exempt::question(kind) {
        mutating::dispatch(&request, &hooks, object, old, &mut round.policies, false).await?;
    }
    webhooks::mutate(&request, &hooks, object, old, &mut round.webhooks, false).await?;
    Ok(Some(round))
}

/// Calls those again that asked for it, where the object changed after they saw it.
pub async fn mutate_again(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
    mut round: Round,
) -> Result<(), ApiError> {
    let hooks = core.hooks.load();
    let request = Request::new(core, kind, call, operation, Some(object), old).await?;
    if !exempt::question(kind) {
        round.policies.seen(object);
        mutating::dispatch(&request, &hooks, object, old, &mut round.policies, true).await?;
    }
    round.webhooks.seen(object);
    webhooks::mutate(&request, &hooks, object, old, &mut round.webhooks, true).await
}

/// Lets webhooks that change objects see what is to be deleted: there is nothing to change, but they may refuse.
pub async fn before_delete(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let hooks = core.hooks.load();
    if !hooks.mutates() || exempt::resource(kind) || is_judged(call, Operation::Delete) {
        return Ok(());
    }
    let request = Request::new(core, kind, call, Operation::Delete, None, Some(old)).await?.deleting(options, old);
    webhooks::mutate(&request, &hooks, &mut Value::Null, Some(old), &mut webhooks::Called::default(), false).await
}

/// Lets policies and webhooks refuse that somebody connects to an object, or change what is asked for.
pub async fn connect(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    asked: ConnectOptions,
) -> Result<ConnectOptions, ApiError> {
    let unreadable = |error| ApiError::internal(format!("options of a connection, as webhooks made them: {error}"));
    let options = serde_json::to_value(&asked).map_err(unreadable)?;
    let options = changed(core, kind, call, Operation::Connect, options).await?;
    validate(core, kind, call, Operation::Connect, Some(&options), None).await?;
    serde_json::from_value(options).map_err(unreadable)
}

/// What is sent and not kept, as policies and webhooks make it: what is created below an object (an eviction, a binding, a
/// request for a token), and questions that are answered. It is still to be validated, and then to be judged.
pub async fn changed(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    mut object: Value,
) -> Result<Value, ApiError> {
    let round = mutate(core, kind, call, operation, &mut object, None).await?;
    if let Some(round) = round.filter(Round::changed) {
        mutate_again(core, kind, call, operation, &mut object, None, round).await?;
    }
    Ok(object)
}

/// Whether a write only carries out what was created below an object, and was judged as that.
fn is_judged(call: &Call, operation: Operation) -> bool {
    call.verb == "create"
        && !call.target.subresource.is_empty()
        && matches!(operation, Operation::Update | Operation::Delete)
}

/// Lets policies and webhooks refuse what is to be written.
pub async fn validate(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let hooks = core.hooks.load();
    if !hooks.validates() || exempt::resource(kind) || is_judged(call, operation) {
        return Ok(());
    }
    let request = Request::new(core, kind, call, operation, object, old).await?;
    if !exempt::question(kind) {
        validating::dispatch(&request, &hooks, object, old).await?;
    }
    webhooks::validate(&request, &hooks, object, old).await
}

/// Lets policies and webhooks refuse that something is deleted in this way.
pub async fn validate_delete(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let hooks = core.hooks.load();
    if !hooks.validates() || exempt::resource(kind) || is_judged(call, Operation::Delete) {
        return Ok(());
    }
    let request = Request::new(core, kind, call, Operation::Delete, None, Some(old)).await?.deleting(options, old);
    validating::dispatch(&request, &hooks, None, Some(old)).await?;
    webhooks::validate(&request, &hooks, None, Some(old)).await
}
