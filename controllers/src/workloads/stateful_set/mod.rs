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
    runtime::{Attempt, Key, Queue, RequestError, patch, post, work, write_status},
};

const WORKERS: usize = 4;

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
        let all = self.caches.revisions.controlled_by(set.metadata.uid.as_deref().unwrap_or_default());
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &key.namespace);
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
        for doomed in &plan.scale_down {
            let pod = pass.owned.iter().find(|pod| pod.uid().as_deref() == Some(&doomed.uid));
            self.settle_claims(pass, doomed.ordinal, pod.map(AsRef::as_ref), false).await?;
        }
        for doomed in plan.scale_down.iter().chain(&plan.replace) {
            *last = (*last).max(self.pods.delete(&pass.owner, &doomed.name, &doomed.uid).await?);
        }
        for ordinal in &plan.create {
            self.settle_claims(pass, *ordinal, None, true).await?;
            let held_back = plan::is_held_back(pass.set, *ordinal);
            let [old, new] = &pass.templates;
            let (template, revision) =
                if held_back { (old, &pass.versions.current) } else { (new, &pass.versions.update) };
            let pod = pod::make(pass.set, &pass.owner, template, revision, *ordinal);
            *last = (*last).max(self.pods.create(&pass.owner, &pod).await?);
        }
        Ok(())
    }

    /// Makes the claims of a pod that are missing, and has them owned as the set's policy says.
    async fn settle_claims(
        &self,
        pass: &Pass<'_>,
        ordinal: i32,
        doomed: Option<&Pod>,
        makes: bool,
    ) -> Result<(), RequestError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &pass.owner.namespace);
        let wanted = pod::claim_owner(pass.set, &pass.owner, doomed);
        for mut claim in pod::claims(pass.set, ordinal) {
            let name = claim.name_any();
            let attempted = || format!("settle the claim {name} of StatefulSet {}", pass.set.name_any());
            match api.get_opt(&name).await.attempt(attempted)? {
                Some(present) => {
                    if let Some(owners) = pod::corrected_owners(&present, &pass.owner, wanted.as_ref()) {
                        let body = json!({"metadata": {"ownerReferences": owners,
                            "resourceVersion": present.metadata.resource_version}});
                        api.patch(&name, &patch(), &Patch::Merge(body)).await.attempt_unless_gone(attempted)?;
                    }
                }
                None if makes => {
                    claim.metadata.owner_references = wanted.clone().map(|owner| vec![owner]);
                    api.create(&post(), &claim).await.attempt(attempted)?;
                    let note = format!(
                        "create Claim {name} Pod {set}-{ordinal} in StatefulSet {set} success",
                        set = pass.set.name_any()
                    );
                    self.pods.tell(&pass.owner, EventType::Normal, "SuccessfulCreate", note).await;
                }
                None => {}
            }
        }
        Ok(())
    }
}
