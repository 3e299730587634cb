//! What is sent back: ready bytes, a chain of ready bytes, or a stream.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};

use crate::metrics::Lasting;

/// An error of a body, of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A stream of ready bytes.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// Body of an answer. Nothing in it is copied on its way out.
pub enum ReplyBody {
    /// Frames that are all there; their lengths are known.
    Ready(VecDeque<Bytes>),
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

    /// How many bytes are ready; none for a stream.
    #[must_use]
    pub fn ready_len(&self) -> Option<usize> {
        match self {
            Self::Ready(frames) => Some(frames.iter().map(Bytes::len).sum()),
            Self::Stream(_) | Self::Lasting(..) => None,
        }
    }

    /// Lets a stream count until it is dropped; what is all there counts no longer.
    pub fn hold(&mut self, counted: Arc<Lasting>) {
        *self = match std::mem::replace(self, Self::empty()) {
            Self::Stream(stream) => Self::Lasting(stream, counted),
            other => other,
        };
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ready_len() {
            Some(length) => write!(f, "ReplyBody({length} bytes)"),
            None => write!(f, "ReplyBody(stream)"),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Ready(frames) => Poll::Ready(frames.pop_front().map(|bytes| Ok(Frame::data(bytes)))),
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
