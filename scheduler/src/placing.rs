//! The loop around the decision: pending pods in, bindings out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Binding, Namespace, Node, ObjectReference, Pod},
    policy::v1::PodDisruptionBudget,
    resource::v1::ResourceClaim,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        events::{Event as Told, EventType, Recorder, Reporter},
        watcher::{self, Event, watcher},
    },
};
use martello_api::clock;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    SCHEDULER_NAME, claims,
    cycle::{Placement, place},
    preempting,
    preemption::{preempt, priority},
    snapshot::Snapshot,
};

/// Name under which the scheduler's writes appear in managed fields, as upstream's.
pub(crate) const FIELD_MANAGER: &str = "kube-scheduler";
/// First and longest pause before a pod that found no node is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long a pod that found no node is left alone while nothing changes, as upstream.
const PARKED: Duration = Duration::from_secs(5 * 60);
/// How often the same is told of a pod: less than that between two tries, and its event would end while it still waits.
const TOLD_AGAIN: Duration = Duration::from_secs(4 * 60);

type Key = (String, String);

/// Everything that was heard from the API server.
#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Arc<Node>>,
    pods: BTreeMap<Key, Arc<Pod>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    budgets: BTreeMap<Key, Arc<PodDisruptionBudget>>,
    claims: BTreeMap<Key, Arc<ResourceClaim>>,
    pending: HashMap<Key, Pending>,
    listed: Listed,
    listing: Vec<Key>,
}

#[derive(Default)]
struct Listed {
    nodes: bool,
    pods: bool,
    namespaces: bool,
}

struct Pending {
    since: Timestamp,
    failures: u32,
    not_before: Instant,
    /// Whether anything changed in the cluster since the last try.
    worth_trying: bool,
    /// When it is tried again though nothing changed.
    parked_until: Instant,
    /// When it was last told that no node was found.
    told: Option<Instant>,
}

impl Pending {
    fn try_at(&self) -> Instant {
        if self.worth_trying { self.not_before } else { self.parked_until }
    }
}

fn key(pod: &Pod) -> Key {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod waits for this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    node_name(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !is_finished(pod)
        && spec.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME) == SCHEDULER_NAME
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

impl State {
    fn pod(&mut self, pod: Pod, now: Timestamp) {
        let key = key(&pod);
        let before = self.pods.get(&key);
        let freed = before.is_some_and(|before| node_name(before).is_some()) && is_finished(&pod);
        // A binding that was carried out is known before the watch tells of it.
        let assumed = before.filter(|before| before.metadata.uid == pod.metadata.uid && node_name(before).is_some());
        if assumed.is_some() && node_name(&pod).is_none() {
            return;
        }
        if is_ours(&pod) {
            self.pending.entry(key.clone()).or_insert_with(|| Pending {
                since: pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0),
                failures: 0,
                not_before: Instant::now(),
                worth_trying: true,
                parked_until: Instant::now() + PARKED,
                told: None,
            });
            if let Some(pending) = self.pending.get_mut(&key) {
                let told = |pod: &Pod| pod.status.as_ref().and_then(|status| status.resource_claim_statuses.clone());
                let changed = before.is_none_or(|before| {
                    before.spec != pod.spec
                        || before.metadata.labels != pod.metadata.labels
                        || told(before) != told(&pod)
                });
                pending.worth_trying |= changed;
            }
        } else {
            self.pending.remove(&key);
        }
        self.pods.insert(key, Arc::new(pod));
        if freed {
            self.something_changed();
        }
    }

    fn pod_gone(&mut self, key: &Key) {
        self.pending.remove(key);
        if self.pods.remove(key).is_some_and(|pod| node_name(&pod).is_some()) {
            self.something_changed();
        }
    }

    fn something_changed(&mut self) {
        self.pending.values_mut().for_each(|pending| pending.worth_trying = true);
    }

    fn snapshot(&self) -> Snapshot {
        let placed = self.pods.values().filter(|pod| node_name(pod).is_some() && !is_finished(pod));
        Snapshot::new(self.nodes.values(), placed, self.namespaces.clone())
    }

    fn is_ready(&self) -> bool {
        self.listed.nodes && self.listed.pods && self.listed.namespaces
    }

    /// The pods to try now: the most important first, then the oldest.
    fn due(&self, now: Instant) -> Vec<Key> {
        let mut due: Vec<(&Key, &Pending)> =
            self.pending.iter().filter(|(_, pending)| pending.try_at() <= now).collect();
        let rank = |key: &Key| self.pods.get(key).map_or(0, |pod| priority(pod));
        due.sort_by(|a, b| rank(b.0).cmp(&rank(a.0)).then(a.1.since.cmp(&b.1.since)).then(a.0.cmp(b.0)));
        due.into_iter().map(|(key, _)| key.clone()).collect()
    }

    fn next_due(&self) -> Option<Instant> {
        self.pending.values().map(Pending::try_at).min()
    }
}

