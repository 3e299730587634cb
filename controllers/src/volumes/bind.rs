//! What a claim and a volume do next. Pure: from what there is to one step.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{
    Resource, ResourceExt,
    core::{Selector, SelectorExt as _},
};
use martello_api::quantity::Quantity;

/// On a claim: the binding was carried out on both sides.
pub const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On either: the controller, not a user, named the other.
pub const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it, and will take it away.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the node that the scheduler chose for its first pod.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The annotation that was the class before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Reason of a note: the claim waits for a pod.
pub const FIRST_CONSUMER: &str = "WaitForFirstConsumer";
/// Begins the names of provisioners that upstream had built in; there are none any more.
const IN_TREE: &str = "kubernetes.io/";
/// Provisioners that were built in, and the drivers that do their work now.
const MIGRATED: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// Something that is told of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of a warning.
    pub warning: bool,
    /// In one word.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

impl Note {
    fn normal(reason: &'static str, message: impl Into<String>) -> Option<Self> {
        Some(Self { warning: false, reason, message: message.into() })
    }

    fn warning(reason: &'static str, message: impl Into<String>) -> Option<Self> {
        Some(Self { warning: true, reason, message: message.into() })
    }
}

/// What a claim does next.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimStep {
    /// It is bound to this volume, or is to be.
    Bind(Arc<PersistentVolume>),
    /// It waits.
    Wait(Option<Note>),
    /// It waits for somebody else to make a volume.
    Provision(String, Option<Note>),
    /// Its volume is gone, or another's.
    Lose(Option<Note>),
}

/// What a volume does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    /// Its phase becomes this.
    Phase(&'static str),
    /// Its claim is bound elsewhere: it is let go.
    Free,
    /// Its claim is gone and so is it to be, but nothing here can delete what is behind it.
    Fail(String),
    /// Nothing.
    Stay,
}

/// The class of a claim or volume.
fn class<'a, K: Resource>(object: &'a K, field: Option<&'a str>) -> &'a str {
    object.annotations().get(OLD_CLASS).map(String::as_str).or(field).unwrap_or_default()
}

/// The class of a claim; empty for none.
#[must_use]
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    class(claim, claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()))
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    class(volume, volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()))
}

/// Whether the volume names this claim; also by name alone, as a user does.
#[must_use]
pub fn names(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    reference.name.as_deref() == claim.metadata.name.as_deref()
        && reference.namespace.as_deref() == claim.metadata.namespace.as_deref()
        && reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

fn is_claimed(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some())
}

/// What the claim does next, given all volumes and its class.
#[must_use]
pub fn claim_step(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    storage_class: Option<&StorageClass>,
) -> ClaimStep {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    let named = volumes.iter().find(|volume| volume.name_any() == wanted);
    if claim.annotations().contains_key(COMPLETED) {
        return bound(claim, wanted, named);
    }
    if wanted.is_empty() {
        return unbound(claim, volumes, storage_class);
    }
    let Some(volume) = named else { return ClaimStep::Wait(None) };
    if names(volume, claim) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    if !is_claimed(volume) {
        if let Some(why) = mismatch(volume, claim) {
            let message = format!("Cannot bind to requested volume \"{wanted}\": {why}");
            return ClaimStep::Wait(Note::warning("VolumeMismatch", message));
        }
        return ClaimStep::Bind(Arc::clone(volume));
    }
    let message = format!("volume \"{wanted}\" already bound to a different claim.");
    ClaimStep::Wait(Note::warning("FailedBinding", message))
}

fn bound(claim: &PersistentVolumeClaim, wanted: &str, named: Option<&Arc<PersistentVolume>>) -> ClaimStep {
    let lose = |reason, message: &str| ClaimStep::Lose(Note::warning(reason, message));
    match named {
        _ if wanted.is_empty() => {
            lose("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
        }
        None => lose("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        Some(volume) if !is_claimed(volume) || names(volume, claim) => ClaimStep::Bind(Arc::clone(volume)),
        Some(_) => lose("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
    }
}

fn unbound(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    storage_class: Option<&StorageClass>,
) -> ClaimStep {
    let waits = storage_class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
        && !claim.annotations().contains_key(SELECTED_NODE);
    if let Some(volume) = best(claim, volumes, waits) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    if waits {
        let message = "waiting for first consumer to be created before binding";
        return ClaimStep::Wait(Note::normal(FIRST_CONSUMER, message));
    }
    let name = class_of_claim(claim);
    match storage_class {
        _ if name.is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            ClaimStep::Wait(Note::normal("FailedBinding", message))
        }
        None => {
            let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
            ClaimStep::Wait(Note::warning("ProvisioningFailed", message))
        }
        Some(class) => {
            let provisioner = MIGRATED.iter().find(|(old, _)| *old == class.provisioner);
            let provisioner = provisioner.map_or(class.provisioner.as_str(), |found| found.1);
            if provisioner.starts_with(IN_TREE) {
                let message = format!("no volume plugin matched name: {provisioner}");
                return ClaimStep::Wait(Note::warning("ProvisioningFailed", message));
            }
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            );
            ClaimStep::Provision(provisioner.to_owned(), Note::normal("ExternalProvisioning", message))
        }
    }
}

/// The volume for a claim: one that names it, or else the smallest that is free and fits.
fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    only_named: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let fits = |volume: &&Arc<PersistentVolume>| mismatch(volume, claim).is_none() && selects(claim, volume);
    // A volume that names the claim may be of another class.
    let fits_by_name = |volume: &&Arc<PersistentVolume>| mismatch_but_for_class(volume, claim).is_none();
    let named = volumes.iter().filter(|volume| names(volume, claim)).find(fits_by_name);
    if named.is_some() || only_named {
        return named;
    }
    let free = volumes.iter().filter(|volume| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        !is_claimed(volume) && phase == Some("Available")
    });
    // What can do little more than is asked for goes first.
    let modes = |volume: &PersistentVolume| {
        volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).map_or(0, Vec::len)
    };
    free.filter(fits).min_by_key(|volume| (modes(volume), capacity(volume), volume.name_any()))
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let amounts = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    amounts.and_then(|amounts| amounts.get("storage")?.0.parse().ok()).unwrap_or_default()
}

