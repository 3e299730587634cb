//! Which objects belong to a controller: it adopts orphans that its selector selects, and lets go of what no
//! longer matches.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource,
    api::Patch,
    core::{Selector, SelectorExt},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::controller_of;
use crate::runtime::{Attempt, RequestError, patch, revision};

/// What is to be done with an object, seen from one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the owner's.
    Keep,
    /// It has no controller and matches: make it the owner's.
    Adopt,
    /// It is the owner's and no longer matches: let it go.
    Release,
    /// It is none of the owner's business.
    Ignore,
}

/// Decides on `object` for the owner of this uid.
pub fn decide<K: Resource>(object: &K, owner_uid: &str, owner_is_deleted: bool, selector: &Selector) -> Claim {
    let labels = object.meta().labels.clone().unwrap_or_default();
    let matches = selector.matches(&labels);
    match controller_of(object) {
        Some(owner) if owner.uid == owner_uid => match (matches, owner_is_deleted) {
            (true, _) => Claim::Keep,
            (false, true) => Claim::Ignore,
            (false, false) => Claim::Release,
        },
        Some(_) => Claim::Ignore,
        None if matches && !owner_is_deleted && object.meta().deletion_timestamp.is_none() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// Decides on `candidates`, carries out what was decided, and returns what is the owner's, with the revision of
/// the last write (0 where none was needed).
pub async fn claim<K>(
    api: &Api<K>,
    candidates: Vec<Arc<K>>,
    owner: &OwnerReference,
    owner_is_deleted: bool,
    selector: &Selector,
) -> Result<(Vec<Arc<K>>, u64), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let (mut owned, mut last) = (Vec::new(), 0);
    for object in candidates {
        let name = object.meta().name.clone().unwrap_or_default();
        let uid = object.meta().uid.clone().unwrap_or_default();
        let attempted = |what: &str| format!("{what} {} {name} for {} {}", K::kind(&()), owner.kind, owner.name);
        match decide(object.as_ref(), &owner.uid, owner_is_deleted, selector) {
            Claim::Keep => owned.push(object),
            Claim::Ignore => {}
            Claim::Adopt => {
                let body = json!({"metadata": {"uid": uid, "ownerReferences": [owner]}});
                let adopted = api.patch(&name, &patch(), &Patch::Strategic(body)).await;
                if let Some(adopted) = adopted.attempt_unless_gone(|| attempted("adopt"))? {
                    last = last.max(revision(&adopted));
                    owned.push(Arc::new(adopted));
                }
            }
            Claim::Release => {
                let reference = json!({"$patch": "delete", "uid": owner.uid});
                let body = json!({"metadata": {"uid": uid, "ownerReferences": [reference]}});
                let released = api.patch(&name, &patch(), &Patch::Strategic(body)).await;
                if let Some(released) = released.attempt_unless_gone(|| attempted("release"))? {
                    last = last.max(revision(&released));
                }
            }
        }
    }
    Ok((owned, last))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn decide_on(labels: serde_json::Value, owner: Option<&str>, deleted: bool) -> Claim {
        let owners: Vec<_> = owner
            .map(|uid| json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true}))
            .into_iter()
            .collect();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "labels": labels, "ownerReferences": owners}}))
                .unwrap();
        decide(&pod, "me", deleted, &Selector::from_iter([("app", "a")]))
    }

    #[test]
    fn orphans_are_adopted_and_strangers_left_alone() {
        assert_eq!(decide_on(json!({"app": "a"}), None, false), Claim::Adopt);
        assert_eq!(decide_on(json!({"app": "a"}), None, true), Claim::Ignore);
        assert_eq!(decide_on(json!({"app": "a"}), Some("me"), false), Claim::Keep);
        assert_eq!(decide_on(json!({"app": "b"}), Some("me"), false), Claim::Release);
        assert_eq!(decide_on(json!({"app": "a"}), Some("other"), false), Claim::Ignore);
        assert_eq!(decide_on(json!({}), None, false), Claim::Ignore);
    }
}
