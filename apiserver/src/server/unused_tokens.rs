//! Tokens that were made for accounts without being asked for and that nobody uses any more: their Secrets are marked, so that
//! they count no longer, and go when nobody missed them, as upstream's cleaner sees to.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::PodSpec;
use martello_api::{clock, status::ApiError};
use martello_policy::node::{Referenced, references};
use serde_json::{Value, json};

use super::{Core, account_tokens, followup};
use crate::{
    authn::secret_tokens::{INVALID_SINCE, LAST_USED, day},
    registry::{object, storage},
    store::{ListAt, Page},
};

/// A token that was not used for so long is marked, and one that was marked for so long goes (upstream's default).
const PATIENCE: SignedDuration = SignedDuration::from_hours(365 * 24);

/// What is to be done about a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Mark,
    Delete,
}

/// Looks at the Secrets with tokens; `since` is the day from which on their use is noted. One that nothing can be done about
/// does not keep the others.
pub(super) async fn clean(core: &Arc<Core>, secrets: &[Value], since: &str) {
    let now = clock::now();
    let mut mounted = HashMap::new();
    for secret in secrets {
        let step = step(secret, since, now);
        if step == Step::Keep {
            continue;
        }
        let (namespace, name) = (object::namespace(secret), object::name(secret));
        match take(core, secret, step, now, &mut mounted).await {
            Ok(true) => tracing::info!(namespace, name, ?step, "a token that nobody uses"),
            Ok(false) => {}
            Err(error) if matches!(error.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(namespace, name, ?step, %error, "a token that nobody uses could not be cleaned up");
            }
        }
    }
}

/// Takes a step, unless somebody still needs the Secret; answers whether it was taken.
async fn take(
    core: &Arc<Core>,
    secret: &Value,
    step: Step,
    now: Timestamp,
    mounted: &mut HashMap<String, Mounted>,
) -> Result<bool, ApiError> {
    if !is_listed(core, secret).await? {
        return Ok(false);
    }
    let (namespace, name, uid) = (object::namespace(secret), object::name(secret), object::uid(secret));
    if !mounted.contains_key(namespace) {
        mounted.insert(namespace.to_owned(), mounted_in(core, namespace).await?);
    }
    if mounted.get(namespace).is_none_or(|mounted| mounted.holds(name)) {
        return Ok(false);
    }
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    if step == Step::Mark {
        let body = json!({"metadata": {"uid": uid, "labels": {INVALID_SINCE: day(now)}}});
        followup::patch(&core.own_client(), &path, &body).await?;
    } else {
        followup::delete(&core.own_client(), &format!("{path}?uid={uid}")).await?;
    }
    Ok(true)
}

/// What the age, the use and the mark of a Secret ask for.
fn step(secret: &Value, since: &str, now: Timestamp) -> Step {
    let Ok(limit) = now.checked_sub(PATIENCE) else { return Step::Keep };
    // The day itself is only known in part.
    let tracked = since.parse::<Date>().ok().and_then(|day| day.tomorrow().ok());
    let tracked = tracked.and_then(|day| day.to_zoned(TimeZone::UTC).ok()).map(|day| day.timestamp());
    let created: Option<Timestamp> = object::text(secret, &["metadata", "creationTimestamp"]).parse().ok();
    let is_old = |time: Option<Timestamp>| time.is_some_and(|time| time < limit);
    if object::text(secret, &["type"]) != account_tokens::TYPE
        || object::is_terminating(secret)
        || !is_old(tracked)
        || !is_old(created)
    {
        return Step::Keep;
    }
    let label = |key: &str| object::text(secret, &["metadata", "labels", key]);
    let limit = day(limit);
    let used = label(LAST_USED);
    if !used.is_empty() && (used.parse::<Date>().is_err() || used >= limit.as_str()) {
        return Step::Keep;
    }
    match label(INVALID_SINCE) {
        marked if marked.parse::<Date>().is_err() => Step::Mark,
        marked if marked >= limit.as_str() => Step::Keep,
        _ => Step::Delete,
    }
}

/// Whether the account of a Secret lists it: those that somebody asked for are not listed.
async fn is_listed(core: &Arc<Core>, secret: &Value) -> Result<bool, ApiError> {
    let annotation = |key: &str| object::text(secret, &["metadata", "annotations", key]);
    let (name, uid) = (annotation(account_tokens::ACCOUNT_NAME), annotation(account_tokens::ACCOUNT_UID));
    let kind = core.registry.find("", "v1", "serviceaccounts").ok_or_else(ApiError::no_such_route)?;
    let Some(entry) = core.find(kind, object::namespace(secret), name).await? else { return Ok(false) };
    let account = core.value(kind, &entry).await?;
    let listed = object::list(&account, &["secrets"]).iter();
    let mut listed = listed.map(|one| object::text(one, &["name"]));
    Ok((uid.is_empty() || uid == &*entry.uid) && listed.any(|listed| listed == object::name(secret)))
}

/// The Secrets that the pods of a namespace refer to; none if that can't be told, since some pod can't be read.
struct Mounted(Option<HashSet<Referenced>>);

impl Mounted {
    /// What can't be read may refer to anything.
    fn holds(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|secrets| secrets.contains(&Referenced::Secret(name.to_owned())))
    }
}

async fn mounted_in(core: &Arc<Core>, namespace: &str) -> Result<Mounted, ApiError> {
    let kind = core.registry.find("", "v1", "pods").ok_or_else(ApiError::no_such_route)?;
    let listed = core.store.list(&kind.scope(namespace), ListAt::Latest, Page::default()).await;
    let listed = listed.map_err(|error| storage::store_failure(&error))?;
    let mut secrets = HashSet::new();
    for entry in &listed.items {
        let mut pod = core.value(kind, entry).await?;
        let spec = pod.get_mut("spec").map(Value::take).unwrap_or_default();
        let Ok(spec) = serde_json::from_value::<PodSpec>(spec) else { return Ok(Mounted(None)) };
        let referenced = references(&spec, object::name(&pod)).into_iter();
        secrets.extend(referenced.filter(|one| matches!(one, Referenced::Secret(_))));
    }
    Ok(Mounted(Some(secrets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_used_for_a_year_is_marked_and_goes_after_another() {
        let now: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let secret = |created: &str, labels: Value| {
            json!({"type": account_tokens::TYPE,
                "metadata": {"creationTimestamp": format!("{created}T00:00:00Z"), "labels": labels}})
        };
        let of = |created: &str, labels: Value| step(&secret(created, labels), "2020-01-01", now);
        assert_eq!(of("2025-06-01", json!({})), Step::Mark);
        assert_eq!(of("2025-06-02", json!({})), Step::Keep);
        let used = |day: &str| of("2021-01-01", json!({LAST_USED: day}));
        assert_eq!((used("2025-05-31"), used("2025-06-01"), used("yesterday")), (Step::Mark, Step::Keep, Step::Keep));
        let marked = |day: &str| of("2021-01-01", json!({INVALID_SINCE: day}));
        assert_eq!(
            (marked("2025-05-31"), marked("2025-06-01"), marked("soon")),
            (Step::Delete, Step::Keep, Step::Mark)
        );
        // Nobody knows what was used before that was noted.
        let old = secret("2021-01-01", json!({}));
        assert_eq!(step(&old, "2025-05-31", now), Step::Mark);
        assert_eq!(step(&old, "2025-06-01", now), Step::Keep);
        assert_eq!(step(&old, "", now), Step::Keep);
    }
}
