//! Requests for groups that an extension server serves, and the documents in which its groups stand beside our own.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use martello_api::{identity::User, status::ApiError};
use serde_json::{Value, json};

use super::{
    outbound::{self, Outgoing},
    reply::Reply,
};
use crate::{
    discovery,
    registry::{
        apiregistration::{api_service, local},
        object,
    },
    server::{
        Core,
        extensions::{Extension, identify},
    },
};

/// What is answered where an extension server would send the client, and its credentials, somewhere else.
const REDIRECTED: &str = "the backend attempted to redirect this request, which is not permitted";
/// Tells an extension server by which path it was asked.
const FORWARDED_URI: &str = "x-forwarded-uri";

/// A request as it came.
pub struct Asked<'a> {
    /// Who asks.
    pub user: &'a User,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its connection, if that may be taken over.
    pub upgrade: Option<outbound::Takeover>,
    /// Where it came from.
    pub address: Option<SocketAddr>,
}

/// Lets the extension server answer.
pub async fn serve(core: &Arc<Core>, extension: &Extension, asked: Asked<'_>) -> Result<Reply, ApiError> {
    if !extension.is_available() {
        return Ok(unavailable("service unavailable"));
    }
    let upgrades = outbound::upgrades(asked.headers);
    let mut headers = outbound::passed_on(asked.headers);
    outbound::forwarded(&mut headers, asked.address);
    if !upgrades {
        let path = asked.target.split('?').next().unwrap_or_default();
        headers.remove(FORWARDED_URI);
        outbound::add(&mut headers, FORWARDED_URI, path);
    }
    identify(&mut headers, asked.user);
    let outgoing =
        Outgoing { method: asked.method, target: asked.target, headers, body: asked.body, host: String::new() };
    let asked_for = extension.ask(core, outgoing).await;
    if asked_for.is_err() {
        // Others learn soon that it is not there.
        core.extensions.wake();
    }
    let answer = match asked_for {
        Ok(answer) => answer,
        Err(why) if upgrades => return Ok(unavailable(&format!("error dialing backend: {why}"))),
        Err(why) => return Ok(unavailable(&format!("error trying to reach service: {why}"))),
    };
    let status = answer.status();
    if upgrades {
        let is_answer = status == StatusCode::SWITCHING_PROTOCOLS || status.as_u16() >= 400;
        return Ok(match is_answer {
            true => outbound::pass_back(core, answer, asked.upgrade),
            false => unavailable(&format!("invalid upgrade response: status code {}", status.as_u16())),
        });
    }
    if status.is_redirection() && answer.headers().get(header::LOCATION).is_some_and(|place| !place.is_empty()) {
        return Ok(super::reply::text(502, REDIRECTED.to_owned()));
    }
    let mut reply = outbound::pass_back(core, answer, None);
    outbound::own_origin(reply.headers_mut());
    Ok(reply)
}

/// Upstream's aggregator says in plain words why nobody answers; clients make their own words of the code 503.
fn unavailable(why: &str) -> Reply {
    super::reply::text(503, format!("{why}\n"))
}

/// `/apis` with the groups of extension servers.
#[must_use]
pub fn with_groups(core: &Core, own: Bytes) -> Bytes {
    let extensions = core.extensions.all();
    if extensions.is_empty() {
        return own;
    }
    let Ok(mut list) = serde_json::from_slice::<Value>(&own) else { return own };
    if let Some(groups) = object::list_mut(&mut list, &["groups"]) {
        merge(groups, &extensions, &["name"], plain);
        groups.iter_mut().for_each(prefer_the_first);
    }
    serde_json::to_vec(&list).map_or(own, Bytes::from)
}

/// `/apis/GROUP` with the versions of extension servers, given what this server itself serves of the group.
#[must_use]
pub fn group(core: &Core, name: &str, own: Option<Bytes>) -> Option<Bytes> {
    let mut extensions = core.extensions.all();
    extensions.retain(|extension| extension.group == name);
    if extensions.is_empty() {
        return own;
    }
    let mut groups: Vec<Value> = own.iter().filter_map(|own| serde_json::from_slice(own).ok()).collect();
    merge(&mut groups, &extensions, &["name"], plain);
    let mut group = groups.pop()?;
    prefer_the_first(&mut group);
    object::set(&mut group, &[], "kind", "APIGroup");
    object::set(&mut group, &[], "apiVersion", "v1");
    serde_json::to_vec(&group).map(Bytes::from).ok()
}

