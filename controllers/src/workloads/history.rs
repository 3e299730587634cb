//! The templates that a StatefulSet or DaemonSet had, as ControllerRevisions.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch},
    core::Selector,
};
use serde_json::{Value, json};

use super::{controller_of, hash, pod_control::Owner};
use crate::runtime::{Attempt, Informer, RequestError, patch, post, revision};

/// The label by which a pod carries the revision of its template.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// The label by which a revision of a StatefulSet carries its hash.
pub const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// How many names are tried for one template.
const ATTEMPTS: i32 = 5;

/// What a revision keeps of a template: a patch that brings it back.
#[must_use]
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    if let Some(map) = template.as_object_mut() {
        map.insert("$patch".to_owned(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
#[must_use]
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let template = revision.data.as_ref()?.0.pointer("/spec/template")?;
    serde_json::from_value(template.clone()).ok()
}

/// What is to be done so that the newest revision is the present template.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// This one is it.
    Keep(String),
    /// This one becomes it: the template is as it was before.
    Renumber(String, i64),
    /// There is none yet.
    Create(i64),
}

/// What to do for `wanted`, given the revisions that there are.
#[must_use]
pub fn plan(all: &[Arc<ControllerRevision>], wanted: &Value) -> Step {
    let newest = all.iter().map(|revision| revision.revision).max();
    let next = newest.unwrap_or(0) + 1;
    let same = all.iter().filter(|revision| revision.data.as_ref().is_some_and(|data| data.0 == *wanted));
    match same.max_by_key(|revision| revision.revision) {
        Some(found) if Some(found.revision) == newest => Step::Keep(found.name_any()),
        Some(found) => Step::Renumber(found.name_any(), next),
        None => Step::Create(next),
    }
}

/// The revisions that nobody uses and that are beyond the limit, oldest first.
#[must_use]
pub fn beyond(all: &[Arc<ControllerRevision>], used: &[&str], limit: Option<i32>) -> Vec<String> {
    let Ok(limit) = usize::try_from(limit.unwrap_or(10)) else { return Vec::new() };
    let mut unused: Vec<&Arc<ControllerRevision>> =
        all.iter().filter(|revision| !used.contains(&revision.name_any().as_str())).collect();
    unused.sort_by_key(|revision| revision.revision);
    let excess = unused.len().saturating_sub(limit);
    unused.into_iter().take(excess).map(|revision| revision.name_any()).collect()
}

/// The revisions of `owner`: orphans that its selector selects become its own, as those of one that was made anew.
pub async fn claim(
    api: &Api<ControllerRevision>,
    cache: &Informer<ControllerRevision>,
    owner: &Owner,
    owner_is_deleted: bool,
    selector: &Selector,
) -> Result<Vec<Arc<ControllerRevision>>, RequestError> {
    let mut all = cache.controlled_by(&owner.reference.uid);
    let orphans =
        cache.in_namespace(&owner.namespace).into_iter().filter(|revision| controller_of(&**revision).is_none());
    let orphans: Vec<_> = orphans.collect();
    if !orphans.is_empty() {
        let (adopted, last) = super::claim::claim(api, orphans, &owner.reference, owner_is_deleted, selector).await?;
        cache.caught_up(last).await;
        all.extend(adopted);
    }
    Ok(all)
}

/// A controller's way to revisions.
pub struct Revisions<'a> {
    /// Those of the owner's namespace.
    pub api: &'a Api<ControllerRevision>,
    /// Whose they are.
    pub owner: &'a Owner,
    /// The label that carries the hash.
    pub label: &'a str,
    /// Annotations of the owner, which its revisions have too.
    pub annotations: BTreeMap<String, String>,
}

/// The revision of the present template.
pub struct Settled {
    /// It.
    pub update: Arc<ControllerRevision>,
    /// How often a name was taken by another template.
    pub collisions: i32,
    /// The store's revision that has it; 0 where nothing was written.
    pub written: u64,
}

