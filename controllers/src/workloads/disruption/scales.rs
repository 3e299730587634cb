//! What the pods of a budget are scaled to, by their controllers, whatever kind these are of.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Api, Client, ResourceExt, core::DynamicObject};

use super::super::controller_of;
use crate::{
    Caches,
    runtime::{Key, Mapping, said},
};

/// What scales pods, and to how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Uid of what was scaled.
    pub uid: String,
    /// Pods that are wanted.
    pub replicas: i32,
}

/// What is known of what scales a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// This does.
    By(Scale),
    /// It has no controller: it does not count.
    Unmanaged,
    /// Nothing that is known does, and why.
    Unknown(String),
}

/// Where it is looked for what scales pods.
pub(super) trait Lookup {
    /// What is known without asking.
    fn cached(&self, namespace: &str, owner: &OwnerReference) -> Option<Scale>;
    /// The resource of a kind; none if nothing serves it.
    fn mapping(
        &self,
        api_version: &str,
        kind: &str,
    ) -> impl Future<Output = Result<Option<Mapping>, kube::Error>> + Send;
    /// The scale of an object; none if there is no such object.
    fn scale(
        &self,
        mapping: &Mapping,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Scale>, kube::Error>> + Send;
}

/// Of each pod (by name) what scales it. An owner is looked for once, and so is a kind. The first that is unknown ends it:
/// then nothing can be counted.
pub(super) async fn look(lookup: &impl Lookup, pods: &[Arc<Pod>]) -> BTreeMap<String, Scaled> {
    let mut pass = Pass { lookup, mappings: HashMap::new() };
    let mut owners: HashMap<&str, Scaled> = HashMap::new();
    let mut all = BTreeMap::new();
    for pod in pods {
        let scaled = match controller_of(pod.as_ref()) {
            None => Scaled::Unmanaged,
            Some(owner) => match owners.get(owner.uid.as_str()) {
                Some(known) => known.clone(),
                None => {
                    let found = pass.owner(pod, owner).await;
                    owners.insert(&owner.uid, found.clone());
                    found
                }
            },
        };
        let is_unknown = matches!(scaled, Scaled::Unknown(_));
        all.insert(pod.name_any(), scaled);
        if is_unknown {
            break;
        }
    }
    all
}

/// One look at the pods of a budget.
struct Pass<'a, L> {
    lookup: &'a L,
    mappings: HashMap<(String, String), Option<Mapping>>,
}

impl<L: Lookup> Pass<'_, L> {
    async fn owner(&mut self, pod: &Pod, owner: &OwnerReference) -> Scaled {
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(scale) = self.lookup.cached(&namespace, owner) {
            return Scaled::By(scale);
        }
        match (group(owner), owner.kind.as_str()) {
            ("apps", "DaemonSet") => return unscaled("daemonsets.apps"),
            ("batch", "Job") => return unscaled("jobs.batch"),
            _ => {}
        }
        let mapping = match self.mapping(&owner.api_version, &owner.kind).await {
            Ok(Some(mapping)) if mapping.scales => mapping,
            Ok(Some(mapping)) => return unscaled(&mapping.shown()),
            Ok(None) => {
                let (kind, version) = (&owner.kind, &owner.api_version);
                return Scaled::Unknown(format!("no matches for kind {kind:?} in version {version:?}"));
            }
            Err(error) => return Scaled::Unknown(said(&error)),
        };
        match self.lookup.scale(&mapping, &namespace, &owner.name).await {
            Ok(Some(scale)) if scale.uid == owner.uid => Scaled::By(scale),
            Ok(_) => Scaled::Unknown(format!("found no controllers for pod {:?}", pod.name_any())),
            Err(error) => Scaled::Unknown(said(&error)),
        }
    }

    async fn mapping(&mut self, api_version: &str, kind: &str) -> Result<Option<Mapping>, kube::Error> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(known) = self.mappings.get(&key) {
            return Ok(known.clone());
        }
        let found = self.lookup.mapping(api_version, kind).await?;
        self.mappings.insert(key, found.clone());
        Ok(found)
    }
}

fn group(owner: &OwnerReference) -> &str {
    owner.api_version.split_once('/').map_or("", |(group, _)| group)
}

fn unscaled(resource: &str) -> Scaled {
    Scaled::Unknown(format!("{resource} does not implement the scale subresource"))
}

/// The caches for the kinds of Kubernetes, the API server for others.
pub(super) struct Server<'a> {
    pub(super) client: &'a Client,
    pub(super) caches: &'a Caches,
}

