//! Paths outside the objects: health, version, figures, discovery, schemas, keys of tokens.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use martello_api::{identity::User, status::ApiError};
use serde_json::json;

use super::{
    body::ReplyBody,
    health,
    info::RequestInfo,
    negotiate,
    query::Query,
    reply::{self, Reply},
};
use crate::server::Core;

/// The Kubernetes version whose API this server speaks.
const KUBERNETES_MINOR: &str = "36";
/// The version of Kubernetes whose behaviour is served.
pub(crate) const KUBERNETES_VERSION: &str = "v1.36.0";

/// Serves a path.
pub async fn serve(
    core: &Arc<Core>,
    _user: &User,
    method: &Method,
    info: &RequestInfo,
    query: &Query,
    headers: &HeaderMap,
    _body: Bytes,
) -> Reply {
    if let Some(reply) = health::serve(core, &info.path, query) {
        return reply;
    }
    if info.path.is_empty() {
        // `CONNECT`: this server is no way to anywhere else, and 2xx would say that it is one.
        return reply::page_not_found();
    }
    if info.path == "/metrics" {
        return metrics(core);
    }
    let path = info.path.trim_end_matches('/');
    if method != Method::GET && is_routed(core, path) {
        return match read(core, path, query, headers) {
            missing if missing.status() == StatusCode::NOT_FOUND => missing,
            _ => reply::failure(&ApiError::method_not_allowed()),
        };
    }
    read(core, path, query, headers)
}

/// Whether upstream's router answers a path, which knows methods. Past it are, for instance, the list of all groups, the
/// document on one, and that on a version of custom kinds.
fn is_routed(core: &Core, path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        ["api" | "version"] | ["api", _] | [".well-known" | "openid", ..] => true,
        ["apis", group, _] => core.registry.has_group(group),
        _ => false,
    }
}

fn read(core: &Arc<Core>, path: &str, query: &Query, headers: &HeaderMap) -> Reply {
    match path {
        // In lines for everybody, as programs without a JSON parser expect it.
        "" => reply::json_in_lines(200, &json!({"paths": paths(core)})),
        "/version" => only_json(headers).unwrap_or_else(|| reply::json_in_lines(200, &version(core))),
        "/.well-known/openid-configuration" => openid(core),
        "/openid/v1/jwks" => {
            let body = serde_json::to_vec(&core.pki.tokens().jwks()).unwrap_or_default();
            reply::reply(200, HeaderValue::from_static("application/jwk-set+json"), ReplyBody::full(body))
        }
        _ => super::documents::serve(core, path, query, headers),
    }
}

/// 406 of what there is in JSON and in nothing else, where a client takes no JSON.
fn only_json(headers: &HeaderMap) -> Option<Reply> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if negotiate::wanted(accept).iter().any(|media| matches!(*media, "*/*" | "application/json")) {
        return None;
    }
    let why = "406: Not Acceptable\n\nAvailable representations: application/json";
    let mut error = ApiError::new(406, "NotAcceptable", why);
    error.details = Some(Box::default());
    Some(reply::failure(&error))
}

/// Every path that is no object.
fn paths(core: &Core) -> Vec<String> {
    let mut paths: BTreeSet<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for resource in core.registry.resources() {
        let gvk = &resource.gvk;
        if gvk.group.is_empty() {
            paths.insert(format!("/api/{}", gvk.version));
        } else {
            paths.insert(format!("/apis/{}", gvk.group));
            paths.insert(format!("/apis/{}/{}", gvk.group, gvk.version));
        }
    }
    paths.extend(health::paths());
    paths.into_iter().collect()
}

fn version(core: &Core) -> serde_json::Value {
    json!({
        "major": "1",
        "minor": KUBERNETES_MINOR,
        "emulationMajor": "1",
        "emulationMinor": KUBERNETES_MINOR,
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": format!("v1.{KUBERNETES_MINOR}.0+martello-{}", core.product_version),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

fn metrics(core: &Core) -> Reply {
    let text = core.metrics.render(&core.store.status());
    reply::reply(
        200,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
        ReplyBody::full(text),
    )
}

fn openid(core: &Core) -> Reply {
    let (host, port) = core.advertise;
    let base = format!("https://{}", std::net::SocketAddr::new(host, port));
    reply::bare_json(200, core.pki.tokens().openid_configuration(&base).to_string())
}
