//! Channels in messages: how their bytes get onto a socket and off it.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    future::FusedFuture as _,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{BASE64_CHANNEL, CHUNK, MOST_WAITING, V4_BASE64};

/// Ends the channel that its data names (version 5, from clients only).
pub(super) const CLOSE: u8 = 255;
/// How long a peer has to answer the close of a stream.
const FAREWELL: Duration = Duration::from_secs(2);
/// So often a quiet connection is shown to be alive, for whatever stands between.
const PING: Duration = Duration::from_secs(30);

/// How a channel's number and data are one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// A byte, and the data.
    Binary,
    /// A digit, and the data in base64.
    Base64,
}

impl Coding {
    pub(super) fn of(protocol: &str) -> Self {
        if matches!(protocol, V4_BASE64 | BASE64_CHANNEL) { Self::Base64 } else { Self::Binary }
    }

    /// `framed` begins with the channel's number.
    pub(super) fn message(self, framed: Bytes) -> Message {
        match (self, framed.split_first()) {
            (Self::Base64, Some((number, data))) => {
                let mut text = String::from(char::from(b'0'.wrapping_add(*number)));
                STANDARD.encode_string(data, &mut text);
                Message::Text(text.into())
            }
            _ => Message::Binary(framed),
        }
    }

    /// Channel and data of a message; none of one that has no channel, or isn't base64 where it should be.
    fn read(self, message: Bytes) -> Option<(u8, Bytes)> {
        let (first, data) = message.split_first()?;
        match self {
            Self::Binary => Some((*first, message.slice(1..))),
            Self::Base64 => Some((first.wrapping_sub(b'0'), STANDARD.decode(data).ok()?.into())),
        }
    }
}

/// What is sent, in which order.
pub(super) struct Outputs {
    pub(super) coding: Coding,
    /// What comes before all others, each with its channel's number.
    pub(super) first: Vec<Bytes>,
    /// Channels whose messages are sent as they come.
    pub(super) together: Vec<u8>,
    /// The channel that is sent when those have ended.
    pub(super) last: Option<u8>,
}

/// Moves bytes between channels and the socket until all outputs have ended or the peer has gone.
pub(super) async fn move_channels<S>(socket: WebSocketStream<S>, peers: BTreeMap<u8, DuplexStream>, outputs: Outputs)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, source) = socket.split();
    let coding = outputs.coding;
    for framed in outputs.first {
        if sink.send(coding.message(framed)).await.is_err() {
            return;
        }
    }
    let (messages, waiting) = mpsc::channel(MOST_WAITING);
    let mut inputs = BTreeMap::new();
    let mut readers = JoinSet::new();
    let mut last = None;
    for (number, peer) in peers {
        let (output, input) = tokio::io::split(peer);
        inputs.insert(number, input);
        if outputs.together.contains(&number) {
            readers.spawn(send_channel(coding, number, output, messages.clone()));
        } else if outputs.last == Some(number) {
            last = Some((number, output));
        }
    }
    let ended = async move {
        while readers.join_next().await.is_some() {}
        if let Some((number, output)) = last {
            send_channel(coding, number, output, messages).await;
        }
    };
    let send = send_all(sink, waiting);
    let receive = receive_all(coding, source, inputs).fuse();
    tokio::pin!(receive);
    let has_said_all = tokio::select! {
        ((), ()) = async { tokio::join!(ended, send) } => true,
        () = async { (&mut receive).await; futures::future::pending::<()>().await } => false,
    };
    // The peer is given time to answer the close: cutting it off could take the last message with it.
    if has_said_all && !receive.is_terminated() && tokio::time::timeout(FAREWELL, receive).await.is_err() {
        tracing::debug!("the peer of a stream did not answer its close");
    }
}

/// Sends what a channel has to say.
async fn send_channel(coding: Coding, number: u8, mut output: ReadHalf<DuplexStream>, messages: mpsc::Sender<Message>) {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        chunk.extend_from_slice(&[number]);
        let read = output.read_buf(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        if messages.send(coding.message(chunk.freeze())).await.is_err() {
            return;
        }
    }
}

/// Sends messages until there are no more, and says goodbye.
pub(super) async fn send_all<S>(mut sink: SplitSink<WebSocketStream<S>, Message>, mut waiting: mpsc::Receiver<Message>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match tokio::time::timeout(PING, waiting.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(_) => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // A peer that has gone needs no farewell.
    let farewell = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    sink.send(Message::Close(Some(farewell))).await.ok();
    sink.close().await.ok();
}

async fn receive_all<S>(
    coding: Coding,
    mut source: SplitStream<WebSocketStream<S>>,
    mut inputs: BTreeMap<u8, WriteHalf<DuplexStream>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = source.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => break,
            _ => continue,
        };
        let Some((number, data)) = coding.read(data) else { continue };
        match data.first() {
            Some(closed) if number == CLOSE => end(&mut inputs, *closed).await,
            Some(_) => {
                if let Some(input) = inputs.get_mut(&number)
                    && input.write_all(&data).await.is_err()
                {
                    inputs.remove(&number);
                }
            }
            None => {}
        }
    }
    let open: Vec<u8> = inputs.keys().copied().collect();
    for number in open {
        end(&mut inputs, number).await;
    }
}

async fn end(inputs: &mut BTreeMap<u8, WriteHalf<DuplexStream>>, number: u8) {
    if let Some(mut input) = inputs.remove(&number) {
        // Whoever reads it has gone already if this fails.
        input.shutdown().await.ok();
    }
}
