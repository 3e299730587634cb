//! Bodies of requests: read whole, within their limits, and, of requests without a seat, within the room that there is for all
//! of them.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use martello_api::status::ApiError;
use tokio::time::{Instant, timeout_at};

use super::{
    RequestBody,
    room::{LARGE_BYTES, LASTING, Part, Room},
};

/// Largest body of a request, as upstream's.
const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// How long a client may take to send its body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a body, bounded in bytes and in time. Seats bound how many bodies there are at once; that of a request without an end,
/// which has none, has a part of the room for such as long as that is kept.
pub(super) async fn read_body(
    request: Request<RequestBody>,
    patience: Duration,
    ends: Option<Instant>,
) -> Result<(Bytes, Part), ApiError> {
    let room = if ends.is_none() { Some(&*LASTING) } else { None };
    read_into(room, request, patience).await
}

async fn read_into(
    room: Option<&Room>,
    request: Request<RequestBody>,
    patience: Duration,
) -> Result<(Bytes, Part), ApiError> {
    let ends = Instant::now() + patience;
    match timeout_at(ends, collect(room, request.into_body(), ends)).await {
        Ok(collected) => collected,
        Err(_) => Err(ApiError::new(408, "Timeout", "the request's body did not arrive in time")),
    }
}

async fn collect(room: Option<&Room>, mut body: RequestBody, ends: Instant) -> Result<(Bytes, Part), ApiError> {
    let told = body.size_hint().exact().and_then(|told| usize::try_from(told).ok());
    let mut first = Bytes::new();
    let mut more = Vec::new();
    let mut part = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("reading the request's body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + more.len() + data.len() > MAX_BODY_BYTES {
            return Err(ApiError::too_large(format!("Request entity too large: limit is {MAX_BODY_BYTES}")));
        }
        // All of it at once: of two that each have half of what they need, none would be read to its end.
        if let Some(room) = room
            && part.is_none()
            && first.len() + more.len() + data.len() >= LARGE_BYTES
        {
            part = room.part(told.unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES), ends).await?;
        }
        if first.is_empty() {
            first = data;
        } else {
            more.extend_from_slice(&data);
        }
    }
    if more.is_empty() {
        return Ok((first, part));
    }
    let mut all = Vec::with_capacity(first.len() + more.len());
    all.extend_from_slice(&first);
    all.extend_from_slice(&more);
    Ok((all.into(), part))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::http::body::BoxError;

    fn body(frames: impl futures::Stream<Item = Bytes> + Send + 'static) -> Request<RequestBody> {
        let frames = frames.map(|bytes| Ok::<_, BoxError>(Frame::data(bytes)));
        Request::new(StreamBody::new(frames).boxed_unsync())
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_in_time_is_not_waited_for() {
        let dawdling = futures::stream::iter([Bytes::from_static(b"{")]).chain(futures::stream::pending());
        let error = read_body(body(dawdling), Duration::from_millis(10), None).await.unwrap_err();
        assert_eq!((error.code, error.reason.as_str()), (408, "Timeout"));
    }

    #[tokio::test]
    async fn a_large_body_has_room_for_all_of_it_before_it_is_read_further() {
        let room = Room::new(MAX_BODY_BYTES);
        let large = || body(futures::stream::iter([Bytes::from(vec![b' '; LARGE_BYTES])]));
        let (_, part) = read_into(Some(&room), large(), BODY_TIMEOUT).await.unwrap();
        assert!(part.is_some());
        let error = read_into(Some(&room), large(), Duration::from_millis(10)).await.unwrap_err();
        assert!([408, 429].contains(&error.code), "{error:?}");
        let small = body(futures::stream::iter([Bytes::from(vec![b' '; LARGE_BYTES - 1])]));
        assert!(read_into(Some(&room), small, BODY_TIMEOUT).await.unwrap().1.is_none());
        // Who has a seat does not wait for what others without one hold.
        let seated = Some(Instant::now() + BODY_TIMEOUT);
        assert!(read_body(large(), BODY_TIMEOUT, seated).await.unwrap().1.is_none());
        assert!(read_body(large(), BODY_TIMEOUT, None).await.unwrap().1.is_some());
        drop(part);
        assert!(read_into(Some(&room), large(), BODY_TIMEOUT).await.unwrap().1.is_some());
    }

    #[tokio::test]
    async fn a_body_is_cut_off_at_its_limit_whatever_its_pieces() {
        let piece = || Bytes::from(vec![b' '; MAX_BODY_BYTES / 4]);
        let fits = futures::stream::iter(std::iter::repeat_with(piece).take(4));
        assert_eq!(read_body(body(fits), BODY_TIMEOUT, None).await.unwrap().0.len(), MAX_BODY_BYTES);
        let endless = futures::stream::iter(std::iter::repeat_with(piece));
        let error = read_body(body(endless), BODY_TIMEOUT, None).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (413, "Request entity too large: limit is 3145728"));
    }
}
