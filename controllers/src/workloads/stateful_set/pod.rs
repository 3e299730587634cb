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

/// Who owns the claims of a pod: nobody where they are retained, else what takes them along when it goes. `doomed` is
/// the pod where it goes because the set shrinks.
#[must_use]
pub(super) fn claim_owner(set: &StatefulSet, owner: &Owner, doomed: Option<&Pod>) -> Option<OwnerReference> {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    let (on_delete, on_scale) = (
        deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
        deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
    );
    match doomed {
        Some(pod) if on_scale => Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }),
        _ => on_delete.then(|| OwnerReference { block_owner_deletion: None, ..owner.reference.clone() }),
    }
}

/// The owners that a claim should have; none where they are right already.
#[must_use]
pub(super) fn corrected_owners(
    claim: &PersistentVolumeClaim,
    set: &Owner,
    wanted: Option<&OwnerReference>,
) -> Option<Vec<OwnerReference>> {
    let present = claim.owner_references();
    let pod_prefix = format!("{}-", set.reference.name);
    let ours = |owner: &OwnerReference| {
        owner.uid == set.reference.uid || owner.kind == "Pod" && owner.name.starts_with(&pod_prefix)
    };
    let right = match wanted {
        Some(wanted) => {
            present.iter().filter(|owner| ours(owner)).all(|owner| owner.uid == wanted.uid)
                && present.iter().any(|owner| owner.uid == wanted.uid)
        }
        None => !present.iter().any(ours),
    };
    if right {
        return None;
    }
    Some(present.iter().filter(|owner| !ours(owner)).cloned().chain(wanted.cloned()).collect())
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
        let set = set();
        let owner = Owner::of(&set);
        let wanted = claim_owner(&set, &owner, None);
        assert_eq!(wanted.as_ref().unwrap().uid, "u");
        let mut claim = claims(&set, 0).remove(0);
        let owners = corrected_owners(&claim, &owner, wanted.as_ref()).unwrap();
        claim.metadata.owner_references = Some(owners);
        assert_eq!(corrected_owners(&claim, &owner, wanted.as_ref()), None);
        assert_eq!(corrected_owners(&claim, &owner, None), Some(vec![]));
    }
}
