//! Many ConfigMaps: the memory that they take, and what a list of them costs in each form.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use hyper::body::Bytes;
use serde_json::Value;

use super::{
    figure::{Figure, Latencies},
    meter::Meter,
    target::{Target, config_map, expect},
};
use crate::raw::Connection;

/// How many workers fill the server.
const WRITERS: usize = 32;
/// How many objects are listed in all, in as many lists as that takes.
const LISTED: usize = 150_000;
/// Objects on a page, as client-go asks for them.
const PAGE: usize = 500;
/// Upstream puts one ConfigMap of its own into every namespace.
const OWN: usize = 1;
/// Protobuf, and nothing else.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";

/// A namespace full of ConfigMaps.
#[derive(Debug)]
pub struct Filled {
    namespace: String,
    path: String,
    objects: usize,
}

/// Fills a namespace and measures memory.
pub async fn fill(target: &Target, objects: usize) -> Result<(Filled, Vec<Figure>)> {
    let namespace = target.namespace(&format!("list-{objects}")).await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let meter = Meter::start(target);
    fill_by_many(target, &path, objects).await?;
    let count = u64::try_from(objects).unwrap_or(u64::MAX);
    let figure = Figure::named("fill").with("objects", objects).with("concurrency", WRITERS);
    let mut figures = vec![meter.finish(figure, count)];
    if let Some(bytes) = target.memory() {
        figures.push(memory("memory_filled", bytes).with("objects", objects));
    }
    Ok((Filled { namespace, path, objects }, figures))
}

impl Filled {
    /// Lists all of it at once: as JSON, and as protobuf.
    pub async fn lists(&self, target: &Target) -> Result<Vec<Figure>> {
        Ok(vec![self.list(target, "json", JSON).await?, self.list(target, "protobuf", PROTOBUF).await?])
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
        let figure = Figure::named("list").with("form", form).with("objects", self.objects).with("bytes", body.len());
        let figure = meter.finish(figure, latencies.count());
        match accept {
            JSON => self.check(count(&serde_json::from_slice(&body).context("read a list")?))?,
            _ => ensure!(body.starts_with(b"k8s\0"), "a list was not answered in protobuf"),
        }
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
        let figure = Figure::named("list_page").with("objects", self.objects).with("limit", PAGE);
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
            (self.objects..=self.objects + OWN).contains(&found),
            "{found} objects are listed, not {}",
            self.objects
        );
        Ok(())
    }

    /// Removes it.
    pub async fn remove(self, target: &Target) -> Result<()> {
        target.remove(&self.namespace).await
    }
}

fn count(list: &Value) -> usize {
    list.get("items").and_then(Value::as_array).map_or(0, Vec::len)
}

/// Resident memory as a figure.
pub fn memory(name: &str, bytes: u64) -> Figure {
    Figure::named(name).with_mebibytes("mib", bytes)
}

async fn fill_by_many(target: &Target, path: &str, objects: usize) -> Result<()> {
    let writers = (0..WRITERS).map(|writer| async move {
        let mut connection = target.connect().await?;
        for count in (writer..objects).step_by(WRITERS) {
            let body = config_map(&format!("o{count}"), 0);
            let request = connection.request("POST", path, &[("content-type", JSON)], body)?;
            expect(&mut connection, request, 201).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(writers).await.map(drop)
}