/// Follows the API server and places pods until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mut nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    let mut pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    let mut namespaces =
        watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    let mut budgets =
        watcher(Api::<PodDisruptionBudget>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    let mut claims =
        watcher(Api::<ResourceClaim>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    let reporter = Reporter { controller: SCHEDULER_NAME.to_owned(), instance: Some(SCHEDULER_NAME.to_owned()) };
    let binder = Binder { recorder: Recorder::new(client.clone(), reporter), client };
    let mut state = State::default();
    let mut turn = 0_u64;
    loop {
        let wait = state.next_due().filter(|_| state.is_ready());
        let due = async {
            match wait {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(event) = nodes.next() => on_node(&mut state, event),
            Some(event) = pods.next() => on_pod(&mut state, event),
            Some(event) = namespaces.next() => on_namespace(&mut state, event),
            Some(event) = budgets.next() => on_budget(&mut state, event),
            Some(event) = claims.next() => on_claim(&mut state, event),
            () = due => binder.cycle(&mut state, &mut turn).await,
        }
    }
}

fn broke_off(what: &str, error: &watcher::Error) {
    tracing::warn!(what, %error, "watch broke off, will go on");
}

fn on_node(state: &mut State, event: Result<Event<Node>, watcher::Error>) {
    match event {
        Ok(Event::Init) => {
            state.nodes.clear();
            state.listed.nodes = false;
        }
        Ok(Event::InitApply(node) | Event::Apply(node)) => {
            state.nodes.insert(node.name_any(), Arc::new(node));
        }
        Ok(Event::InitDone) => state.listed.nodes = true,
        Ok(Event::Delete(node)) => {
            state.nodes.remove(&node.name_any());
        }
        Err(error) => return broke_off("nodes", &error),
    }
    state.something_changed();
}

fn on_pod(state: &mut State, event: Result<Event<Pod>, watcher::Error>) {
    match event {
        Ok(Event::Init) => state.listing.clear(),
        Ok(Event::InitApply(pod)) => {
            state.listing.push(key(&pod));
            state.pod(pod, clock::now());
        }
        Ok(Event::InitDone) => {
            let listed: std::collections::HashSet<Key> = std::mem::take(&mut state.listing).into_iter().collect();
            let gone: Vec<Key> = state.pods.keys().filter(|key| !listed.contains(*key)).cloned().collect();
            gone.iter().for_each(|key| state.pod_gone(key));
            state.listed.pods = true;
        }
        Ok(Event::Apply(pod)) => state.pod(pod, clock::now()),
        Ok(Event::Delete(pod)) => state.pod_gone(&key(&pod)),
        Err(error) => broke_off("pods", &error),
    }
}

fn on_namespace(state: &mut State, event: Result<Event<Namespace>, watcher::Error>) {
    match event {
        Ok(Event::Init) => {
            state.namespaces.clear();
            state.listed.namespaces = false;
        }
        Ok(Event::InitApply(namespace) | Event::Apply(namespace)) => {
            state.namespaces.insert(namespace.name_any(), namespace.labels().clone());
        }
        Ok(Event::InitDone) => state.listed.namespaces = true,
        Ok(Event::Delete(namespace)) => {
            state.namespaces.remove(&namespace.name_any());
        }
        Err(error) => broke_off("namespaces", &error),
    }
}

fn on_budget(state: &mut State, event: Result<Event<PodDisruptionBudget>, watcher::Error>) {
    let key = |budget: &PodDisruptionBudget| (budget.namespace().unwrap_or_default(), budget.name_any());
    match event {
        Ok(Event::Init) => state.budgets.clear(),
        Ok(Event::InitApply(budget) | Event::Apply(budget)) => {
            state.budgets.insert(key(&budget), Arc::new(budget));
        }
        Ok(Event::InitDone) => {}
        Ok(Event::Delete(budget)) => {
            state.budgets.remove(&key(&budget));
        }
        Err(error) => broke_off("poddisruptionbudgets", &error),
    }
}

fn on_claim(state: &mut State, event: Result<Event<ResourceClaim>, watcher::Error>) {
    let key = |claim: &ResourceClaim| (claim.namespace().unwrap_or_default(), claim.name_any());
    match event {
        Ok(Event::Init) => state.claims.clear(),
        Ok(Event::InitApply(claim) | Event::Apply(claim)) => {
            state.claims.insert(key(&claim), Arc::new(claim));
        }
        Ok(Event::InitDone) => {}
        Ok(Event::Delete(claim)) => {
            state.claims.remove(&key(&claim));
        }
        Err(error) => return broke_off("resourceclaims", &error),
    }
    let claiming: Vec<Key> =
        state.pending.keys().filter(|key| state.pods.get(*key).is_some_and(|pod| claims::asks(pod))).cloned().collect();
    for key in claiming {
        if let Some(pending) = state.pending.get_mut(&key) {
            pending.worth_trying = true;
        }
    }
}

/// When a pod that was not placed is worth another try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TryAgain {
    Soon,
    WhenSomethingChanges,
}

struct Binder {
    client: Client,
    recorder: Recorder,
}

impl Binder {
    /// Tries every pod that is due, each against the cluster as the ones before it left it.
    async fn cycle(&self, state: &mut State, turn: &mut u64) {
        let mut snapshot = state.snapshot();
        for key in state.due(Instant::now()) {
            let Some(pod) = state.pods.get(&key).cloned() else { continue };
            *turn = turn.wrapping_add(1);
            let claimed = claims::look(&pod, |name| state.claims.get(&(key.0.clone(), name.to_owned())).cloned());
            if claimed == claims::Claims::Missing {
                // As upstream, such a pod is not even looked at, and nothing is told of it.
                if let Some(pending) = state.pending.get_mut(&key) {
                    pending.worth_trying = false;
                    pending.parked_until = Instant::now() + PARKED;
                }
                continue;
            }
            let mut told = state.pending.get(&key).and_then(|pending| pending.told);
            let placed = match place(&pod, &snapshot, *turn) {
                Placement::Node(_) if claimed == claims::Claims::Unallocated => {
                    self.tell_unschedulable(&pod, &claims::unallocated(snapshot.nodes.len()), &mut told).await;
                    Err(TryAgain::WhenSomethingChanges)
                }
                Placement::Node(name) => self.bind(&pod, &name).await.map(|()| name),
                Placement::Unschedulable(message) => {
                    let budgets: Vec<_> = state.budgets.values().cloned().collect();
                    let message = self.make_room(&pod, &snapshot, &budgets, message).await;
                    self.tell_unschedulable(&pod, &message, &mut told).await;
                    Err(TryAgain::WhenSomethingChanges)
                }
            };
            match placed {
                Ok(name) => {
                    let mut bound = pod.as_ref().clone();
                    bound.spec.get_or_insert_default().node_name = Some(name.clone());
                    let bound = Arc::new(bound);
                    if let Some(info) = snapshot.nodes.get_mut(&name) {
                        info.place(Arc::clone(&bound));
                    }
                    state.pods.insert(key.clone(), bound);
                    state.pending.remove(&key);
                }
                Err(again) => {
                    if let Some(pending) = state.pending.get_mut(&key) {
                        let pause = RETRY.0.saturating_mul(1 << pending.failures.min(8)).min(RETRY.1);
                        pending.failures += 1;
                        pending.not_before = Instant::now() + pause;
                        pending.parked_until = Instant::now() + PARKED;
                        pending.told = told;
                        pending.worth_trying = again == TryAgain::Soon;
                    }
                }
            }
        }
    }

    /// Ends lesser pods where that gives the pod a node; answers what is to be told.
    async fn make_room(
        &self,
        pod: &Pod,
        snapshot: &Snapshot,
        budgets: &[Arc<PodDisruptionBudget>],
        message: String,
    ) -> String {
        if snapshot.nodes.is_empty() {
            return message;
        }
        match preempt(pod, snapshot, budgets) {
            Ok(victims) => {
                preempting::carry_out(&self.client, &self.recorder, pod, &victims).await;
                message
            }
            Err(why) => format!("{message} no new claims to deallocate, preemption: {why}"),
        }
    }

    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), TryAgain> {
        let (namespace, name) = key(pod);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: pod.uid(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let bound: Result<serde_json::Value, kube::Error> =
            api.create_subresource("binding", &name, &params, &binding).await;
        match bound {
            Ok(_) => {
                let note = format!("Successfully assigned {namespace}/{name} to {node}");
                self.tell(pod, EventType::Normal, "Scheduled", "Binding", note).await;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(namespace, name, node, %error, "pod could not be bound, will try again");
                Err(TryAgain::Soon)
            }
        }
    }

    /// Tells that no node was found, and why: in the pod's condition, and as an event that counts up while the pod waits.
    async fn tell_unschedulable(&self, pod: &Pod, message: &str, told: &mut Option<Instant>) {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let said = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        let is_said = said.is_some_and(|said| said.status == "False" && said.message.as_deref() == Some(message));
        if is_said && told.is_some_and(|told| told.elapsed() < TOLD_AGAIN) {
            return;
        }
        if !is_said {
            self.write_unschedulable(pod, message).await;
        }
        *told = Some(Instant::now());
        self.tell(pod, EventType::Warning, "FailedScheduling", "Scheduling", message.to_owned()).await;
    }

    async fn write_unschedulable(&self, pod: &Pod, message: &str) {
        let (namespace, name) = key(pod);
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let said = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
        let since = said.filter(|said| said.status == "False").and_then(|said| said.last_transition_time.as_ref());
        let since = since.map_or_else(clock::now, |time| time.0);
        let body = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "observedGeneration": pod.metadata.generation, "lastProbeTime": null,
            "lastTransitionTime": clock::rfc3339_seconds(since)}]}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        if let Err(error) = api.patch_status(&name, &params, &Patch::Strategic(body)).await {
            tracing::debug!(namespace, name, %error, "condition PodScheduled was not written");
        }
    }

    async fn tell(&self, pod: &Pod, type_: EventType, reason: &str, action: &str, note: String) {
        let event =
            Told { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        if let Err(error) = self.recorder.publish(&event, &pod.object_ref(&())).await {
            tracing::debug!(name = pod.name_any(), reason, %error, "event was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_found_no_node_is_tried_again_though_nothing_changes() {
        let mut state = State::default();
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": []}});
        state.pod(serde_json::from_value(pod).unwrap(), Timestamp::UNIX_EPOCH);
        let key = ("n".to_owned(), "p".to_owned());
        let now = Instant::now();
        assert_eq!(state.due(now), std::slice::from_ref(&key));
        let pending = state.pending.get_mut(&key).unwrap();
        (pending.worth_trying, pending.parked_until) = (false, now + PARKED);
        assert!(state.due(now + PARKED / 2).is_empty());
        assert_eq!(state.next_due(), Some(now + PARKED));
        assert_eq!(state.due(now + PARKED), std::slice::from_ref(&key));
        state.something_changed();
        assert_eq!(state.due(now), [key]);
    }
}
