//! Many ConfigMaps: the memory that they take, and how long a list of them takes.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use hyper::body::Bytes;

use super::{
    figure::{Figure, Latencies},
    target::{Target, config_map, expect},
};

/// How many workers fill the server.
const WRITERS: usize = 32;
/// How often the list is asked for.
const LISTS: usize = 30;

/// Fills a namespace, measures memory, and lists all of it as JSON.
pub async fn fill_and_list(target: &Target, objects: usize) -> Result<Vec<Figure>> {
    let namespace = target.namespace("list").await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    fill(target, &path, objects).await?;
    let mut figures = Vec::new();
    if let Some(bytes) = target.memory() {
        figures.push(memory("memory_filled", bytes).with("objects", objects));
    }
    let mut connection = target.connect().await?;
    let mut latencies = Latencies::default();
    let mut bytes = 0;
    let before = target.cpu();
    let began = Instant::now();
    for _ in 0..LISTS {
        let request = connection.request("GET", &path, &[("accept", "application/json")], Bytes::new())?;
        let sent = Instant::now();
        let answer = expect(&mut connection, request, 200).await?;
        latencies.push(sent.elapsed());
        bytes = answer.body.len();
    }
    let figure = Figure::named("list").with("objects", objects).with("bytes", bytes);
    let figure = figure.with_rate(latencies.count(), began.elapsed(), target.cpu_since(before));
    figures.push(latencies.describe(figure));
    let request = connection.request("GET", &path, &[("accept", "application/json")], Bytes::new())?;
    let listed = expect(&mut connection, request, 200).await?.json();
    let count = listed.get("items").and_then(|items| items.as_array()).map_or(0, Vec::len);
    // Upstream puts one ConfigMap of its own into every namespace.
    ensure!(count == objects || count == objects + 1, "{count} objects are listed, not {objects}");
    target.remove(&namespace).await?;
    Ok(figures)
}

/// Resident memory as a figure.
pub fn memory(name: &str, bytes: u64) -> Figure {
    #[allow(clippy::cast_precision_loss, reason = "a server's memory is far below 2^52 bytes")]
    let mebibytes = bytes as f64 / (1024.0 * 1024.0);
    Figure::named(name).with_number("mib", mebibytes)
}

async fn fill(target: &Target, path: &str, objects: usize) -> Result<()> {
    let writers = (0..WRITERS).map(|writer| async move {
        let mut connection = target.connect().await?;
        for count in (writer..objects).step_by(WRITERS) {
            let body = config_map(&format!("o{count}"), 0);
            let request = connection.request("POST", path, &[("content-type", "application/json")], body)?;
            expect(&mut connection, request, 201).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(writers).await.map(drop)
}
