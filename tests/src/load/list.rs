//! Many objects: the memory that they take, and what a list of them costs in each form.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use serde_json::Value;

use super::{
    figure::{Figure, Latencies},
    kind::Kind,
    meter::Meter,
    target::{Target, expect},
};
use crate::raw::Connection;

/// How many workers fill the server.
const WRITERS: usize = 32;
/// How many objects are listed in all, in as many lists as that takes.
const LISTED: usize = 150_000;
/// Objects on a page, as client-go asks for them.
const PAGE: usize = 500;
/// Protobuf, and nothing else.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";
/// How the event that ends a streamed list begins.
const BOOKMARK: &[u8] = br#"{"type":"BOOKMARK""#;
/// As `kubectl get` asks.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// A namespace full of objects.
#[derive(Debug)]
pub struct Filled {
    kind: Kind,
    namespace: String,
    path: String,
    objects: usize,
}

/// Fills a namespace and measures memory.
pub async fn fill(target: &Target, kind: Kind, objects: usize) -> Result<(Filled, Vec<Figure>)> {
    let namespace = target.namespace(&format!("list-{objects}")).await?;
    let path = kind.path(&namespace);
    let meter = Meter::start(target);
    fill_by_many(target, kind, &path, objects).await?;
    let filled = Filled { kind, namespace, path, objects };
    let count = u64::try_from(objects).unwrap_or(u64::MAX);
    let mut figures = vec![meter.finish(filled.figure("fill").of("concurrency", WRITERS), count)];
    if let Some(bytes) = target.memory() {
        figures.push(memory("memory_filled", bytes).of("kind", kind.name()).of("objects", objects));
    }
    Ok((filled, figures))
}

impl Filled {
    /// Lists all of it at once: as JSON, as protobuf where the kind has that, and as a table.
    pub async fn lists(&self, target: &Target) -> Result<Vec<Figure>> {
        let mut figures = vec![self.list(target, "json", JSON).await?];
        if self.kind == Kind::ConfigMap {
            figures.push(self.list(target, "protobuf", PROTOBUF).await?);
        }
        figures.push(self.list(target, "table", TABLE).await?);
        Ok(figures)
    }

    fn figure(&self, name: &str) -> Figure {
        Figure::named(name).of("kind", self.kind.name()).of("objects", self.objects)
    }

    async fn list(&self, target: &Target, form: &str, accept: &str) -> Result<Figure> {
        let mut connection = target.connect().await?;
        let mut latencies = Latencies::default();
        let mut body = Bytes::new();
        let meter = Meter::start(target);
        for _ in 0..(LISTED / self.objects).clamp(3, 30) {
            let request = connection.request("GET", &self.path, &[("accept", accept)], Bytes::new())?;
            let sent = Instant::now();
            body = expect(&mut connection, request, 200).await?.body;
            latencies.push(sent.elapsed());
        }
        let figure = self.figure("list").of("form", form).with("bytes", body.len());
        let figure = meter.finish(figure, latencies.count());
        match accept {
            PROTOBUF => ensure!(body.starts_with(b"k8s\0"), "a list was not answered in protobuf"),
            _ => self.check(count(&serde_json::from_slice(&body).context("read a list")?))?,
        }
        Ok(latencies.describe(figure))
    }

    /// Lists all of it by a watch that begins with what there is, as client-go's informers do, until the bookmark that ends
    /// what there was.
    pub async fn streamed(&self, target: &Target) -> Result<Figure> {
        let mut connection = target.connect().await?;
        let mut latencies = Latencies::default();
        let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let path = format!("{}?{query}", self.path);
        let meter = Meter::start(target);
        for _ in 0..(LISTED / self.objects).clamp(3, 30) {
            let request = connection.request("GET", &path, &[("accept", JSON)], Bytes::new())?;
            let sent = Instant::now();
            let answer = connection.send(request).await?;
            ensure!(answer.status() == 200, "a streamed list was answered with {}", answer.status());
            let found = until_bookmark(answer.into_body()).await?;
            latencies.push(sent.elapsed());
            self.check(found)?;
        }
        let figure = meter.finish(self.figure("list_streamed"), latencies.count());
        Ok(latencies.describe(figure))
    }

    /// Lists all of it page by page.
    pub async fn pages(&self, target: &Target) -> Result<Figure> {
        let mut connection = target.connect().await?;
        let mut latencies = Latencies::default();
        let meter = Meter::start(target);
        for _ in 0..(LISTED / self.objects).clamp(3, 30) {
            let found = self.walk(&mut connection, &mut latencies).await?;
            self.check(found)?;
        }
        let figure = self.figure("list_page").of("limit", PAGE);
        let figure = meter.finish(figure, latencies.count());
        Ok(latencies.describe(figure))
    }

    async fn walk(&self, connection: &mut Connection, latencies: &mut Latencies) -> Result<usize> {
        let mut found = 0;
        let mut token = String::new();
        loop {
            let path = format!("{}?limit={PAGE}&continue={token}", self.path);
            let request = connection.request("GET", &path, &[("accept", JSON)], Bytes::new())?;
            let sent = Instant::now();
            let page = expect(connection, request, 200).await?;
            latencies.push(sent.elapsed());
            let page = page.json();
            found += count(&page);
            let next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default();
            if next.is_empty() {
                return Ok(found);
            }
            // Base64 for URLs; its padding is the only sign that a query would misread.
            token = next.replace('=', "%3D").replace('+', "%2B");
        }
    }

    fn check(&self, found: usize) -> Result<()> {
        ensure!(
            (self.objects..=self.objects + self.kind.own()).contains(&found),
            "{found} objects are listed, not {}",
            self.objects
        );
        Ok(())
    }

    /// Removes it.
    pub async fn remove(self, target: &Target) -> Result<()> {
        target.remove(&self.namespace, self.kind).await
    }
}

/// Reads a watch until its first bookmark; answers how many events came before.
async fn until_bookmark(mut body: Incoming) -> Result<usize> {
    let (mut events, mut line) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("read a streamed list")?.into_data() else { continue };
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                continue;
            }
            // Told by its beginning, so that reading does not cost more than serving.
            if line.starts_with(BOOKMARK) {
                return Ok(events);
            }
            events += 1;
            line.clear();
        }
    }
    bail!("a streamed list ended without a bookmark")
}

fn count(list: &Value) -> usize {
    list.get("items").or_else(|| list.get("rows")).and_then(Value::as_array).map_or(0, Vec::len)
}

/// Resident memory as a figure.
pub fn memory(name: &str, bytes: u64) -> Figure {
    Figure::named(name).with_mebibytes("mib", bytes)
}

async fn fill_by_many(target: &Target, kind: Kind, path: &str, objects: usize) -> Result<()> {
    let writers = (0..WRITERS).map(|writer| async move {
        let mut connection = target.connect().await?;
        for count in (writer..objects).step_by(WRITERS) {
            let body = kind.object(&format!("o{count}"), 0);
            let request = connection.request("POST", path, &[("content-type", JSON)], body)?;
            expect(&mut connection, request, 201).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(writers).await.map(drop)
}
