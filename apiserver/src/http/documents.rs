//! Discovery and OpenAPI: documents about what is served.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use martello_api::{clock, resource::Resource, status::ApiError};
use parking_lot::Mutex;

use super::{
    body::ReplyBody,
    extension,
    query::Query,
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
pub fn serve(core: &Arc<Core>, path: &str, query: &Query, headers: &HeaderMap) -> Reply {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let published = &core.published;
    let openapi = || published.openapi(core);
    match segments.as_slice() {
        ["api"] => groups(core, headers, true),
        ["apis"] => groups(core, headers, false),
        ["apis", group] => found(published.discovery(core).group(group).or_else(|| extension::group(core, group))),
        ["apis", group, version] => versioned(core, group, version),
        ["api", version] => versioned(core, "", version),
        ["openapi", "v2"] if accepts(headers, PROTOBUF_V2_ACCEPT) => {
            document(headers, openapi().v2_protobuf(), PROTOBUF_V2)
        }
        ["openapi", "v2"] => document(headers, openapi().v2_json(), "application/json"),
        ["openapi", "v3"] => reply::text(200, extension::with_schemas(core, openapi().v3_index().clone())),
        ["openapi", "v3", place @ ..] => {
            let place = place.join("/");
            match openapi().v3(&place) {
                Some(found) => third(headers, query, &place, found),
                None => reply::page_not_found(),
            }
        }
        _ => reply::page_not_found(),
    }
}

/// The resources of a version. A group that is served answers for versions that are not with an object.
fn versioned(core: &Core, group: &str, version: &str) -> Reply {
    match core.published.discovery(core).resources(group, version) {
        Some(document) => reply::json(200, document),
        None if core.registry.has_group(group) => reply::failure(&ApiError::no_such_route()),
        None => reply::page_not_found(),
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
        None if core_group => reply::json(200, documents.api.clone()),
        None => reply::json(200, extension::with_groups(core, documents.apis.clone())),
        Some(beta) => {
            let media_type = if beta { AGGREGATED_V2BETA1 } else { AGGREGATED_V2 };
            let own = documents.aggregated(core_group, beta);
            let (body, hash) = if core_group { own } else { extension::with_aggregated(core, own) };
            let mut answer = tagged(headers, &hash, || {
                reply::reply(200, HeaderValue::from_static(media_type), ReplyBody::full(body))
            });
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
            answer
        }
    }
}

/// How long a document may be kept whose address names its content, in seconds: a year.
const KEPT_SECONDS: i64 = 365 * 24 * 3600;

/// A document of version 3. An address with a hash names its content: it may be kept, and leads on where it is old.
fn third(headers: &HeaderMap, query: &Query, place: &str, found: &Document) -> Reply {
    let asked = query.get("hash");
    if !asked.is_empty() && asked != found.hash {
        let to = format!("/openapi/v3/{place}?hash={}", found.hash);
        let mut answer = reply::reply(301, HeaderValue::from_static("text/html; charset=utf-8"), ReplyBody::empty());
        if let Ok(to) = HeaderValue::from_str(&to) {
            answer.headers_mut().insert(header::LOCATION, to);
        }
        return answer;
    }
    let mut answer = document(headers, found, "application/json");
    if !asked.is_empty() {
        let expires = clock::now().checked_add(SignedDuration::from_secs(KEPT_SECONDS)).map(rfc1123);
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        if let Some(expires) = expires.ok().and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::EXPIRES, expires);
        }
    }
    answer
}

/// A time as HTTP has it (RFC 9110, 5.6.7).
fn rfc1123(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// An answer with the tag of its content, or 304 where the client has that already.
fn tagged(headers: &HeaderMap, hash: &str, answer: impl FnOnce() -> Reply) -> Reply {
    let tag = format!("\"{hash}\"");
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*");
    let mut answer = if known {
        let mut answer = Reply::new(ReplyBody::empty());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.headers_mut().insert(header::CACHE_CONTROL, reply::NO_STORE);
        answer
    } else {
        answer()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}

/// A document as it is kept, compressed, or plain for those who cannot read that.
fn document(headers: &HeaderMap, document: &Document, media_type: &'static str) -> Reply {
    let reads_gzip = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("gzip"));
    tagged(headers, &document.hash, || {
        let body = if reads_gzip { document.gzip.clone() } else { document.plain() };
        let mut answer = reply::reply(200, HeaderValue::from_static(media_type), ReplyBody::full(body));
        if reads_gzip {
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(known: Option<&'static str>) -> Reply {
        let mut headers = HeaderMap::new();
        known.map(|known| headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(known)));
        tagged(&headers, "AB", || reply::json(200, "{}"))
    }

    #[test]
    fn who_has_the_content_already_is_told_so() {
        for known in ["\"AB\"", "W/\"AB\"", "\"CD\", \"AB\""] {
            let answer = answer(Some(known));
            assert_eq!((answer.status().as_u16(), answer.body().ready_len()), (304, Some(0)), "{known}");
            assert_eq!(answer.headers()[header::ETAG], "\"AB\"");
        }
        for known in [None, Some("\"CD\""), Some("AB")] {
            assert_eq!(answer(known).status().as_u16(), 200);
        }
    }

    #[test]
    fn an_address_with_a_hash_may_be_kept_and_an_old_one_leads_on() {
        let found = Document { hash: "AB".to_owned(), ..Document::default() };
        let ask = |query: &str| third(&HeaderMap::new(), &Query::parse(query), "apis/apps/v1", &found);
        let kept = ask("hash=AB");
        assert_eq!(kept.headers()[header::CACHE_CONTROL], "public, immutable");
        assert!(kept.headers()[header::EXPIRES].to_str().unwrap().ends_with(" GMT"));
        let old = ask("hash=CD");
        assert_eq!(old.status().as_u16(), 301);
        assert_eq!(old.headers()[header::LOCATION], "/openapi/v3/apis/apps/v1?hash=AB");
        assert_eq!(ask("").headers()[header::CACHE_CONTROL], "no-cache, private");
    }
}
