//! Large answers are compressed for clients that take gzip.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};

use super::{
    body::{BoxError, Frames, ReplyBody, SMALL_BYTES},
    reply::Reply,
};

/// Answers up to this size are sent as they are, as upstream does.
const MIN_BYTES: usize = SMALL_BYTES;
/// How much that is compressed is sent as one frame.
const FRAME_BYTES: usize = 32 * 1024;

/// Compresses an answer that is large and no stream, as it is sent, if the client takes gzip.
#[must_use]
pub fn compress(gzip: bool, reply: Reply) -> Reply {
    let large = match reply.body() {
        ReplyBody::Made(_) => true,
        other => other.ready_len().is_some_and(|length| length > MIN_BYTES),
    };
    if !large || !gzip || reply.headers().contains_key(header::CONTENT_ENCODING) {
        return reply;
    }
    let (mut parts, body) = reply.into_parts();
    let frames: Frames = match body {
        ReplyBody::Ready(frames) => Box::new(frames.into_iter().map(Ok)),
        ReplyBody::Made(frames) => frames,
        ReplyBody::Stream(_) | ReplyBody::Lasting(..) => return Reply::from_parts(parts, body),
    };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::with_capacity(FRAME_BYTES), Compression::fast());
    Reply::from_parts(parts, ReplyBody::Made(Box::new(Compressed { frames, encoder: Some(encoder) })))
}

/// Frames, compressed.
struct Compressed {
    frames: Frames,
    /// None once all is told.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Iterator for Compressed {
    type Item = Result<Bytes, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(encoder) = &mut self.encoder {
            let Some(frame) = self.frames.next() else {
                let rest = self.encoder.take()?.finish();
                return Some(rest.map(Bytes::from).map_err(BoxError::from));
            };
            if let Err(error) = frame.and_then(|frame| Ok(encoder.write_all(&frame)?)) {
                self.encoder = None;
                return Some(Err(error));
            }
            if encoder.get_ref().len() >= FRAME_BYTES {
                let full = std::mem::replace(encoder.get_mut(), Vec::with_capacity(FRAME_BYTES));
                return Some(Ok(full.into()));
            }
        }
        None
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::reply;
    use super::*;

    fn unpacked(reply: Reply) -> Vec<u8> {
        assert_eq!(reply.headers()[header::CONTENT_ENCODING], "gzip");
        let ReplyBody::Made(frames) = reply.into_body() else { panic!("not made as it is sent") };
        let packed: Vec<u8> = frames.flat_map(Result::unwrap).collect();
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn a_large_answer_is_what_it_was_once_unpacked() {
        // What hardly compresses takes many frames.
        let noise: Vec<u8> =
            (0..3 * MIN_BYTES as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect();
        assert_eq!(unpacked(compress(true, reply::bare_json(200, noise.clone()))), noise);
        let pieces: Vec<Bytes> = noise.chunks(50_000).map(Bytes::copy_from_slice).collect();
        let made = ReplyBody::made(pieces.into_iter().map(Ok)).unwrap();
        assert_eq!(unpacked(compress(true, reply::json_body(200, made))), noise);
    }

    #[test]
    fn a_small_answer_is_left_alone() {
        let reply = compress(true, reply::bare_json(200, vec![b' '; MIN_BYTES]));
        assert!(!reply.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(reply.body().ready_len(), Some(MIN_BYTES));
    }
}
