//! Watch fan-out: few writers, many watchers.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    figure::Figure,
    kind::Kind,
    meter::Meter,
    target::{Target, expect},
};
use crate::raw::{Connection, Endpoint};

/// How long a watcher may stay silent before the run fails.
const SILENCE: Duration = Duration::from_secs(60);

/// Handshakes that run at a time: a server may take its time for thousands.
const OPENED_AT_ONCE: usize = 64;

/// How much is watched.
#[derive(Clone, Copy, Debug)]
pub struct FanOut {
    /// Who watches.
    pub watchers: usize,
    /// What they see.
    pub updates: usize,
    /// Who writes at the same time.
    pub writers: usize,
}

/// Updates objects while many watch them, until every watcher has seen every update.
pub async fn fan_out(target: &Target, kind: Kind, size: FanOut) -> Result<Figure> {
    let namespace = target.namespace(&format!("watch-{}", size.watchers)).await?;
    let path = kind.path(&namespace);
    let mut connection = target.connect().await?;
    for writer in 0..size.writers {
        let body = kind.object(&format!("o{writer}"), 0);
        let request = connection.request("POST", &path, &[("content-type", "application/json")], body)?;
        expect(&mut connection, request, 201).await?;
    }
    let begin: Arc<str> = from_now(&mut connection, &path).await?.into();
    let streams = open_many(target, &begin, size.watchers).await?;

    let meter = Meter::start(target);
    let who = Arc::new(target.clone());
    let watcher = |stream| Watcher::new(Arc::clone(&who), Arc::clone(&begin), stream);
    let watchers: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(watcher(stream).see(size.updates))).collect();
    let writers = (0..size.writers).map(|writer| write(target, kind, &path, writer, size));
    let writing = async { try_join_all(writers).await.map(|_| meter.elapsed()) };
    let (written, seen) = tokio::join!(writing, try_join_all(watchers));
    let elapsed = meter.elapsed();
    let written = written?;
    let (mut bytes, mut reopened) = (0, 0);
    for watcher in seen.context("a watcher panicked")? {
        let watcher = watcher?;
        bytes += watcher.bytes;
        reopened += watcher.reopened;
    }
    let events = u64::try_from(size.watchers * size.updates).unwrap_or(u64::MAX);
    let figure =
        Figure::named("watch").of("kind", kind.name()).of("watchers", size.watchers).of("updates", size.updates);
    let figure = meter.finish(figure, events);
    target.remove(&namespace, kind).await?;
    let figure = figure.with("bytes", bytes).with("reopened", reopened);
    Ok(figure.with_millis("written_ms", written).with_millis("last_seen_ms", elapsed))
}

/// Opens watches that see nothing, so many on each connection, and measures the memory that they take.
pub async fn idle(target: &Target, kind: Kind, watchers: usize, on_each: usize) -> Result<Option<Figure>> {
    let Some(before) = target.memory() else { return Ok(None) };
    let namespace = target.namespace(&format!("idle-{watchers}-{on_each}")).await?;
    let path = kind.path(&namespace);
    let mut connection = target.connect().await?;
    let watch = from_now(&mut connection, &path).await?;
    let meter = Meter::start(target);
    let users = std::iter::once(&target.endpoint).chain(&target.others).cycle();
    let connections = stream::iter(users.take(watchers.div_ceil(on_each)));
    let connections = connections.map(|user| open_on_one(target, user, &watch, on_each));
    let streams: Vec<_> = connections.buffer_unordered(OPENED_AT_ONCE).try_collect().await?;
    let mut streams: Vec<Incoming> = streams.into_iter().flatten().collect();
    let after = target.memory().unwrap_or(before);
    let all = streams.len();
    // A server may not let one user have so many.
    streams.retain_mut(|stream| stream.frame().now_or_never().is_none_or(|frame| matches!(frame, Some(Ok(_)))));
    let opened = u64::try_from(streams.len()).unwrap_or(u64::MAX);
    let figure =
        Figure::named("watch_idle").of("kind", kind.name()).of("watchers", opened).of("on_each_connection", on_each);
    let figure = figure.of("http", target.http.name());
    let figure = meter.finish(figure, opened).with("closed", all - streams.len()).with_mebibytes("mib", after);
    let figure = figure.with_mebibytes("more_mib", after.saturating_sub(before));
    let figure = figure.with("bytes_each", after.saturating_sub(before) / opened.max(1));
    drop(streams);
    target.remove(&namespace, kind).await?;
    Ok(Some(figure))
}

