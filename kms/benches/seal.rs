//! What sealing and opening cost: Secrets by envelope, records of the store.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use martello_kms::{Kms, Place, open, seal};

fn envelope(criterion: &mut Criterion) {
    let kms = Kms::ephemeral(Timestamp::UNIX_EPOCH).unwrap();
    let place = Place { cluster: "c", resource: "secrets", namespace: "shop", name: "db-credentials", uid: "u" };
    let mut group = criterion.benchmark_group("envelope");
    for size in [256_usize, 1024, 16 * 1024] {
        let plaintext = vec![7; size];
        let sealed = seal(&kms, &place, &plaintext).unwrap();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("seal/{size}"), |b| b.iter(|| seal(&kms, &place, black_box(&plaintext)).unwrap()));
        group.bench_function(format!("open/{size}"), |b| b.iter(|| open(&kms, &place, black_box(&sealed)).unwrap()));
    }
}

fn record(criterion: &mut Criterion) {
    let cipher = Kms::ephemeral(Timestamp::UNIX_EPOCH).unwrap().record_cipher("store").unwrap();
    let mut group = criterion.benchmark_group("record");
    for size in [256_usize, 1024, 16 * 1024] {
        let plaintext = vec![7; size];
        let sealed = cipher.seal(b"log/1", &plaintext).unwrap();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("seal/{size}"), |b| {
            b.iter(|| cipher.seal(b"log/1", black_box(&plaintext)).unwrap());
        });
        group.bench_function(format!("open/{size}"), |b| b.iter(|| cipher.open(b"log/1", black_box(&sealed)).unwrap()));
    }
}

criterion_group!(benches, envelope, record);
criterion_main!(benches);
