//! Connections of HTTP/1.1: `hyper` serves them, and is sent off while all a connection does is wait for events.
//!
//! Most clients that speak HTTP/1.1 open a connection for each watch, and `hyper` keeps 24 KiB of buffers for each, in sizes
//! that it does not let us choose. It knows nothing that the rest of a watch takes: its head is sent, what follows are chunks
//! (RFC 9112, 7.1). So it is taken apart once everything so far is on its way, the chunks are written here, and another one
//! serves what comes after them.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, buf::Chain};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1::{Builder, UpgradeableConnection},
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_util::{io::poll_write_buf, sync::CancellationToken};

use crate::http::{
    body::{BoxError, ReplyBody},
    reply::Reply,
};

/// How much is read at once of what a client sends ahead of a watch's end; the rest waits in the kernel.
const EARLY_BYTES: usize = 256;
/// How long a connection may take to close: its client may have left without a word, or take nothing more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const END_OF_CHUNK: Bytes = Bytes::from_static(b"\r\n");
const END_OF_CHUNKS: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Http1Error {
    /// While requests were served.
    #[error("serving requests")]
    Serve(#[source] hyper::Error),
    /// While a watch was served.
    #[error("serving a stream")]
    Stream(#[source] io::Error),
}

/// Serves a connection until its client leaves, or until `drain` and the end of what is running then.
pub(super) async fn serve<I, A, F>(
    settings: Arc<Builder>,
    stream: I,
    answer: A,
    drain: CancellationToken,
) -> Result<(), Http1Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Unpin,
    F: Future<Output = Reply>,
{
    let shelf = Arc::new(Shelf::default());
    let shown = Arc::clone(&shelf);
    let mut service = service_fn(move |request: Request<Incoming>| {
        let shelf = is_plain_get(&request).then(|| Arc::clone(&shown));
        let answered = answer(request);
        async move { Ok::<_, Infallible>(lent(answered.await, shelf)) }
    });
    let mut stream = stream;
    let mut early = Bytes::new();
    loop {
        let line = Line { inner: TokioIo::new(stream), early, shelf: Arc::clone(&shelf) };
        // On the heap, so that it takes no place while it is gone.
        let connection = Box::new(settings.serve_connection(line, service).with_upgrades());
        let Some(set_aside) = until_idle(connection, &shelf, &drain).await.map_err(Http1Error::Serve)? else {
            return Ok(());
        };
        service = set_aside.service;
        let mut telling = Telling::new(set_aside.stream, set_aside.body, set_aside.early);
        let over = telling.run().await.map_err(Http1Error::Stream)?;
        let told;
        Telling { stream, early, body: told, .. } = telling;
        // Before anything is waited for: nothing is gathered for a client that has left.
        drop(told);
        if over == Over::Gone || drain.is_cancelled() {
            return close(stream, CLOSE_TIMEOUT).await.map_err(Http1Error::Stream);
        }
    }
}

/// Closes a connection. What its client does not take any more is not waited for without end.
async fn close(mut stream: impl AsyncWrite + Unpin, patience: Duration) -> io::Result<()> {
    let closed = tokio::time::timeout(patience, stream.shutdown()).await;
    closed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether nothing but the answer to a request will be sent or read until the answer is over, and the connection goes on then.
fn is_plain_get(request: &Request<Incoming>) -> bool {
    let mut told = request.headers().get_all(header::CONNECTION).iter();
    let goes_on = told.all(|told| told.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && !request.headers().contains_key(header::UPGRADE)
        && goes_on
}

/// Whether an answer is sent in chunks whose number nobody knows.
fn is_chunked(status: StatusCode, headers: &HeaderMap) -> bool {
    let otherwise = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::TRAILER];
    status == StatusCode::OK && !otherwise.iter().any(|name| headers.contains_key(name))
}

fn lent(reply: Reply, shelf: Option<Arc<Shelf>>) -> Response<Lent> {
    let (parts, body) = reply.into_parts();
    let body = match (body, shelf) {
        (body @ ReplyBody::Lasting(..), Some(shelf)) if is_chunked(parts.status, &parts.headers) => {
            *shelf.body.lock() = Some(body);
            Lent::Shared(shelf)
        }
        (body, _) => Lent::Given(body),
    };
    Response::from_parts(parts, body)
}

/// What a connection and its server share: the body of the answer that is being sent, and what is known of it.
#[derive(Default)]
struct Shelf {
    body: Mutex<Option<ReplyBody>>,
    /// The body has nothing to send now.
    waits: AtomicBool,
    /// The server may have bytes that were not written.
    holds: AtomicBool,
}

impl Shelf {
    /// Takes the body back, if all of it so far has been written.
    fn take_waiting(&self) -> Option<ReplyBody> {
        let idle = self.waits.load(Ordering::Relaxed) && !self.holds.load(Ordering::Relaxed);
        if idle { self.take() } else { None }
    }

    fn take(&self) -> Option<ReplyBody> {
        self.waits.store(false, Ordering::Relaxed);
        self.body.lock().take()
    }
}

/// A body that is given away, or that can be taken back.
enum Lent {
    Given(ReplyBody),
    Shared(Arc<Shelf>),
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Given(body) => Pin::new(body).poll_frame(cx),
            Self::Shared(shelf) => {
                let mut body = shelf.body.lock();
                let polled = body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx));
                shelf.waits.store(polled.is_pending(), Ordering::Relaxed);
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Given(body) if body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Given(body) => body.size_hint(),
            Self::Shared(_) => SizeHint::default(),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Self::Shared(shelf) = self {
            drop(shelf.take());
        }
    }
}

/// A connection as `hyper` sees it: what was read too early comes first, and what it holds back is known.
struct Line<I> {
    inner: TokioIo<I>,
    early: Bytes,
    shelf: Arc<Shelf>,
}

impl<I: AsyncRead + Unpin> Read for Line<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let fits = this.early.len().min(buf.remaining());
        buf.put_slice(&this.early.split_to(fits));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> Write for Line<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shelf.holds.store(true, Ordering::Relaxed);
        Pin::new(&mut this.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.shelf.holds.store(true, Ordering::Relaxed);
        Pin::new(&mut this.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// `hyper` flushes once it has handed out all it had.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.inner).poll_flush(cx);
        // TLS may still hold what it took.
        if done.is_ready() {
            this.shelf.holds.store(false, Ordering::Relaxed);
        }
        done
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// What is left of a connection while a stream waits.
struct SetAside<I, S> {
    stream: I,
    service: S,
    body: ReplyBody,
    early: Bytes,
}

/// Lets `hyper` serve until the connection is over (none), or until all that is left to do is to wait for a stream.
async fn until_idle<I, S>(
    mut connection: Box<UpgradeableConnection<Line<I>, S>>,
    shelf: &Shelf,
    drain: &CancellationToken,
) -> hyper::Result<Option<SetAside<I, S>>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Lent>, Error = Infallible> + Unpin,
{
    let mut draining = false;
    let mut drained = pin!(drain.cancelled());
    let body = std::future::poll_fn(|cx| {
        if !draining && drained.as_mut().poll(cx).is_ready() {
            draining = true;
            Pin::new(&mut *connection).graceful_shutdown();
        }
        match Pin::new(&mut *connection).poll(cx) {
            Poll::Ready(over) => Poll::Ready(over.map(|()| None)),
            Poll::Pending if draining => Poll::Pending,
            Poll::Pending => shelf.take_waiting().map_or(Poll::Pending, |body| Poll::Ready(Ok(Some(body)))),
        }
    })
    .await?;
    Ok(body.and_then(|body| {
        let parts = connection.into_parts()?;
        // A copy, since the original is a part of a large buffer.
        let early = [&parts.read_buf[..], &parts.io.early[..]].concat().into();
        Some(SetAside { stream: parts.io.inner.into_inner(), service: parts.service, body, early })
    }))
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// All of it is sent.
    Told,
    /// The client has left.
    Gone,
}

/// The rest of a chunked answer.
struct Telling<I> {
    stream: I,
    body: ReplyBody,
    /// What is being written.
    chunk: Option<Chain<Chain<Bytes, Bytes>, Bytes>>,
    flushed: bool,
    told: bool,
    early: Bytes,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Telling<I> {
    fn new(stream: I, body: ReplyBody, early: Bytes) -> Self {
        Self { stream, body, chunk: None, flushed: false, told: false, early }
    }

    async fn run(&mut self) -> io::Result<Over> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Over>> {
        while self.poll_send(cx)?.is_ready() {
            if self.told {
                return Poll::Ready(Ok(Over::Told));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { break };
            let head = match frame.transpose().map_err(io::Error::other)?.map(Frame::into_data) {
                Some(Ok(data)) if data.is_empty() => continue,
                Some(Ok(data)) => Bytes::from(format!("{:X}\r\n", data.len())).chain(data).chain(END_OF_CHUNK),
                // Nobody is told of trailers.
                Some(Err(_)) => continue,
                None => {
                    self.told = true;
                    END_OF_CHUNKS.chain(Bytes::new()).chain(Bytes::new())
                }
            };
            self.chunk = Some(head);
        }
        self.poll_heard(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(chunk) = self.chunk.as_mut() {
            self.flushed = false;
            if ready!(poll_write_buf(Pin::new(&mut self.stream), cx, chunk))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if !chunk.has_remaining() {
                self.chunk = None;
            }
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Notices when the client leaves. What it asks for next must wait, and nothing more is read then.
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Over>> {
        if !self.early.is_empty() {
            return Poll::Pending;
        }
        let mut room = [0; EARLY_BYTES];
        let mut read = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Ok(Over::Gone));
        }
        self.early = Bytes::copy_from_slice(read.filled());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
