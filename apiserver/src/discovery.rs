//! Discovery: which groups, versions and resources are served, in the plain and the aggregated form.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use martello_api::resource::{GroupVersionKind, Resource, Subresource};
use ring::digest::{SHA256, SHA512, digest};
use serde_json::{Map, Value, json};

use crate::openapi::hex_upper;

/// What follows the content type of aggregated discovery, version 2.
pub const AGGREGATED_V2: &str = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// What follows the content type of aggregated discovery, version 2 beta 1.
pub const AGGREGATED_V2BETA1: &str = ";g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Upstream's order of groups; others follow by name.
const GROUP_ORDER: [&str; 22] = [
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// The version that each custom resource is stored in, by group and plural name; none where that version is not served.
pub type StoredIn = HashMap<(String, String), Option<String>>;

/// All discovery documents, ready to be sent.
#[derive(Debug)]
pub struct Documents {
    /// `/api`
    pub api: Bytes,
    /// `/apis`
    pub apis: Bytes,
    groups: HashMap<String, Bytes>,
    resources: HashMap<(String, String), Bytes>,
    /// With the hash of each.
    aggregated: HashMap<(bool, bool), (Bytes, String)>,
}

impl Documents {
    /// Of these resources; `server_address` is what `/api` tells clients, for instance `10.0.0.1:6443`.
    #[must_use]
    pub fn new(resources: &[Resource], server_address: &str) -> Self {
        Self::stored_in(resources, &StoredIn::new(), server_address)
    }

    /// The same, where some are stored in other versions than they are served in.
    #[must_use]
    pub fn stored_in(resources: &[Resource], stored: &StoredIn, server_address: &str) -> Self {
        let groups = grouped(resources);
        let listed: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(group_entry).collect();
        let mut found = Self {
            api: api_versions(&groups, server_address),
            apis: bytes(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed})),
            groups: HashMap::new(),
            resources: HashMap::new(),
            aggregated: HashMap::new(),
        };
        for group in &groups {
            if !group.name.is_empty() {
                let mut entry = group_entry(group);
                if let Value::Object(map) = &mut entry {
                    map.insert("kind".into(), "APIGroup".into());
                    map.insert("apiVersion".into(), "v1".into());
                }
                found.groups.insert(group.name.clone(), bytes(&entry));
            }
            for (version, resources) in &group.versions {
                let key = (group.name.clone(), version.clone());
                found.resources.insert(key, resource_list(&group.name, version, resources, stored));
            }
        }
        for (core, beta) in [(true, true), (true, false), (false, true), (false, false)] {
            let document = aggregated(&groups, core, beta);
            found.aggregated.insert((core, beta), hashed(document));
        }
        found
    }

    /// `/apis/GROUP`
    #[must_use]
    pub fn group(&self, group: &str) -> Option<Bytes> {
        self.groups.get(group).cloned()
    }

    /// `/api/VERSION` (empty group) or `/apis/GROUP/VERSION`
    #[must_use]
    pub fn resources(&self, group: &str, version: &str) -> Option<Bytes> {
        self.resources.get(&(group.to_owned(), version.to_owned())).cloned()
    }

    /// `/api` (`core`) or `/apis` in the aggregated form, version 2 or 2 beta 1, and the hash of it.
    #[must_use]
    pub fn aggregated(&self, core: bool, beta: bool) -> (Bytes, String) {
        self.aggregated.get(&(core, beta)).cloned().unwrap_or_default()
    }
}

/// A document with the hash that is its tag.
pub(crate) fn hashed(document: Bytes) -> (Bytes, String) {
    let hash = hex_upper(digest(&SHA512, &document).as_ref());
    (document, hash)
}

struct Group<'r> {
    name: String,
    /// The preferred one first.
    versions: Vec<(String, Vec<&'r Resource>)>,
}

fn grouped(resources: &[Resource]) -> Vec<Group<'_>> {
    let mut found: BTreeMap<&str, BTreeMap<&str, Vec<&Resource>>> = BTreeMap::new();
    for resource in resources {
        found.entry(&resource.gvk.group).or_default().entry(&resource.gvk.version).or_default().push(resource);
    }
    let mut groups: Vec<Group<'_>> = found
        .into_iter()
        .map(|(name, versions)| {
            let mut versions: Vec<(String, Vec<&Resource>)> =
                versions.into_iter().map(|(version, resources)| (version.to_owned(), resources)).collect();
            versions.sort_by(|(one, _), (other, _)| by_rank(one, other));
            for (_, resources) in &mut versions {
                resources.sort_by(|a, b| a.plural.cmp(&b.plural));
            }
            Group { name: name.to_owned(), versions }
        })
        .collect();
    let place = |name: &str| GROUP_ORDER.iter().position(|known| *known == name).unwrap_or(GROUP_ORDER.len());
    groups.sort_by_key(|group| place(&group.name));
    groups
}

