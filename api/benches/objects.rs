//! What an object costs on its way through a write: decoding, defaults, ownership, apply, protobuf and back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may stop")]
#![allow(missing_docs, reason = "the macros make undocumented items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use martello_api::{
    managed_fields::{Ignored, Writer, apply, track_update},
    schema::{Document, Schema, Schemas, apply_defaults, encode_protobuf, normalize, parse_yaml},
};
use serde_json::{Value, json};

fn writer(second: i64) -> Writer<'static> {
    let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
    Writer {
        manager: "bench",
        api_version: "apps/v1",
        subresource: "",
        reset_fields: Ignored::Paths(&[&["status"]]),
        now,
        versions: None,
    }
}

/// A ConfigMap of 1 KiB.
fn config_map() -> Vec<u8> {
    let data = json!({"round": "1", "text": "x".repeat(900)});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}).to_string().into_bytes()
}

/// A Deployment as people write them.
fn deployment(round: usize) -> Vec<u8> {
    let labels = json!({"app": "web", "tier": "front"});
    let container = json!({
        "name": "web", "image": "registry.example/web:1.2.0", "ports": [{"containerPort": 3000, "name": "http"}],
        "env": [{"name": "ROUND", "value": round.to_string()}, {"name": "LOG_LEVEL", "value": "info"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 3000}, "periodSeconds": 5},
    });
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let metadata = json!({"name": "web", "labels": labels});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}).to_string().into_bytes()
}

fn benches(criterion: &mut Criterion) {
    let schema = |name: &str| Schemas::builtin().named(name).unwrap();
    let deployments = schema("io.k8s.api.apps.v1.Deployment");
    for (name, schema, body) in [
        ("config map", schema("io.k8s.api.core.v1.ConfigMap"), config_map()),
        ("deployment", deployments, deployment(0)),
    ] {
        write(criterion, name, schema, &body);
    }
    criterion.bench_function("apply/read/json", |bencher| {
        let body = deployment(0);
        bencher.iter(|| black_box(parse_yaml(black_box(&body)).unwrap().value.into_value()));
    });
    criterion.bench_function("apply/read/yaml", |bencher| {
        let body = [b"# not JSON\n".to_vec(), deployment(0)].concat();
        bencher.iter(|| black_box(parse_yaml(black_box(&body)).unwrap().value.into_value()));
    });
    applies(criterion, deployments);
}

fn write(criterion: &mut Criterion, name: &str, schema: &Schema, body: &[u8]) {
    let decoded = || Document::json(black_box(body)).unwrap().decode(schema).unwrap().value;
    criterion.bench_function(&format!("decode/{name}"), |bencher| bencher.iter(|| black_box(decoded())));
    criterion.bench_function(&format!("decode, own, default and normalize/{name}"), |bencher| {
        bencher.iter(|| {
            let mut object = decoded();
            apply_defaults(schema, &mut object);
            track_update(schema, None, &mut object, &writer(0)).unwrap();
            normalize(schema, &mut object);
            black_box(object)
        });
    });
    criterion.bench_function(&format!("protobuf/{name}"), |bencher| {
        let object = decoded();
        bencher.iter(|| black_box(encode_protobuf(black_box(&object)).unwrap()));
    });
}

/// An applier that changes one value of an object whose status somebody else has written.
fn applies(criterion: &mut Criterion, schema: &Schema) {
    let configs: Vec<Value> = (0..2).map(|round| serde_json::from_slice(&deployment(round)).unwrap()).collect();
    let mut live = apply(schema, None, &configs[0], &writer(0), true).unwrap().value;
    apply_defaults(schema, &mut live);
    live["metadata"]["uid"] = json!("u");
    let before = live.clone();
    live["status"] = json!({"observedGeneration": 1, "replicas": 1});
    let reset_fields = Ignored::Paths(&[&["spec"]]);
    let controller = Writer { manager: "controller", subresource: "status", reset_fields, ..writer(1) };
    track_update(schema, Some(&before), &mut live, &controller).unwrap();
    for (name, config) in ["nothing new", "one value"].into_iter().zip(&configs) {
        criterion.bench_function(&format!("apply/{name}"), |bencher| {
            bencher.iter(|| black_box(apply(schema, Some(&live), black_box(config), &writer(2), true).unwrap()));
        });
    }
}

criterion_group!(objects, benches);
criterion_main!(objects);
