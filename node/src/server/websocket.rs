//! WebSockets as remote commands and port-forwards use them: one byte of channel, then data (RFC 6455 below it).

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::streams::{BUFFER, Streams, Wanted};

mod channels;

use channels::{Coding, Outputs, move_channels, send_all};

/// The channel protocol that can end single channels.
pub const V5: &str = "v5.channel.k8s.io";
/// The channel protocol before it.
pub const V4: &str = "v4.channel.k8s.io";
/// The same, for browsers: in texts.
pub const V4_BASE64: &str = "v4.base64.channel.k8s.io";
/// The channel protocol before versions: how a command ended is told in words.
pub const CHANNEL: &str = "channel.k8s.io";
/// The same in texts.
pub const BASE64_CHANNEL: &str = "base64.channel.k8s.io";
/// What is spoken with a client that names no protocol: of a command [`CHANNEL`], of ports [`V4`].
pub const UNNAMED: &str = "";
/// SPDY bytes inside a WebSocket.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// What is spoken for remote commands.
pub const OF_COMMANDS: [&str; 6] = [V5, V4, V4_BASE64, CHANNEL, BASE64_CHANNEL, UNNAMED];
/// What is spoken for port-forwards.
pub const OF_PORTS: [&str; 4] = [TUNNEL, V4, V4_BASE64, UNNAMED];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// No message is longer; clients send at most 32 KiB at once.
const LONGEST_MESSAGE: usize = 4 << 20;
/// What is sent at once.
const CHUNK: usize = 32 << 10;
/// Messages that wait to be sent.
const MOST_WAITING: usize = 16;

async fn socket<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config =
        WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE)).max_frame_size(Some(LONGEST_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves the channels of a remote command on `io`, in a protocol of [`OF_COMMANDS`]: hands back this side's streams and what
/// moves their bytes.
pub async fn command<S>(io: S, wanted: Wanted, protocol: &str) -> (Streams, impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut peers = BTreeMap::new();
    let mut channel = |number: u8, is_wanted: bool| {
        is_wanted.then(|| {
            let (own, peer) = tokio::io::duplex(BUFFER);
            peers.insert(number, peer);
            own
        })
    };
    let stdin = channel(STDIN, wanted.stdin);
    let stdout = channel(STDOUT, wanted.stdout);
    let stderr = channel(STDERR, wanted.stderr && !wanted.tty);
    let resize = channel(RESIZE, wanted.tty);
    let (error, peer) = tokio::io::duplex(BUFFER);
    peers.insert(ERROR, peer);
    let in_words = matches!(protocol, CHANNEL | BASE64_CHANNEL | UNNAMED);
    let streams = Streams { stdin, stdout, stderr, error, in_words, resize };
    // An empty message shows that the connection is there, as upstream's does.
    let lowest = [STDOUT, STDERR].into_iter().find(|number| peers.contains_key(number)).unwrap_or(ERROR);
    let first = vec![Bytes::copy_from_slice(&[lowest])];
    // How it ended is the last word: there are clients who close what was written once they have heard it.
    let outputs = Outputs { coding: Coding::of(protocol), first, together: vec![STDOUT, STDERR], last: Some(ERROR) };
    (streams, move_channels(socket(io).await, peers, outputs))
}

/// Serves the channels of a port-forward on `io`, in a protocol of [`OF_PORTS`]: two per port, the second of which tells errors.
pub async fn ports<S>(
    io: S,
    ports: &[u16],
    protocol: &str,
) -> (Vec<(u16, DuplexStream, DuplexStream)>, impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut peers = BTreeMap::new();
    let (mut forwards, mut first) = (Vec::new(), Vec::new());
    for (port, number) in ports.iter().zip((0u8..=254).step_by(2)) {
        let (data, data_peer) = tokio::io::duplex(BUFFER);
        let (error, error_peer) = tokio::io::duplex(BUFFER);
        // Each channel begins with its port, in a message of its own.
        let [low, high] = port.to_le_bytes();
        for (channel, peer) in [(number, data_peer), (number + 1, error_peer)] {
            first.push(Bytes::copy_from_slice(&[channel, low, high]));
            peers.insert(channel, peer);
        }
        forwards.push((*port, data, error));
    }
    let together = peers.keys().copied().collect();
    let outputs = Outputs { coding: Coding::of(protocol), first, together, last: None };
    (forwards, move_channels(socket(io).await, peers, outputs))
}

/// Carries bytes inside a WebSocket: hands back the byte stream and what moves it.
pub async fn tunnel<S>(io: S) -> (DuplexStream, impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (own, peer) = tokio::io::duplex(BUFFER);
    let (sink, mut source) = socket(io).await.split();
    let (mut output, mut input) = tokio::io::split(peer);
    let (messages, waiting) = mpsc::channel(MOST_WAITING);
    let receive = async move {
        while let Some(Ok(message)) = source.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Close(_) => break,
                _ => continue,
            };
            if input.write_all(&data).await.is_err() {
                break;
            }
        }
        input.shutdown().await.ok();
    };
    let read = async move {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            if output.read_buf(&mut chunk).await.unwrap_or(0) == 0 {
                return;
            }
            if messages.send(Message::Binary(chunk.freeze())).await.is_err() {
                return;
            }
        }
    };
    (own, async move {
        tokio::join!(receive, read, send_all(sink, waiting));
    })
}

