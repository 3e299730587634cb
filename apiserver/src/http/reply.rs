//! Answers: built in one place, so that every one has its headers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use martello_api::{schema::encode_protobuf, status::ApiError};
use serde_json::Value;

use super::{
    body::ReplyBody,
    negotiate::{self, Accepted, Encoding},
};
use crate::flow::Classified;

/// An answer on its way out.
pub type Reply = Response<ReplyBody>;

/// Seconds after which to come again, as upstream's.
const RETRY_SECONDS: u32 = 1;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
const PROTOBUF: HeaderValue = HeaderValue::from_static(negotiate::PROTOBUF);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Answers depend on who asks; no cache may keep them.
pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-cache, private");

/// `body` under `code`, as `content_type`.
#[must_use]
pub fn reply(code: u16, content_type: HeaderValue, body: ReplyBody) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// JSON that is ready.
#[must_use]
pub fn json(code: u16, bytes: impl Into<Bytes>) -> Reply {
    reply(code, JSON, ReplyBody::full(bytes))
}

/// Protobuf that is ready.
#[must_use]
pub fn protobuf(code: u16, bytes: impl Into<Bytes>) -> Reply {
    reply(code, PROTOBUF, ReplyBody::full(bytes))
}

/// Protobuf in frames that are sent one after the other.
#[must_use]
pub fn protobuf_body(code: u16, body: ReplyBody) -> Reply {
    reply(code, PROTOBUF, body)
}

/// JSON frames that are sent one after the other.
#[must_use]
pub fn json_body(code: u16, body: ReplyBody) -> Reply {
    reply(code, JSON, body)
}

/// Plain text.
#[must_use]
pub fn text(code: u16, text: impl Into<Bytes>) -> Reply {
    let mut response = reply(code, TEXT, ReplyBody::full(text));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A value in the encoding that was asked for.
#[must_use]
pub fn value(code: u16, accepted: &Accepted, value: &Value) -> Reply {
    match accepted.encoding {
        Encoding::Json => json(code, serde_json::to_vec(value).unwrap_or_default()),
        Encoding::Yaml => yaml(code, value),
        Encoding::Protobuf => match encode_protobuf(value) {
            Some(bytes) => protobuf(code, bytes),
            None => json(code, serde_json::to_vec(value).unwrap_or_default()),
        },
    }
}

/// Tells a failure in protobuf where the client prefers that; it was written as JSON.
pub fn negotiate_failure(response: &mut Reply, accept: &str) {
    let prefers = |accepted: Accepted| accepted.encoding == Encoding::Protobuf;
    if response.status().as_u16() < 400 || !negotiate::accept(accept, true).is_ok_and(prefers) {
        return;
    }
    let ReplyBody::Ready(frames) = response.body() else { return };
    let Some(status) = frames.front().and_then(|json| serde_json::from_slice::<Value>(json).ok()) else { return };
    if let Some(bytes) = encode_protobuf(&status) {
        *response.body_mut() = ReplyBody::full(bytes);
        response.headers_mut().insert(header::CONTENT_TYPE, PROTOBUF);
    }
}

/// A value as YAML.
#[must_use]
pub fn yaml(code: u16, value: &Value) -> Reply {
    match serde_saphyr::to_string(value) {
        Ok(text) => reply(code, YAML, ReplyBody::full(text)),
        Err(error) => failure(&ApiError::internal(format!("encoding the answer as YAML: {error}"))),
    }
}

/// A failure as `Status`.
#[must_use]
pub fn failure(error: &ApiError) -> Reply {
    let mut response = json(error.code, serde_json::to_vec(&error.to_status()).unwrap_or_default());
    let retry = error.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// Says under which flow schema and priority level a request was served, as upstream does.
pub fn belongs(response: &mut Reply, flow: &Classified) {
    for (name, uid) in
        [("x-kubernetes-pf-flowschema-uid", &flow.schema), ("x-kubernetes-pf-prioritylevel-uid", &flow.level)]
    {
        if let Ok(value) = HeaderValue::from_str(uid) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Makes a refusal for want of seats what upstream's is: text, and when to come again.
pub fn too_many(response: &mut Reply) {
    if response.status() != StatusCode::TOO_MANY_REQUESTS {
        return;
    }
    *response.body_mut() = ReplyBody::full("Too many requests, please try again later.\n");
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
}

/// 404 for a path that is no part of the API.
#[must_use]
pub fn page_not_found() -> Reply {
    text(404, "404 page not found\n")
}

/// Longest text of all warnings of an answer together; where they are longer, each is cut. Both as upstream's.
const MAX_WARNINGS_CHARS: usize = 4096;
/// Longest text of one warning that is cut.
const MAX_WARNING_CHARS: usize = 256;

/// Adds a `Warning` header per message (RFC 9111, 5.5).
pub fn warn(response: &mut Reply, messages: &[String]) {
    let total: usize = messages.iter().map(|message| message.chars().count()).sum();
    let longest = if total > MAX_WARNINGS_CHARS { MAX_WARNING_CHARS } else { MAX_WARNINGS_CHARS };
    for message in messages.iter().take(MAX_WARNINGS_CHARS / MAX_WARNING_CHARS) {
        let mut line = String::from("299 - \"");
        for character in message.chars().take(longest) {
            match character {
                '"' => line.push_str("\\\""),
                '\\' => line.push_str("\\\\"),
                other if other.is_control() => line.push(' '),
                other => line.push(other),
            }
        }
        line.push('"');
        if let Ok(header) = HeaderValue::from_bytes(line.as_bytes()) {
            response.headers_mut().append(header::WARNING, header);
        }
    }
}
