//! What it costs to know who asks: chains per connection, tokens per request; and to issue both.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use martello_kms::Kms;
use martello_pki::{Pki, TokenSpec, authenticate};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn spec() -> TokenSpec {
    TokenSpec {
        namespace: "shop".to_owned(),
        service_account: "web".to_owned(),
        lifetime: SignedDuration::from_hours(1),
        ..TokenSpec::default()
    }
}

fn identity(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let now = NOW + SignedDuration::from_hours(1);
    let kms = Kms::ephemeral(now).unwrap();
    let pki = Pki::load_or_create(dir.path(), &kms, now).unwrap();
    let jane = pki.user_certificate("jane", &["dev", "ops"], None, now).unwrap();
    let token = pki.tokens().issue(spec(), now).unwrap().token;

    criterion.bench_function("authenticate a chain", |b| {
        b.iter(|| authenticate(pki.trust(), black_box(jane.chain()), now).unwrap());
    });
    criterion.bench_function("verify a token seen before", |b| {
        b.iter(|| pki.tokens().verify(black_box(&token), &[], now).unwrap());
    });
    criterion.bench_function("verify a new token", |b| {
        let fresh = || pki.tokens().issue(spec(), now).unwrap().token;
        b.iter_batched(fresh, |token| pki.tokens().verify(&token, &[], now).unwrap(), BatchSize::SmallInput);
    });
    criterion.bench_function("issue a token", |b| b.iter(|| pki.tokens().issue(spec(), now).unwrap()));
    criterion.bench_function("issue a certificate", |b| {
        b.iter(|| pki.user_certificate("jane", &["dev", "ops"], None, now).unwrap());
    });
    criterion.bench_function("first boot", |b| {
        b.iter_batched(
            || tempfile::tempdir().unwrap(),
            |dir| Pki::load_or_create(dir.path(), &kms, now).unwrap(),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, identity);
criterion_main!(benches);
