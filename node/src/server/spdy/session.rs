//! A SPDY/3.1 connection as the accepting side: the peer opens streams, each of which becomes a byte stream.
//!
//! The peers of this protocol ignore windows and send none, so what they send is held back by the connection
//! alone; windows are still opened for a peer that heeds them.

use std::{collections::HashMap, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    SpdyError,
    frame::{self, Frame},
    headers::{Compressor, Decompressor, Headers},
};

/// No connection has more streams at once.
const MOST_STREAMS: usize = 256;
/// What a stream may hold that nobody has read.
const BUFFER: usize = 256 << 10;
/// Frames that wait to be written.
const MOST_WAITING: usize = 64;
/// What is sent at once.
const CHUNK: usize = 32 << 10;
/// A connection on which nothing happens for so long is dead (upstream's idle limit is four hours, too).
const LONGEST_IDLE: Duration = Duration::from_secs(4 * 3600);

/// A stream that the peer has opened.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What it's for.
    pub headers: Headers,
    /// Its bytes, both ways. Shutting it down ends this side of it.
    pub io: DuplexStream,
}

/// Serves a connection until either side ends it; each new stream goes to `opened`. When nobody takes new streams
/// any more and the open ones have ended, the connection is closed.
///
/// # Errors
/// If the peer breaks the protocol or the connection fails.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    opened: mpsc::Sender<Stream>,
) -> Result<(), SpdyError> {
    let (reader, writer) = tokio::io::split(io);
    let (frames, waiting) = mpsc::channel(MOST_WAITING);
    let write = write_all(writer, waiting);
    let mut session = Session {
        frames,
        opened: Some(opened),
        inputs: HashMap::new(),
        outputs: JoinSet::new(),
        decompressor: Decompressor::default(),
        last: 0,
    };
    let read = session.read_all(reader);
    tokio::pin!(write);
    tokio::select! {
        done = read => {
            done?;
            // What is still to be said is said before the connection ends.
            drop(session);
            write.await
        }
        done = &mut write => done,
    }
}

/// A frame to be written; headers are compressed in the order of writing.
enum Outgoing {
    Frame(Frame),
    Reply(u32),
}

struct Session {
    frames: mpsc::Sender<Outgoing>,
    opened: Option<mpsc::Sender<Stream>>,
    /// Where what comes for a stream goes.
    inputs: HashMap<u32, WriteHalf<DuplexStream>>,
    /// What is sent on each stream; ends with that side of the stream.
    outputs: JoinSet<u32>,
    decompressor: Decompressor,
    last: u32,
}

