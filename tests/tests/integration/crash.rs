//! Killed at any moment, the server loses no acknowledged write and keeps nothing that nobody wrote.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::future::join_all;
use martello_tests::{
    cluster::Cluster,
    raw::{Connection, Endpoint, Http, whole},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::answers::done;

/// How often the server is killed; the environment may ask for more.
const ROUNDS_ENV: &str = "MARTELLO_CRASH_ROUNDS";
const DEFAULT_ROUNDS: usize = 10;
const WRITERS: usize = 8;
const NAMES: usize = 12;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// An object as it was written: its value, and the revision that it was acknowledged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    value: u64,
    revision: u64,
}

/// What a writer knows of one name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What was acknowledged last; none where the object is gone or never was.
    acknowledged: Option<Version>,
    /// The value that was asked for and not answered: it may have happened or not. No value asks for the end.
    pending: Option<Option<u64>>,
}

/// One writer's names, and the highest revision that it was told.
#[derive(Debug, Default)]
struct Ledger {
    names: BTreeMap<String, Known>,
    revision: u64,
    counter: u64,
    report: Report,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    acknowledged: usize,
    in_flight: usize,
    in_flight_kept: usize,
    compared: usize,
}

impl Ledger {
    /// Writes until the server is gone: creates, updates and deletes in turn.
    async fn write(&mut self, writer: usize, admin: &Endpoint, acknowledged: &watch::Sender<usize>, stop: &AtomicBool) {
        let Ok(mut connection) = admin.connect(Http::One).await else { return };
        while !stop.load(Ordering::Relaxed) {
            self.counter += 1;
            let name = format!("w{writer}-{}", usize::try_from(self.counter).unwrap() % NAMES);
            let known = self.names.entry(name.clone()).or_default();
            let value =
                if known.acknowledged.is_some() && self.counter.is_multiple_of(5) { None } else { Some(self.counter) };
            known.pending = Some(value);
            let Some(revision) = one(&mut connection, &name, known.acknowledged.is_some(), value).await else { return };
            // The answer to a delete names no revision.
            let revision = if value.is_none() { self.revision } else { revision };
            let is_newer = revision > self.revision || value.is_none();
            assert!(is_newer, "{name} was acknowledged with {revision}, after {}", self.revision);
            let version = value.map(|value| Version { value, revision });
            *known = Known { acknowledged: version, pending: None };
            self.revision = revision;
            self.report.acknowledged += 1;
            acknowledged.send_modify(|count| *count += 1);
        }
    }

    /// Compares with what the server has; what was pending is settled by it.
    fn settle(&mut self, found: &BTreeMap<String, Version>) {
        for (name, known) in &mut self.names {
            let now = found.get(name).copied();
            let happened = now != known.acknowledged;
            let possible = !happened || known.pending == Some(now.map(|version| version.value));
            assert!(possible, "{name} is {now:?}; {known:?} was known");
            self.report.compared += 1;
            self.report.in_flight += usize::from(known.pending.is_some());
            self.report.in_flight_kept += usize::from(happened);
            *known = Known { acknowledged: now, pending: None };
        }
    }
}

/// One write; the revision that it was acknowledged with, or none where the server is gone.
async fn one(connection: &mut Connection, name: &str, exists: bool, value: Option<u64>) -> Option<u64> {
    let path = format!("{MAPS}/{name}");
    let (method, path, body) = match (value, exists) {
        (None, _) => ("DELETE", path, String::new()),
        (Some(value), true) => ("PUT", path, map(name, value)),
        (Some(value), false) => ("POST", MAPS.to_owned(), map(name, value)),
    };
    let request = connection.request(method, &path, &[("content-type", "application/json")], body.into()).unwrap();
    let answer = whole(connection.send(request).await.ok()?).await.ok()?;
    // While it is drained or starting it may say so; that is no acknowledgement.
    if answer.status >= 500 {
        return None;
    }
    let object = done(&answer);
    Some(object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default())
}

fn map(name: &str, value: u64) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value.to_string()}})
        .to_string()
}

/// All that the writers could have written, and the revision of the list.
async fn read(admin: &Endpoint) -> (BTreeMap<String, Version>, u64) {
    let list = done(&admin.ask("GET", MAPS, "").await.unwrap());
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let items = list["items"].as_array().unwrap().iter();
    let ours = items.filter(|item| item["metadata"]["name"] != "kube-root-ca.crt");
    (ours.map(entry).collect(), revision)
}

fn entry(item: &Value) -> (String, Version) {
    let value = item["data"]["value"].as_str().unwrap().parse().unwrap();
    let revision = item["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    (item["metadata"]["name"].as_str().unwrap().to_owned(), Version { value, revision })
}

fn summary(rounds: usize, ledgers: &[Ledger], revision: u64, slowest: std::time::Duration) -> String {
    let sum = |of: fn(&Report) -> usize| ledgers.iter().map(|ledger| of(&ledger.report)).sum::<usize>();
    format!(
        "{rounds} kills: {} acknowledged writes, none lost; {} objects compared with what was acknowledged, value and \
         revision; {} writes in flight, {} of them kept; nothing that nobody wrote; revision {revision}, never back; \
         the slowest start took {slowest:?}",
        sum(|report| report.acknowledged),
        sum(|report| report.compared),
        sum(|report| report.in_flight),
        sum(|report| report.in_flight_kept),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_parallel_writes_loses_nothing() {
    let rounds = std::env::var(ROUNDS_ENV).ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_ROUNDS);
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|_| Ledger::default()).collect();
    let mut revision = 0;
    let mut slowest = std::time::Duration::ZERO;
    for round in 0..rounds {
        let (acknowledged, mut count) = watch::channel(0);
        let stop = AtomicBool::new(false);
        // Another moment in every round: from the first write on to some hundreds.
        let enough = 1 + round * 37 % 400;
        let writers =
            ledgers.iter_mut().enumerate().map(|(writer, ledger)| ledger.write(writer, &admin, &acknowledged, &stop));
        let killer = async {
            count.wait_for(|count| *count >= enough).await.unwrap();
            cluster.kill().unwrap();
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(join_all(writers), killer);
        slowest = slowest.max(cluster.boot().await.unwrap());

        let (found, now) = read(&admin).await;
        for ledger in &mut ledgers {
            ledger.settle(&found);
            revision = revision.max(ledger.revision);
        }
        let known = ledgers.iter().flat_map(|ledger| ledger.names.keys()).collect::<std::collections::BTreeSet<_>>();
        assert!(found.keys().all(|name| known.contains(name)), "the server has what nobody wrote");
        assert!(now >= revision, "round {round}: the revision went back from {revision} to {now}");
        assert!(found.values().all(|version| version.revision <= now), "an object is newer than its list");
        revision = now;
    }
    eprintln!("{}", summary(rounds, &ledgers, revision, slowest));
    // The audit trail of all these lives is whole too.
    let (data, key) = (cluster.data_dir(), cluster.root_key_path());
    cluster
        .secctl(&["audit", "verify", "--data-dir", &data.to_string_lossy(), "--root-key-file", &key.to_string_lossy()])
        .unwrap();
}
