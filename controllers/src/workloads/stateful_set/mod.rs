//! StatefulSet: pods with names and claims of their own, made and replaced in order.

mod plan;
mod pod;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
};
use kube::{Api, Client, ResourceExt, api::Patch, runtime::events::EventType};
use martello_api::clock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use plan::{Doomed, Plan, Versions, plan};

use super::{
    claim::claim,
    history::{self, HASH_LABEL, Revisions},
    pod_control::{Owner, PodControl},
    selector,
};
use crate::{
    Caches,
    runtime::{Attempt, Key, Queue, RequestError, is_namespace_terminating, patch, post, said, work, write_status},
};

const WORKERS: usize = 4;
/// When a pod is tried again whose claim has yet to go.
const CLAIM_WAIT: Duration = Duration::from_secs(1);

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    queue.add_changed(&caches.stateful_sets);
    queue.add_controllers_of(&caches.pods, &caches.stateful_sets);
    let pods = PodControl::new(client, "statefulset-controller");
    let controller = Controller { client: client.clone(), caches: Arc::clone(caches), queue: queue.clone(), pods };
    work(tasks, "statefulset", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    pods: PodControl,
}

/// One look at a set.
struct Pass<'a> {
    set: &'a StatefulSet,
    owner: Owner,
    versions: Versions,
    templates: [PodTemplateSpec; 2],
    owned: &'a [Arc<Pod>],
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.stateful_sets.synced().await;
        self.caches.pods.synced().await;
        self.caches.revisions.synced().await;
        let Some(set) = self.caches.stateful_sets.get(&key) else { return Ok(()) };
        let Some(spec) = &set.spec else { return Ok(()) };
        let Some(selects) = selector(&spec.selector) else { return Ok(()) };
        let owner = Owner::of(set.as_ref());
        let deleted = set.metadata.deletion_timestamp.is_some();
        let name = set.name_any();
        let of_name = |pod: &Arc<Pod>| plan::ordinal(&name, &pod.name_any()).is_some();
        let candidates = self.caches.pods.in_namespace(&key.namespace).into_iter().filter(of_name).collect();
        let (owned, mut last) =
            claim(&self.pods.api(&key.namespace), candidates, &owner.reference, deleted, &selects).await?;
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &key.namespace);
        let all = history::claim(&api, &self.caches.revisions, &owner, deleted, &selects).await?;
        let annotations = set.metadata.annotations.clone().unwrap_or_default();
        let revisions = Revisions { api: &api, owner: &owner, label: HASH_LABEL, annotations };
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let settled = revisions.settle(&all, &spec.template, collisions).await?;
        self.caches.revisions.caught_up(settled.written).await;
        let before = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current =
            all.iter().find(|revision| Some(revision.name_any().as_str()) == before).unwrap_or(&settled.update);
        let versions = Versions { current: current.name_any(), update: settled.update.name_any() };
        let templates = [history::template(current).unwrap_or_else(|| spec.template.clone()), spec.template.clone()];
        let now = clock::now();
        let plan = plan(&set, &owned, &versions, now);
        let pass = Pass { set: &set, owner: owner.clone(), versions, templates, owned: &owned };
        let done = self.execute(&pass, &plan, &mut last).await;
        let status = Some(plan::status(&set, &owned, &pass.versions, settled.collisions, now));
        let all_sets = Api::namespaced(self.client.clone(), &key.namespace);
        let updated = StatefulSet { status, ..StatefulSet::clone(&set) };
        write_status(&all_sets, &self.caches.stateful_sets, &set, updated).await?;
        self.caches.pods.caught_up(last).await;
        let mut used: Vec<&str> =
            owned.iter().filter_map(|pod| pod.labels().get(history::REVISION_LABEL).map(String::as_str)).collect();
        used.extend([pass.versions.current.as_str(), pass.versions.update.as_str()]);
        revisions.delete(&history::beyond(&all, &used, spec.revision_history_limit)).await?;
        if let Some(seconds) = plan.look_again_after_seconds {
            self.queue.add_after(key, Duration::from_secs(seconds));
        }
        done
    }

    async fn execute(&self, pass: &Pass<'_>, plan: &Plan, last: &mut u64) -> Result<(), RequestError> {
        for (ordinal, makes) in &plan.claims {
            self.settle_claims(pass, *ordinal, *makes).await?;
        }
        for ordinal in &plan.create {
            if !self.settle_claims(pass, *ordinal, true).await? {
                self.queue.add_after(Key::of(pass.set), CLAIM_WAIT);
                break;
            }
            let held_back = plan::is_held_back(pass.set, *ordinal);
            let [old, new] = &pass.templates;
            let (template, revision) =
                if held_back { (old, &pass.versions.current) } else { (new, &pass.versions.update) };
            let pod = pod::make(pass.set, &pass.owner, template, revision, *ordinal);
            *last = (*last).max(self.pods.create(&pass.owner, &pod).await?);
        }
        for doomed in &plan.scale_down {
            self.settle_claims(pass, doomed.ordinal, false).await?;
        }
        for doomed in plan.scale_down.iter().chain(&plan.replace) {
            *last = (*last).max(self.pods.delete(&pass.owner, &doomed.name, &doomed.uid).await?);
        }
        Ok(())
    }

    /// Has the claims of a pod owned as the set's policy says, and those made that are missing where it `makes` them.
    /// Answers whether the pod could be made now.
    async fn settle_claims(&self, pass: &Pass<'_>, ordinal: i32, makes: bool) -> Result<bool, RequestError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &pass.owner.namespace);
        let set = pass.set.name_any();
        let pod = format!("{set}-{ordinal}");
        let uid = pass.owned.iter().find(|own| own.name_any() == pod).and_then(|own| own.uid());
        let scene = pod::ClaimScene::new(pass.set, &pass.owner, &pod, uid.as_deref(), ordinal);
        for mut claim in pod::claims(pass.set, ordinal) {
            let name = claim.name_any();
            let attempted = || format!("settle the claim {name} of StatefulSet {set}");
            match api.get_opt(&name).await.attempt(attempted)? {
                Some(present) if uid.is_none() && scene.is_stale(&present) => return Ok(false),
                Some(present) if makes && present.metadata.deletion_timestamp.is_some() => {
                    self.tell_failure(pass, &pod, &format!("pvc {name} is being deleted")).await;
                    return Ok(false);
                }
                Some(present) => {
                    if let Some(owners) = scene.corrected(&present) {
                        let body = json!({"metadata": {"ownerReferences": owners,
                            "resourceVersion": present.metadata.resource_version}});
                        api.patch(&name, &patch(), &Patch::Merge(body)).await.attempt_unless_gone(attempted)?;
                    }
                }
                None if makes => {
                    claim.metadata.owner_references = scene.wanted().map(|owner| vec![owner]);
                    let made = api.create(&post(), &claim).await;
                    match &made {
                        Ok(_) => {
                            let note = format!("create Claim {name} Pod {pod} in StatefulSet {set} success");
                            self.pods.tell(&pass.owner, EventType::Normal, "SuccessfulCreate", note).await;
                        }
                        Err(error) if is_namespace_terminating(error) => {}
                        Err(error) => {
                            let why = said(error);
                            let note =
                                format!("create Claim {name} for Pod {pod} in StatefulSet {set} failed error: {why}");
                            self.pods.tell(&pass.owner, EventType::Warning, "FailedCreate", note).await;
                            self.tell_failure(pass, &pod, &format!("failed to create PVC {name}: {why}")).await;
                        }
                    }
                    made.attempt(attempted)?;
                }
                None => {}
            }
        }
        Ok(true)
    }

    async fn tell_failure(&self, pass: &Pass<'_>, pod: &str, why: &str) {
        let note = format!("create Pod {pod} in StatefulSet {} failed error: {why}", pass.set.name_any());
        self.pods.tell(&pass.owner, EventType::Warning, "FailedCreate", note).await;
    }
}