impl Revisions<'_> {
    /// Makes the newest revision the one of `template`.
    pub async fn settle(
        &self,
        all: &[Arc<ControllerRevision>],
        template: &PodTemplateSpec,
        collisions: i32,
    ) -> Result<Settled, RequestError> {
        let wanted = data(template);
        match plan(all, &wanted) {
            Step::Create(number) => self.create(template, &wanted, number, collisions).await,
            Step::Keep(name) => match all.iter().find(|revision| revision.name_any() == name) {
                Some(found) => Ok(Settled { update: Arc::clone(found), collisions, written: 0 }),
                None => self.create(template, &wanted, 1, collisions).await,
            },
            Step::Renumber(name, number) => {
                let body = Patch::Merge(json!({"revision": number}));
                let patched = self.api.patch(&name, &patch(), &body).await;
                let patched = patched.attempt(|| format!("renumber ControllerRevision {name}"))?;
                let written = revision(&patched);
                Ok(Settled { update: Arc::new(patched), collisions, written })
            }
        }
    }

    async fn create(
        &self,
        template: &PodTemplateSpec,
        wanted: &Value,
        number: i64,
        mut collisions: i32,
    ) -> Result<Settled, RequestError> {
        let attempted = |name: &str| format!("create ControllerRevision {name}");
        let last = collisions.saturating_add(ATTEMPTS);
        loop {
            let made = self.make(template, wanted, number, collisions);
            let name = made.name_any();
            match self.api.create(&post(), &made).await {
                Err(kube::Error::Api(status)) if status.code == 409 && collisions < last => {
                    let present = self.api.get(&name).await.attempt(|| attempted(&name))?;
                    if present.data.as_ref().is_some_and(|data| data.0 == *wanted) {
                        let written = revision(&present);
                        return Ok(Settled { update: Arc::new(present), collisions, written });
                    }
                    collisions += 1;
                }
                made => {
                    let made = made.attempt(|| attempted(&name))?;
                    let written = revision(&made);
                    return Ok(Settled { update: Arc::new(made), collisions, written });
                }
            }
        }
    }

    fn make(&self, template: &PodTemplateSpec, wanted: &Value, number: i64, collisions: i32) -> ControllerRevision {
        let hash = hash::short(wanted.to_string().as_bytes(), collisions);
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
        let mut labels = labels.unwrap_or_default();
        labels.insert(self.label.to_owned(), hash.clone());
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.owner.reference.name)),
                namespace: Some(self.owner.namespace.clone()),
                labels: Some(labels),
                annotations: Some(self.annotations.clone()).filter(|all| !all.is_empty()),
                owner_references: Some(vec![self.owner.reference.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(wanted.clone())),
            revision: number,
        }
    }

    /// Deletes revisions by name.
    pub async fn delete(&self, names: &[String]) -> Result<(), RequestError> {
        for name in names {
            let deleted = self.api.delete(name, &DeleteParams::default()).await;
            deleted.attempt_unless_gone(|| format!("delete ControllerRevision {name}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision_of(name: &str, number: i64, data: &Value) -> Arc<ControllerRevision> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "revision": number, "data": data})).unwrap())
    }

    #[test]
    fn a_template_of_before_is_numbered_anew() {
        let (a, b) = (json!({"t": 1}), json!({"t": 2}));
        let all = [revision_of("a", 1, &a), revision_of("b", 2, &b)];
        assert_eq!(plan(&all, &b), Step::Keep("b".to_owned()));
        assert_eq!(plan(&all, &a), Step::Renumber("a".to_owned(), 3));
        assert_eq!(plan(&all, &json!({"t": 3})), Step::Create(3));
        assert_eq!(plan(&[], &a), Step::Create(1));
    }

    #[test]
    fn what_is_in_use_is_kept_however_old() {
        let data = json!({});
        let all: Vec<_> = (1..=4).map(|number| revision_of(&format!("r{number}"), number, &data)).collect();
        assert_eq!(beyond(&all, &["r1", "r4"], Some(1)), ["r2"]);
        assert_eq!(beyond(&all, &["r1", "r4"], Some(-1)), Vec::<String>::new());
    }
}