/// The path of a watch that begins now.
async fn from_now(connection: &mut Connection, path: &str) -> Result<String> {
    let request = connection.request("GET", &format!("{path}?limit=1"), &[], Bytes::new())?;
    let listed = expect(connection, request, 200).await?.json();
    let revision = listed.pointer("/metadata/resourceVersion").and_then(|value| value.as_str()).unwrap_or_default();
    Ok(format!("{path}?watch=1&resourceVersion={revision}"))
}

async fn open_many(target: &Target, path: &str, watchers: usize) -> Result<Vec<Incoming>> {
    stream::iter(0..watchers).map(|_| open(target, path)).buffer_unordered(OPENED_AT_ONCE).try_collect().await
}

async fn open(target: &Target, path: &str) -> Result<Incoming> {
    let mut connection = target.connect().await?;
    open_on(&mut connection, path).await
}

async fn open_on_one(target: &Target, user: &Endpoint, path: &str, watchers: usize) -> Result<Vec<Incoming>> {
    let mut connection = user.connect(target.http).await?;
    let mut streams = Vec::with_capacity(watchers);
    for _ in 0..watchers {
        streams.push(open_on(&mut connection, path).await?);
    }
    Ok(streams)
}

async fn open_on(connection: &mut Connection, path: &str) -> Result<Incoming> {
    let request = connection.request("GET", path, &[], Bytes::new())?;
    let answer = connection.send(request).await?;
    ensure!(answer.status() == 200, "the watch was answered with {}", answer.status());
    Ok(answer.into_body())
}

/// One who watches, and comes back where it was when the server closes its watch, as servers do to who reads too slowly.
struct Watcher {
    target: Arc<Target>,
    begin: Arc<str>,
    stream: Incoming,
    line: Vec<u8>,
    last: Vec<u8>,
    bytes: usize,
    reopened: usize,
}

impl Watcher {
    fn new(target: Arc<Target>, begin: Arc<str>, stream: Incoming) -> Self {
        Self { target, begin, stream, line: Vec::new(), last: Vec::new(), bytes: 0, reopened: 0 }
    }

    /// Reads until this many events have come.
    async fn see(mut self, events: usize) -> Result<Self> {
        let mut seen = 0;
        while seen < events {
            let frame = timeout(SILENCE, self.stream.frame()).await.context("a watcher saw nothing for too long")?;
            let Some(frame) = frame else {
                self.stream = open(&self.target, &self.here()?).await.context("come back to a watch")?;
                self.reopened += 1;
                continue;
            };
            let Ok(data) = frame.context("read a watch")?.into_data() else { continue };
            self.bytes += data.len();
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    std::mem::swap(&mut self.last, &mut self.line);
                    self.line.clear();
                    seen += 1;
                }
            }
        }
        Ok(self)
    }

    /// The watch that begins behind the last event.
    fn here(&self) -> Result<String> {
        if self.last.is_empty() {
            return Ok(self.begin.to_string());
        }
        let event: Value = serde_json::from_slice(&self.last).context("read an event")?;
        ensure!(event.get("type").is_some_and(|kind| kind != "ERROR"), "a watch ended with {event}");
        let revision = event.pointer("/object/metadata/resourceVersion").and_then(Value::as_str);
        let (path, _) = self.begin.rsplit_once('=').context("read the path of a watch")?;
        Ok(format!("{path}={}", revision.context("an event has no resourceVersion")?))
    }
}

async fn write(target: &Target, kind: Kind, path: &str, writer: usize, size: FanOut) -> Result<()> {
    let mut connection = target.connect().await?;
    let name = format!("o{writer}");
    for round in (writer..size.updates).step_by(size.writers) {
        let (method, content_type, body) = kind.update(&name, u64::try_from(round).unwrap_or_default() + 1);
        let request = connection.request(method, &format!("{path}/{name}"), &[("content-type", content_type)], body)?;
        expect(&mut connection, request, 200).await?;
    }
    Ok(())
}
