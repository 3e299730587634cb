//! A namespace that is being deleted: everything in it goes first, then the namespace.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams},
    core::PartialObjectMeta,
};
use martello_api::clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Deletable, deletable, stale};
use crate::{
    Caches,
    runtime::{Attempt, Chain, Key, Queue, RequestError, post, work},
};

const FINALIZER: &str = "kubernetes";
const DISCOVERY_FAILURE: &str = "NamespaceDeletionDiscoveryFailure";
const CONTENT_FAILURE: &str = "NamespaceDeletionContentFailure";
/// How remaining pods are told.
const PODS: &str = "pods.";
/// How long a namespace is left alone once its deletion has begun, counted from the second that says so: who has begun to
/// clear up may end (upstream waits for five).
const GRACE: Duration = Duration::from_secs(2);
/// Pods take their grace period to go: how often to look whether something is left.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The same where an extension server is away, which may take long.
const ASK_AGAIN: Duration = Duration::from_secs(5);

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue: Queue<String> = Queue::new();
    let on_namespace = queue.clone();
    caches.namespaces.on_change(move |_, after| {
        if let Some(namespace) = after.filter(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            on_namespace.add(namespace.name_any());
        }
    });
    let state = (client.clone(), Arc::clone(caches), queue.clone());
    work(tasks, "namespace", &queue, 4, shutdown, state, |(client, caches, again), name| async move {
        if let Some(later) = reconcile(&client, &caches, &name).await? {
            again.add_after(name, later);
        }
        Ok(())
    });
}

/// What is still in a namespace.
#[derive(Debug, Default, PartialEq)]
struct Remaining {
    /// Resources that hold objects, as `pods.` or `deployments.apps`, with their number.
    content: Vec<(String, usize)>,
    /// Finalizers that hold objects back, with the number of objects.
    finalizers: std::collections::BTreeMap<String, usize>,
    /// Versions whose extension server is away: what they hold is not known.
    stale: Vec<String>,
    /// What could not be listed or deleted, and why.
    failures: Vec<String>,
}

impl Remaining {
    fn is_nothing(&self) -> bool {
        self.content.is_empty() && self.stale.is_empty() && self.failures.is_empty()
    }
}

/// When the namespace is to be looked at again, if it is not done with.
async fn reconcile(client: &Client, caches: &Caches, name: &str) -> Result<Option<Duration>, RequestError> {
    let Some(namespace) = caches.namespaces.get(&Key::new("", name)) else { return Ok(None) };
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
    if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|own| own == FINALIZER) {
        return Ok(None);
    }
    if let Some(rest) = namespace.metadata.deletion_timestamp.as_ref().and_then(|begun| rest(begun.0, clock::now())) {
        return Ok(Some(rest));
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let stale = stale(client).await?;
    let resources = match deletable(client).await {
        Ok(resources) => resources,
        Err(error) => {
            // What is not known can't be deleted, and a namespace must not go while anything may be left in it.
            let why = Chain(&error).to_string();
            tracing::warn!(
                namespace = name,
                error = why,
                "a namespace stays, since it is not known what could be in it"
            );
            write_conditions(&api, &namespace, vec![discovery_failed(why, clock::now())]).await?;
            return Ok(Some(LOOK_AGAIN));
        }
    };
    let mut remaining = Remaining { stale, ..Remaining::default() };
    let (mut failed, mut has_pods) = (None, false);
    // One kind that can't be emptied keeps the namespace, and nothing else.
    for resource in in_order(&resources) {
        if remaining.stale.contains(&resource.resource.api_version) {
            continue;
        }
        if !is_pods(resource) && has_pods {
            // What pods run may need the rest until it ends, policies that hold for it above all.
            break;
        }
        if let Err(error) = empty(client, name, resource, &mut remaining).await {
            remaining.failures.push(Chain(&error).to_string());
            failed = failed.or(Some(error));
            has_pods |= is_pods(resource);
        }
        has_pods |= remaining.content.iter().any(|(resource, _)| resource == PODS);
    }
    remaining.content.sort();
    remaining.failures.sort();
    write_conditions(&api, &namespace, conditions(&remaining, clock::now())).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    if remaining.is_nothing() {
        let mut finalized = namespace.as_ref().clone();
        finalized.spec.get_or_insert_default().finalizers =
            Some(finalizers.into_iter().filter(|own| own != FINALIZER).collect());
        let done = api.replace_subresource("finalize", name, &post(), &finalized).await;
        done.attempt_unless_gone(|| format!("finalize namespace {name}"))?;
        return Ok(None);
    }
    Ok(Some(if remaining.content.is_empty() { ASK_AGAIN } else { LOOK_AGAIN }))
}