impl Session {
    async fn read_all(&mut self, mut reader: impl AsyncRead + Unpin) -> Result<(), SpdyError> {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let mut any = false;
        loop {
            while let Some(frame) = frame::take(&mut buffer)? {
                any = true;
                if !self.take(frame).await? {
                    return Ok(());
                }
            }
            tokio::select! {
                read = tokio::time::timeout(LONGEST_IDLE, reader.read_buf(&mut buffer)) => match read {
                    Ok(Ok(0)) | Err(_) => return Ok(()),
                    Ok(read) => { read?; }
                },
                Some(_) = self.outputs.join_next() => {
                    let unwanted = self.opened.as_ref().is_none_or(mpsc::Sender::is_closed);
                    if any && unwanted && self.outputs.is_empty() {
                        self.send(Frame::GoAway { last: self.last }).await?;
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Does what a frame asks; false if the connection is to end.
    async fn take(&mut self, frame: Frame) -> Result<bool, SpdyError> {
        match frame {
            Frame::SynStream { stream, fin, block } => {
                let headers = self.decompressor.headers(&block)?;
                self.open(stream, fin, headers).await?;
            }
            Frame::Data { stream, fin, data } => self.data(stream, fin, data).await?,
            Frame::Headers { stream, fin, block } => {
                self.decompressor.headers(&block)?;
                if fin {
                    self.finish(stream).await;
                }
            }
            Frame::Reset { stream, .. } => self.finish(stream).await,
            Frame::Ping(id) => self.send(Frame::Ping(id)).await?,
            Frame::GoAway { .. } => return Ok(self.drained()),
            Frame::SynReply { block, .. } => {
                self.decompressor.headers(&block)?;
            }
            Frame::WindowUpdate { .. } | Frame::Settings | Frame::Unknown => {}
        }
        Ok(true)
    }

    fn drained(&mut self) -> bool {
        self.opened = None;
        !self.inputs.is_empty() || !self.outputs.is_empty()
    }

    async fn open(&mut self, stream: u32, fin: bool, headers: Headers) -> Result<(), SpdyError> {
        if stream.is_multiple_of(2) || stream <= self.last {
            return Err(SpdyError::Malformed("a stream's number is not a new odd one"));
        }
        self.last = stream;
        while let Some(done) = self.outputs.try_join_next() {
            drop(done);
        }
        let refuse = Frame::Reset { stream, status: 3 };
        if self.inputs.len().max(self.outputs.len()) >= MOST_STREAMS {
            return self.send(refuse).await;
        }
        let Some(opened) = self.opened.clone() else { return self.send(refuse).await };
        let (own, theirs) = tokio::io::duplex(BUFFER);
        if opened.send(Stream { id: stream, headers, io: theirs }).await.is_err() {
            return self.send(refuse).await;
        }
        let (output, mut input) = tokio::io::split(own);
        if fin {
            // Whoever reads it has gone already if this fails.
            input.shutdown().await.ok();
        } else {
            self.inputs.insert(stream, input);
        }
        self.frames.send(Outgoing::Reply(stream)).await.map_err(|_| gone())?;
        let frames = self.frames.clone();
        self.outputs.spawn(send_stream(stream, output, frames));
        Ok(())
    }

    async fn data(&mut self, stream: u32, fin: bool, data: Bytes) -> Result<(), SpdyError> {
        let Some(input) = self.inputs.get_mut(&stream) else { return Ok(()) };
        let length = u32::try_from(data.len()).unwrap_or(0);
        if input.write_all(&data).await.is_err() {
            // Nobody reads it any more: what else comes is passed over.
            self.inputs.remove(&stream);
        }
        if length > 0 {
            self.send(Frame::WindowUpdate { stream, delta: length }).await?;
            self.send(Frame::WindowUpdate { stream: 0, delta: length }).await?;
        }
        if fin {
            self.finish(stream).await;
        }
        Ok(())
    }

    async fn finish(&mut self, stream: u32) {
        if let Some(mut input) = self.inputs.remove(&stream) {
            // Whoever reads it has gone already if this fails.
            input.shutdown().await.ok();
        }
    }

    async fn send(&self, frame: Frame) -> Result<(), SpdyError> {
        self.frames.send(Outgoing::Frame(frame)).await.map_err(|_| gone())
    }
}

fn gone() -> SpdyError {
    SpdyError::Io(std::io::ErrorKind::BrokenPipe.into())
}

async fn send_stream(stream: u32, mut output: ReadHalf<DuplexStream>, frames: mpsc::Sender<Outgoing>) -> u32 {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = output.read_buf(&mut chunk).await.unwrap_or(0);
        let frame = Frame::Data { stream, fin: read == 0, data: chunk.freeze() };
        if frames.send(Outgoing::Frame(frame)).await.is_err() || read == 0 {
            return stream;
        }
    }
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut waiting: mpsc::Receiver<Outgoing>,
) -> Result<(), SpdyError> {
    let mut compressor = Compressor::new()?;
    let mut out = BytesMut::with_capacity(CHUNK * 2);
    while let Some(first) = waiting.recv().await {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Frame(frame) => frame::put(&frame, &mut out),
                Outgoing::Reply(stream) => {
                    let block = compressor.block(&Headers::new())?;
                    frame::put(&Frame::SynReply { stream, fin: false, block }, &mut out);
                }
            }
            next = if out.len() < CHUNK { waiting.try_recv().ok() } else { None };
        }
        writer.write_all(&out).await?;
        writer.flush().await?;
        out.clear();
    }
    writer.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The opening side, as old kubectl's.
    struct Peer {
        io: DuplexStream,
        compressor: Compressor,
        decompressor: Decompressor,
        buffer: BytesMut,
    }

    impl Peer {
        fn new(io: DuplexStream) -> Self {
            Self {
                io,
                compressor: Compressor::new().unwrap(),
                decompressor: Decompressor::default(),
                buffer: BytesMut::new(),
            }
        }

        async fn send(&mut self, frame: Frame) {
            let mut out = BytesMut::new();
            frame::put(&frame, &mut out);
            self.io.write_all(&out).await.unwrap();
        }

        async fn open(&mut self, stream: u32, kind: &str) {
            let block = self.compressor.block(&vec![("streamtype".into(), kind.into())]).unwrap();
            self.send(Frame::SynStream { stream, fin: false, block }).await;
        }

        /// The next frame that isn't about windows.
        async fn next(&mut self) -> Option<Frame> {
            loop {
                while let Some(frame) = frame::take(&mut self.buffer).unwrap() {
                    match frame {
                        Frame::WindowUpdate { .. } => {}
                        Frame::SynReply { block, stream, fin } => {
                            self.decompressor.headers(&block).unwrap();
                            return Some(Frame::SynReply { block: Bytes::new(), stream, fin });
                        }
                        other => return Some(other),
                    }
                }
                if self.io.read_buf(&mut self.buffer).await.unwrap() == 0 {
                    return None;
                }
            }
        }
    }

    #[tokio::test]
    async fn streams_carry_bytes_both_ways_and_end_on_their_own() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (opened, mut streams) = mpsc::channel(8);
        let server = tokio::spawn(serve(here, opened));
        let mut peer = Peer::new(there);
        peer.open(1, "stdin").await;
        assert_eq!(peer.next().await, Some(Frame::SynReply { stream: 1, fin: false, block: Bytes::new() }));
        let mut stream = streams.recv().await.unwrap();
        assert_eq!(frame::header(&stream.headers, "streamtype"), Some("stdin"));
        peer.send(Frame::Data { stream: 1, fin: true, data: Bytes::from_static(b"hello") }).await;
        let mut got = String::new();
        stream.io.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "hello");
        stream.io.write_all(b"world").await.unwrap();
        assert_eq!(peer.next().await, Some(Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"world") }));
        drop(stream);
        assert_eq!(peer.next().await, Some(Frame::Data { stream: 1, fin: true, data: Bytes::new() }));
        peer.send(Frame::Ping(7)).await;
        assert_eq!(peer.next().await, Some(Frame::Ping(7)));
        drop(peer);
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_connection_ends_when_nobody_wants_streams_and_none_is_open() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (opened, mut streams) = mpsc::channel(8);
        let server = tokio::spawn(serve(here, opened));
        let mut peer = Peer::new(there);
        peer.open(1, "error").await;
        let stream = streams.recv().await.unwrap();
        drop(streams);
        drop(stream);
        let mut last = None;
        while let Some(frame) = peer.next().await {
            last = Some(frame);
        }
        assert_eq!(last, Some(Frame::GoAway { last: 1 }));
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_breaks_the_protocol_is_cut_off() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x80, 2, 0, 1, 0, 0, 0, 0]] {
            let (here, mut there) = tokio::io::duplex(1 << 16);
            let (opened, _streams) = mpsc::channel(8);
            there.write_all(bytes).await.unwrap();
            let server = tokio::spawn(serve(here, opened));
            let mut rest = Vec::new();
            if bytes[0] == 0x80 {
                assert!(server.await.unwrap().is_err());
            } else {
                // A data frame that never ends: nothing happens until the peer goes.
                there.shutdown().await.unwrap();
                server.await.unwrap().ok();
            }
            there.read_to_end(&mut rest).await.ok();
        }
    }

    #[tokio::test]
    async fn a_stream_with_an_old_number_is_refused() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (opened, _streams) = mpsc::channel(8);
        let server = tokio::spawn(serve(here, opened));
        let mut peer = Peer::new(there);
        peer.open(3, "data").await;
        peer.open(1, "data").await;
        assert!(server.await.unwrap().is_err());
    }
}