impl Lookup for Server<'_> {
    /// The controller itself, or the controller's.
    fn cached(&self, namespace: &str, owner: &OwnerReference) -> Option<Scale> {
        let key = Key::new(namespace, &owner.name);
        let found = |uid: Option<String>, replicas: Option<i32>| {
            let scale = Scale { uid: uid?, replicas: replicas.unwrap_or(1) };
            (scale.uid == owner.uid).then_some(scale)
        };
        match (group(owner), owner.kind.as_str()) {
            ("", "ReplicationController") => {
                let own = self.caches.replication_controllers.get(&key)?;
                found(own.uid(), own.spec.as_ref().and_then(|spec| spec.replicas))
            }
            ("apps", "StatefulSet") => {
                let own = self.caches.stateful_sets.get(&key)?;
                found(own.uid(), own.spec.as_ref().and_then(|spec| spec.replicas))
            }
            ("apps" | "extensions", "ReplicaSet") => {
                let set = self.caches.replica_sets.get(&key)?;
                let own = found(set.uid(), set.spec.as_ref().and_then(|spec| spec.replicas))?;
                let Some(above) = controller_of(set.as_ref()).filter(|above| above.kind == "Deployment") else {
                    return Some(own);
                };
                let deployment = self.caches.deployments.get(&Key::new(&key.namespace, &above.name));
                let deployment = deployment.filter(|found| found.metadata.uid.as_ref() == Some(&above.uid))?;
                let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
                Some(Scale { uid: deployment.uid()?, replicas: replicas.unwrap_or(1) })
            }
            _ => None,
        }
    }

    async fn mapping(&self, api_version: &str, kind: &str) -> Result<Option<Mapping>, kube::Error> {
        Mapping::find(self.client, api_version, kind).await
    }

    async fn scale(&self, mapping: &Mapping, namespace: &str, name: &str) -> Result<Option<Scale>, kube::Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &mapping.resource);
        match api.get_scale(name).await {
            Ok(scale) => {
                let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
                Ok(scale.metadata.uid.map(|uid| Scale { uid, replicas }))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kube::core::{ApiResource, GroupVersionKind};
    use serde_json::json;

    use super::*;

    /// Knows Widgets, which can be scaled, and Gadgets, which can't; and what it was asked for.
    #[derive(Default)]
    struct Fake {
        asked: Mutex<Vec<String>>,
    }

    impl Lookup for Fake {
        fn cached(&self, _: &str, owner: &OwnerReference) -> Option<Scale> {
            (owner.kind == "ReplicaSet").then(|| Scale { uid: owner.uid.clone(), replicas: 7 })
        }

        async fn mapping(&self, api_version: &str, kind: &str) -> Result<Option<Mapping>, kube::Error> {
            self.asked.lock().unwrap().push(kind.to_owned());
            let (group, version) = api_version.split_once('/').unwrap();
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk(&gvk);
            Ok((kind != "Nothing").then(|| Mapping { resource, scales: kind == "Widget" }))
        }

        async fn scale(&self, _: &Mapping, _: &str, name: &str) -> Result<Option<Scale>, kube::Error> {
            self.asked.lock().unwrap().push(name.to_owned());
            Ok((name != "gone").then(|| Scale { uid: format!("uid-{name}"), replicas: 3 }))
        }
    }

    fn pod(name: &str, kind: &str, owner: &str) -> Arc<Pod> {
        let owner = json!([{"apiVersion": "example.com/v1", "kind": kind, "name": owner, "uid": format!("uid-{owner}"),
            "controller": true}]);
        let owners = if kind.is_empty() { json!([]) } else { owner };
        let metadata = json!({"name": name, "namespace": "n", "ownerReferences": owners});
        Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
    }

    async fn looked(pods: &[Arc<Pod>]) -> (BTreeMap<String, Scaled>, Vec<String>) {
        let fake = Fake::default();
        let all = look(&fake, pods).await;
        (all, fake.asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn an_owner_and_a_kind_are_asked_for_once() {
        let pods = [
            pod("a1", "Widget", "a"),
            pod("b1", "Widget", "b"),
            pod("r1", "ReplicaSet", "r"),
            pod("a2", "Widget", "a"),
            pod("alone", "", ""),
            pod("b2", "Widget", "b"),
        ];
        let (all, asked) = looked(&pods).await;
        assert_eq!(asked, ["Widget", "a", "b"]);
        let by = |uid: &str, replicas| Scaled::By(Scale { uid: uid.to_owned(), replicas });
        assert_eq!(all.len(), 6);
        assert_eq!((&all["a2"], &all["b2"]), (&by("uid-a", 3), &by("uid-b", 3)));
        assert_eq!((&all["r1"], &all["alone"]), (&by("uid-r", 7), &Scaled::Unmanaged));
    }

    #[tokio::test]
    async fn the_first_that_is_unknown_ends_the_look() {
        for (kind, owner, why) in [
            ("Gadget", "g", "gadgets.example.com does not implement the scale subresource"),
            ("Nothing", "g", "no matches for kind \"Nothing\" in version \"example.com/v1\""),
            ("Widget", "gone", "found no controllers for pod \"odd\""),
        ] {
            let (all, asked) = looked(&[pod("odd", kind, owner), pod("a1", "Widget", "a")]).await;
            assert_eq!(all, BTreeMap::from([("odd".to_owned(), Scaled::Unknown(why.to_owned()))]));
            assert!(!asked.contains(&"a".to_owned()), "{asked:?}");
        }
    }
}
