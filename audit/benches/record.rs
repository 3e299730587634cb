//! What a record costs its caller: a read's, and a change's with the disk in it, alone and sixty-four at a time.
#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]
#![allow(missing_docs, reason = "the macros make undocumented items")]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use martello_api::{
    attributes::{Attributes, ResourceTarget, Target},
    identity::User,
};
use martello_audit::{Authenticator, Config, Event, Keys, Log};

struct Key(ring::hmac::Key);

impl Authenticator for Key {
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        ring::hmac::sign(&self.0, message).as_ref().try_into().unwrap()
    }

    fn verify_mac(&self, message: &[u8], mac: &[u8]) -> bool {
        ring::hmac::verify(&self.0, message, mac).is_ok()
    }
}

fn event() -> Event {
    let target = ResourceTarget { resource: "configmaps".into(), name: "c".into(), ..ResourceTarget::default() };
    let user = Arc::new(User::authenticated("jane", ["devs"]));
    let attributes = Attributes { user, verb: "get".into(), target: Target::Resource(target) };
    let uri = "/api/v1/namespaces/default/configmaps/c";
    Event::received("5c2d9f0e-7f5b-4f7e-a3a1-0d8a9f1b2c3d".into(), &attributes, uri, Timestamp::UNIX_EPOCH)
        .from(vec!["127.0.0.1".into()], "kubectl/v1.36.0")
}

fn benches(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let key = Key(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[1; 32]));
    let keys = Keys { authenticator: Arc::new(key), cipher: None };
    let (log, _) = Log::open(directory.path(), &keys, &Config::default(), Timestamp::UNIX_EPOCH).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let read = event().completed(200, "", Timestamp::UNIX_EPOCH);
    let mut count = 0_u64;
    criterion.bench_function("audit/read", |bencher| {
        bencher.iter(|| {
            count += 1;
            if count.is_multiple_of(4096) {
                runtime.block_on(log.flush()).unwrap();
            }
            log.record(&read).unwrap();
        });
    });
    let mut group = criterion.benchmark_group("audit/change");
    for at_once in [1_u64, 64] {
        group.throughput(Throughput::Elements(at_once));
        group.bench_function(format!("{at_once} at once"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let changes: Vec<_> = (0..at_once).map(|_| tokio::spawn(change(log.clone()))).collect();
                    for change in changes {
                        change.await.unwrap();
                    }
                });
            });
        });
    }
}

async fn change(log: Log) {
    log.begin(event()).await.unwrap().close(201, "", &[], Timestamp::UNIX_EPOCH).await.unwrap();
}

criterion_group!(record, benches);
criterion_main!(record);
