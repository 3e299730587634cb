use futures::{
    StreamExt as _,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream, duplex},
    task::JoinHandle,
};

use super::*;
use crate::{http::reply, metrics::Lasting};

type Sent = Result<Bytes, BoxError>;
type Served = JoinHandle<Result<(), Http1Error>>;

const WATCH: &str = "GET /watch HTTP/1.1\r\nhost: x\r\n\r\n";
const OTHER: &str = "GET /other HTTP/1.1\r\nhost: x\r\n\r\n";

/// A connection whose `/watch` tells what is sent to the second.
fn connected(drain: &CancellationToken) -> (DuplexStream, UnboundedSender<Sent>, Served) {
    let (client, server) = duplex(1 << 20);
    let (events, served) = served_on(server, drain);
    (client, events, served)
}

/// A connection that takes all that it is given, as TLS does, and sends it when it is flushed and the client has room.
fn held_back() -> (DuplexStream, UnboundedSender<Sent>, Served) {
    let (client, server) = duplex(64);
    let server = tokio::io::BufWriter::with_capacity(1 << 16, server);
    let (events, served) = served_on(server, &CancellationToken::new());
    (client, events, served)
}

fn served_on(
    server: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    drain: &CancellationToken,
) -> (UnboundedSender<Sent>, Served) {
    let (events, told) = unbounded();
    let told = Arc::new(Mutex::new(Some(told)));
    let answer = move |request: Request<Incoming>| {
        let told: Option<UnboundedReceiver<Sent>> = told.lock().take_if(|_| request.uri().path() == "/watch");
        std::future::ready(match told {
            None => reply::text(200, "other"),
            Some(told) => {
                let body = ReplyBody::Lasting(told.boxed(), Arc::new(Lasting::uncounted()));
                reply::json_body(200, body)
            }
        })
    };
    (events, tokio::spawn(serve(Arc::new(Builder::new()), server, answer, drain.clone())))
}

/// Reads until the connection has told this much.
async fn until(client: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(client.read_u8().await.unwrap_or_else(|_| panic!("ended with {}", String::from_utf8_lossy(&read))));
    }
    String::from_utf8(read).unwrap()
}

async fn say(client: &mut DuplexStream, said: &str) {
    client.write_all(said.as_bytes()).await.unwrap();
}

fn tell(events: &UnboundedSender<Sent>, event: &str) {
    events.unbounded_send(Ok(Bytes::copy_from_slice(event.as_bytes()))).unwrap();
}

#[tokio::test]
async fn a_stream_is_told_in_chunks_and_requests_follow_it() {
    let (mut client, events, _served) = connected(&CancellationToken::new());
    say(&mut client, OTHER).await;
    until(&mut client, "other").await;
    tell(&events, "first\n");
    say(&mut client, WATCH).await;
    let head = until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(until(&mut client, "first\n\r\n").await, "6\r\nfirst\n\r\n");
    for event in ["second\n", "x".repeat(70_000).as_str(), "third\n"] {
        tell(&events, event);
        let chunk = format!("{:X}\r\n{event}\r\n", event.len());
        assert_eq!(until(&mut client, &chunk).await, chunk);
    }
    drop(events);
    assert_eq!(until(&mut client, "\r\n\r\n").await, "0\r\n\r\n");
    say(&mut client, OTHER).await;
    until(&mut client, "other").await;
}

#[tokio::test]
async fn what_a_client_asks_while_it_watches_is_answered_afterwards() {
    let (mut client, events, _served) = connected(&CancellationToken::new());
    say(&mut client, &format!("{WATCH}{OTHER}")).await;
    until(&mut client, "\r\n\r\n").await;
    say(&mut client, OTHER).await;
    tell(&events, "first\n");
    assert_eq!(until(&mut client, "\n\r\n").await, "6\r\nfirst\n\r\n");
    drop(events);
    assert_eq!(until(&mut client, "\r\n\r\n").await, "0\r\n\r\n");
    until(&mut client, "other").await;
    until(&mut client, "other").await;
}

#[tokio::test]
async fn a_stream_ends_with_its_client() {
    let (mut client, events, served) = connected(&CancellationToken::new());
    say(&mut client, WATCH).await;
    until(&mut client, "\r\n\r\n").await;
    drop(client);
    served.await.unwrap().unwrap();
    assert!(events.is_closed(), "nobody is told any more");
}

