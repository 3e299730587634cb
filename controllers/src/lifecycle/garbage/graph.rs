//! Who owns whom: the pure part of garbage collection.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Finalizer of an owner that waits for its dependents to go.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an owner whose dependents are to be let go before it goes.
pub const ORPHAN: &str = "orphan";

/// The uid of an object.
pub type Uid = String;

/// What the graph knows of one object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Index of its resource in the collector's list.
    pub resource: usize,
    /// Group and kind.
    pub kind: [Arc<str>; 2],
    /// Its metadata.
    pub metadata: ObjectMeta,
}

impl Object {
    /// Whether a reference of `dependent` that bears this object's uid also names it. What does not may be a mistake: it
    /// is asked for as it is written.
    fn is_named(&self, owner: &OwnerReference, dependent: &Self) -> bool {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        *self.kind[0] == *group
            && *self.kind[1] == *owner.kind
            && self.metadata.name.as_ref() == Some(&owner.name)
            && self.is_within_reach(dependent)
    }

    /// Whether it is of the cluster or of the dependent's namespace.
    fn is_within_reach(&self, dependent: &Self) -> bool {
        self.metadata.namespace.is_none() || self.metadata.namespace == dependent.metadata.namespace
    }

    fn owners(&self) -> &[OwnerReference] {
        self.metadata.owner_references.as_deref().unwrap_or_default()
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.metadata.finalizers.iter().flatten().any(|own| own == name)
    }

    fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn blocks_an_owner(&self) -> bool {
        self.owners().iter().any(|owner| owner.block_owner_deletion == Some(true))
    }

    fn waits_for_dependents(&self) -> bool {
        self.is_deleting() && self.has_finalizer(FOREGROUND)
    }
}

