//! ResourceQuotas: what a namespace may use, charged before it is used.
//!
//! A charge and the commit that it is for, and a recount of what is used, exclude each other within a namespace: so
//! what is written as used is exact. Namespaces without a quota pay nothing but a look into a set.

mod book;
mod evaluate;
mod recount;
mod scope;

use std::sync::Arc;

use martello_api::status::ApiError;
use serde_json::Value;

use self::evaluate::Evaluator;
use super::Operation;
use crate::{
    registry::{
        call::Call,
        core::{
            own_status,
            pod_usage::{Amounts, add, read},
        },
        kind::Kind,
        object,
        storage::{Expected, WriteError},
    },
    server::Core,
};

pub use book::{Book, Turn};
pub use recount::{learn, run};

/// How often a charge is tried anew when somebody else wrote the quota.
const ATTEMPTS: usize = 20;

/// Charges the quotas of the namespace with what is about to be stored, or refuses it. What comes back is held until
/// it is stored.
pub async fn charge(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    (object, old): (&Value, Option<&Value>),
    dry_run: bool,
) -> Result<Option<Turn>, ApiError> {
    let namespace = call.namespace();
    if !kind.resource.namespaced || !core.quotas.knows(namespace) {
        return Ok(None);
    }
    let evaluator = Evaluator::of(kind);
    if !evaluator.handles(&call.target.subresource, operation) {
        return Ok(None);
    }
    let turn = core.quotas.turn(namespace).await;
    let quotas = core.registry.find("", "v1", "resourcequotas").ok_or_else(ApiError::no_such_route)?;
    for _ in 0..ATTEMPTS {
        let mut conflict = false;
        for quota in core.all(quotas, namespace).await? {
            let Some(used) = judge(kind, &evaluator, &quota, object, old, call.now)? else { continue };
            if dry_run {
                continue;
            }
            match write_used(core, quotas, &quota, &used).await {
                Ok(()) => {}
                Err(WriteError::Conflict(_)) => conflict = true,
                Err(WriteError::Failed(error)) => return Err(error),
            }
        }
        if !conflict {
            return Ok((!dry_run).then_some(turn));
        }
        // What was charged already is charged again: the recount that follows every write takes it back.
        core.quotas.touch(namespace);
    }
    Err(kind
        .conflict(object::name(object), "the quotas of the namespace are written by others all the time; try again"))
}

/// What is used with the object; nothing where the quota is not about it.
fn judge(
    kind: &Kind,
    evaluator: &Evaluator<'_>,
    quota: &Value,
    object: &Value,
    old: Option<&Value>,
    now: jiff::Timestamp,
) -> Result<Option<Amounts>, ApiError> {
    let hard = read(object::at(quota, &["status", "hard"]));
    let names: Vec<&str> = hard.keys().map(String::as_str).filter(|name| evaluator.counts(name)).collect();
    if names.is_empty() || !scope::holds(quota, evaluator, object) {
        return Ok(None);
    }
    let refuse = |why: String| Err(kind.forbidden(object::name(object), &why));
    let title = object::name(quota);
    if let Some(why) = evaluator.missing(&names, object) {
        return refuse(format!("failed quota: {title}: {why}"));
    }
    let used = read(object::at(quota, &["status", "used"]));
    if names.iter().any(|name| !used.contains_key(*name)) {
        return refuse(format!("status unknown for quota: {title}, resources: {}", names.join(",")));
    }
    let before = old.map(|old| evaluator.usage(old, now)).unwrap_or_default();
    let mut asked = evaluator.usage(object, now);
    for (name, amount) in &mut asked {
        *amount = *amount - before.get(name).copied().unwrap_or_default();
    }
    asked.retain(|name, amount| hard.contains_key(name) && !amount.is_negative() && !amount.is_zero());
    if asked.is_empty() {
        return Ok(None);
    }
    let mut sum = used.clone();
    add(&mut sum, &asked);
    let exceeded: Vec<&String> = asked.keys().filter(|name| sum.get(*name) > hard.get(*name)).collect();
    if exceeded.is_empty() {
        return Ok(Some(sum));
    }
    let show = |amounts: &Amounts| {
        let shown = exceeded.iter().map(|name| format!("{name}={}", amounts.get(*name).copied().unwrap_or_default()));
        shown.collect::<Vec<_>>().join(",")
    };
    let (requested, used, limited) = (show(&asked), show(&used), show(&hard));
    refuse(format!("exceeded quota: {title}, requested: {requested}, used: {used}, limited: {limited}"))
}

/// Writes what is used into a quota that is still as it was read.
async fn write_used(core: &Core, quotas: &Kind, quota: &Value, used: &Amounts) -> Result<(), WriteError> {
    let mut new = quota.clone();
    let shown: serde_json::Map<String, Value> =
        used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    object::set(&mut new, &["status"], "used", shown);
    own_status::track(quotas, quota, &mut new, own_status::SERVER);
    let revision = object::text(quota, &["metadata", "resourceVersion"]).parse().unwrap_or(0);
    core.put(quotas, &new, Expected::Revision(revision)).await.map(drop)
}