/// How long the namespace is left alone still. A clock that went back makes nobody wait.
fn rest(begun: Timestamp, now: Timestamp) -> Option<Duration> {
    let waited = Duration::try_from(now.duration_since(begun)).ok()?;
    GRACE.checked_sub(waited).filter(|rest| !rest.is_zero())
}

/// What is in namespaces, in the order in which it is deleted: pods before all else.
fn in_order(resources: &[Deletable]) -> impl Iterator<Item = &Deletable> {
    let of = |pods: bool| resources.iter().filter(move |own| own.namespaced && is_pods(own) == pods);
    of(true).chain(of(false))
}

fn is_pods(kind: &Deletable) -> bool {
    (kind.resource.group.as_str(), kind.resource.plural.as_str()) == ("", "pods")
}

async fn write_conditions(
    api: &Api<Namespace>,
    namespace: &Namespace,
    conditions: Vec<NamespaceCondition>,
) -> Result<(), RequestError> {
    let name = namespace.name_any();
    let present = namespace.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let conditions = merged(&present, conditions);
    if present != conditions {
        let body = serde_json::json!({"status": {"conditions": conditions}});
        let written = api.patch_status(&name, &crate::runtime::patch(), &kube::api::Patch::Merge(body)).await;
        written.attempt_unless_gone(|| format!("write the status of namespace {name}"))?;
    }
    Ok(())
}

/// Upstream's words for versions whose documents are old.
fn stale_groups(versions: &[String]) -> String {
    let each: Vec<String> =
        versions.iter().map(|version| format!("{version}: stale GroupVersion discovery: {version}")).collect();
    let (number, each) = (versions.len(), each.join(", "));
    format!(
        "Discovery failed for some groups, {number} failing: unable to retrieve the complete list of server APIs: {each}"
    )
}

fn discovery_failed(message: String, now: Timestamp) -> NamespaceCondition {
    NamespaceCondition {
        type_: DISCOVERY_FAILURE.to_owned(),
        status: "True".to_owned(),
        reason: Some("DiscoveryFailed".to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    }
}

/// Deletes what is there of one resource, and counts what stays.
async fn empty(
    client: &Client,
    namespace: &str,
    kind: &Deletable,
    remaining: &mut Remaining,
) -> Result<(), RequestError> {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::namespaced_with(client.clone(), namespace, &kind.resource);
    let attempted = |what: &str| format!("{what} {} in namespace {namespace}", kind.resource.plural);
    let list = || async { api.list(&ListParams::default()).await.attempt_unless_gone(|| attempted("list")) };
    let Some(present) = list().await? else { return Ok(()) };
    if present.items.is_empty() {
        return Ok(());
    }
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind.resource);
    if kind.collection {
        let deleted = objects.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
        deleted.attempt_unless_gone(|| attempted("delete"))?;
    } else {
        for object in &present.items {
            let deleted = objects.delete(&object.name_any(), &DeleteParams::background()).await;
            deleted.attempt_unless_gone(|| attempted("delete"))?;
        }
    }
    let Some(left) = list().await?.filter(|left| !left.items.is_empty()) else { return Ok(()) };
    remaining.content.push((format!("{}.{}", kind.resource.plural, kind.resource.group), left.items.len()));
    for finalizer in left.items.iter().flat_map(|object| object.finalizers()) {
        *remaining.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    Ok(())
}

fn conditions(remaining: &Remaining, now: Timestamp) -> Vec<NamespaceCondition> {
    let condition = |type_: &str, status: bool, reason: &str, message: String| NamespaceCondition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    let content: Vec<String> = remaining
        .content
        .iter()
        .map(|(resource, count)| format!("{resource} has {count} resource instances"))
        .collect();
    let mut all = vec![
        if remaining.stale.is_empty() {
            let message = "All resources successfully discovered".to_owned();
            condition(DISCOVERY_FAILURE, false, "ResourcesDiscovered", message)
        } else {
            discovery_failed(stale_groups(&remaining.stale), now)
        },
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        if remaining.failures.is_empty() {
            let message = "All content successfully deleted, may be waiting on finalization".to_owned();
            condition(CONTENT_FAILURE, false, "ContentDeleted", message)
        } else {
            let (number, why) = (remaining.failures.len(), remaining.failures.join(", "));
            let message = format!("Failed to delete all resource types, {number} remaining: {why}");
            condition(CONTENT_FAILURE, true, "ContentDeletionFailed", message)
        },
        if content.is_empty() {
            let message = "All content successfully removed".to_owned();
            condition("NamespaceContentRemaining", false, "ContentRemoved", message)
        } else {
            let message = format!("Some resources are remaining: {}", content.join(", "));
            condition("NamespaceContentRemaining", true, "SomeResourcesRemain", message)
        },
    ];
    let finalizers: Vec<String> =
        remaining.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    all.push(if finalizers.is_empty() {
        condition(
            "NamespaceFinalizersRemaining",
            false,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".into(),
        )
    } else {
        let message = format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", "));
        condition("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
    });
    all
}

