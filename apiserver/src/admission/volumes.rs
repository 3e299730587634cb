//! Claims and volumes: the default class, growing, and finalizers that keep them while they are used.

use std::sync::Arc;

use martello_api::{quantity::Quantity, status::ApiError};
use serde_json::Value;

use super::Operation;
use crate::{
    registry::{
        call::Call,
        core::{claim, persistent_volume::OLD_CLASS},
        kind::Kind,
        object,
        volumes::storage_class::DEFAULT_CLASS,
    },
    server::Core,
};

/// What keeps objects that are in use, by kind.
const PROTECTION: [(&str, &str); 3] = [
    ("PersistentVolumeClaim", "kubernetes.io/pvc-protection"),
    ("PersistentVolume", "kubernetes.io/pv-protection"),
    ("VolumeAttributesClass", "kubernetes.io/vac-protection"),
];

/// Fills in what a new claim, volume or class needs.
pub async fn fill(core: &Arc<Core>, kind: &Kind, object: &mut Value) -> Result<(), ApiError> {
    if !matches!(kind.group(), "" | "storage.k8s.io") {
        return Ok(());
    }
    if kind.name() == "PersistentVolumeClaim" {
        default_class(core, object).await?;
    }
    let Some((_, finalizer)) = PROTECTION.iter().find(|(name, _)| *name == kind.name()) else { return Ok(()) };
    if !object::finalizers(object).contains(finalizer) {
        let mut all = object::list(object, &["metadata", "finalizers"]).to_vec();
        all.push(Value::from(*finalizer));
        object::set(object, &["metadata"], "finalizers", all);
    }
    Ok(())
}

/// Gives a claim that says nothing of its class the default one: of several the newest.
async fn default_class(core: &Arc<Core>, object: &mut Value) -> Result<(), ApiError> {
    let given = object::at(object, &["spec", "storageClassName"]).is_some_and(|class| !class.is_null());
    if given || object::at(object, &["metadata", "annotations", OLD_CLASS]).is_some() {
        return Ok(());
    }
    let Some(classes) = core.registry.find("storage.k8s.io", "v1", "storageclasses") else { return Ok(()) };
    let mut all = core.all(classes, "").await?;
    all.retain(|class| {
        DEFAULT_CLASS.iter().any(|key| object::text(class, &["metadata", "annotations", key]) == "true")
    });
    let made = |class: &Value| object::text(class, &["metadata", "creationTimestamp"]).to_owned();
    all.sort_by(|one, other| made(other).cmp(&made(one)).then_with(|| object::name(one).cmp(object::name(other))));
    if let Some(class) = all.first() {
        object::set(object, &["spec"], "storageClassName", object::name(class));
    }
    Ok(())
}

/// Refuses a claim that grows where it can't.
pub async fn check_growth(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let concerns = kind.group().is_empty() && kind.name() == "PersistentVolumeClaim";
    let (Some(new), Some(old)) = (object, old) else { return Ok(()) };
    if !concerns || operation != Operation::Update || !call.target.subresource.is_empty() {
        return Ok(());
    }
    let asked = |claim: &Value| -> Quantity {
        object::text(claim, &["spec", "resources", "requests", "storage"]).parse().unwrap_or_default()
    };
    if asked(new) <= asked(old) {
        return Ok(());
    }
    let refuse = |why: &str| Err(kind.forbidden(object::name(new), why));
    if object::text(old, &["status", "phase"]) != "Bound" {
        return refuse("Only bound persistent volume claims can be expanded");
    }
    let name = claim::class(new);
    let mut allowed = false;
    if !name.is_empty()
        && name == claim::class(old)
        && let Some(classes) = core.registry.find("storage.k8s.io", "v1", "storageclasses")
        && let Some(entry) = core.find(classes, "", name).await?
    {
        allowed = object::flag(&core.value(classes, &entry).await?, &["allowVolumeExpansion"]);
    }
    if allowed {
        return Ok(());
    }
    refuse(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    )
}
