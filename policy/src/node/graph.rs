//! Which objects the pods of each node refer to, kept up to date pod by pod.

use std::collections::{BTreeSet, HashMap};

use martello_api::{
    attributes::ResourceTarget,
    k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EphemeralContainer, Pod, PodSpec, Volume},
};

/// An object in a pod's namespace that the pod needs on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Referenced {
    /// A Secret, by name.
    Secret(String),
    /// A ConfigMap, by name.
    ConfigMap(String),
    /// The pod's ServiceAccount, by name.
    ServiceAccount(String),
    /// A PersistentVolumeClaim, by name.
    Claim(String),
    /// A ResourceClaim, by name.
    ResourceClaim(String),
}

/// What is needed to know of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    namespace: String,
    name: String,
    node: String,
    needs: BTreeSet<Referenced>,
}

/// All pods, and for each object that they refer to, by how many pods of which nodes.
#[derive(Debug, Default)]
pub struct Graph {
    pods: HashMap<(String, String), PodFacts>,
    needed_by: HashMap<(String, Referenced), HashMap<String, usize>>,
}

impl Graph {
    /// A pod was written.
    pub fn set(&mut self, pod: PodFacts) {
        self.remove(&pod.namespace.clone(), &pod.name.clone());
        if !pod.node.is_empty() {
            for object in &pod.needs {
                let nodes = self.needed_by.entry((pod.namespace.clone(), object.clone())).or_default();
                *nodes.entry(pod.node.clone()).or_default() += 1;
            }
        }
        self.pods.insert((pod.namespace.clone(), pod.name.clone()), pod);
    }

    /// A pod was deleted.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(pod) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        for object in pod.needs {
            let key = (pod.namespace.clone(), object);
            let Some(nodes) = self.needed_by.get_mut(&key) else { continue };
            if let Some(count) = nodes.get_mut(&pod.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&pod.node);
                }
            }
            if nodes.is_empty() {
                self.needed_by.remove(&key);
            }
        }
    }

    /// Whether a pod of `node` needs the object that is asked for, or is it.
    ///
    /// A pod that does not exist is nobody else's: its node may ask, and learns that it is gone.
    #[must_use]
    pub fn is_related(&self, node: &str, target: &ResourceTarget) -> bool {
        if target.name.is_empty() {
            return false;
        }
        let name = target.name.clone();
        let object = match (target.group.as_str(), target.resource.as_str()) {
            ("", "pods") => {
                let pod = self.pods.get(&(target.namespace.clone(), name));
                return pod.is_none_or(|pod| pod.node == node);
            }
            ("", "secrets") => Referenced::Secret(name),
            ("", "configmaps") => Referenced::ConfigMap(name),
            ("", "serviceaccounts") => Referenced::ServiceAccount(name),
            ("", "persistentvolumeclaims") => Referenced::Claim(name),
            ("resource.k8s.io", "resourceclaims") => Referenced::ResourceClaim(name),
            _ => return false,
        };
        self.needed_by.get(&(target.namespace.clone(), object)).is_some_and(|nodes| nodes.contains_key(node))
    }
}

impl PodFacts {
    /// The pod's namespace and name.
    pub(crate) fn place(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// The facts of `pod`.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let mut needs = BTreeSet::new();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let annotations = pod.metadata.annotations.as_ref();
        // A node makes its mirror pods itself: they must not open objects to it.
        let is_mirror = annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
        if let Some(spec) = pod.spec.as_ref().filter(|_| !is_mirror) {
            needs = references(spec, &name);
            let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_ref());
            let claims = statuses.into_iter().flatten().filter_map(|status| status.resource_claim_name.clone());
            needs.extend(claims.map(Referenced::ResourceClaim));
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        Self { namespace: pod.metadata.namespace.clone().unwrap_or_default(), name, node, needs }
    }
}

/// The objects that the spec of a pod of this name refers to.
#[must_use]
pub fn references(spec: &PodSpec, pod: &str) -> BTreeSet<Referenced> {
    let mut needs = BTreeSet::new();
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    needs.insert(Referenced::ServiceAccount(account.to_owned()));
    for secret in spec.image_pull_secrets.iter().flatten() {
        needs.insert(Referenced::Secret(secret.name.clone()));
    }
    let containers: [&[Container]; 2] = [spec.init_containers.as_deref().unwrap_or_default(), &spec.containers];
    for container in containers.into_iter().flatten() {
        collect_environment(container.env.as_deref(), container.env_from.as_deref(), &mut needs);
    }
    let ephemeral: &[EphemeralContainer] = spec.ephemeral_containers.as_deref().unwrap_or_default();
    for container in ephemeral {
        collect_environment(container.env.as_deref(), container.env_from.as_deref(), &mut needs);
    }
    for volume in spec.volumes.iter().flatten() {
        collect_volume(volume, pod, &mut needs);
    }
    let claims = spec.resource_claims.iter().flatten().filter_map(|claim| claim.resource_claim_name.clone());
    needs.extend(claims.map(Referenced::ResourceClaim));
    needs
}

