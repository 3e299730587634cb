//! Creates and gets, by a number of workers for a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;

use super::{
    figure::{Figure, Latencies},
    target::{Target, config_map, expect},
};
use crate::raw::Connection;

/// How many objects are read in turn.
const READ_OBJECTS: u64 = 100;

/// Creates ConfigMaps of 1 KiB.
pub async fn creates(target: &Target, workers: usize, duration: Duration) -> Result<Figure> {
    let namespace = target.namespace(&format!("create-{workers}")).await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let make = |connection: &Connection, worker: usize, count: u64| {
        let body = config_map(&format!("w{worker}-{count}"), count);
        connection.request("POST", &path, &[("content-type", "application/json")], body)
    };
    let figure = measure(target, "create", workers, duration, 201, make).await?;
    target.remove(&namespace).await?;
    Ok(figure)
}

/// Gets ConfigMaps of 1 KiB by name.
pub async fn gets(target: &Target, workers: usize, duration: Duration) -> Result<Figure> {
    let namespace = target.namespace(&format!("get-{workers}")).await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut connection = target.connect().await?;
    for count in 0..READ_OBJECTS {
        let body = config_map(&format!("o{count}"), count);
        let request = connection.request("POST", &path, &[("content-type", "application/json")], body)?;
        expect(&mut connection, request, 201).await?;
    }
    let make = |connection: &Connection, _: usize, count: u64| {
        connection.request("GET", &format!("{path}/o{}", count % READ_OBJECTS), &[], Bytes::new())
    };
    let figure = measure(target, "get", workers, duration, 200, make).await?;
    target.remove(&namespace).await?;
    Ok(figure)
}

async fn measure<F>(
    target: &Target,
    name: &str,
    workers: usize,
    duration: Duration,
    status: u16,
    make: F,
) -> Result<Figure>
where
    F: Fn(&Connection, usize, u64) -> Result<Request<Full<Bytes>>>,
{
    let connections = try_join_all((0..workers).map(|_| target.connect())).await?;
    let before = target.cpu();
    let began = Instant::now();
    let make = &make;
    let runs = connections.into_iter().enumerate().map(|(worker, mut connection)| async move {
        let mut latencies = Latencies::default();
        while began.elapsed() < duration {
            let request = make(&connection, worker, latencies.count())?;
            let sent = Instant::now();
            expect(&mut connection, request, status).await?;
            latencies.push(sent.elapsed());
        }
        anyhow::Ok(latencies)
    });
    let mut all = Latencies::default();
    for latencies in try_join_all(runs).await.with_context(|| format!("{name} with {workers} workers"))? {
        all.append(latencies);
    }
    let elapsed = began.elapsed();
    let figure = Figure::named(name).with("concurrency", workers);
    let figure = figure.with_rate(all.count(), elapsed, target.cpu_since(before));
    Ok(all.describe(figure))
}