fn selects(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let Some(selector) = claim.spec.as_ref().and_then(|spec| spec.selector.clone()) else { return true };
    Selector::try_from(selector).is_ok_and(|selector| selector.matches(volume.labels()))
}

/// Why the volume is not what the claim asks for.
fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    reason(volume, claim, true)
}

fn mismatch_but_for_class(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    reason(volume, claim, false)
}

fn reason(volume: &PersistentVolume, claim: &PersistentVolumeClaim, of_class: bool) -> Option<String> {
    let (has, asks) = (volume.spec.as_ref()?, claim.spec.as_ref()?);
    let requests = asks.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let request: Quantity = requests.and_then(|all| all.get("storage")?.0.parse().ok()).unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let attributes = |name: &Option<String>| name.clone().unwrap_or_default();
    if volume.metadata.deletion_timestamp.is_some() {
        return Some(format!("the volume is marked for deletion {:?}", volume.name_any()));
    }
    if capacity(volume) < request {
        return Some("requested PV is too small".to_owned());
    }
    if of_class && class_of_volume(volume) != class_of_claim(claim) {
        return Some("storageClassName does not match".to_owned());
    }
    if attributes(&has.volume_attributes_class_name) != attributes(&asks.volume_attributes_class_name) {
        return Some("volumeAttributesClassName does not match".to_owned());
    }
    if mode(&has.volume_mode) != mode(&asks.volume_mode) {
        return Some("incompatible volumeMode".to_owned());
    }
    if !asks.access_modes.iter().flatten().all(|mode| modes.contains(mode)) {
        return Some("incompatible accessMode".to_owned());
    }
    None
}

/// What the volume does next, given the claim that it names.
#[must_use]
pub fn volume_step(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let Some(spec) = volume.spec.as_ref() else { return VolumeStep::Stay };
    let Some(reference) = &spec.claim_ref else { return VolumeStep::Phase("Available") };
    let Some(uid) = reference.uid.as_deref().filter(|uid| !uid.is_empty()) else {
        return VolumeStep::Phase("Available");
    };
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) else {
        return released(volume);
    };
    let bound_to = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if bound_to == volume.name_any() {
        return VolumeStep::Phase("Bound");
    }
    if !bound_to.is_empty() && volume.annotations().contains_key(BY_CONTROLLER) {
        return VolumeStep::Free;
    }
    VolumeStep::Stay
}

fn released(volume: &PersistentVolume) -> VolumeStep {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if !matches!(phase, "Released" | "Failed") {
        return VolumeStep::Phase("Released");
    }
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let by = volume.annotations().get(PROVISIONED_BY).filter(|by| !by.is_empty());
    let host = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref());
    match (policy, host, by) {
        _ if phase == "Failed" => VolumeStep::Stay,
        (Some("Delete"), _, Some(by)) if !by.starts_with(IN_TREE) => VolumeStep::Stay,
        (Some("Delete"), _, Some(by)) => VolumeStep::Fail(format!("no volume plugin matched name: {by}")),
        (Some("Delete"), Some(host), None) if host.path.strip_prefix("/tmp/").is_none_or(str::is_empty) => {
            VolumeStep::Fail(format!("host_path deleter only supports /tmp/.+ but received provided {}", host.path))
        }
        (Some("Delete"), _, None) => VolumeStep::Fail(format!(
            "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
            volume.name_any()
        )),
        (Some("Recycle"), _, _) => VolumeStep::Fail(
            "no volume plugin can recycle this volume: the Recycle policy is deprecated and not offered here"
                .to_owned(),
        ),
        _ => VolumeStep::Stay,
    }
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