/// What is to be done with an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Delete it with this propagation policy.
    Delete(&'static str),
    /// Take away the references to these owners.
    Drop(Vec<Uid>),
    /// Let no owner wait for it any longer: owners in a circle would wait for each other.
    Unblock,
    /// Take away this finalizer: what it waited for has happened.
    Finalize(&'static str),
    /// Let these dependents go, then take away the orphan finalizer.
    Orphan(Vec<Uid>),
    /// Look at these dependents first: the owner waits for them.
    Await(Vec<Uid>),
}

/// All objects that may own or be owned, by uid.
#[derive(Default)]
pub struct Graph {
    objects: HashMap<Uid, Object>,
    dependents: HashMap<Uid, HashSet<Uid>>,
}

impl Graph {
    /// The object of this uid.
    #[must_use]
    pub fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    /// The uids of a resource's objects.
    #[must_use]
    pub fn of_resource(&self, resource: usize) -> Vec<Uid> {
        let own = self.objects.iter().filter(|(_, object)| object.resource == resource);
        own.map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes in a new or changed object; returns whom to look at.
    pub fn observe(&mut self, uid: &str, object: Object) -> Vec<Uid> {
        let before = self.objects.insert(uid.to_owned(), object);
        let mut look = HashSet::new();
        if let Some(before) = before {
            self.unlink(uid, &before);
            // An owner that waits for this object may wait no longer.
            look.extend(before.owners().iter().map(|owner| owner.uid.clone()));
        }
        let Some(object) = self.objects.get(uid) else { return Vec::new() };
        if !object.owners().is_empty() || object.is_deleting() {
            look.insert(uid.to_owned());
        }
        if object.waits_for_dependents() {
            look.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        }
        for owner in object.owners() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
        }
        look.into_iter().collect()
    }

    /// Takes out an object that is gone; returns whom to look at.
    pub fn forget(&mut self, uid: &str) -> Vec<Uid> {
        let Some(object) = self.objects.remove(uid) else { return Vec::new() };
        self.unlink(uid, &object);
        let owners = object.owners().iter().map(|owner| owner.uid.clone());
        owners.chain(self.dependents.get(uid).into_iter().flatten().cloned()).collect()
    }

    /// Objects with owners that the graph does not hold.
    #[must_use]
    pub fn with_unknown_owners(&self) -> Vec<Uid> {
        let unknown = self.dependents.iter().filter(|(owner, _)| !self.objects.contains_key(*owner));
        let dependents: HashSet<&Uid> = unknown.flat_map(|(_, dependents)| dependents).collect();
        dependents.into_iter().cloned().collect()
    }

    fn unlink(&mut self, uid: &str, object: &Object) {
        for owner in object.owners() {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    /// Owners of `uid` that the graph does not hold as they are named: whether they exist must be asked.
    #[must_use]
    pub fn unknown_owners(&self, uid: &str) -> Vec<OwnerReference> {
        let Some(object) = self.objects.get(uid) else { return Vec::new() };
        let known =
            |owner: &&OwnerReference| self.objects.get(&owner.uid).is_some_and(|own| own.is_named(owner, object));
        object.owners().iter().filter(|owner| !known(owner)).cloned().collect()
    }

    /// Owners of `uid` that are in another namespace, where they own nothing of this one.
    #[must_use]
    pub fn out_of_reach(&self, uid: &str) -> Vec<OwnerReference> {
        let Some(object) = self.objects.get(uid) else { return Vec::new() };
        let reached =
            |owner: &&OwnerReference| self.objects.get(&owner.uid).is_none_or(|own| own.is_within_reach(object));
        object.owners().iter().filter(|owner| !reached(owner)).cloned().collect()
    }

    /// What to do with `uid`, given which of its owners were asked for and exist.
    #[must_use]
    pub fn plan(&self, uid: &str, existing: &HashSet<Uid>) -> Action {
        let Some(object) = self.objects.get(uid) else { return Action::Keep };
        if object.is_deleting() {
            return self.plan_deleting(uid, object);
        }
        if object.owners().is_empty() {
            return Action::Keep;
        }
        let (mut solid, mut dangling, mut waiting) = (0, Vec::new(), Vec::new());
        for owner in object.owners() {
            match self.objects.get(&owner.uid).filter(|present| present.is_named(owner, object)) {
                Some(present) if present.waits_for_dependents() => waiting.push(owner.uid.clone()),
                Some(_) => solid += 1,
                None if existing.contains(&owner.uid) => solid += 1,
                None => dangling.push(owner.uid.clone()),
            }
        }
        if solid > 0 {
            dangling.append(&mut waiting);
            return if dangling.is_empty() { Action::Keep } else { Action::Drop(dangling) };
        }
        if !waiting.is_empty()
            && let Some(dependents) = self.dependents.get(uid)
        {
            let waits = |dependent: &Uid| self.objects.get(dependent).is_some_and(Object::waits_for_dependents);
            let in_circle = object.blocks_an_owner() && dependents.iter().any(waits);
            return if in_circle { Action::Unblock } else { Action::Delete("Foreground") };
        }
        Action::Delete(if object.has_finalizer(ORPHAN) {
            "Orphan"
        } else if object.has_finalizer(FOREGROUND) {
            "Foreground"
        } else {
            "Background"
        })
    }

    fn plan_deleting(&self, uid: &str, object: &Object) -> Action {
        // What owns itself does not wait for itself.
        let others = |dependent: &&Uid| dependent.as_str() != uid;
        let dependents: Vec<&Uid> = self.dependents.get(uid).into_iter().flatten().filter(others).collect();
        if object.has_finalizer(ORPHAN) {
            return Action::Orphan(dependents.into_iter().cloned().collect());
        }
        if !object.has_finalizer(FOREGROUND) {
            return Action::Keep;
        }
        let blocks = |dependent: &&&Uid| {
            let references = self.objects.get(**dependent).map(Object::owners).unwrap_or_default();
            references.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        if dependents.iter().any(|dependent| blocks(&dependent)) {
            // One that waits itself has been looked at: two that own each other would wake each other for ever.
            let waits = |dependent: &&Uid| self.objects.get(*dependent).is_some_and(Object::waits_for_dependents);
            Action::Await(dependents.into_iter().filter(|dependent| !waits(dependent)).cloned().collect())
        } else {
            Action::Finalize(FOREGROUND)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Objects are named by the uids that they are observed with.
    fn object(owners: &[&str], finalizers: &[&str], deleting: bool) -> Object {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({"apiVersion": "v1", "kind": "X", "name": uid, "uid": uid, "blockOwnerDeletion": true}))
            .collect();
        let mut metadata = json!({"ownerReferences": owners, "finalizers": finalizers});
        if deleting {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Object { resource: 0, kind: ["".into(), "X".into()], metadata: serde_json::from_value(metadata).unwrap() }
    }

    impl Graph {
        fn takes(&mut self, name: &str, mut object: Object) -> Vec<Uid> {
            object.metadata.name = Some(name.to_owned());
            self.observe(name, object)
        }
    }

    fn none() -> HashSet<Uid> {
        HashSet::new()
    }

    #[test]
    fn a_dependent_goes_when_its_last_owner_is_gone() {
        let mut graph = Graph::default();
        graph.takes("owner", object(&[], &[], false));
        graph.takes("dep", object(&["owner"], &[], false));
        assert_eq!(graph.plan("dep", &none()), Action::Keep);
        assert_eq!(graph.forget("owner"), ["dep"]);
        assert_eq!(graph.plan("dep", &none()), Action::Delete("Background"));
        assert_eq!(graph.plan("dep", &HashSet::from(["owner".to_owned()])), Action::Keep);
    }

    #[test]
    fn with_another_living_owner_only_the_reference_goes() {
        let mut graph = Graph::default();
        graph.takes("living", object(&[], &[], false));
        graph.takes("dep", object(&["living", "dead"], &[], false));
        assert_eq!(graph.plan("dep", &none()), Action::Drop(vec!["dead".into()]));
    }

    #[test]
    fn a_foreground_owner_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        graph.takes("owner", object(&[], &[FOREGROUND], true));
        graph.takes("dep", object(&["owner"], &[], false));
        assert_eq!(graph.plan("owner", &none()), Action::Await(vec!["dep".into()]));
        assert_eq!(graph.plan("dep", &none()), Action::Delete("Background"));
        assert_eq!(graph.forget("dep"), ["owner"]);
        assert_eq!(graph.plan("owner", &none()), Action::Finalize(FOREGROUND));
    }

    #[test]
    fn foreground_deletion_goes_down_the_tree() {
        let mut graph = Graph::default();
        graph.takes("a", object(&[], &[FOREGROUND], true));
        graph.takes("b", object(&["a"], &[], false));
        graph.takes("c", object(&["b"], &[], false));
        assert_eq!(graph.plan("b", &none()), Action::Delete("Foreground"));
    }

    #[test]
    fn owners_in_a_circle_do_not_wait_for_each_other() {
        let mut graph = Graph::default();
        graph.takes("a", object(&["c"], &[FOREGROUND], true));
        graph.takes("b", object(&["a"], &[FOREGROUND], true));
        graph.takes("c", object(&["b"], &[], false));
        assert_eq!(graph.plan("c", &none()), Action::Unblock);
        let mut unblocked = object(&["b"], &[], false);
        unblocked.metadata.owner_references.iter_mut().flatten().for_each(|owner| owner.block_owner_deletion = None);
        graph.takes("c", unblocked);
        assert_eq!(graph.plan("c", &none()), Action::Delete("Foreground"));
        assert_eq!(graph.plan("b", &none()), Action::Finalize(FOREGROUND));
    }

    #[test]
    fn who_waits_wakes_nobody_who_waits_too() {
        let mut graph = Graph::default();
        graph.takes("a", object(&["b"], &[FOREGROUND], true));
        graph.takes("b", object(&["a"], &[FOREGROUND], true));
        graph.takes("c", object(&["a"], &[], false));
        assert_eq!(graph.plan("a", &none()), Action::Await(vec!["c".into()]));
        assert_eq!(graph.plan("b", &none()), Action::Await(Vec::new()));
        graph.takes("self", object(&["self"], &[FOREGROUND], true));
        assert_eq!(graph.plan("self", &none()), Action::Finalize(FOREGROUND));
    }

    #[test]
    fn an_orphaning_owner_lets_its_dependents_go() {
        let mut graph = Graph::default();
        graph.takes("owner", object(&[], &[ORPHAN], true));
        graph.takes("dep", object(&["owner"], &[], false));
        assert_eq!(graph.plan("owner", &none()), Action::Orphan(vec!["dep".into()]));
    }

    #[test]
    fn an_owner_of_another_namespace_or_name_has_to_be_asked_for() {
        let mut graph = Graph::default();
        let within = |namespace: &str, owners: &[&str]| {
            let mut object = object(owners, &[], false);
            object.metadata.namespace = Some(namespace.to_owned());
            object
        };
        graph.takes("owner", within("a", &[]));
        graph.takes("near", within("a", &["owner"]));
        graph.takes("far", within("b", &["owner"]));
        assert_eq!((graph.unknown_owners("near").len(), graph.out_of_reach("near").len()), (0, 0));
        assert_eq!((graph.unknown_owners("far").len(), graph.out_of_reach("far").len()), (1, 1));
        assert_eq!(graph.plan("near", &none()), Action::Keep);
        assert_eq!(graph.plan("far", &none()), Action::Delete("Background"));
        let mut misnamed = within("a", &["owner"]);
        misnamed.metadata.owner_references.iter_mut().flatten().for_each(|owner| owner.name = "other".to_owned());
        graph.takes("misnamed", misnamed);
        assert_eq!((graph.unknown_owners("misnamed").len(), graph.out_of_reach("misnamed").len()), (1, 0));
    }
}
