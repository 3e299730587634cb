//! Budgets that hold an eviction back: how many pods may be disrupted, counted down by each eviction.

use std::sync::Arc;

use martello_api::{
    clock::rfc3339_seconds,
    status::{ApiError, Cause, Details},
};
use serde_json::{Value, json};

use super::{eviction::set_condition, own_status};
use crate::{
    registry::{
        call::Call,
        codec,
        kind::Kind,
        object,
        storage::{Expected, WriteError, parse, store_failure},
        validation::selector,
        verbs::change::MODIFIED,
    },
    server::Core,
    store::{Entry, ListAt, Page},
};

/// How often the count is tried anew when another write came between.
const ATTEMPTS: usize = 20;
/// Most evictions that the budget's controller has not seen yet: what it keeps of them has to stay small.
const MAX_DISRUPTED: usize = 2000;
/// The type of the causes that speak of budgets.
const CAUSE: &str = "DisruptionBudget";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const SEVERAL: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

/// What the budgets say.
pub(super) enum Verdict {
    /// The pod may go.
    Free,
    /// The pod is not ready, and this budget does not count it.
    Unhealthy(String),
}

/// Asks the budget of a pod, and counts the disruption.
pub(super) async fn ask(core: &Arc<Core>, call: &Call, pod: &Value, dry_run: bool) -> Result<Verdict, ApiError> {
    let Some(kind) = core.registry.find("policy", "v1", "poddisruptionbudgets") else { return Ok(Verdict::Free) };
    let mut budgets = of_pod(core, kind, pod).await?;
    let Some((mut entry, mut budget)) = budgets.pop() else { return Ok(Verdict::Free) };
    if !budgets.is_empty() {
        return Err(ApiError::new(500, "", SEVERAL));
    }
    if !is_ready(pod) && spares_unhealthy(&budget) {
        return Ok(Verdict::Unhealthy(object::name(&budget).to_owned()));
    }
    for _ in 0..ATTEMPTS {
        let mut counted = budget.clone();
        count(&mut counted, call, object::name(pod))?;
        if dry_run {
            return Ok(Verdict::Free);
        }
        own_status::track(kind, &budget, &mut counted, own_status::SERVER);
        codec::normalize(kind, &mut counted);
        match core.put(kind, &counted, Expected::Revision(entry.revision)).await {
            Ok(stored) => {
                kind.after_commit(core, Some(&counted), Some(&budget), stored.revision);
                return Ok(Verdict::Free);
            }
            Err(WriteError::Conflict(_)) => {
                entry = core.get(kind, object::namespace(&budget), object::name(&budget)).await?;
                budget = core.value(kind, &entry).await?;
            }
            Err(WriteError::Failed(error)) => return Err(error),
        }
    }
    Err(kind.conflict(object::name(&budget), MODIFIED))
}

async fn of_pod(core: &Arc<Core>, kind: &Kind, pod: &Value) -> Result<Vec<(Arc<Entry>, Value)>, ApiError> {
    let labels = object::at(pod, &["metadata", "labels"]);
    let scope = kind.scope(object::namespace(pod));
    let listed = core.store.list(&scope, ListAt::Latest, Page::default()).await;
    let mut found = Vec::new();
    for entry in listed.map_err(|error| store_failure(&error))?.items {
        let mut budget = parse(entry.bytes())?;
        crate::registry::storage::set_revision(&mut budget, entry.revision);
        let selects = object::at(&budget, &["spec", "selector"])
            .is_some_and(|found| !found.is_null() && selector::selects(found, labels));
        if selects {
            found.push((entry, budget));
        }
    }
    Ok(found)
}

fn is_ready(pod: &Value) -> bool {
    object::list(pod, &["status", "conditions"]).iter().any(|condition| {
        object::text(condition, &["type"]) == "Ready" && object::text(condition, &["status"]) == "True"
    })
}

/// A pod that is not ready is no loss where the budget says so, or where enough others are.
fn spares_unhealthy(budget: &Value) -> bool {
    let number = |key: &str| object::int(budget, &["status", key]).unwrap_or(0);
    object::text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0
}