/// The version that clients prefer first: stable before beta before alpha, then the larger number; names of any other
/// form come last, by name.
#[must_use]
pub fn by_rank(one: &str, other: &str) -> Ordering {
    match (version_rank(one), version_rank(other)) {
        (Some(one), Some(other)) => other.cmp(&one),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

/// Stage, major and minor number of `v1`, `v1beta2`, `v1alpha1`.
fn version_rank(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at_checked(digits)?;
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    [(1, "beta"), (0, "alpha")].into_iter().find_map(|(stage, name)| {
        let minor = rest.strip_prefix(name)?;
        let plain = minor.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| minor.parse().ok()).flatten().map(|minor| (stage, major, minor))
    })
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn api_versions(groups: &[Group<'_>], server_address: &str) -> Bytes {
    let core = groups.iter().find(|group| group.name.is_empty());
    let versions: Vec<&str> =
        core.into_iter().flat_map(|group| &group.versions).map(|(version, _)| version.as_str()).collect();
    bytes(&json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    }))
}

fn group_entry(group: &Group<'_>) -> Value {
    let version = |version: &str| json!({"groupVersion": group_version(&group.name, version), "version": version});
    let versions: Vec<Value> = group.versions.iter().map(|(name, _)| version(name)).collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

fn resource_list(group: &str, version: &str, resources: &[&Resource], stored: &StoredIn) -> Bytes {
    let mut entries: Vec<Value> = Vec::new();
    for resource in resources {
        entries.push(resource_entry(resource, stored));
        entries.extend(resource.subresources.iter().map(|sub| subresource_entry(resource, sub)));
    }
    // The subresources stay as they are: by name those of built-in kinds, the status first of custom ones.
    entries.sort_by_cached_key(|entry| {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        name.split('/').next().unwrap_or_default().to_owned()
    });
    let mut list = Map::new();
    list.insert("kind".into(), "APIResourceList".into());
    if !group.is_empty() {
        list.insert("apiVersion".into(), "v1".into());
    }
    list.insert("groupVersion".into(), group_version(group, version).into());
    list.insert("resources".into(), entries.into());
    bytes(&list.into())
}

fn resource_entry(resource: &Resource, stored: &StoredIn) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.gvk.kind,
        "verbs": resource.verbs,
    });
    if let Value::Object(map) = &mut entry {
        put_names(map, resource);
        if resource.verbs.iter().any(|verb| verb == "watch") {
            let gvk = &resource.gvk;
            let hash = match stored.get(&(gvk.group.to_string(), resource.plural.to_string())) {
                Some(version) => version.as_ref().map(|version| hash_of(&gvk.group, version, &gvk.kind)),
                None => Some(storage_version_hash(gvk)),
            };
            if let Some(hash) = hash {
                map.insert("storageVersionHash".into(), hash.into());
            }
        }
    }
    entry
}

fn put_names(map: &mut Map<String, Value>, resource: &Resource) {
    if !resource.short_names.is_empty() {
        map.insert("shortNames".into(), json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        map.insert("categories".into(), json!(resource.categories));
    }
}

fn subresource_entry(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.gvk.kind,
        "verbs": sub.verbs,
    });
    if let (Value::Object(map), Some(foreign)) = (&mut entry, foreign(resource, &sub.gvk)) {
        map.insert("group".into(), json!(foreign.group));
        map.insert("version".into(), json!(foreign.version));
    }
    entry
}

/// The kind, if its group or version is not the one that the document is about.
fn foreign<'g>(resource: &Resource, gvk: &'g GroupVersionKind) -> Option<&'g GroupVersionKind> {
    (gvk.group != resource.gvk.group || gvk.version != resource.gvk.version).then_some(gvk)
}

/// Clients compare it to learn whether two resources are one in the store.
fn storage_version_hash(gvk: &GroupVersionKind) -> String {
    let (group, version) = storage_version(gvk);
    hash_of(group, version, &gvk.kind)
}

fn hash_of(group: &str, version: &str, kind: &str) -> String {
    let hash = digest(&SHA256, format!("{group}/{version}/{kind}").as_bytes());
    STANDARD.encode(hash.as_ref().get(..8).unwrap_or_default())
}

/// The group and version that upstream stores a kind in, where it is not the one that is served.
fn storage_version(gvk: &GroupVersionKind) -> (&str, &str) {
    match (&*gvk.group, &*gvk.kind) {
        ("events.k8s.io", "Event") => ("", "v1"),
        ("autoscaling", "HorizontalPodAutoscaler") => ("autoscaling", "v2"),
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy" | "MutatingAdmissionPolicyBinding")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("certificates.k8s.io", "ClusterTrustBundle")
        | ("coordination.k8s.io", "LeaseCandidate") => (&gvk.group, "v1beta1"),
        ("networking.k8s.io", "IPAddress" | "ServiceCIDR")
        | ("resource.k8s.io", "DeviceClass" | "ResourceClaim" | "ResourceClaimTemplate" | "ResourceSlice")
        | ("storage.k8s.io", "VolumeAttributesClass") => (&gvk.group, "v1"),
        ("resource.k8s.io", "DeviceTaintRule") => (&gvk.group, "v1alpha3"),
        (group, _) => (group, &gvk.version),
    }
}

