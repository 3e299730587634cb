//! Claims of devices: made for pods after their templates, and let go when no pod uses them any more.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, PodResourceClaim},
        resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches,
    runtime::{
        Attempt, EventSink, Informer, Key, Queue, RequestError, Watch, controller_of, patch, post, revision, said,
        work, write_status,
    },
    workloads::{controller_reference, pods},
};

const WORKERS: usize = 2;
/// Who tells a pod of its claims.
const MANAGER: &str = "ResourceClaimController";
/// On a claim: for which of its pod's claims it was made.
const FOR_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps a claim that is allocated.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// The longest name that is left for a generated one: five characters and a hyphen are added.
const LONGEST_BASE: usize = 57;
/// As many pods may use one claim.
const MOST_CONSUMERS: usize = 256;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Pod(Key),
    Claim(Key),
}

#[derive(Clone)]
struct Controller {
    client: Client,
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    templates: Informer<ResourceClaimTemplate>,
    events: EventSink,
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let controller = Controller {
        client: client.clone(),
        pods: caches.pods.clone(),
        claims: Informer::new(),
        templates: Informer::new(),
        events: EventSink::new(client, "resource_claim"),
    };
    let queue: Queue<Item> = Queue::new();
    controller.watch(&queue);
    let (claims, templates) = (controller.claims.clone(), controller.templates.clone());
    tasks.spawn(claims.run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
    tasks.spawn(templates.run(Api::all(client.clone()), Watch::all(), shutdown.clone()));
    work(tasks, "resourceclaim", &queue, WORKERS, shutdown, controller, |controller, item| async move {
        controller.look(&item).await
    });
}

/// The claims that a pod asks for.
fn asked(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// What is known of one of a pod's claims.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    /// The pod itself names it.
    ByPod(&'a str),
    /// It was made for the pod.
    Made(&'a str),
    /// The pod needs none.
    NotNeeded,
    /// It is yet to be made after this template.
    Missing(&'a str),
}

fn named<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Named<'a> {
    if let Some(name) = &claim.resource_claim_name {
        return Named::ByPod(name);
    }
    let Some(template) = &claim.resource_claim_template_name else { return Named::NotNeeded };
    let told = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref()).unwrap_or_default();
    match told.iter().find(|told| told.name == claim.name) {
        Some(told) => told.resource_claim_name.as_deref().map_or(Named::NotNeeded, Named::Made),
        None => Named::Missing(template),
    }
}

/// The names of a pod's claims, as far as there are.
fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    asked(pod).iter().filter_map(|claim| match named(pod, claim) {
        Named::ByPod(name) | Named::Made(name) => Some(name),
        Named::NotNeeded | Named::Missing(_) => None,
    })
}

/// Whether no container of the pod runs nor ever will.
fn is_done(pod: &Pod) -> bool {
    let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    pods::is_finished(pod) || pod.metadata.deletion_timestamp.is_some() && !placed
}

fn is_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    controller_of(claim).is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
}

/// What the names of a pod's claims begin with: where that is too long, both parts are cut alike.
fn base(pod: &str, claim: &str) -> String {
    let whole = pod.len() + claim.len() + 2;
    if whole <= LONGEST_BASE {
        return format!("{pod}-{claim}-");
    }
    let part = |name: &str| name.chars().take(name.len() * LONGEST_BASE / whole).collect::<String>();
    format!("{}-{}", part(pod), part(claim))
}

