//! ResourceQuotas: what a namespace may use, charged before it is used.
//!
//! A charge and the commit that it is for, and a recount of what is used, exclude each other within a namespace: so
//! what is written as used is exact. Namespaces without a quota pay nothing but a look into a set.

mod book;
mod devices;
mod evaluate;
mod recount;
mod running;
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
    let asked = Asked { kind, call, evaluator: &evaluator, object, old };
    for _ in 0..ATTEMPTS {
        let mut conflict = false;
        let all = core.all(quotas, namespace).await?;
        for (quota, used) in asked.judge(&all)? {
            if dry_run {
                continue;
            }
            match write_used(core, quotas, quota, &used).await {
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

/// What is about to be stored.
struct Asked<'q> {
    kind: &'q Kind,
    call: &'q Call,
    evaluator: &'q Evaluator<'q>,
    object: &'q Value,
    old: Option<&'q Value>,
}

impl Asked<'_> {
    /// What is used with the object, of the quotas that it changes. All of them are asked whether they can be charged at all
    /// before one is asked whether there is enough left.
    fn judge<'a>(&self, quotas: &'a [Value]) -> Result<Vec<(&'a Value, Amounts)>, ApiError> {
        let mut concerned = Vec::new();
        for quota in quotas {
            if self.concerns(quota)? {
                concerned.push(quota);
            }
        }
        let usage = self.evaluator.usage(self.object, self.call.now);
        let negative: Vec<&str> =
            usage.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
        if !negative.is_empty() {
            return self.refuse(format!("quota usage is negative for resource(s): {}", negative.join(",")));
        }
        let mut charged = Vec::new();
        for quota in concerned {
            charged.extend(self.charge(quota, &usage)?.map(|used| (quota, used)));
        }
        Ok(charged)
    }

    fn refuse<T>(&self, why: String) -> Result<T, ApiError> {
        Err(super::forbidden(self.kind, self.call, self.object, &why))
    }

    /// Whether a quota is about the object.
    fn concerns(&self, quota: &Value) -> Result<bool, ApiError> {
        let hard = read(object::at(quota, &["status", "hard"]));
        let names: Vec<&str> = hard.keys().map(String::as_str).filter(|name| self.evaluator.counts(name)).collect();
        if names.is_empty() || !scope::holds(quota, self.evaluator, self.object) {
            return Ok(false);
        }
        let title = object::name(quota);
        if let Some(why) = self.evaluator.missing(&names, self.object) {
            return self.refuse(format!("failed quota: {title}: {why}"));
        }
        let used = read(object::at(quota, &["status", "used"]));
        if names.iter().any(|name| !used.contains_key(*name)) {
            return self.refuse(format!("status unknown for quota: {title}, resources: {}", names.join(",")));
        }
        Ok(true)
    }

    /// What is used of a quota with the object; nothing where that is as before.
    fn charge(&self, quota: &Value, usage: &Amounts) -> Result<Option<Amounts>, ApiError> {
        let part = |name: &str| read(object::at(quota, &["status", name]));
        let (hard, used) = (part("hard"), part("used"));
        // What the object was counted for before is taken off only where the quota counted it.
        let counted = self.old.filter(|old| scope::holds(quota, self.evaluator, old));
        let before = counted.map(|old| self.evaluator.usage(old, self.call.now)).unwrap_or_default();
        let mut asked = usage.clone();
        for (name, amount) in &mut asked {
            *amount = *amount - before.get(name).copied().unwrap_or_default();
        }
        asked.retain(|name, amount| hard.contains_key(name) && !amount.is_negative() && !amount.is_zero());
        if asked.is_empty() {
            return Ok(None);
        }
        let mut sum = used.clone();
        add(&mut sum, &asked);
        // What a status tells is so already.
        let refuses = self.call.target.subresource != "status";
        let exceeded: Vec<&String> = asked.keys().filter(|name| refuses && sum.get(*name) > hard.get(*name)).collect();
        if exceeded.is_empty() {
            return Ok(Some(sum));
        }
        let show = |amounts: &Amounts| {
            let shown = exceeded.iter().filter_map(|name| Some(format!("{name}={}", amounts.get(*name)?)));
            shown.collect::<Vec<_>>().join(",")
        };
        let (title, requested, used, limited) = (object::name(quota), show(&asked), show(&used), show(&hard));
        self.refuse(format!("exceeded quota: {title}, requested: {requested}, used: {used}, limited: {limited}"))
    }
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
