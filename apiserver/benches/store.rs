//! What the store costs: commits by one writer and by 64, a get, a list of 5000, an event to 200 watchers.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic, and is not an interface")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use martello_apiserver::store::raft::RaftConfig;
use martello_apiserver::store::{Body, Expect, Key, ListAt, Object, Op, Page, RaftStore, Resource, Scope, Store};
use ring_cipher::RingCipher;
use tokio::runtime::Runtime;

#[path = "../tests/store_cipher/ring_cipher.rs"]
mod ring_cipher;

const OBJECTS: usize = 5000;
const WATCHERS: usize = 200;

fn pods() -> Resource {
    Resource::new("", "pods")
}

fn put(name: &str) -> Vec<Op> {
    let json = format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","resourceVersion":"","labels":{{"app":"web"}}}},"spec":"{}"}}"#,
        "x".repeat(1000)
    );
    let object = Object {
        uid: "0dbb7b1c-9a3c-4f0e-8df5-1f9f3b6f0a11".into(),
        labels: [("app", "web")].into_iter().collect(),
        fields: [("metadata.name", name), ("spec.nodeName", "node-1")].into_iter().collect(),
        body: Body::json(&Bytes::from(json)).unwrap(),
    };
    vec![Op::Put { key: Key::new(&pods(), "bench", name), expect: Expect::Any, object }]
}

async fn write(store: &Arc<RaftStore>, writers: usize, commits: u64) -> Duration {
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(store);
            let share = commits / writers as u64 + u64::from((writer as u64) < commits % writers as u64);
            tokio::spawn(async move {
                for number in 0..share {
                    store.commit(put(&format!("pod-{writer}-{}", number % 50))).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    start.elapsed()
}

async fn fan_out(store: &Arc<RaftStore>, events: u64) -> Duration {
    let scope = Scope::all(&pods());
    let from = store.progress().await.unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let (mut watch, told) = (store.watch(&scope, from).await.unwrap(), told.clone());
        watchers.push(tokio::spawn(async move {
            while let Ok(batch) = watch.next().await {
                told.send(batch.events.len()).unwrap();
            }
        }));
    }
    let start = Instant::now();
    for _ in 0..events {
        store.commit(put("watched")).await.unwrap();
        let mut count = 0;
        while count < WATCHERS {
            count += heard.recv().await.unwrap();
        }
    }
    let took = start.elapsed();
    for watcher in watchers {
        watcher.abort();
    }
    took
}

fn store(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let opened = runtime.block_on(RaftStore::open(RaftConfig::new(dir.path()), Arc::new(RingCipher::new(7))));
    let store = Arc::new(opened.unwrap());

    let mut group = criterion.benchmark_group("commit");
    group.throughput(Throughput::Elements(1));
    for writers in [1, 64] {
        group.bench_function(format!("{writers} writers"), |bench| {
            bench.iter_custom(|commits| runtime.block_on(write(&store, writers, commits)));
        });
    }
    group.finish();

    let fill = async {
        for number in 0..OBJECTS {
            store.commit(put(&format!("object-{number}"))).await.unwrap();
        }
    };
    if runtime.block_on(store.list(&Scope::all(&pods()), ListAt::Latest, Page::default())).unwrap().items.len()
        < OBJECTS
    {
        runtime.block_on(fill);
    }
    let (key, scope) = (Key::new(&pods(), "bench", "object-77"), Scope::all(&pods()));
    criterion.bench_function("get", |bench| {
        bench.iter(|| runtime.block_on(store.get(black_box(&key))).unwrap());
    });
    let page = Page { limit: Some(OBJECTS), after: None };
    criterion.bench_function("list 5000", |bench| {
        bench.iter(|| runtime.block_on(store.list(black_box(&scope), ListAt::Latest, page.clone())).unwrap());
    });
    criterion.bench_function("commit watched by 200", |bench| {
        bench.iter_custom(|events| runtime.block_on(fan_out(&store, events)));
    });
}

criterion_group!(benches, store);
criterion_main!(benches);