#[cfg(test)]
mod tests {
    use futures::SinkExt as _;

    use super::{channels::CLOSE, *};
    use crate::server::streams::Outcome;

    async fn client(io: DuplexStream) -> WebSocketStream<DuplexStream> {
        WebSocketStream::from_raw_socket(io, Role::Client, None).await
    }

    #[tokio::test]
    async fn channels_carry_a_command_and_its_end() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
        let (mut streams, pump) = command(here, wanted, V5).await;
        let pump = tokio::spawn(pump);
        let mut client = client(there).await;
        client.send(Message::Binary(Bytes::from_static(b"\x00hello"))).await.unwrap();
        client.send(Message::Binary(Bytes::from_static(b"\xff\x00"))).await.unwrap();
        let mut typed = String::new();
        streams.stdin.take().unwrap().read_to_string(&mut typed).await.unwrap();
        assert_eq!(typed, "hello");
        let mut stdout = streams.stdout.take().unwrap();
        stdout.write_all(b"out").await.unwrap();
        streams.finish(&Outcome::Exited(0)).await;
        stdout.write_all(b" and more").await.unwrap();
        drop(stdout);
        let mut got = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Message::Binary(data) = message {
                got.push(data);
            }
        }
        let (end, said) = got.split_last().unwrap();
        assert_eq!(end, &Bytes::from_static(b"\x03{\"metadata\":{},\"status\":\"Success\"}"));
        assert!(said.iter().all(|message| message.first() == Some(&STDOUT)), "the end comes last");
        let out: Vec<u8> = said.iter().flat_map(|message| message.iter().skip(1).copied()).collect();
        assert_eq!(out, b"out and more");
        assert!(got.iter().all(|message| message.first() != Some(&CLOSE)), "only clients end single channels");
        pump.await.unwrap();
    }

    #[tokio::test]
    async fn each_channel_of_a_port_begins_with_its_number_in_a_message_of_its_own() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (forwards, pump) = ports(here, &[0x1234], V4).await;
        let pump = tokio::spawn(pump);
        for (_, mut data, error) in forwards {
            data.write_all(b"answer").await.unwrap();
            drop((data, error));
        }
        let mut client = client(there).await;
        let mut got = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Message::Binary(data) = message {
                got.push(data);
            }
        }
        assert_eq!(got, [&b"\x00\x34\x12"[..], b"\x01\x34\x12", b"\x00answer"]);
        pump.await.unwrap();
    }

    #[tokio::test]
    async fn before_versions_and_in_texts_an_end_is_told_in_words() {
        for (protocol, wanted_messages) in [
            (
                CHANNEL,
                [
                    &b"\x01"[..],
                    b"\x01out",
                    b"\x03command terminated with non-zero exit code: command terminated with exit code 3",
                ],
            ),
            (
                BASE64_CHANNEL,
                [&b"1"[..], b"1b3V0", b"3Y29tbWFuZCB0ZXJtaW5hdGVkIHdpdGggbm9uLXplcm8gZXhpdCBjb2RlOiBjb21tYW5kIHRlcm1pbmF0ZWQgd2l0aCBleGl0IGNvZGUgMw=="],
            ),
        ] {
            let (here, there) = tokio::io::duplex(1 << 16);
            let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
            let (mut streams, pump) = command(here, wanted, protocol).await;
            let pump = tokio::spawn(pump);
            let mut client = client(there).await;
            let typed = Coding::of(protocol).message(Bytes::from_static(b"\x00hello"));
            client.send(typed).await.unwrap();
            let mut stdin = streams.stdin.take().unwrap();
            let mut got = [0; 5];
            stdin.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"hello");
            let mut stdout = streams.stdout.take().unwrap();
            stdout.write_all(b"out").await.unwrap();
            drop(stdout);
            streams.finish(&Outcome::Exited(3)).await;
            let mut got = Vec::new();
            while let Some(Ok(message)) = client.next().await {
                if !message.is_close() {
                    assert_eq!(message.is_text(), protocol == BASE64_CHANNEL);
                    got.push(message.into_data());
                }
            }
            assert_eq!(got, wanted_messages);
            drop(stdin);
            pump.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_what_it_typed() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let wanted = Wanted { stdin: true, ..Wanted::default() };
        let (mut streams, pump) = command(here, wanted, V5).await;
        let pump = tokio::spawn(pump);
        drop(there);
        let mut typed = Vec::new();
        streams.stdin.take().unwrap().read_to_end(&mut typed).await.unwrap();
        assert!(typed.is_empty());
        drop(streams);
        pump.await.unwrap();
    }

    #[tokio::test]
    async fn a_tunnel_carries_bytes_both_ways() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (mut bytes, pump) = tunnel(here).await;
        let pump = tokio::spawn(pump);
        let mut client = client(there).await;
        client.send(Message::Binary(Bytes::from_static(b"abc"))).await.unwrap();
        let mut got = [0; 3];
        bytes.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"abc");
        bytes.write_all(b"xyz").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"xyz")));
        drop(bytes);
        client.close(None).await.ok();
        while let Some(Ok(_)) = client.next().await {}
        pump.await.unwrap();
    }
}