fn collect_environment(env: Option<&[EnvVar]>, from: Option<&[EnvFromSource]>, needs: &mut BTreeSet<Referenced>) {
    for source in env.unwrap_or_default().iter().filter_map(|variable| variable.value_from.as_ref()) {
        needs.extend(source.secret_key_ref.as_ref().map(|key| Referenced::Secret(key.name.clone())));
        needs.extend(source.config_map_key_ref.as_ref().map(|key| Referenced::ConfigMap(key.name.clone())));
    }
    for source in from.unwrap_or_default() {
        needs.extend(source.secret_ref.as_ref().map(|secret| Referenced::Secret(secret.name.clone())));
        needs.extend(source.config_map_ref.as_ref().map(|map| Referenced::ConfigMap(map.name.clone())));
    }
}

fn collect_volume(volume: &Volume, pod: &str, needs: &mut BTreeSet<Referenced>) {
    needs.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()).map(Referenced::Secret));
    needs.extend(volume.config_map.as_ref().map(|source| Referenced::ConfigMap(source.name.clone())));
    let claim = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    let ephemeral = volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name));
    needs.extend(claim.or(ephemeral).map(Referenced::Claim));
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        needs.extend(source.secret.as_ref().map(|secret| Referenced::Secret(secret.name.clone())));
        needs.extend(source.config_map.as_ref().map(|map| Referenced::ConfigMap(map.name.clone())));
    }
    let csi = volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref());
    needs.extend(csi.map(|secret| Referenced::Secret(secret.name.clone())));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, secret: &str) -> PodFacts {
        let pod = json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {
                "nodeName": node, "serviceAccountName": "web",
                "containers": [{"name": "c", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "k"}}},
                ]}],
                "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                            {"name": "w", "secret": {"secretName": "volume"}}],
            },
        });
        PodFacts::of(&serde_json::from_value(pod).unwrap())
    }

    fn related(graph: &Graph, node: &str, resource: &str, name: &str) -> bool {
        let target = ResourceTarget {
            resource: resource.to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            ..ResourceTarget::default()
        };
        graph.is_related(node, &target)
    }

    #[test]
    fn a_node_is_related_to_what_its_pods_refer_to() {
        let mut graph = Graph::default();
        graph.set(pod("a", "n1", "env"));
        for (resource, name) in [
            ("secrets", "env"),
            ("secrets", "volume"),
            ("configmaps", "settings"),
            ("configmaps", "kube-root-ca.crt"),
            ("serviceaccounts", "web"),
            ("pods", "a"),
        ] {
            assert!(related(&graph, "n1", resource, name), "{resource} {name}");
            assert!(!related(&graph, "n2", resource, name), "{resource} {name}");
        }
        assert!(!related(&graph, "n1", "secrets", "other"));
        assert!(!related(&graph, "n1", "secrets", ""));
    }

    #[test]
    fn a_pod_refers_to_what_each_of_its_parts_names() {
        let spec = json!({
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "map"}}]}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "init"}}]}],
            "ephemeralContainers": [{"name": "e", "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "ephemeral", "key": "k"}}}]}],
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "csi", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
                {"name": "claim", "persistentVolumeClaim": {"claimName": "own"}},
                {"name": "scratch", "ephemeral": {}},
                {"name": "map", "configMap": {"name": "volume"}},
                {"name": "both", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
            ],
            "resourceClaims": [{"name": "r", "resourceClaimName": "device"}],
        });
        let secrets =
            ["from", "init", "ephemeral", "pull", "csi", "projected"].map(|name| Referenced::Secret(name.into()));
        let maps = ["map", "volume"].map(|name| Referenced::ConfigMap(name.into()));
        let claims = ["own", "p-scratch"].map(|name| Referenced::Claim(name.into()));
        let rest = [Referenced::ServiceAccount("default".into()), Referenced::ResourceClaim("device".into())];
        let wanted: BTreeSet<Referenced> = secrets.into_iter().chain(maps).chain(claims).chain(rest).collect();
        assert_eq!(references(&serde_json::from_value(spec).unwrap(), "p"), wanted);
    }

    #[test]
    fn the_last_pod_that_refers_takes_the_relation_with_it() {
        let mut graph = Graph::default();
        graph.set(pod("a", "n1", "env"));
        graph.set(pod("b", "n1", "env"));
        graph.set(pod("a", "n1", "other"));
        assert!(related(&graph, "n1", "secrets", "env"));
        graph.remove("shop", "b");
        assert!(!related(&graph, "n1", "secrets", "env"));
        graph.remove("shop", "a");
        assert!(graph.needed_by.is_empty() && graph.pods.is_empty());
    }

    #[test]
    fn an_unscheduled_pod_relates_to_no_node() {
        let mut graph = Graph::default();
        graph.set(pod("a", "", "env"));
        assert!(!related(&graph, "n1", "secrets", "env") && !related(&graph, "", "secrets", "env"));
        assert!(!related(&graph, "n1", "pods", "a"));
    }

    #[test]
    fn a_mirror_pod_opens_nothing() {
        let mut graph = Graph::default();
        let pod = json!({
            "metadata": {"namespace": "shop", "name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}},
            "spec": {"nodeName": "n1", "containers": [], "volumes": [{"name": "w", "secret": {"secretName": "s"}}]},
        });
        graph.set(PodFacts::of(&serde_json::from_value(pod).unwrap()));
        assert!(!related(&graph, "n1", "secrets", "s"));
    }
}