/// Counts one disruption, or says why there may be none.
fn count(budget: &mut Value, call: &Call, pod: &str) -> Result<(), ApiError> {
    let number = |budget: &Value, path: &[&str]| object::int(budget, path).unwrap_or(0);
    let name = object::name(budget).to_owned();
    let generation = number(budget, &["metadata", "generation"]);
    let observed = number(budget, &["status", "observedGeneration"]);
    if observed < generation {
        return Err(busy(&name));
    }
    let allowed = number(budget, &["status", "disruptionsAllowed"]);
    let forbid = |why: &str, told: &str| {
        let mut error = ApiError::forbidden("policy", "poddisruptionbudget", &name, why);
        let told = format!("The disruption budget {name} does not allow evicting pods currently: {told}");
        error.details.get_or_insert_default().causes.push(Cause::new(CAUSE, "", told));
        error
    };
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(forbid(why, why));
    }
    let disrupted = object::at(budget, &["status", "disruptedPods"]).and_then(Value::as_object);
    if disrupted.is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(forbid(why, "too many pending evictions not confirmed by PDB controller"));
    }
    if allowed == 0 {
        return Err(refusal(&why_none(budget, &name), 0));
    }
    object::set(budget, &["status"], "disruptionsAllowed", allowed - 1);
    if allowed == 1 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "observedGeneration": observed,
            "lastTransitionTime": rfc3339_seconds(call.now), "reason": "InsufficientPods", "message": "",
        });
        set_condition(budget, condition);
    }
    object::set(budget, &["status", "disruptedPods"], pod, rfc3339_seconds(call.now));
    Ok(())
}

fn why_none(budget: &Value, name: &str) -> String {
    let conditions = object::list(budget, &["status", "conditions"]);
    let condition = conditions.iter().find(|condition| object::text(condition, &["type"]) == "DisruptionAllowed");
    let condition = condition.filter(|condition| object::text(condition, &["status"]) == "False");
    let told = condition.map(|condition| ["reason", "message"].map(|key| object::text(condition, &[key])));
    let told = told.filter(|[_, message]| !message.is_empty());
    let refused = format!("The disruption budget {name} does not allow evicting pods currently");
    if let Some(["SyncFailed", why]) = told {
        return format!("{refused} because it failed sync: {why}");
    }
    let number = |key: &str| object::int(budget, &["status", key]).unwrap_or(0);
    let (needs, has) = (number("desiredHealthy"), number("currentHealthy"));
    if has <= needs {
        return format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently");
    }
    told.map_or_else(|| refused.clone(), |[reason, message]| format!("{refused} ({reason}): {message}"))
}

/// Seconds after which to ask a budget again that is just being looked at.
const RETRY_SECONDS: u32 = 10;

/// 429: the budget's status is of before.
pub(super) fn busy(name: &str) -> ApiError {
    refusal(&format!("The disruption budget {name} is still being processed by the server."), RETRY_SECONDS)
}

fn refusal(why: &str, retry_after_seconds: u32) -> ApiError {
    let mut error = ApiError::new(429, "TooManyRequests", REFUSED);
    let causes = vec![Cause::new(CAUSE, "", why)];
    error.details = Some(Box::new(Details { causes, retry_after_seconds, ..Details::default() }));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_why_it_spares_no_pod() {
        let why = |healthy: i64, reason: &str, message: &str| {
            let condition =
                json!({"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": message});
            let status = json!({"currentHealthy": healthy, "desiredHealthy": 2, "conditions": [condition]});
            why_none(&json!({"status": status}), "b")
        };
        let refused = "The disruption budget b does not allow evicting pods currently";
        assert_eq!(why(3, "SyncFailed", "x"), format!("{refused} because it failed sync: x"));
        let needs = "The disruption budget b needs 2 healthy pods and has 2 currently";
        assert_eq!(why(2, "SyncFailed", ""), needs);
        assert_eq!(why(2, "InsufficientPods", "x"), needs);
        assert_eq!(why(3, "InsufficientPods", "x"), format!("{refused} (InsufficientPods): x"));
        assert_eq!(why(3, "InsufficientPods", ""), refused);
    }
}
