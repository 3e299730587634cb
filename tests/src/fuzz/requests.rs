//! The parts of a request: path and query, and its headers.

use http::Method;
use martello_api::attributes::Target;
use martello_apiserver::{
    http::{info::RequestInfo, negotiate, query::Query},
    registry::options::{self, Asked, DeleteOptions},
};

use super::text;

/// What is authorized by name must be one name: a segment of a path.
pub fn route(bytes: &[u8]) {
    let text = text(bytes);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    let query = Query::parse(query);
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let info = RequestInfo::parse(&method, path, &query);
        if let Target::Resource(target) = &info.target {
            assert!(!target.resource.contains('/') && !target.namespace.contains('/') && !target.name.contains('/'));
        }
    }
}

/// Options in queries and bodies.
pub fn options(bytes: &[u8]) {
    let query = Query::parse(&text(bytes));
    for watch in [false, true] {
        drop(Asked::read(&query, watch).and_then(|asked| asked.judge().and_then(|()| asked.settle())));
    }
    drop(DeleteOptions::read(&query, serde_json::from_slice(bytes).ok().as_ref()));
    drop(options::WriteOptions::read(&query, "CreateOptions"));
    drop(options::WriteOptions::read_patch(&query, true));
    drop(options::parse_revision(&text(bytes)));
}

/// `Accept` and `Content-Type`.
pub fn accept(bytes: &[u8]) {
    let text = text(bytes);
    drop(negotiate::accept(&text, true));
    std::hint::black_box(negotiate::content_type(&text));
}
