//! The pod of one ordinal, and the claims that it has for itself.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;

use crate::workloads::{history::REVISION_LABEL, pod_control::Owner};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The pod of `ordinal`, made from `template`, which is called `revision`.
#[must_use]
pub(super) fn make(set: &StatefulSet, owner: &Owner, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = owner.pod(template);
    let name = format!("{}-{ordinal}", set.name_any());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    pod.metadata.name = Some(name.clone());
    let claims: Vec<String> = templates(set).iter().map(|claim| claim.name_any()).collect();
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(name.clone());
        spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
        let own = claims.iter().map(|claim| Volume {
            name: claim.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: format!("{claim}-{name}"),
                read_only: None,
            }),
            ..Volume::default()
        });
        let others = spec.volumes.take().unwrap_or_default();
        let all: Vec<Volume> = own.chain(others.into_iter().filter(|volume| !claims.contains(&volume.name))).collect();
        spec.volumes = (!all.is_empty()).then_some(all);
    }
    pod
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// The claims of the pod of `ordinal`.
#[must_use]
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selector = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    templates(set)
        .iter()
        .map(|template| {
            let mut labels: BTreeMap<String, String> = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(selector.clone());
            PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{}-{ordinal}", template.name_any(), set.name_any())),
                    namespace: set.namespace(),
                    labels: Some(labels),
                    annotations: template.metadata.annotations.clone(),
                    finalizers: template.metadata.finalizers.clone(),
                    ..ObjectMeta::default()
                },
                spec: template.spec.clone(),
                status: None,
            }
        })
        .collect()
}

/// Whose a pod's claims are to be.
pub(super) struct ClaimScene<'a> {
    set: &'a OwnerReference,
    pod: &'a str,
    /// None where the pod is yet to be made.
    uid: Option<&'a str>,
    in_range: bool,
    /// Whether claims go with the set, and with pods that are too many.
    with_set: bool,
    with_pod: bool,
}

impl<'a> ClaimScene<'a> {
    pub(super) fn new(set: &StatefulSet, owner: &'a Owner, pod: &'a str, uid: Option<&'a str>, ordinal: i32) -> Self {
        let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
        let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
        Self {
            set: &owner.reference,
            pod,
            uid,
            in_range: super::plan::ordinals(set).contains(&ordinal),
            with_set: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            with_pod: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        }
    }

    fn names_set(&self, owner: &OwnerReference) -> bool {
        (&owner.api_version, &owner.kind, &owner.name) == (&self.set.api_version, &self.set.kind, &self.set.name)
    }

    fn names_pod(&self, owner: &OwnerReference) -> bool {
        owner.api_version == "v1" && owner.kind == "Pod" && owner.name == self.pod
    }

    fn is_of_former_pod(&self, owner: &OwnerReference) -> bool {
        self.names_pod(owner) && Some(owner.uid.as_str()) != self.uid
    }

    /// Whether a claim is going with a pod of this name that was there before.
    pub(super) fn is_stale(&self, claim: &PersistentVolumeClaim) -> bool {
        self.with_pod && claim.owner_references().iter().any(|owner| self.is_of_former_pod(owner))
    }

    /// The owner that claims are to have.
    pub(super) fn wanted(&self) -> Option<OwnerReference> {
        if self.with_pod && !self.in_range {
            return Some(OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: self.pod.to_owned(),
                uid: self.uid?.to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            });
        }
        self.with_set.then(|| self.set.clone())
    }

    /// The owners that a claim is to have, if those that it has are not right.
    pub(super) fn corrected(&self, claim: &PersistentVolumeClaim) -> Option<Vec<OwnerReference>> {
        let present = claim.owner_references();
        let is_stale =
            |owner: &OwnerReference| self.names_set(owner) && owner.uid != self.set.uid || self.is_of_former_pod(owner);
        if present.iter().any(is_stale) {
            return None;
        }
        let named = |owner: &&OwnerReference| self.names_set(owner) || self.names_pod(owner);
        let (ours, others): (Vec<_>, Vec<_>) = present.iter().partition(named);
        // Whoever else governs the claim is let be.
        let governed = others.iter().any(|owner| owner.controller == Some(true));
        let wanted = self.wanted().filter(|_| !governed || !(self.with_set || self.with_pod));
        let right = match (&wanted, ours.as_slice()) {
            (Some(wanted), [own]) => own.uid == wanted.uid && own.controller == Some(true),
            (None, []) => true,
            _ => false,
        };
        (!right).then(|| others.into_iter().cloned().chain(wanted).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set() -> StatefulSet {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "n", "uid": "u"},
            "spec": {"serviceName": "svc", "selector": {"matchLabels": {"app": "a"}},
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [],
                    "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}}))
        .unwrap()
    }

    #[test]
    fn a_pod_has_its_name_and_its_claims_in_place_of_volumes() {
        let set = set();
        let template = set.spec.clone().unwrap().template;
        let pod = make(&set, &Owner::of(&set), &template, "s-1a", 3);
        assert_eq!(pod.name_any(), "s-3");
        assert_eq!(pod.labels()[POD_INDEX], "3");
        let spec = pod.spec.unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("s-3"), Some("svc")));
        let volumes = spec.volumes.unwrap();
        assert_eq!(volumes.len(), 2);
        assert_eq!(volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name, "data-s-3");
        assert_eq!(claims(&set, 3)[0].labels()["app"], "a");
    }

    #[test]
    fn claims_follow_their_policy() {
        let mut set = set();
        let owner = Owner::of(&set);
        let mut claim = claims(&set, 0).remove(0);
        let made = ClaimScene::new(&set, &owner, "s-0", None, 0);
        claim.metadata.owner_references = made.corrected(&claim);
        assert_eq!(claim.owner_references().iter().map(|owner| owner.uid.as_str()).collect::<Vec<_>>(), ["u"]);
        assert_eq!(made.corrected(&claim), None);

        let policy = json!({"whenDeleted": "Retain", "whenScaled": "Delete"});
        let spec = set.spec.as_mut().unwrap();
        spec.persistent_volume_claim_retention_policy = serde_json::from_value(policy).unwrap();
        let kept = ClaimScene::new(&set, &owner, "s-0", Some("p"), 0);
        assert_eq!(kept.corrected(&claim), Some(vec![]));
        let doomed = ClaimScene::new(&set, &owner, "s-5", Some("p"), 5);
        claim.metadata.owner_references = doomed.corrected(&claim);
        assert_eq!(claim.owner_references().iter().map(|owner| owner.kind.as_str()).collect::<Vec<_>>(), ["Pod"]);
        assert_eq!(doomed.corrected(&claim), None);
        assert!(!doomed.is_stale(&claim));
        assert!(ClaimScene::new(&set, &owner, "s-5", None, 5).is_stale(&claim));
    }
}
