//! Watches that begin while others write: each shows every change once, from where it begins, as its selector has it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use martello_tests::raw::{Connection, Http, whole};
use serde_json::{Value, json};

use super::Server;

/// Who writes at the same time, how many objects each has, and how often each changes one.
const WRITERS: usize = 3;
const OBJECTS: usize = 4;
const WRITES: usize = 150;
/// Fewest watches that have to begin meanwhile for the race to be one.
const WATCHES: usize = 8;
/// How many reads lie between the begins of two.
const PAUSE: usize = 4;
/// What the last object of all is called.
const LAST: &str = "last";
/// The object that a field selector leaves out.
const LEFT_OUT: &str = "w0-1";

/// A change: its type, the object's name and its version.
type Change = (String, String, u64);

fn text(object: &Value, key: &str) -> String {
    object["metadata"][key].as_str().unwrap_or_default().to_owned()
}

fn version(object: &Value) -> u64 {
    text(object, "resourceVersion").parse().unwrap()
}

fn is_in(object: &Value) -> bool {
    object["metadata"]["labels"]["in"] == "yes"
}

/// How a watch selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selector {
    Label,
    LabelAndField,
}

impl Selector {
    fn query(self) -> &'static str {
        match self {
            Self::Label => "labelSelector=in%3Dyes",
            Self::LabelAndField => "labelSelector=in%3Dyes&fieldSelector=metadata.name!%3Dw0-1",
        }
    }

    fn takes(self, object: &Value) -> bool {
        is_in(object) && (self == Self::Label || text(object, "name") != LEFT_OUT)
    }
}

/// What one watch showed: the state at its begin, from which version on it shows changes, and those.
struct Seen {
    how: String,
    selector: Selector,
    state: BTreeMap<String, u64>,
    from: u64,
    changes: Vec<Change>,
}

/// What a selector shows of the whole history up to a version, and after it.
fn expected(history: &[(String, Value)], selector: Selector, from: u64) -> (BTreeMap<String, u64>, Vec<Change>) {
    let (mut state, mut at_begin, mut changes) = (BTreeMap::new(), None, Vec::new());
    for (kind, object) in history {
        let (name, version) = (text(object, "name"), version(object));
        if version > from && at_begin.is_none() {
            at_begin = Some(state.clone());
        }
        let was = state.contains_key(&name);
        let is = kind != "DELETED" && selector.takes(object);
        let shown = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => continue,
        };
        if is {
            state.insert(name.clone(), version);
        } else {
            state.remove(&name);
        }
        if version > from {
            changes.push((shown.to_owned(), name, version));
        }
    }
    (at_begin.unwrap_or(state), changes)
}

async fn send(connection: &mut Connection, method: &str, path: &str, body: &Value) -> u16 {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = connection.request(method, path, &[("content-type", media)], body.to_string().into()).unwrap();
    whole(connection.send(request).await.unwrap()).await.unwrap().status
}

/// Changes its own objects again and again: their label, something else, whether they are there at all.
async fn write(server: Server, path: String, body: Value, writer: usize) {
    let mut connection = server.admin.connect(Http::One).await.unwrap();
    let name = |at: usize| format!("w{writer}-{}", at % OBJECTS);
    for at in 0..WRITES {
        let (name, round) = (name(at), at / OBJECTS);
        let own = format!("{path}/{name}");
        let label = if round % 6 == 2 { "yes" } else { "no" };
        let note = || json!({"metadata": {"annotations": {"round": round.to_string()}}});
        let status = match round % 6 {
            0 => {
                let mut made = body.clone();
                made["metadata"] = json!({"name": name, "labels": {"in": "yes"}});
                send(&mut connection, "POST", &path, &made).await
            }
            5 => send(&mut connection, "DELETE", &own, &Value::Null).await,
            3 => send(&mut connection, "PATCH", &own, &note()).await,
            // Some are deleted while they are selected, some after they were.
            4 if at % 2 == 0 => send(&mut connection, "PATCH", &own, &note()).await,
            _ => send(&mut connection, "PATCH", &own, &json!({"metadata": {"labels": {"in": label}}})).await,
        };
        assert!((200..300).contains(&status), "{own}: {status}");
    }
}

