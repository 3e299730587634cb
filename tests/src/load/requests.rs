//! Gets, creates, patches and applies, by a number of workers for a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use super::{
    figure::{Figure, Latencies},
    kind::Kind,
    meter::Meter,
    target::{Target, expect},
};
use crate::raw::Connection;

/// How many objects are read in turn.
const READ_OBJECTS: u64 = 100;
const JSON: (&str, &str) = ("content-type", "application/json");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");
const APPLY: (&str, &str) = ("content-type", "application/apply-patch+yaml");

/// Creates objects of 1 KiB.
pub async fn creates(target: &Target, kind: Kind, workers: usize, duration: Duration) -> Result<Figure> {
    let namespace = target.namespace(&format!("create-{workers}")).await?;
    let path = kind.path(&namespace);
    let make = |connection: &Connection, worker: usize, count: u64| {
        let body = kind.object(&format!("w{worker}-{count}"), count);
        connection.request("POST", &path, &[JSON], body)
    };
    let figure = measure(target, &of(kind, "create"), workers, duration, 201, make).await?;
    target.remove(&namespace, kind).await?;
    Ok(figure)
}

fn of(kind: Kind, verb: &str) -> Figure {
    Figure::named(verb).of("kind", kind.name())
}

/// Gets objects of 1 KiB by name.
pub async fn gets(target: &Target, kind: Kind, workers: usize, duration: Duration) -> Result<Figure> {
    let namespace = target.namespace(&format!("get-{workers}")).await?;
    let path = kind.path(&namespace);
    let mut connection = target.connect().await?;
    for count in 0..READ_OBJECTS {
        let request = connection.request("POST", &path, &[JSON], kind.object(&format!("o{count}"), count))?;
        expect(&mut connection, request, 201).await?;
    }
    let make = |connection: &Connection, _: usize, count: u64| {
        connection.request("GET", &format!("{path}/o{}", count % READ_OBJECTS), &[], Bytes::new())
    };
    let figure = measure(target, &of(kind, "get"), workers, duration, 200, make).await?;
    target.remove(&namespace, kind).await?;
    Ok(figure)
}

/// Changes one field of an object of 1 KiB by merge patch, each worker one of its own.
pub async fn patches(target: &Target, kind: Kind, workers: usize, duration: Duration) -> Result<Figure> {
    let namespace = target.namespace(&format!("patch-{workers}")).await?;
    let path = kind.path(&namespace);
    let mut connection = target.connect().await?;
    for worker in 0..workers {
        let request = connection.request("POST", &path, &[JSON], kind.object(&format!("o{worker}"), 0))?;
        expect(&mut connection, request, 201).await?;
    }
    let make = |connection: &Connection, worker: usize, count: u64| {
        connection.request("PATCH", &format!("{path}/o{worker}"), &[MERGE], kind.patch(count + 1))
    };
    let figure = measure(target, &of(kind, "patch"), workers, duration, 200, make).await?;
    target.remove(&namespace, kind).await?;
    Ok(figure)
}

/// Applies an object server-side, a changed one each time, each worker one of its own: a custom object of 1 KiB, or else a
/// Deployment. The Deployments are paused, so that controllers have nothing to do.
pub async fn applies(target: &Target, kind: Kind, workers: usize, duration: Duration) -> Result<Figure> {
    let namespace = target.namespace(&format!("apply-{workers}")).await?;
    let (figure, path) = match kind {
        Kind::Custom => (of(kind, "apply"), kind.path(&namespace)),
        Kind::ConfigMap => {
            (Figure::named("apply_deployment"), format!("/apis/apps/v1/namespaces/{namespace}/deployments"))
        }
    };
    let make = |connection: &Connection, worker: usize, count: u64| {
        let name = format!("d{worker}");
        let query = "fieldManager=load&force=true";
        let body = match kind {
            Kind::Custom => kind.object(&name, count),
            Kind::ConfigMap => deployment(&name, count),
        };
        connection.request("PATCH", &format!("{path}/{name}?{query}"), &[APPLY], body)
    };
    let mut connection = target.connect().await?;
    for worker in 0..workers {
        let request = make(&connection, worker, 0)?;
        expect(&mut connection, request, 201).await?;
    }
    let next = |connection: &Connection, worker: usize, count: u64| make(connection, worker, count + 1);
    let figure = measure(target, &figure, workers, duration, 200, next).await?;
    connection.send(connection.request("DELETE", &path, &[JSON], Bytes::new())?).await?;
    target.remove(&namespace, kind).await?;
    Ok(figure)
}

/// A Deployment as people write them.
fn deployment(name: &str, round: u64) -> Bytes {
    let labels = json!({"app": name, "tier": "front"});
    let container = json!({
        "name": "web", "image": "registry.example/web:1.2.0", "ports": [{"containerPort": 3000, "name": "http"}],
        "env": [{"name": "ROUND", "value": round.to_string()}, {"name": "LOG_LEVEL", "value": "info"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 3000}, "periodSeconds": 5},
    });
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 0, "paused": true, "selector": {"matchLabels": {"app": name}}, "template": template});
    let metadata = json!({"name": name, "labels": labels});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}).to_string().into()
}

async fn measure<F>(
    target: &Target,
    figure: &Figure,
    workers: usize,
    duration: Duration,
    status: u16,
    make: F,
) -> Result<Figure>
where
    F: Fn(&Connection, usize, u64) -> Result<Request<Full<Bytes>>>,
{
    let connections = try_join_all((0..workers).map(|_| target.connect())).await?;
    let meter = Meter::start(target);
    let (make, running) = (&make, &meter);
    let runs = connections.into_iter().enumerate().map(|(worker, mut connection)| async move {
        let mut latencies = Latencies::default();
        while running.elapsed() < duration {
            let request = make(&connection, worker, latencies.count())?;
            let sent = Instant::now();
            expect(&mut connection, request, status).await?;
            latencies.push(sent.elapsed());
        }
        anyhow::Ok(latencies)
    });
    let mut all = Latencies::default();
    for latencies in try_join_all(runs).await.with_context(|| format!("{workers} workers"))? {
        all.append(latencies);
    }
    let figure = meter.finish(figure.clone().of("concurrency", workers), all.count());
    Ok(all.describe(figure))
}