#[tokio::test]
async fn nobody_tells_a_client_that_left_and_takes_nothing_any_more() {
    // What it was given can't be closed before its client took it.
    let (mut client, events, served) = held_back();
    say(&mut client, WATCH).await;
    until(&mut client, "\r\n\r\n").await;
    tell(&events, &"w".repeat(10_000));
    client.shutdown().await.unwrap();
    let closed = async {
        while !events.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CLOSE_TIMEOUT / 2, closed).await.expect("before the connection is closed");
    assert!(!served.is_finished());
    drop(client);
    assert!(matches!(served.await.unwrap(), Err(Http1Error::Stream(_))));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_waited_for_briefly() {
    let (_client, server) = duplex(64);
    let mut server = tokio::io::BufWriter::with_capacity(1 << 16, server);
    server.write_all(&[b'w'; 1000]).await.unwrap();
    assert_eq!(close(server, Duration::from_millis(1)).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_stream_that_fails_has_no_end() {
    let (mut client, events, served) = connected(&CancellationToken::new());
    say(&mut client, WATCH).await;
    until(&mut client, "\r\n\r\n").await;
    events.unbounded_send(Err("no".into())).unwrap();
    assert!(matches!(served.await.unwrap(), Err(Http1Error::Stream(_))));
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_server_that_stops_lets_a_stream_end_and_goes() {
    let drain = CancellationToken::new();
    let (mut client, events, served) = connected(&drain);
    say(&mut client, WATCH).await;
    until(&mut client, "\r\n\r\n").await;
    drain.cancel();
    tell(&events, "last\n");
    drop(events);
    assert_eq!(until(&mut client, "0\r\n\r\n").await, "5\r\nlast\n\r\n0\r\n\r\n");
    served.await.unwrap().unwrap();
    let (mut client, _events, served) = connected(&drain);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_client_gets_all_of_a_stream() {
    let (client, server) = duplex(64);
    let (events, told) = unbounded::<Sent>();
    let told = Mutex::new(Some(told));
    let answer = move |_: Request<Incoming>| {
        let body = ReplyBody::Lasting(told.lock().take().unwrap().boxed(), Arc::new(Lasting::uncounted()));
        std::future::ready(reply::json_body(200, body))
    };
    tokio::spawn(serve(Arc::new(Builder::new()), server, answer, CancellationToken::new()));
    let mut client = client;
    say(&mut client, WATCH).await;
    let event = "y".repeat(1000);
    (0..100).for_each(|_| tell(&events, &event));
    until(&mut client, "\r\n\r\n").await;
    let chunk = format!("3E8\r\n{event}\r\n");
    for _ in 0..100 {
        assert_eq!(until(&mut client, &chunk).await, chunk);
    }
}

#[tokio::test]
async fn what_the_connection_holds_back_is_flushed_before_the_next_event() {
    let (mut client, events, _served) = held_back();
    let event = "z".repeat(10_000);
    tell(&events, &event);
    say(&mut client, WATCH).await;
    until(&mut client, "\r\n\r\n").await;
    let chunk = format!("2710\r\n{event}\r\n");
    let read = tokio::time::timeout(Duration::from_secs(20), until(&mut client, &chunk)).await;
    assert_eq!(read.unwrap(), chunk);
}

#[test]
fn only_what_is_chunked_can_be_told_by_others_than_hyper() {
    let reply = |name: Option<header::HeaderName>| {
        let body = ReplyBody::Lasting(futures::stream::empty().boxed(), Arc::new(Lasting::uncounted()));
        let mut reply = reply::json_body(200, body);
        name.into_iter().for_each(|name| {
            reply.headers_mut().insert(name, http::HeaderValue::from_static("1"));
        });
        matches!(lent(reply, Some(Arc::default())).into_body(), Lent::Shared(_))
    };
    assert!(reply(None));
    assert!(!reply(Some(header::CONTENT_LENGTH)) && !reply(Some(header::CONNECTION)));
    assert!(matches!(lent(reply::text(200, "x"), Some(Arc::default())).into_body(), Lent::Given(_)));
}
