//! A process that writes is killed, again and again: every write that was acknowledged is there afterwards,
//! nothing else is, and revisions never go back. `MARTELLO_CRASH_ROUNDS` sets how often.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use martello_apiserver::store::raft::RaftConfig;
use martello_apiserver::store::{
    Body, Expect, Key, ListAt, Object, Op, Page, Pairs, RaftStore, Resource, Scope, Store,
};
use ring_cipher::RingCipher;

#[path = "store_cipher/ring_cipher.rs"]
mod ring_cipher;

const WRITERS: u64 = 8;
const KEYS_PER_WRITER: u64 = 12;
const DIRECTORY: &str = "MARTELLO_CRASH_DIRECTORY";
const ROUNDS: &str = "MARTELLO_CRASH_ROUNDS";

fn things() -> Resource {
    Resource::new("", "things")
}

async fn open(dir: &Path) -> RaftStore {
    // A small log, so that the state is saved and the log is cut while writers write and the process dies.
    let config = RaftConfig { save_log_bytes: 100_000, ..RaftConfig::new(dir) };
    RaftStore::open(config, Arc::new(RingCipher::new(7))).await.unwrap()
}

/// What one writer does as its step `number`: two objects at once, now and then a deletion.
fn step(writer: u64, number: u64) -> [(String, Option<u64>); 2] {
    let path = |slot: u64| format!("writer-{writer}/{}", slot % KEYS_PER_WRITER);
    let first = (number % 5 != 4).then_some(number);
    [(path(number), first), (path(number + 1), Some(number))]
}

fn operation((path, number): &(String, Option<u64>), exists: bool) -> Option<Op> {
    let key = Key::from_path(things(), path.as_str().into());
    let Some(number) = number else { return exists.then_some(Op::Delete { key, expect: Expect::Any }) };
    let text = "x".repeat(usize::try_from(number * 97 % 3000).unwrap());
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"number":{number},"text":"{text}"}}"#);
    let body = Body::json(&Bytes::from(json)).unwrap();
    let object = Object { uid: "uid".into(), labels: Pairs::default(), fields: Pairs::default(), body };
    Some(Op::Put { key, expect: Expect::Any, object })
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

/// The process that is killed.
#[test]
#[ignore = "it is started by the test that kills it"]
fn writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        say("@opening");
        let store = Arc::new(open(Path::new(&dir)).await);
        let start = store.progress().await.unwrap() + 1;
        say(&format!("@open {start}"));
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), writer, start))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write(store: Arc<RaftStore>, writer: u64, start: u64) {
    for number in start.. {
        let steps = step(writer, number);
        let mut ops = Vec::new();
        for change in &steps {
            let key = Key::from_path(things(), change.0.as_str().into());
            let exists = store.get(&key).await.unwrap().is_some();
            ops.extend(operation(change, exists));
        }
        say(&format!("@try {writer} {number}"));
        let committed = store.commit(ops).await.unwrap();
        say(&format!("@done {writer} {number} {}", committed.revision));
    }
}

/// What the killed processes said.
#[derive(Default)]
struct Said {
    /// What each path holds by what was acknowledged, and the revision of that commit.
    acknowledged: BTreeMap<String, (Option<u64>, u64)>,
    /// The step that each writer was not told the end of.
    pending: BTreeMap<u64, u64>,
    revision: u64,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let Some((_, said)) = line.split_once('@') else { return };
        let words: Vec<_> = said.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "try" => drop(self.pending.insert(number(1), number(2))),
            "done" => {
                self.pending.remove(&number(1));
                for (path, content) in step(number(1), number(2)) {
                    self.acknowledged.insert(path, (content, number(3)));
                }
                self.revision = self.revision.max(number(3));
            }
            _ => {}
        }
    }

    /// Compares with what the store holds, and takes over which pending steps happened.
    fn check(&mut self, found: &BTreeMap<String, (u64, u64)>) {
        for (writer, number) in std::mem::take(&mut self.pending) {
            let steps = step(writer, number);
            let happened = steps.iter().all(|(path, content)| found.get(path).map(|found| found.0) == *content);
            let newest = steps.iter().filter_map(|(path, _)| found.get(path)).map(|found| found.1).max();
            if happened {
                for (path, content) in steps {
                    self.acknowledged.insert(path, (content, newest.unwrap()));
                }
            }
        }
        let expected: BTreeMap<_, _> =
            self.acknowledged.iter().filter_map(|(path, (content, _))| Some((path, (*content)?))).collect();
        let actual: BTreeMap<_, _> = found.iter().map(|(path, found)| (path, found.0)).collect();
        assert_eq!(actual, expected, "what is there is not what was acknowledged");
        for (path, (_, revision)) in found {
            assert!(*revision <= self.acknowledged[path].1, "{path} has a revision from nowhere");
        }
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a process write until it said `lines`, or has been opening the store for `opening`, and kills it.
fn kill_one(dir: &Path, said: &mut Said, lines: usize, opening: Option<Duration>) {
    let mut child = start(dir);
    let mut heard = 0;
    let output = BufReader::new(child.stdout.take().unwrap());
    for line in output.lines() {
        let line = line.unwrap();
        said.hear(&line);
        heard += usize::from(line.contains('@'));
        if let (Some(wait), true) = (opening, line.contains("@opening")) {
            std::thread::sleep(wait);
            child.kill().unwrap();
        } else if heard == lines {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "it ended by itself: {status}");
}

async fn contents(dir: &Path) -> (BTreeMap<String, (u64, u64)>, u64) {
    let store = open(dir).await;
    let listed = store.list(&Scope::all(&things()), ListAt::Latest, Page::default()).await.unwrap();
    let number = |entry: &martello_apiserver::store::Entry| {
        let json: serde_json::Value = serde_json::from_slice(entry.bytes()).unwrap();
        assert_eq!(json["metadata"]["resourceVersion"], entry.revision.to_string());
        json["number"].as_u64().unwrap()
    };
    let found =
        listed.items.iter().map(|entry| (entry.key.path().to_string(), (number(entry), entry.revision))).collect();
    store.close().await.unwrap();
    (found, listed.revision)
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let rounds = std::env::var(ROUNDS).map_or(30, |rounds| rounds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut said = Said::default();
    let mut before = 0;
    for round in 0..rounds {
        let chance: u64 = rand::random();
        let opening = (round % 4 == 3).then(|| Duration::from_micros(chance % 60_000));
        let lines = usize::try_from(chance % 1500 + 3).unwrap();
        kill_one(dir.path(), &mut said, lines, opening);
        let (found, revision) = runtime.block_on(contents(dir.path()));
        assert!(revision >= said.revision, "acknowledged {}, found {revision}", said.revision);
        assert!(revision >= before, "revisions went back from {before} to {revision}");
        said.check(&found);
        before = revision;
    }
    assert!(rounds < 8 || said.revision > 100, "hardly anything was written");
}
