//! Discovery and OpenAPI: documents about what is served.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use martello_api::{resource::Resource, status::ApiError};
use parking_lot::Mutex;

use super::{
    body::ReplyBody,
    reply::{self, Reply},
};
use crate::{
    discovery::{AGGREGATED_V2, AGGREGATED_V2BETA1, Documents},
    openapi::{CustomSchema, Document, OpenApi, PROTOBUF_V2, PROTOBUF_V2_ACCEPT},
    registry::Custom,
    server::Core,
};

/// The documents of one server, made when they are first asked for, so that a start does not wait for them, and made
/// anew once other kinds are served.
#[derive(Default)]
pub struct Published {
    discovery: Mutex<Option<(u64, Arc<Documents>)>>,
    openapi: Mutex<Option<(u64, Arc<OpenApi>)>>,
}

impl Published {
    fn discovery(&self, core: &Core) -> Arc<Documents> {
        let custom = core.registry.custom();
        current(&self.discovery, custom.generation, |_| {
            let address = std::net::SocketAddr::new(core.advertise.0, core.advertise.1).to_string();
            Documents::new(&resources(core, &custom), &address)
        })
    }

    fn openapi(&self, core: &Core) -> Arc<OpenApi> {
        let custom = core.registry.custom();
        current(&self.openapi, custom.generation, |previous| {
            let builtin: Vec<Resource> = core.registry.resources().cloned().collect();
            let schemas = custom.kinds.iter().filter_map(|kind| {
                let (resource, list_kind) = (kind.resource.clone(), kind.list_kind().to_owned());
                Some(CustomSchema { resource, list_kind, schema: kind.openapi()? })
            });
            OpenApi::after(previous, &builtin, schemas.collect(), super::routes::KUBERNETES_VERSION)
        })
    }
}

/// What is kept for this generation of kinds; made where it is missing or older.
fn current<T>(kept: &Mutex<Option<(u64, Arc<T>)>>, generation: u64, make: impl FnOnce(Option<&T>) -> T) -> Arc<T> {
    let mut kept = kept.lock();
    match &*kept {
        Some((known, value)) if *known >= generation => Arc::clone(value),
        older => {
            let value = Arc::new(make(older.as_ref().map(|(_, value)| &**value)));
            *kept = Some((generation, Arc::clone(&value)));
            value
        }
    }
}

fn resources(core: &Core, custom: &Custom) -> Vec<Resource> {
    let kinds = core.registry.kinds().iter().chain(custom.kinds.iter());
    kinds.map(|kind| kind.resource.clone()).collect()
}

/// Serves a document.
pub fn serve(core: &Arc<Core>, path: &str, headers: &HeaderMap) -> Reply {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let published = &core.published;
    let openapi = || published.openapi(core);
    match segments.as_slice() {
        ["api"] => groups(core, headers, true),
        ["apis"] => groups(core, headers, false),
        ["apis", group] => found(published.discovery(core).group(group)),
        ["apis", group, version] => found(published.discovery(core).resources(group, version)),
        ["api", version] => match published.discovery(core).resources("", version) {
            Some(document) => reply::json(200, document),
            None => reply::failure(&ApiError::no_such_route()),
        },
        ["openapi", "v2"] if accepts(headers, PROTOBUF_V2_ACCEPT) => {
            document(headers, openapi().v2_protobuf(), PROTOBUF_V2)
        }
        ["openapi", "v2"] => document(headers, openapi().v2_json(), "application/json"),
        ["openapi", "v3"] => reply::text(200, openapi().v3_index().clone()),
        ["openapi", "v3", place @ ..] => match openapi().v3(&place.join("/")) {
            Some(found) => document(headers, found, "application/json"),
            None => reply::page_not_found(),
        },
        _ => reply::page_not_found(),
    }
}

fn found(document: Option<Bytes>) -> Reply {
    match document {
        Some(document) => reply::json(200, document),
        None => reply::page_not_found(),
    }
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(media_type))
}

/// `/api` and `/apis`: plain, or aggregated in the first of its versions that the client asks for.
fn groups(core: &Core, headers: &HeaderMap, core_group: bool) -> Reply {
    let documents = core.published.discovery(core);
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let asked = accepted.flat_map(|value| value.split(',')).find_map(|one| {
        let parts: Vec<&str> = one.split(';').map(str::trim).collect();
        match parts.first() {
            Some(&"application/json") if parts.contains(&"g=apidiscovery.k8s.io") => {
                let beta = parts.contains(&"v=v2beta1");
                (beta || parts.contains(&"v=v2")).then_some(Some(beta))
            }
            Some(&"application/json") => Some(None),
            _ => None,
        }
    });
    match asked.flatten() {
        None => reply::json(200, if core_group { documents.api.clone() } else { documents.apis.clone() }),
        Some(beta) => {
            let media_type = if beta { AGGREGATED_V2BETA1 } else { AGGREGATED_V2 };
            let body = documents.aggregated(core_group, beta);
            reply::reply(200, HeaderValue::from_static(media_type), ReplyBody::full(body))
        }
    }
}

/// A document as it is kept, compressed, or plain for those who cannot read that.
fn document(headers: &HeaderMap, document: &Document, media_type: &'static str) -> Reply {
    static GZIP: LazyLock<HeaderValue> = LazyLock::new(|| HeaderValue::from_static("gzip"));
    let reads_gzip = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("gzip"));
    let body = if reads_gzip { document.gzip.clone() } else { document.plain() };
    let mut answer = reply::reply(200, HeaderValue::from_static(media_type), ReplyBody::full(body));
    if reads_gzip {
        answer.headers_mut().insert(header::CONTENT_ENCODING, GZIP.clone());
    }
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", document.hash)) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}
