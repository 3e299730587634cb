//! Large answers are compressed for clients that take gzip.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};

use super::{body::ReplyBody, reply::Reply};

/// Answers up to this size are sent as they are, as upstream does.
const MIN_BYTES: usize = 128 * 1024;

/// Compresses an answer that is ready and large, if the client takes gzip.
#[must_use]
pub fn compress(gzip: bool, reply: Reply) -> Reply {
    let large = reply.body().ready_len().is_some_and(|length| length > MIN_BYTES);
    if !large || !gzip || reply.headers().contains_key(header::CONTENT_ENCODING) {
        return reply;
    }
    let (mut parts, body) = reply.into_parts();
    let ReplyBody::Ready(frames) = body else { return Reply::from_parts(parts, body) };
    let mut encoder = GzEncoder::new(Vec::with_capacity(MIN_BYTES), Compression::fast());
    let written = frames.iter().try_for_each(|frame| encoder.write_all(frame));
    match written.and_then(|()| encoder.finish()) {
        Ok(bytes) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            Reply::from_parts(parts, ReplyBody::full(bytes))
        }
        Err(_) => Reply::from_parts(parts, ReplyBody::Ready(frames)),
    }
}

/// Whether a client takes gzip.
#[must_use]
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        parts.next() == Some("gzip") && parts.all(|part| part.replace(' ', "") != "q=0")
    })
}