/// `/apis` in the aggregated form with the groups of extension servers, and the hash of it.
#[must_use]
pub fn with_aggregated(core: &Core, own: (Bytes, String)) -> (Bytes, String) {
    let extensions = core.extensions.all();
    if extensions.is_empty() {
        return own;
    }
    let Ok(mut list) = serde_json::from_slice::<Value>(&own.0) else { return own };
    if let Some(items) = object::list_mut(&mut list, &["items"]) {
        merge(items, &extensions, &["metadata", "name"], aggregated);
    }
    serde_json::to_vec(&list).map_or(own, |merged| discovery::hashed(merged.into()))
}

/// A version as it stands in the plain form.
fn plain(extension: &Extension) -> Value {
    json!({"groupVersion": format!("{}/{}", extension.group, extension.version), "version": extension.version})
}

fn prefer_the_first(group: &mut Value) {
    if let Some(first) = object::list(group, &["versions"]).first().cloned() {
        object::set(group, &[], "preferredVersion", first);
    }
}

/// Puts the versions of extension servers among the groups of a document, whose names are at `name`: groups and their
/// versions in the order of their priorities, as upstream's.
fn merge(groups: &mut Vec<Value>, extensions: &[Arc<Extension>], name: &[&str], version: fn(&Extension) -> Value) {
    let of = |group: &str| extensions.iter().filter(|extension| extension.group == group).collect::<Vec<_>>();
    let mut ranked: Vec<(i64, String, Value)> = Vec::new();
    for group in groups.drain(..) {
        let called = object::text(&group, name).to_owned();
        // The group of the APIServices themselves is first, whatever others ask for.
        let own = if called == api_service::GROUP { i64::MAX } else { local::priorities(&called, "").0 };
        let rank = of(&called).iter().map(|extension| extension.priorities.0).fold(own, i64::max);
        ranked.push((rank, called, group));
    }
    for extension in extensions.iter().filter(|extension| !extension.group.is_empty()) {
        if ranked.iter().any(|(_, called, _)| *called == extension.group) {
            continue;
        }
        let mut group = json!({"versions": []});
        if let Some((last, above)) = name.split_last() {
            object::set(&mut group, above, last, extension.group.as_str());
        }
        let rank = of(&extension.group).iter().map(|one| one.priorities.0).max().unwrap_or_default();
        ranked.push((rank, extension.group.clone(), group));
    }
    ranked.sort_by(|(rank, called, _), (other_rank, other, _)| other_rank.cmp(rank).then_with(|| called.cmp(other)));
    for (_, called, group) in &mut ranked {
        let added = of(called);
        if let Some(versions) = object::list_mut(group, &["versions"]).filter(|_| !added.is_empty()) {
            add(versions, called, &added, version);
        }
    }
    groups.extend(ranked.into_iter().map(|(_, _, group)| group));
}

/// Adds versions of a group to those that are there.
fn add(versions: &mut Vec<Value>, group: &str, extensions: &[&Arc<Extension>], version: fn(&Extension) -> Value) {
    let is_theirs =
        |one: &Value| extensions.iter().find(|extension| object::text(one, &["version"]) == extension.version);
    // Whoever is asked for a version is who tells of it.
    versions.retain(|one| is_theirs(one).is_none());
    versions.extend(extensions.iter().map(|extension| version(extension)));
    let priority = |one: &Value| {
        let own = || local::priorities(group, object::text(one, &["version"])).1;
        is_theirs(one).map_or_else(own, |extension| extension.priorities.1)
    };
    versions.sort_by(|one, other| {
        let names = (object::text(one, &["version"]), object::text(other, &["version"]));
        priority(other).cmp(&priority(one)).then_with(|| discovery::by_rank(names.0, names.1))
    });
}

/// `/openapi/v3` with the schemas of extension servers, which they serve themselves.
#[must_use]
pub fn with_schemas(core: &Core, own: Bytes) -> Bytes {
    let extensions = core.extensions.all();
    if extensions.is_empty() {
        return own;
    }
    let Ok(mut index) = serde_json::from_slice::<Value>(&own) else { return own };
    for extension in extensions.iter().filter(|extension| extension.is_available()) {
        let place = format!("apis/{}/{}", extension.group, extension.version);
        let url = format!("/openapi/v3/{place}");
        object::set(&mut index, &["paths"], &place, json!({"serverRelativeURL": url}));
    }
    serde_json::to_vec(&index).map_or(own, Bytes::from)
}

