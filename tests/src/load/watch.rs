//! Watch fan-out: few writers, many watchers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use super::{
    figure::Figure,
    target::{Target, config_map, expect},
};

/// How long a watcher may stay silent before the run fails.
const SILENCE: Duration = Duration::from_secs(60);

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

/// Updates ConfigMaps while many watch them, until every watcher has seen every update.
pub async fn fan_out(target: &Target, size: FanOut) -> Result<Figure> {
    let namespace = target.namespace("watch").await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut connection = target.connect().await?;
    for writer in 0..size.writers {
        let body = config_map(&format!("o{writer}"), 0);
        let request = connection.request("POST", &path, &[("content-type", "application/json")], body)?;
        expect(&mut connection, request, 201).await?;
    }
    let request = connection.request("GET", &format!("{path}?limit=1"), &[], Bytes::new())?;
    let listed = expect(&mut connection, request, 200).await?.json();
    let revision = listed.pointer("/metadata/resourceVersion").and_then(|value| value.as_str()).unwrap_or_default();
    let watch = format!("{path}?watch=1&resourceVersion={revision}");
    let streams = try_join_all((0..size.watchers).map(|_| open(target, &watch))).await?;

    let before = target.cpu();
    let began = Instant::now();
    let watchers: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(see(stream, size.updates))).collect();
    let writers = (0..size.writers).map(|writer| write(target, &path, writer, size));
    let writing = async { try_join_all(writers).await.map(|_| began.elapsed()) };
    let (written, seen) = tokio::join!(writing, try_join_all(watchers));
    let elapsed = began.elapsed();
    let written = written?;
    let mut bytes = 0;
    for watcher in seen.context("a watcher panicked")? {
        bytes += watcher?;
    }
    let cpu = target.cpu_since(before);
    target.remove(&namespace).await?;
    let events = u64::try_from(size.watchers * size.updates).unwrap_or(u64::MAX);
    let figure = Figure::named("watch").with("watchers", size.watchers).with("updates", size.updates);
    Ok(figure
        .with_rate(events, elapsed, cpu)
        .with("bytes", bytes)
        .with_millis("written_ms", written)
        .with_millis("last_seen_ms", elapsed))
}

async fn open(target: &Target, path: &str) -> Result<Incoming> {
    let mut connection = target.connect().await?;
    let request = connection.request("GET", path, &[], Bytes::new())?;
    let answer = connection.send(request).await?;
    ensure!(answer.status() == 200, "the watch was answered with {}", answer.status());
    Ok(answer.into_body())
}

/// Reads until this many events have come; returns how many bytes they were.
async fn see(mut stream: Incoming, events: usize) -> Result<usize> {
    let mut seen = 0;
    let mut bytes = 0;
    while seen < events {
        let frame = timeout(SILENCE, stream.frame()).await.context("a watcher saw nothing for too long")?;
        let frame = frame.context("a watch ended early")?.context("read a watch")?;
        if let Ok(data) = frame.into_data() {
            bytes += data.len();
            seen += data.iter().filter(|byte| **byte == b'\n').count();
        }
    }
    Ok(bytes)
}

async fn write(target: &Target, path: &str, writer: usize, size: FanOut) -> Result<()> {
    let mut connection = target.connect().await?;
    let name = format!("o{writer}");
    for round in (writer..size.updates).step_by(size.writers) {
        let body = config_map(&name, u64::try_from(round).unwrap_or_default() + 1);
        let headers = [("content-type", "application/json")];
        let request = connection.request("PUT", &format!("{path}/{name}"), &headers, body)?;
        expect(&mut connection, request, 200).await?;
    }
    Ok(())
}
