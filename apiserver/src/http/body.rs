//! What is sent back: ready bytes, a chain of ready bytes, or a stream.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::metrics::Lasting;

/// An error of a body, of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A stream of ready bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// Frames that are made as they are asked for.
pub type Frames = Box<dyn Iterator<Item = Result<Bytes, BoxError>> + Send>;

/// Up to this size a body is made before it is sent, so that its length is told; the size from which answers are compressed.
pub const SMALL_BYTES: usize = 128 * 1024;

/// Body of an answer. Nothing in it is copied on its way out.
pub enum ReplyBody {
    /// Frames that are all there; their lengths are known.
    Ready(VecDeque<Bytes>),
    /// Frames of a large answer that are made as they are sent, so that they are never all in memory.
    Made(Frames),
    /// Frames that come as they come.
    Stream(ByteStream),
    /// The same, of a stream that is counted as long as it lasts.
    Lasting(ByteStream, Arc<Lasting>),
}

impl ReplyBody {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Ready(VecDeque::new())
    }

    /// One frame.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self::Ready(VecDeque::from([bytes])) }
    }

    /// A frame, and the end of its line.
    #[must_use]
    pub fn line(bytes: impl Into<Bytes>) -> Self {
        Self::Ready(VecDeque::from([bytes.into(), Bytes::from_static(b"\n")]))
    }

    /// What these frames make; all at once where that is little.
    ///
    /// # Errors
    /// What making the first of them fails with.
    pub fn made(mut frames: impl Iterator<Item = Result<Bytes, BoxError>> + Send + 'static) -> Result<Self, BoxError> {
        let (mut first, mut length) = (VecDeque::new(), 0);
        for frame in frames.by_ref() {
            let frame = frame?;
            length += frame.len();
            first.push_back(frame);
            if length > SMALL_BYTES {
                return Ok(Self::Made(Box::new(first.into_iter().map(Ok).chain(frames))));
            }
        }
        Ok(Self::Ready(first))
    }

    /// How many bytes are ready; none for what is made or streamed.
    #[must_use]
    pub fn ready_len(&self) -> Option<usize> {
        match self {
            Self::Ready(frames) => Some(frames.iter().map(Bytes::len).sum()),
            Self::Made(_) | Self::Stream(_) | Self::Lasting(..) => None,
        }
    }

    /// Lets what is made as it is sent have `held`, which is for what its request does, until it is made or given up, and at most
    /// until `ends`: from then on no more of it is made. Of all else it is let go at once.
    pub fn made_with<H: Send + 'static>(&mut self, held: H, ends: Instant) {
        let Self::Made(frames) = self else { return };
        let (making, over) = oneshot::channel();
        // Who doesn't read what was made keeps it from being looked at, and must not keep what others wait for.
        tokio::spawn(async move {
            drop(timeout_at(ends, over).await);
            drop(held);
        });
        let frames = std::mem::replace(frames, Box::new(std::iter::empty()));
        *self = Self::Made(Box::new(Making { frames, making: Some(making) }));
    }

    /// Lets a stream count until it is dropped; what is all there counts no longer.
    pub fn hold(&mut self, counted: Arc<Lasting>) {
        *self = match std::mem::replace(self, Self::empty()) {
            Self::Stream(stream) => Self::Lasting(stream, counted),
            other => other,
        };
    }
}

/// Frames that are made only in the time that their request has.
struct Making {
    frames: Frames,
    /// Open as long as there is time; none once no more is made.
    making: Option<oneshot::Sender<Infallible>>,
}

impl Iterator for Making {
    type Item = Result<Bytes, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.making.as_ref()?.is_closed() {
            self.making = None;
            return Some(Err("the answer was not read within the time that its request may take".into()));
        }
        let next = self.frames.next();
        if next.is_none() {
            self.making = None;
        }
        next
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ready_len() {
            Some(length) => write!(f, "ReplyBody({length} bytes)"),
            None => write!(f, "ReplyBody(length unknown)"),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Ready(frames) => Poll::Ready(frames.pop_front().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Made(frames) => Poll::Ready(frames.next().map(|frame| frame.map(Frame::data))),
            Self::Stream(stream) | Self::Lasting(stream, _) => {
                stream.as_mut().poll_next(cx).map(|next| next.map(|item| item.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Ready(frames) if frames.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        self.ready_len().map_or_else(SizeHint::default, |length| SizeHint::with_exact(length as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn little_is_made_at_once_and_much_as_it_is_sent() {
        let frames = |count: usize| (0..count).map(|_| Ok::<_, BoxError>(Bytes::from_static(&[b' '; SMALL_BYTES / 4])));
        assert_eq!(ReplyBody::made(frames(4)).unwrap().ready_len(), Some(SMALL_BYTES));
        assert_eq!(ReplyBody::made(frames(0)).unwrap().ready_len(), Some(0));
        let ReplyBody::Made(all) = ReplyBody::made(frames(9)).unwrap() else { panic!("much was made at once") };
        assert_eq!(all.map(|frame| frame.unwrap().len()).sum::<usize>(), 9 * SMALL_BYTES / 4);
    }

    /// A body that is made as it is sent, and what tells that it lets go of what it holds.
    fn held(ends: Duration) -> (ReplyBody, oneshot::Receiver<()>) {
        let frames = (0..9).map(|_| Ok::<_, BoxError>(Bytes::from_static(&[b' '; SMALL_BYTES / 4])));
        let mut body = ReplyBody::made(frames).unwrap();
        let (seat, freed) = oneshot::channel();
        body.made_with(seat, Instant::now() + ends);
        (body, freed)
    }

    fn next(body: &mut ReplyBody) -> Option<Result<Bytes, BoxError>> {
        let ReplyBody::Made(frames) = body else { panic!("it is made as it is sent") };
        frames.next()
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn what_is_made_as_it_is_sent_keeps_its_seat_until_it_is_made_or_given_up() {
        let (mut body, mut freed) = held(LONG);
        for _ in 0..9 {
            assert!(next(&mut body).unwrap().is_ok());
            assert!(matches!(freed.try_recv(), Err(oneshot::error::TryRecvError::Empty)), "the seat is free too soon");
        }
        assert!(next(&mut body).is_none() && next(&mut body).is_none());
        freed.await.unwrap_err();
        let (body, freed) = held(LONG);
        drop(body);
        freed.await.unwrap_err();
    }

    #[tokio::test]
    async fn what_is_not_read_in_time_lets_its_seat_go_and_is_made_no_further() {
        let (mut body, freed) = held(Duration::from_millis(1));
        assert!(next(&mut body).unwrap().is_ok());
        freed.await.unwrap_err();
        assert!(next(&mut body).unwrap().is_err());
        assert!(next(&mut body).is_none());
    }

    #[test]
    fn what_fails_at_once_is_no_body() {
        let frames = [Ok(Bytes::from_static(b"{")), Err("no".into())];
        assert!(ReplyBody::made(frames.into_iter()).is_err());
    }
}