/// The claim that a pod gets after a template.
fn make(pod: &Pod, claim: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    let from = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = from.annotations.unwrap_or_default();
    annotations.insert(FOR_CLAIM.to_owned(), claim.to_owned());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(base(&pod.name_any(), claim)),
            namespace: pod.namespace(),
            labels: from.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

impl Controller {
    fn watch(&self, queue: &Queue<Item>) {
        let on_pod = queue.clone();
        self.pods.on_change(move |before, after| {
            let Some(pod) = after.or(before).filter(|pod| !asked(pod).is_empty()) else { return };
            let key = Key::of(pod.as_ref());
            if after.is_none_or(|pod| is_done(pod)) {
                names(pod).for_each(|name| on_pod.add(Item::Claim(Key::new(&*key.namespace, name))));
            } else {
                on_pod.add(Item::Pod(key));
            }
        });
        let (on_claim, all) = (queue.clone(), self.pods.clone());
        self.claims.on_change(move |before, after| {
            let Some(claim) = after.or(before) else { return };
            let key = Key::of(claim.as_ref());
            let uses = |pod: &&Arc<Pod>| names(pod).any(|name| name == key.name);
            for pod in all.in_namespace(&key.namespace).iter().filter(uses) {
                on_claim.add(Item::Pod(Key::of(pod.as_ref())));
            }
            if after.is_some() {
                on_claim.add(Item::Claim(key));
            }
        });
        let (on_template, all) = (queue.clone(), self.pods.clone());
        self.templates.on_change(move |_, after| {
            let Some(key) = after.map(|template| Key::of(template.as_ref())) else { return };
            let waits =
                |pod: &&Arc<Pod>| asked(pod).iter().any(|claim| named(pod, claim) == Named::Missing(key.name.as_str()));
            for pod in all.in_namespace(&key.namespace).iter().filter(waits) {
                on_template.add(Item::Pod(Key::of(pod.as_ref())));
            }
        });
    }

    async fn look(&self, item: &Item) -> Result<(), RequestError> {
        self.pods.synced().await;
        self.claims.synced().await;
        self.templates.synced().await;
        match item {
            Item::Pod(key) => self.look_at_pod(key).await,
            Item::Claim(key) => self.look_at_claim(key).await,
        }
    }

    fn claims_in(&self, namespace: &str) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn look_at_pod(&self, key: &Key) -> Result<(), RequestError> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut made: Vec<(&str, String)> = Vec::new();
        let mut is_new = false;
        for claim in asked(&pod) {
            let Some(template) = &claim.resource_claim_template_name else { continue };
            let known = match named(&pod, claim) {
                Named::NotNeeded | Named::ByPod(_) => continue,
                Named::Made(name) => Some(name),
                Named::Missing(_) => None,
            };
            let present = known.and_then(|name| self.claims.get(&Key::new(&*key.namespace, name)));
            if let Some(present) = present.filter(|present| is_for(present, &pod)) {
                made.push((claim.name.as_str(), present.name_any()));
                continue;
            }
            let Some(name) = self.provide(&pod, &claim.name, template).await? else { return Ok(()) };
            made.push((claim.name.as_str(), name));
            is_new = true;
        }
        if is_new {
            self.tell_pod(key, &made).await?;
        }
        if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty()) {
            self.reserve(&pod).await?;
        }
        Ok(())
    }

    /// The claim of a pod, made if it is not there. None where there is no template to make it after.
    async fn provide(&self, pod: &Pod, claim: &str, template: &str) -> Result<Option<String>, RequestError> {
        let namespace = pod.namespace().unwrap_or_default();
        let own = self.claims.controlled_by(pod.metadata.uid.as_deref().unwrap_or_default());
        if let Some(own) = own.iter().find(|own| own.annotations().get(FOR_CLAIM).is_some_and(|name| name == claim)) {
            return Ok(Some(own.name_any()));
        }
        let Some(found) = self.templates.get(&Key::new(&*namespace, template)) else {
            let absent = format!("resourceclaimtemplate.resource.k8s.io {template:?} not found");
            self.tell(pod, claim, &format!("resource claim template {template:?}: {absent}")).await;
            return Ok(None);
        };
        match self.claims_in(&namespace).create(&post(), &make(pod, claim, &found)).await {
            Ok(made) => {
                self.claims.caught_up(revision(&made)).await;
                Ok(Some(made.name_any()))
            }
            Err(error) => {
                self.tell(pod, claim, &format!("create ResourceClaim : {}", said(&error))).await;
                Err(error).attempt(|| format!("create a ResourceClaim of pod {namespace}/{}", pod.name_any()))
            }
        }
    }

    async fn tell(&self, pod: &Pod, claim: &str, why: &str) {
        let object: ObjectReference = pod.object_ref(&());
        let note = format!("PodResourceClaim {claim}: {why}");
        self.events.publish(&object, EventType::Warning, "FailedResourceClaimCreation", note).await;
    }

    /// Writes into a pod's status which claims were made for it.
    async fn tell_pod(&self, key: &Key, made: &[(&str, String)]) -> Result<(), RequestError> {
        let statuses: Vec<_> =
            made.iter().map(|(name, claim)| json!({"name": name, "resourceClaimName": claim})).collect();
        let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": key.name, "namespace": key.namespace},
            "status": {"resourceClaimStatuses": statuses}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api.patch_status(&key.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(body)).await;
        let written =
            written.attempt_unless_gone(|| format!("tell pod {}/{} of its claims", key.namespace, key.name))?;
        if let Some(written) = written {
            self.pods.caught_up(revision(&written)).await;
        }
        Ok(())
    }

    /// Notes that a pod that somebody placed uses its claims.
    async fn reserve(&self, pod: &Pod) -> Result<(), RequestError> {
        let namespace = pod.namespace().unwrap_or_default();
        let uid = pod.uid().unwrap_or_default();
        for name in names(pod) {
            let Some(claim) = self.claims.get(&Key::new(&*namespace, name)) else { return Ok(()) };
            let mut updated = claim.as_ref().clone();
            let Some(status) = updated.status.as_mut().filter(|status| status.allocation.is_some()) else { continue };
            let users = status.reserved_for.get_or_insert_default();
            if users.iter().any(|user| user.uid == uid) || users.len() >= MOST_CONSUMERS {
                continue;
            }
            users.push(ResourceClaimConsumerReference {
                api_group: None,
                resource: "pods".to_owned(),
                name: pod.name_any(),
                uid: uid.clone(),
            });
            write_status(&self.claims_in(&namespace), &self.claims, &claim, updated).await?;
        }
        Ok(())
    }

    async fn look_at_claim(&self, key: &Key) -> Result<(), RequestError> {
        let Some(claim) = self.claims.get(key) else { return Ok(()) };
        let users = claim.status.as_ref().and_then(|status| status.reserved_for.clone()).unwrap_or_default();
        let mut left = Vec::new();
        for user in &users {
            if user.api_group.as_deref().is_some_and(|group| !group.is_empty()) || user.resource != "pods" {
                return Ok(());
            }
            if self.still_uses(&key.namespace, user).await? {
                left.push(user.clone());
            }
        }
        let unused = left.is_empty();
        let kept = claim.finalizers().iter().any(|own| own == FINALIZER);
        let is_deleting = claim.metadata.deletion_timestamp.is_some();
        if left.len() < users.len() || kept && is_deleting && unused {
            let mut updated = claim.as_ref().clone();
            if let Some(status) = &mut updated.status {
                status.reserved_for = (!left.is_empty()).then_some(left);
                if unused && kept {
                    status.allocation = None;
                }
            }
            let is_free = updated.status.as_ref().is_none_or(|status| status.allocation.is_none());
            let api = self.claims_in(&key.namespace);
            if !write_status(&api, &self.claims, &claim, updated).await? {
                return Ok(());
            }
            if kept && is_free {
                let finalizers: Vec<_> = claim.finalizers().iter().filter(|own| *own != FINALIZER).collect();
                let body = json!({"metadata": {"uid": claim.uid(), "finalizers": finalizers}});
                let done = api.patch(&key.name, &patch(), &Patch::Merge(body)).await;
                done.attempt_unless_gone(|| format!("let go of ResourceClaim {}/{}", key.namespace, key.name))?;
            }
        }
        if unused && !is_deleting { self.remove_if_done(&claim, key).await } else { Ok(()) }
    }

    /// Whether a pod that is noted as a user of a claim may yet use it.
    async fn still_uses(&self, namespace: &str, user: &ResourceClaimConsumerReference) -> Result<bool, RequestError> {
        if let Some(pod) = self.pods.get(&Key::new(namespace, &*user.name)) {
            return Ok(pod.metadata.uid.as_ref() == Some(&user.uid) && !is_done(&pod));
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(&user.name).await.attempt(|| format!("look for pod {namespace}/{}", user.name))?;
        Ok(found.is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&user.uid)))
    }

    /// A claim that was made for a pod goes when the pod is done.
    async fn remove_if_done(&self, claim: &ResourceClaim, key: &Key) -> Result<(), RequestError> {
        let owner = controller_of(claim).filter(|owner| owner.api_version == "v1" && owner.kind == "Pod");
        let Some(owner) = owner else { return Ok(()) };
        let Some(pod) = self.pods.get(&Key::new(&*key.namespace, &*owner.name)) else { return Ok(()) };
        if pod.metadata.uid.as_ref() == Some(&owner.uid) && !is_done(&pod) {
            return Ok(());
        }
        let deleted = self.claims_in(&key.namespace).delete(&key.name, &DeleteParams::default()).await;
        deleted.attempt_unless_gone(|| format!("delete ResourceClaim {}/{}", key.namespace, key.name))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "own", "resourceClaimName": "there"},
                {"name": "made", "resourceClaimTemplateName": "t"},
                {"name": "none", "resourceClaimTemplateName": "t"},
                {"name": "new", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made-x"}, {"name": "none"}]}}))
        .unwrap()
    }

    #[test]
    fn what_a_pod_needs_is_known() {
        let pod = pod();
        let all: Vec<_> = asked(&pod).iter().map(|claim| named(&pod, claim)).collect();
        assert_eq!(all, [Named::ByPod("there"), Named::Made("p-made-x"), Named::NotNeeded, Named::Missing("t")]);
        assert_eq!(names(&pod).collect::<Vec<_>>(), ["there", "p-made-x"]);
    }

    #[test]
    fn a_claim_is_made_after_its_template() {
        let template: ResourceClaimTemplate = serde_json::from_value(json!({"metadata": {"name": "t"}, "spec": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": [{"name": "r"}]}}}}))
        .unwrap();
        let claim = make(&pod(), "new", &template);
        assert_eq!(claim.metadata.generate_name.as_deref(), Some("p-new-"));
        assert_eq!(claim.labels()["a"], "b");
        assert_eq!(claim.annotations()[FOR_CLAIM], "new");
        assert!(is_for(&claim, &pod()));
        assert!(base(&"p".repeat(63), "claim").len() <= LONGEST_BASE);
    }
}