fn aggregated(groups: &[Group<'_>], core: bool, beta: bool) -> Bytes {
    let items: Vec<Value> = groups.iter().filter(|group| group.name.is_empty() == core).map(aggregated_group).collect();
    let version = if beta { "apidiscovery.k8s.io/v2beta1" } else { "apidiscovery.k8s.io/v2" };
    bytes(&json!({"kind": "APIGroupDiscoveryList", "apiVersion": version, "metadata": {}, "items": items}))
}

fn aggregated_group(group: &Group<'_>) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, resources)| {
            let resources: Vec<Value> = resources.iter().map(|resource| aggregated_resource(resource)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |gvk: &GroupVersionKind| match foreign(resource, gvk) {
        Some(gvk) => json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind}),
        None => json!({"group": "", "version": "", "kind": gvk.kind}),
    };
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.gvk),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if let Value::Object(map) = &mut entry {
        put_names(map, resource);
        if !resource.subresources.is_empty() {
            let entry = |sub: &Subresource| json!({"subresource": sub.name, "responseKind": kind(&sub.gvk), "verbs": sub.verbs});
            map.insert("subresources".into(), resource.subresources.iter().map(entry).collect());
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Resource {
        let all = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        let three = ["get", "patch", "update"];
        Resource {
            gvk: GroupVersionKind::new("apps", "v1", "Deployment"),
            plural: "deployments".into(),
            singular: "deployment".into(),
            short_names: vec!["deploy".into()],
            categories: vec!["all".into()],
            namespaced: true,
            verbs: all.map(Into::into).to_vec(),
            subresources: vec![
                Subresource {
                    name: "scale".into(),
                    gvk: GroupVersionKind::new("autoscaling", "v1", "Scale"),
                    verbs: three.map(Into::into).to_vec(),
                },
                Subresource {
                    name: "status".into(),
                    gvk: GroupVersionKind::new("apps", "v1", "Deployment"),
                    verbs: three.map(Into::into).to_vec(),
                },
            ],
        }
    }

    fn read(bytes: Option<Bytes>) -> Value {
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    #[test]
    fn a_resource_is_told_as_upstream_tells_it() {
        let documents = Documents::new(&[deployment()], "127.0.0.1:6443");
        let list = read(documents.resources("apps", "v1"));
        assert_eq!(list["resources"][0]["storageVersionHash"], "8aSe+NMegvE=");
        assert_eq!(
            list["resources"][1],
            json!({"name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1",
                "kind": "Scale", "verbs": ["get", "patch", "update"]})
        );
        assert_eq!(read(documents.group("apps"))["preferredVersion"]["groupVersion"], "apps/v1");
        assert_eq!(documents.group("none"), None);
    }

    #[test]
    fn the_hash_of_a_custom_resource_is_that_of_the_version_it_is_stored_in() {
        let of = |stored: Option<&str>| {
            let stored = StoredIn::from([(("apps".into(), "deployments".into()), stored.map(str::to_owned))]);
            let documents = Documents::stored_in(&[deployment()], &stored, "127.0.0.1:6443");
            read(documents.resources("apps", "v1"))["resources"][0].get("storageVersionHash").cloned()
        };
        assert_eq!(of(Some("v1")), Some("8aSe+NMegvE=".into()));
        assert_eq!(of(Some("v2")), Some(hash_of("apps", "v2", "Deployment").into()));
        assert_eq!(of(None), None, "it is stored in a version that is not served");
    }

    #[test]
    fn aggregated_discovery_leaves_the_own_group_empty() {
        let documents = Documents::new(&[deployment()], "127.0.0.1:6443");
        let all = read(Some(documents.aggregated(false, false).0));
        let resource = &all["items"][0]["versions"][0]["resources"][0];
        assert_eq!(resource["responseKind"], json!({"group": "", "kind": "Deployment", "version": ""}));
        assert_eq!(
            resource["subresources"][0]["responseKind"],
            json!({"group": "autoscaling", "kind": "Scale", "version": "v1"})
        );
        assert_eq!(read(Some(documents.aggregated(true, true).0))["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    }

    #[test]
    fn versions_are_ordered_by_maturity_then_by_number() {
        let mut versions = ["foo1", "v1alpha1", "v2beta1", "v1", "bar", "v2", "v1beta2", "v10"];
        versions.sort_by(|one, other| by_rank(one, other));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar", "foo1"]);
    }

    #[test]
    fn events_share_one_store() {
        let hash = |group, version| storage_version_hash(&GroupVersionKind::new(group, version, "Event"));
        assert_eq!(hash("", "v1"), hash("events.k8s.io", "v1"));
    }
}
