//! Answers: built in one place, so that every one has its headers.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use martello_api::{go, schema::encode_protobuf, status::ApiError};
use serde_json::Value;

use super::{
    body::ReplyBody,
    negotiate::{self, Accepted, Encoding},
};
use crate::{flow::Classified, server::Core};

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

/// JSON that is ready; a line ends behind it, as upstream's encoder ends one.
#[must_use]
pub fn json(code: u16, bytes: impl Into<Bytes>) -> Reply {
    reply(code, JSON, ReplyBody::line(bytes))
}

/// JSON that is sent as it is, which what goes past upstream's encoder is.
#[must_use]
pub fn bare_json(code: u16, bytes: impl Into<Bytes>) -> Reply {
    reply(code, JSON, ReplyBody::full(bytes))
}

/// JSON for people: set in lines, the last of which does not end.
#[must_use]
pub fn json_in_lines(code: u16, value: &Value) -> Reply {
    bare_json(code, serde_json::to_vec_pretty(value).unwrap_or_default())
}

/// YAML in frames that are sent one after the other.
#[must_use]
pub fn yaml_body(code: u16, body: ReplyBody) -> Reply {
    reply(code, YAML, body)
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
    let mut response = bare_text(code, text);
    never_sniffed(&mut response);
    response
}

/// Plain text of which a client may judge itself what it is, as of upstream's single checks.
#[must_use]
pub fn bare_text(code: u16, text: impl Into<Bytes>) -> Reply {
    reply(code, TEXT, ReplyBody::full(text))
}

