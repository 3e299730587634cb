//! Counting what is used: after every write in a namespace with quotas, from what is stored.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use martello_api::{clock, status::ApiError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{evaluate::Evaluator, scope};
use crate::{
    registry::{
        Kind,
        core::{
            own_status,
            pod_usage::{Amounts, add, read},
        },
        object,
        storage::{Expected, WriteError, store_failure},
    },
    server::Core,
    store::{ListAt, Page},
};

/// How long writes are gathered before they are counted.
const GATHER: Duration = Duration::from_millis(20);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Counting takes at most one part in so many of the time.
const SHARE: u32 = 5;

/// Notes the namespaces that have quotas already.
pub async fn learn(core: &Arc<Core>) -> Result<(), ApiError> {
    let Some(quotas) = core.registry.find("", "v1", "resourcequotas") else { return Ok(()) };
    for quota in core.all(quotas, "").await? {
        core.quotas.learn(object::namespace(&quota));
    }
    Ok(())
}

/// Counts what was touched, until `shutdown`.
pub async fn run(core: Arc<Core>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(core.quotas.rung()).await.is_some() {
        tokio::time::sleep(GATHER).await;
        let started = std::time::Instant::now();
        for namespace in core.quotas.take() {
            if let Err(error) = count(&core, &namespace).await {
                tracing::warn!(namespace, error = error.message, "counting what the quotas of a namespace bound");
                tokio::time::sleep(RETRY).await;
                core.quotas.touch(&namespace);
            }
        }
        tokio::time::sleep(started.elapsed() * (SHARE - 1)).await;
    }
}

async fn count(core: &Arc<Core>, namespace: &str) -> Result<(), ApiError> {
    let Some(kind) = core.registry.find("", "v1", "resourcequotas") else { return Ok(()) };
    let _turn = core.quotas.turn(namespace).await;
    let quotas = core.all(kind, namespace).await?;
    if quotas.is_empty() {
        core.quotas.forget(namespace);
        return Ok(());
    }
    let mut wanted: Vec<(Value, Amounts, Amounts)> = Vec::with_capacity(quotas.len());
    for quota in quotas {
        let hard = read(object::at(&quota, &["spec", "hard"]));
        let used = hard.keys().map(|name| (name.clone(), Default::default())).collect();
        wanted.push((quota, hard, used));
    }
    sum(core, namespace, &mut wanted, clock::now()).await?;
    for (quota, _, used) in &wanted {
        write(core, kind, quota, used).await?;
    }
    Ok(())
}

/// Adds up what every object of the namespace uses.
async fn sum(
    core: &Arc<Core>,
    namespace: &str,
    wanted: &mut [(Value, Amounts, Amounts)],
    now: Timestamp,
) -> Result<(), ApiError> {
    let mut seen: HashSet<&str> = HashSet::new();
    let custom = core.registry.custom();
    let kinds = core.registry.kinds().iter().chain(custom.kinds.iter());
    for kind in kinds.filter(|kind| kind.resource.namespaced && kind.offers("list")) {
        let evaluator = Evaluator::of(kind);
        let counted = wanted.iter().any(|(_, hard, _)| hard.keys().any(|name| evaluator.counts(name)));
        if !counted || !seen.insert(&kind.storage) {
            continue;
        }
        let listed = core.store.list(&kind.scope(namespace), ListAt::Latest, Page::default()).await;
        let listed = listed.map_err(|error| store_failure(&error))?;
        if let Some(usage) = evaluator.usage_of(listed.items.len()) {
            // What is in these objects does not matter: they need not be read, nor opened.
            for (quota, hard, used) in wanted.iter_mut() {
                let mut own = usage.clone();
                own.retain(|name, _| hard.contains_key(name) && evaluator.counts(name));
                if scope::holds(quota, &evaluator, &Value::Null) {
                    add(used, &own);
                }
            }
            continue;
        }
        for entry in &listed.items {
            let object = core.value(kind, entry).await?;
            let usage = evaluator.usage(&object, now);
            for (quota, hard, used) in wanted.iter_mut() {
                let mut own = usage.clone();
                own.retain(|name, _| hard.contains_key(name) && evaluator.counts(name));
                if !own.is_empty() && scope::holds(quota, &evaluator, &object) {
                    add(used, &own);
                }
            }
        }
    }
    Ok(())
}

async fn write(core: &Arc<Core>, kind: &Kind, quota: &Value, used: &Amounts) -> Result<(), ApiError> {
    let hard = object::at(quota, &["spec", "hard"]).cloned().unwrap_or_else(|| Value::Object(Default::default()));
    let status = |part: &str| read(object::at(quota, &["status", part]));
    if status("hard") == read(Some(&hard)) && status("used") == *used {
        return Ok(());
    }
    let mut new = quota.clone();
    object::set(&mut new, &["status"], "hard", hard);
    let shown: serde_json::Map<String, Value> =
        used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
    object::set(&mut new, &["status"], "used", shown);
    own_status::track(kind, quota, &mut new, own_status::CONTROLLERS);
    let revision = object::text(quota, &["metadata", "resourceVersion"]).parse().unwrap_or(0);
    match core.put(kind, &new, Expected::Revision(revision)).await {
        // A conflict is somebody's write, which has it counted again.
        Ok(_) | Err(WriteError::Conflict(_)) => Ok(()),
        Err(WriteError::Failed(error)) => Err(error),
    }
}
