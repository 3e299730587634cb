//! Discovery and OpenAPI: documents about what is served.

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderMap;
use martello_api::{resource::Resource, status::ApiError};
use serde_json::{Value, json};

use super::{
    negotiate::Accepted,
    query::Query,
    reply::{self, Reply},
};
use crate::{registry::Registry, server::Core};

/// Serves a document.
pub fn serve(core: &Arc<Core>, path: &str, _query: &Query, _headers: &HeaderMap) -> Reply {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let value = match segments.as_slice() {
        ["api"] => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": std::net::SocketAddr::new(core.advertise.0, core.advertise.1).to_string()}]})
        }
        ["apis"] => {
            let groups: Vec<Value> =
                groups(&core.registry).into_iter().map(|(name, versions)| group(&name, &versions)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] => match groups(&core.registry).get(*name) {
            Some(versions) => {
                let mut group = group(name, versions);
                crate::registry::object::set(&mut group, &[], "kind", "APIGroup");
                crate::registry::object::set(&mut group, &[], "apiVersion", "v1");
                group
            }
            None => return reply::page_not_found(),
        },
        ["api", version] if core.registry.has_version("", version) => resources(&core.registry, "", version),
        ["apis", group, version] if core.registry.has_version(group, version) => {
            resources(&core.registry, group, version)
        }
        ["api", _] => return reply::failure(&ApiError::no_such_route()),
        _ => return reply::page_not_found(),
    };
    reply::value(200, &Accepted::default(), &value)
}

fn groups(registry: &Registry) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in registry.resources().filter(|resource| !resource.gvk.group.is_empty()) {
        let versions = groups.entry(resource.gvk.group.to_string()).or_default();
        if !versions.contains(&resource.gvk.version.to_string()) {
            versions.push(resource.gvk.version.to_string());
        }
    }
    groups
}

fn group(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or(Value::Null);
    json!({"name": name, "versions": versions, "preferredVersion": preferred})
}

fn resources(registry: &Registry, group: &str, version: &str) -> Value {
    let mut listed = Vec::new();
    for resource in registry.resources().filter(|one| one.gvk.group == group && one.gvk.version == version) {
        listed.push(entry(resource));
        for sub in &resource.subresources {
            let mut shown = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "", "namespaced": resource.namespaced,
                "kind": sub.gvk.kind, "verbs": sub.verbs,
            });
            if sub.gvk.group != resource.gvk.group {
                crate::registry::object::set(&mut shown, &[], "group", sub.gvk.group.as_ref());
                crate::registry::object::set(&mut shown, &[], "version", sub.gvk.version.as_ref());
            }
            listed.push(shown);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed})
}

fn entry(resource: &Resource) -> Value {
    let mut shown = json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.gvk.kind, "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        crate::registry::object::set(&mut shown, &[], "shortNames", json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        crate::registry::object::set(&mut shown, &[], "categories", json!(resource.categories));
    }
    shown
}