/// Forbids clients to take an answer for anything else than it says: a refusal holds what the client sent.
pub fn never_sniffed(response: &mut Reply) {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// An answer in which there is nothing.
#[must_use]
pub fn no_content() -> Reply {
    let mut response = Response::new(ReplyBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// A value in the encoding that was asked for.
#[must_use]
pub fn value(code: u16, accepted: &Accepted, value: &Value) -> Reply {
    match accepted.encoding {
        Encoding::Json => json(code, go::encode(value)),
        Encoding::Yaml => yaml(code, value),
        Encoding::Protobuf => match encode_protobuf(value) {
            Some(bytes) => protobuf(code, bytes),
            None => json(code, go::encode(value)),
        },
    }
}

/// Tells a failure in protobuf or YAML where the client prefers that, or in lines; it was written as JSON. A client that
/// accepts nothing of what there is gets it in lines, past upstream's encoder.
pub fn negotiate_failure(response: &mut Reply, accept: &str, for_people: bool) {
    let code = response.status().as_u16();
    let accepted = negotiate::accept_unrouted_document(accept).ok();
    let is_plain = accepted.as_ref().is_some_and(|accepted| accepted.encoding == Encoding::Json && !accepted.pretty);
    if code < 400 || (is_plain && !for_people) {
        return;
    }
    let ReplyBody::Ready(frames) = response.body() else { return };
    let Some(status) = frames.front().and_then(|json| serde_json::from_slice::<Value>(json).ok()) else { return };
    if status.get("kind").and_then(Value::as_str) != Some("Status") {
        return;
    }
    let told = match &accepted {
        Some(accepted) if accepted.encoding != Encoding::Json => value(code, accepted, &status),
        _ => json_in_lines(code, &status),
    };
    if let Some(media_type) = told.headers().get(header::CONTENT_TYPE).cloned() {
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        *response.body_mut() = told.into_body();
    }
}

/// A value as YAML.
#[must_use]
pub fn yaml(code: u16, value: &Value) -> Reply {
    match super::yaml::encode(value) {
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
    never_sniffed(response);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
}

/// 504 for what took longer than it may. Upstream writes it past its encoder: of no kind, and as text.
#[must_use]
pub fn late() -> Reply {
    let mut error = ApiError::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout");
    error.details = Some(Box::default());
    let mut status = error.to_status();
    if let Some(map) = status.as_object_mut() {
        map.shift_remove("kind");
        map.shift_remove("apiVersion");
    }
    reply(504, TEXT, ReplyBody::line(status.to_string()))
}

/// 404 for a path that is no part of the API.
#[must_use]
pub fn page_not_found() -> Reply {
    text(404, "404 page not found\n")
}

/// The same, but while the server starts: a client that took a custom kind for gone might act upon it.
#[must_use]
pub fn nothing_here(core: &Core) -> Reply {
    if core.ready.load(Ordering::Acquire) { page_not_found() } else { failure(&ApiError::not_known_yet()) }
}

/// Longest text of all warnings of an answer together; where they are longer, each is cut. Both as upstream's.
const MAX_WARNINGS_CHARS: usize = 4096;
/// Longest text of one warning that is cut.
const MAX_WARNING_CHARS: usize = 256;

/// Adds a `Warning` header per message (RFC 9111, 5.5).
pub fn warn(response: &mut Reply, messages: &[String]) {
    for message in told_warnings(messages, MAX_WARNINGS_CHARS, MAX_WARNING_CHARS) {
        let quoted = message.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, header);
        }
    }
}

/// Which messages are told. All are told whole as long as there is room; the first for which there is none has all
/// before it cut, and then more follow, cut as well, until what is left of them fills the room. One with a control
/// character is not told.
fn told_warnings(messages: &[String], room: usize, longest: usize) -> Vec<&str> {
    let is_told = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    let told: Vec<&str> = messages.iter().map(String::as_str).filter(is_told).collect();
    let mut written = 0;
    let bursting = told.iter().position(|text| {
        written += text.chars().count();
        written > room
    });
    let Some(bursting) = bursting else { return told };
    let mut written = 0;
    let mut cut = Vec::new();
    for (place, text) in told.into_iter().enumerate() {
        if place > bursting && written >= room {
            break;
        }
        let end = text.char_indices().nth(longest).map(|(end, _)| end);
        let text = end.and_then(|end| text.get(..end)).unwrap_or(text);
        written += text.chars().count();
        cut.push(text);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(messages: &[String]) -> Vec<&str> {
        told_warnings(messages, 25, 5)
    }

    fn messages(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn warnings_are_cut_as_soon_as_they_are_too_long_together() {
        let whole = messages(&["aaaaaaaaaa", "bb", "ccc", "Iñtërnâtiô"]);
        assert_eq!(told(&whole), ["aaaaaaaaaa", "bb", "ccc", "Iñtërnâtiô"]);
        let more = messages(&["aaaaaaaaaa", "bb", "ccc", "Iñtërnâtiô", "e", "ffffffffff", "gggggggggg", "h"]);
        assert_eq!(told(&more), ["aaaaa", "bb", "ccc", "Iñtër", "e", "fffff", "ggggg"]);
        let many: Vec<String> = (0..30).map(|number| (number % 10).to_string()).collect();
        assert_eq!(told(&many).len(), 26);
    }

    #[test]
    fn failures_are_set_in_lines_for_people() {
        let told = |accept: &str, for_people: bool| {
            let mut reply = failure(&ApiError::bad_request("no"));
            negotiate_failure(&mut reply, accept, for_people);
            let ReplyBody::Ready(frames) = reply.body() else { panic!("a failure is ready") };
            String::from_utf8(frames.iter().flatten().copied().collect()).unwrap()
        };
        assert!(told("application/json", false).starts_with("{\"kind\":"));
        assert!(told("application/json", false).ends_with("}\n"));
        for in_lines in [told("", true), told("text/plain", false)] {
            assert!(in_lines.starts_with("{\n  \"kind\": ") && in_lines.ends_with("\n}"), "{in_lines}");
        }
        assert!(told("application/yaml", true).starts_with("apiVersion: v1\ncode: 400\nkind: Status\n"));
    }

    #[test]
    fn what_is_late_is_of_no_kind() {
        let ReplyBody::Ready(frames) = late().into_body() else { panic!("a failure is ready") };
        let told: Value = serde_json::from_slice(&frames[0]).unwrap();
        assert_eq!((told.get("kind"), &told["code"], &told["details"]), (None, &504.into(), &serde_json::json!({})));
    }

    #[test]
    fn a_warning_is_quoted_and_never_has_more_than_a_line() {
        let mut reply = text(200, "");
        warn(&mut reply, &messages(&["a \"b\" \\", "two\nlines", ""]));
        let told: Vec<&HeaderValue> = reply.headers().get_all(header::WARNING).iter().collect();
        assert_eq!(told, [r#"299 - "a \"b\" \\""#]);
    }
}
