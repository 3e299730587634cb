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
    registry::object,
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
    let answer = match extension.ask(core, outgoing).await {
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
        for extension in &extensions {
            add_version(groups, extension);
        }
    }
    serde_json::to_vec(&list).map_or(own, Bytes::from)
}

fn add_version(groups: &mut Vec<Value>, extension: &Extension) {
    let version =
        json!({"groupVersion": format!("{}/{}", extension.group, extension.version), "version": extension.version});
    match groups.iter_mut().find(|group| object::text(group, &["name"]) == extension.group) {
        Some(group) => {
            if let Some(versions) = object::list_mut(group, &["versions"]) {
                versions.push(version);
            }
        }
        None => groups.push(json!({"name": extension.group, "versions": [version], "preferredVersion": version})),
    }
}

/// `/apis/GROUP` of a group that only extension servers serve.
#[must_use]
pub fn group(core: &Core, name: &str) -> Option<Bytes> {
    let mut groups = Vec::new();
    for extension in core.extensions.all().iter().filter(|extension| extension.group == name) {
        add_version(&mut groups, extension);
    }
    let mut group = groups.pop()?;
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
        for extension in &extensions {
            let version = aggregated(extension);
            match items.iter_mut().find(|item| object::name(item) == extension.group) {
                Some(item) => {
                    if let Some(versions) = object::list_mut(item, &["versions"]) {
                        versions.push(version);
                    }
                }
                None => items.push(json!({"metadata": {"name": extension.group}, "versions": [version]})),
            }
        }
    }
    serde_json::to_vec(&list).map_or(own, |merged| discovery::hashed(merged.into()))
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
                .map(|(own, part)| json!({"subresource": own, "responseKind": kind(part), "verbs": part.get("verbs")}))
                .collect();
            if !parts.is_empty() {
                object::set(&mut resource, &[], "subresources", parts);
            }
            resource
        })
        .collect();
    let freshness = if extension.is_available() { "Current" } else { "Stale" };
    json!({"version": extension.version, "resources": resources, "freshness": freshness})
}
