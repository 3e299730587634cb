//! Discovery and OpenAPI: documents about what is served.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use martello_api::{clock, resource::Resource, status::ApiError};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    body::ReplyBody,
    extension,
    negotiate::{self, Discovery, Encoding},
    query::Query,
    reply::{self, Reply},
};
use crate::{
    discovery::{AGGREGATED_V2, AGGREGATED_V2BETA1, Documents, StoredIn},
    openapi::{CustomSchema, Described, Document, OpenApi, PROTOBUF_V2, PROTOBUF_V2_OLD, PROTOBUF_V3, PROTOBUF_V3_OLD},
    registry::{Custom, Registry, call::is_for_people, kind::Deleted},
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
            let (resources, stored) = resources(core, &custom);
            Documents::stored_in(&resources, &stored, &address)
        })
    }

    fn openapi(&self, core: &Core) -> Arc<OpenApi> {
        let custom = core.registry.custom();
        current(&self.openapi, custom.generation, |previous| {
            let builtin = described(&core.registry);
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

/// All resources as discovery tells of them, and in which versions custom ones are stored.
fn resources(core: &Core, custom: &Custom) -> (Vec<Resource>, StoredIn) {
    let kinds = core.registry.kinds().iter().chain(custom.kinds.iter());
    let mut stored = StoredIn::new();
    let resources = kinds.map(|kind| {
        let mut resource = kind.resource.clone();
        if let Some(told) = kind.told() {
            resource.verbs = told.verbs;
            stored.insert((resource.gvk.group.to_string(), resource.plural.to_string()), told.stored);
        }
        resource
    });
    (resources.collect(), stored)
}

/// What is built in, for OpenAPI. A delete of a namespace answers with the object, too, and upstream does not tell so.
#[must_use]
pub fn described(registry: &Registry) -> Vec<Described> {
    let kinds = registry.kinds().iter();
    kinds
        .map(|kind| Described {
            resource: kind.resource.clone(),
            answers_deleted: kind.deleted() == Deleted::Object && kind.resource.plural != "namespaces",
        })
        .collect()
}

/// What a request says of the form of a document.
struct Asked<'h> {
    headers: &'h HeaderMap,
    /// Whether people read the answer as it comes.
    for_people: bool,
}

/// Serves a document.
pub fn serve(core: &Arc<Core>, path: &str, query: &Query, headers: &HeaderMap) -> Reply {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let published = &core.published;
    let openapi = || published.openapi(core);
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked = Asked { headers, for_people: is_for_people(query, agent) };
    match segments.as_slice() {
        ["api"] => groups(core, &asked, true),
        ["apis"] => groups(core, &asked, false),
        ["apis", group] => match extension::group(core, group, published.discovery(core).group(group)) {
            Some(document) => told_anyhow(&asked, document),
            None => reply::nothing_here(core),
        },
        ["apis", group, version] => versioned(core, &asked, group, version),
        ["api", version] => versioned(core, &asked, "", version),
        ["openapi", "v2"] => {
            let openapi = openapi();
            match asked_form(headers, PROTOBUF_V2, PROTOBUF_V2_OLD) {
                Some(Form::Json) => document(headers, openapi.v2_json(), openapi.made(), "application/json"),
                Some(Form::Protobuf) => document(headers, openapi.v2_protobuf(), openapi.made(), PROTOBUF_V2),
                None => not_acceptable(),
            }
        }
        ["openapi", "v3"] => {
            let mut answer = reply::text(200, extension::with_schemas(core, openapi().v3_index().clone()));
            put_time(&mut answer, header::LAST_MODIFIED, clock::now());
            answer
        }
        ["openapi", "v3", place @ ..] => third(headers, query, &place.join("/"), &openapi()),
        _ => reply::nothing_here(core),
    }
}

/// The resources of a version. A group that is served answers for versions that are not with an object.
fn versioned(core: &Core, asked: &Asked<'_>, group: &str, version: &str) -> Reply {
    match core.published.discovery(core).resources(group, version) {
        Some(document) if !core.registry.has_group(group) => told_anyhow(asked, document),
        Some(document) => told(asked, document),
        None if core.registry.has_group(group) => reply::failure(&ApiError::no_such_route()),
        None => reply::nothing_here(core),
    }
}

/// The forms of an OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

/// The form that a client likes best of those that there are: JSON, and protobuf under its name and its older one. None
/// if it takes neither.
fn asked_form(headers: &HeaderMap, protobuf: &str, old: &str) -> Option<Form> {
    let offered = [("application/json", Form::Json), (protobuf, Form::Protobuf), (old, Form::Protobuf)];
    negotiate::wanted(accept(headers)).into_iter().find_map(|wanted| {
        let fits = |name: &str| {
            let of_kind = wanted.split_once('/').zip(name.split_once('/'));
            of_kind.is_some_and(|((kind, subtype), (known, known_subtype))| {
                (kind == known || kind == "*") && (subtype == known_subtype || subtype == "*")
            })
        };
        offered.iter().find(|(name, _)| fits(name)).map(|(_, form)| *form)
    })
}

fn not_acceptable() -> Reply {
    let mut answer = Reply::new(ReplyBody::empty());
    *answer.status_mut() = StatusCode::NOT_ACCEPTABLE;
    answer.headers_mut().insert(header::CACHE_CONTROL, reply::NO_STORE);
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}

/// `/api` and `/apis`: plain, or aggregated in the first of its versions that the client asks for.
fn groups(core: &Core, asked: &Asked<'_>, core_group: bool) -> Reply {
    let documents = core.published.discovery(core);
    let (beta, encoding) = match negotiate::discovery(accept(asked.headers)) {
        Discovery::Plain if core_group => return told(asked, documents.api.clone()),
        Discovery::Plain => return told(asked, extension::with_groups(core, documents.apis.clone())),
        Discovery::Aggregated { beta, encoding } => (beta, encoding),
    };
    let own = documents.aggregated(core_group, beta);
    let (body, hash) = if core_group { own } else { extension::with_aggregated(core, own) };
    let mut answer = tagged(asked.headers, &hash, || {
        let mut answer = encoded(encoding, asked.for_people, body);
        let plain = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let version = if beta { AGGREGATED_V2BETA1 } else { AGGREGATED_V2 };
        let media_type = format!("{}{version}", plain.unwrap_or_default());
        if let Ok(media_type) = HeaderValue::from_str(&media_type) {
            answer.headers_mut().insert(header::CONTENT_TYPE, media_type);
        }
        answer
    });
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    answer
}

fn accept(headers: &HeaderMap) -> &str {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A document of discovery in the encoding that is wanted most.
fn told(asked: &Asked<'_>, document: Bytes) -> Reply {
    match negotiate::accept_document(accept(asked.headers)) {
        Ok(accepted) => encoded(accepted.encoding, accepted.pretty || asked.for_people, document),
        Err(why) => reply::failure(&super::door::not_acceptable(why, "get", true)),
    }
}

/// The same of what upstream serves without its router: documents on groups, and on versions of custom kinds.
fn told_anyhow(asked: &Asked<'_>, document: Bytes) -> Reply {
    match negotiate::accept_unrouted_document(accept(asked.headers)) {
        Ok(accepted) => encoded(accepted.encoding, accepted.pretty || asked.for_people, document),
        Err(why) => reply::failure(&super::door::not_acceptable(why, "get", true)),
    }
}

/// A document, which is JSON, in another encoding.
fn encoded(encoding: Encoding, in_lines: bool, document: Bytes) -> Reply {
    if encoding == Encoding::Json && !in_lines {
        return reply::json(200, document);
    }
    let mut value: Value = serde_json::from_slice(&document).unwrap_or_default();
    if encoding == Encoding::Json {
        return reply::json_in_lines(200, &value);
    }
    if let (Value::Object(map), Encoding::Protobuf) = (&mut value, encoding) {
        // Some documents do not say the version of their own kind in JSON.
        map.entry("apiVersion").or_insert_with(|| "v1".into());
    }
    reply::value(200, &negotiate::Accepted::plain(encoding, negotiate::Form::Objects), &value)
}

/// How long a document may be kept whose address names its content, in seconds: a year.
const KEPT_SECONDS: i64 = 365 * 24 * 3600;

/// A document of version 3. An address with a hash names its content: it may be kept, and leads on where it is old.
fn third(headers: &HeaderMap, query: &Query, place: &str, openapi: &OpenApi) -> Reply {
    let Some((found, made)) = openapi.v3(place) else {
        let mut answer = Reply::new(ReplyBody::empty());
        *answer.status_mut() = StatusCode::NOT_FOUND;
        answer.headers_mut().insert(header::CACHE_CONTROL, reply::NO_STORE);
        return answer;
    };
    let (form, media_type) = match asked_form(headers, PROTOBUF_V3, PROTOBUF_V3_OLD) {
        Some(Form::Json) => (Some(found), "application/json"),
        Some(Form::Protobuf) => (openapi.v3_protobuf(place), PROTOBUF_V3),
        None => return not_acceptable(),
    };
    let asked = query.get("hash");
    if !asked.is_empty() && asked != found.hash {
        return leading_on(place, &found.hash, media_type);
    }
    let Some(form) = form else { return not_acceptable() };
    // Both forms have one tag: that of their content.
    let told = Document { gzip: form.gzip.clone(), hash: found.hash.clone() };
    let mut answer = document(headers, &told, made, media_type);
    if !asked.is_empty() {
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        // Upstream names the zone as its clock does, and not as HTTP has it.
        if let Ok(expires) = clock::now().checked_add(SignedDuration::from_secs(KEPT_SECONDS))
            && let Ok(expires) = HeaderValue::from_str(&rfc1123(expires).replace("GMT", "UTC"))
        {
            answer.headers_mut().insert(header::EXPIRES, expires);
        }
    }
    answer
}

/// Where the content is that is told now.
fn leading_on(place: &str, hash: &str, media_type: &'static str) -> Reply {
    let mut answer = reply::reply(301, HeaderValue::from_static(media_type), ReplyBody::empty());
    let to = format!("/openapi/v3/{place}?hash={hash}");
    let headers = answer.headers_mut();
    for (name, value) in [(header::LOCATION, to), (header::ETAG, format!("\"{hash}\""))] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}

fn put_time(answer: &mut Reply, name: header::HeaderName, time: Timestamp) {
    if let Ok(value) = HeaderValue::from_str(&rfc1123(time)) {
        answer.headers_mut().insert(name, value);
    }
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
fn document(headers: &HeaderMap, document: &Document, made: Timestamp, media_type: &'static str) -> Reply {
    let reads_gzip = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("gzip"));
    let mut answer = tagged(headers, &document.hash, || {
        let body = if reads_gzip { document.gzip.clone() } else { document.plain() };
        let mut answer = reply::reply(200, HeaderValue::from_static(media_type), ReplyBody::full(body));
        if reads_gzip {
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    });
    put_time(&mut answer, header::LAST_MODIFIED, made);
    answer
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
        let openapi = OpenApi::new(&[], "v1.36.0");
        let hash = openapi.v3("version").unwrap().0.hash.clone();
        let ask = |query: &str| third(&HeaderMap::new(), &Query::parse(query), "version", &openapi);
        let kept = ask(&format!("hash={hash}"));
        assert_eq!(kept.headers()[header::CACHE_CONTROL], "public, immutable");
        assert!(kept.headers()[header::EXPIRES].to_str().unwrap().ends_with(" UTC"));
        let old = ask("hash=CD");
        assert_eq!(old.status().as_u16(), 301);
        assert_eq!(old.headers()[header::LOCATION], format!("/openapi/v3/version?hash={hash}"));
        assert_eq!(ask("").headers()[header::CACHE_CONTROL], "no-cache, private");
        assert_eq!(third(&HeaderMap::new(), &Query::parse(""), "none", &openapi).status().as_u16(), 404);
    }

    #[test]
    fn a_document_comes_in_the_form_that_is_wanted_most() {
        let asked = |accept: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            asked_form(&headers, PROTOBUF_V3, PROTOBUF_V3_OLD)
        };
        for (accept, form) in [
            ("", Some(Form::Json)),
            ("*/*", Some(Form::Json)),
            ("text/html, application/*;q=0.5", Some(Form::Json)),
            (PROTOBUF_V3, Some(Form::Protobuf)),
            (
                "application/json;q=0.5, application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
                Some(Form::Protobuf),
            ),
            ("application/com.github.proto-openapi.spec.v2.v1.0+protobuf", None),
            ("text/html", None),
        ] {
            assert_eq!(asked(accept), form, "{accept}");
        }
    }
}