/// A version as it stands in the aggregated form, made of the server's own list.
fn aggregated(extension: &Extension) -> Value {
    let listed = extension.resources();
    let all = listed.as_ref().map_or(&[][..], |list| object::list(list, &["resources"]));
    // What is below each resource: a list of a few megabytes holds too many to look through all of them for each.
    let mut parts: HashMap<&str, Vec<(&str, &Value)>> = HashMap::new();
    for entry in all {
        if let Some((name, own)) = object::text(entry, &["name"]).split_once('/') {
            parts.entry(name).or_default().push((own, entry));
        }
    }
    let kind = |entry: &Value| {
        let text = |key: &str| object::text(entry, &[key]).to_owned();
        json!({"group": text("group"), "version": text("version"), "kind": text("kind")})
    };
    let resources: Vec<Value> = all
        .iter()
        .filter(|entry| !object::text(entry, &["name"]).contains('/'))
        .map(|entry| {
            let name = object::text(entry, &["name"]);
            let mut resource = json!({
                "resource": name,
                "responseKind": kind(entry),
                "scope": if object::flag(entry, &["namespaced"]) { "Namespaced" } else { "Cluster" },
                "singularResource": object::text(entry, &["singularName"]),
                "verbs": entry.get("verbs").cloned().unwrap_or_else(|| json!([])),
            });
            for key in ["shortNames", "categories"] {
                if let Some(found) = entry.get(key).filter(|found| !object::is_zero(found)) {
                    object::set(&mut resource, &[], key, found.clone());
                }
            }
            let parts: Vec<Value> = parts
                .get(name)
                .into_iter()
                .flatten()
                .map(|&(own, part)| json!({"subresource": own, "responseKind": kind(part), "verbs": part.get("verbs")}))
                .collect();
            if !parts.is_empty() {
                object::set(&mut resource, &[], "subresources", parts);
            }
            resource
        })
        .collect();
    let freshness = if extension.is_available() { "Current" } else { "Stale" };
    let mut version = json!({"version": extension.version, "freshness": freshness});
    // Nothing is known of a server that never answered.
    if !resources.is_empty() {
        object::set(&mut version, &[], "resources", resources);
    }
    version
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::extensions::Extensions;

    fn extensions(all: &[(&str, &str, i64, i64)]) -> Vec<Arc<Extension>> {
        let extensions = Extensions::default();
        for (group, version, group_priority, version_priority) in all {
            let spec = json!({
                "group": group, "version": version, "groupPriorityMinimum": group_priority,
                "versionPriority": version_priority, "service": {"namespace": "n", "name": "s", "port": 443},
                "insecureSkipTLSVerify": true,
            });
            let service = json!({"metadata": {"name": format!("{version}.{group}")}, "spec": spec});
            extensions.note(Some(&service), None, 1);
        }
        extensions.all()
    }

    #[test]
    fn groups_and_versions_of_others_stand_where_their_priorities_put_them() {
        let own = |name: &str, versions: &[&str]| {
            let versions: Vec<Value> = versions.iter().map(|version| json!({"version": version})).collect();
            json!({"name": name, "versions": versions})
        };
        let mut groups =
            vec![own(api_service::GROUP, &["v1"]), own("apps", &["v1"]), own("shop.example.com", &["v1", "v1beta1"])];
        let others = extensions(&[
            ("shop.example.com", "v3", 1500, 50),
            ("shop.example.com", "v2", 2000, 200),
            ("late.example.com", "v1", 100, 1),
            ("first.example.com", "v1", 20_000, 1),
        ]);
        merge(&mut groups, &others, &["name"], plain);
        groups.iter_mut().for_each(prefer_the_first);
        let told: Vec<(&str, Vec<&str>)> = groups
            .iter()
            .map(|group| {
                let versions = object::list(group, &["versions"]).iter();
                (object::text(group, &["name"]), versions.map(|one| object::text(one, &["version"])).collect())
            })
            .collect();
        assert_eq!(
            told,
            [
                (api_service::GROUP, vec!["v1"]),
                ("first.example.com", vec!["v1"]),
                ("apps", vec!["v1"]),
                ("shop.example.com", vec!["v2", "v1", "v1beta1", "v3"]),
                ("late.example.com", vec!["v1"]),
            ]
        );
        assert_eq!(object::text(&groups[3], &["preferredVersion", "groupVersion"]), "shop.example.com/v2");
        // Whoever serves a version is who tells of it.
        let mut groups = vec![own("shop.example.com", &["v1"])];
        merge(&mut groups, &extensions(&[("shop.example.com", "v1", 1, 1)]), &["name"], plain);
        assert_eq!(groups[0]["versions"], json!([{"groupVersion": "shop.example.com/v1", "version": "v1"}]));
    }

    #[test]
    fn nothing_is_told_of_the_resources_of_a_server_that_never_answered() {
        let others = extensions(&[("shop.example.com", "v1", 1, 1)]);
        assert_eq!(aggregated(&others[0]), json!({"version": "v1", "freshness": "Stale"}));
    }
}