async fn follow(server: Server, path: String, selector: Selector, streams: bool) -> Seen {
    let (selected, mut state) = (format!("{path}?{}", selector.query()), BTreeMap::new());
    let how = format!("{selector:?}, streams: {streams}");
    let (mut events, from) = if streams {
        let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut events = server.watch(&format!("{selected}&{query}")).await;
        let from = loop {
            let (kind, object) = events.next().await;
            if kind == "BOOKMARK" {
                assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{object}");
                break version(&object);
            }
            assert_eq!(kind, "ADDED", "{how}: {object}");
            assert_eq!(state.insert(text(&object, "name"), version(&object)), None, "{how}: {object} comes twice");
        };
        (events, from)
    } else {
        let list = server.get(&selected).await;
        for object in list["items"].as_array().unwrap() {
            state.insert(text(object, "name"), version(object));
        }
        (server.watch(&format!("{selected}&watch=1&resourceVersion={}", version(&list))).await, version(&list))
    };
    let mut changes = Vec::new();
    if !state.contains_key(LAST) {
        loop {
            let (kind, object) = events.next().await;
            if kind == "BOOKMARK" {
                continue;
            }
            changes.push((kind, text(&object, "name"), version(&object)));
            if text(&object, "name") == LAST {
                break;
            }
        }
    }
    Seen { how, selector, state, from, changes }
}

async fn race(server: &Server, path: &str, body: &Value) {
    let first = version(&server.get(path).await);
    let mut all = server.watch(&format!("{path}?watch=1&resourceVersion={first}")).await;
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (0..WRITERS).map(|one| tokio::spawn(write(server.clone(), path.to_owned(), body.clone(), one))).collect();
    let starting = tokio::spawn({
        let (server, path, done) = (server.clone(), path.to_owned(), Arc::clone(&done));
        async move {
            let mut watches = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let which = watches.len();
                let selector = if which.is_multiple_of(2) { Selector::Label } else { Selector::LabelAndField };
                watches.push(tokio::spawn(follow(server.clone(), path.clone(), selector, which % 4 < 2)));
                // The next begins some writes later.
                for _ in 0..PAUSE {
                    server.get(&format!("{path}?limit=1")).await;
                }
            }
            watches
        }
    });
    let mut history = Vec::new();
    let reading = tokio::spawn(async move {
        loop {
            let (kind, object) = all.next().await;
            let is_last = text(&object, "name") == LAST;
            history.push((kind, object));
            if is_last {
                return history;
            }
        }
    });
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let watches = starting.await.unwrap();
    let mut last = body.clone();
    last["metadata"] = json!({"name": LAST, "labels": {"in": "yes"}});
    server.post(path, &last).await;
    let history = reading.await.unwrap();
    assert_eq!(history.len(), WRITERS * WRITES + 1, "the watch of everything shows every write once");
    assert!(history.is_sorted_by_key(|(_, object)| version(object)));
    assert!(watches.len() >= WATCHES, "{} watches began while others wrote", watches.len());
    for watch in watches {
        let seen = watch.await.unwrap();
        let (state, changes) = expected(&history, seen.selector, seen.from);
        assert_eq!(seen.state, state, "{} at {}: its begin", seen.how, seen.from);
        assert_eq!(seen.changes, changes, "{} from {}", seen.how, seen.from);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_begin_while_others_write_lose_nothing_and_show_nothing_twice() {
    let (_cluster, server) = Server::start().await;
    let namespace = server.namespace("races").await;
    // The namespace's own object is not one of the writers'.
    race(&server, &format!("{namespace}/secrets"), &json!({"data": {"a": "YQ=="}})).await;
    let body = json!({"apiVersion": "races.example.com/v1", "kind": "Racer", "spec": {"a": 1}});
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "metadata": {"name": "racers.races.example.com"},
        "spec": {
            "group": "races.example.com", "scope": "Namespaced",
            "names": {"plural": "racers", "singular": "racer", "kind": "Racer", "listKind": "RacerList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": open}}],
        },
    });
    server.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let racers = "/apis/races.example.com/v1/namespaces/races/racers";
    server.until_answered(racers, |answer| answer.status == 200).await;
    race(&server, racers, &body).await;
}