/// `present` with what `told` says anew; what was so before has been so since then.
fn merged(present: &[NamespaceCondition], told: Vec<NamespaceCondition>) -> Vec<NamespaceCondition> {
    let mut all = present.to_vec();
    for mut condition in told {
        match all.iter_mut().find(|own| own.type_ == condition.type_) {
            Some(own) => {
                if own.status == condition.status {
                    condition.last_transition_time.clone_from(&own.last_transition_time);
                }
                *own = condition;
            }
            None => all.push(condition),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_left_alone_for_a_moment() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let begun = at("2026-01-01T00:00:01Z");
        assert_eq!(rest(begun, at("2026-01-01T00:00:01.5Z")), Some(Duration::from_millis(1500)));
        assert_eq!(rest(begun, at("2026-01-01T00:00:03Z")), None);
        assert_eq!(rest(begun, at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn pods_go_before_all_else() {
        let of = |group: &str, plural: &str| Deletable {
            resource: kube::core::ApiResource::from_gvk_with_plural(
                &kube::core::GroupVersionKind::gvk(group, "v1", "X"),
                plural,
            ),
            namespaced: plural != "nodes",
            watchable: true,
            collection: true,
        };
        let all = [of("", "configmaps"), of("", "nodes"), of("metrics.k8s.io", "pods"), of("", "pods")];
        let order: Vec<&str> = in_order(&all).map(|own| own.resource.plural.as_str()).collect();
        assert_eq!(order, ["pods", "configmaps", "pods"]);
        assert!(is_pods(in_order(&all).next().unwrap()));
    }

    #[test]
    fn what_remains_is_named() {
        let remaining = Remaining {
            content: vec![("pods.".into(), 2)],
            finalizers: [("example.com/hold".to_owned(), 1)].into(),
            ..Remaining::default()
        };
        let conditions = super::conditions(&remaining, Timestamp::UNIX_EPOCH);
        assert_eq!(
            conditions[3].message.as_deref(),
            Some("Some resources are remaining: pods. has 2 resource instances")
        );
        assert_eq!(conditions[4].status, "True");
        let later = Timestamp::from_second(9).unwrap();
        let done = merged(&conditions, super::conditions(&Remaining::default(), later));
        assert_eq!(done[3].message.as_deref(), Some("All content successfully removed"));
        let since = |at: usize| done[at].last_transition_time.as_ref().unwrap().0.as_second();
        assert_eq!((since(0), since(3)), (0, 9));
    }

    #[test]
    fn what_is_not_known_or_failed_is_named_and_keeps_the_namespace() {
        let remaining = Remaining {
            stale: vec!["a.example.com/v1".into(), "b.example.com/v1".into()],
            failures: vec!["list widgets: 503".into()],
            ..Remaining::default()
        };
        assert!(!remaining.is_nothing() && Remaining::default().is_nothing());
        let conditions = super::conditions(&remaining, Timestamp::UNIX_EPOCH);
        let told = |at: usize| (conditions[at].status.as_str(), conditions[at].message.as_deref().unwrap_or_default());
        assert_eq!(
            told(0),
            (
                "True",
                "Discovery failed for some groups, 2 failing: unable to retrieve the complete list of server APIs: \
                 a.example.com/v1: stale GroupVersion discovery: a.example.com/v1, \
                 b.example.com/v1: stale GroupVersion discovery: b.example.com/v1"
            )
        );
        assert_eq!(told(2), ("True", "Failed to delete all resource types, 1 remaining: list widgets: 503"));
    }
}
