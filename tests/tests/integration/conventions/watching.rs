//! Watches: where they begin and end, what they tell of their progress, and which options they refuse.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, time::Instant};

use super::{failure, told, version};
use crate::{
    answers::{config_map, done},
    conformance::{Server, facts, server::Events},
};

#[tokio::test(flavor = "multi_thread")]
async fn watches_begin_and_end_as_they_are_asked_to() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_watch_ends_in_time_and_with_a_bookmark_where_one_was_asked_for,
        a_watch_of_one_object_shows_that_one,
        a_watch_may_begin_with_the_state_or_not,
        options_that_make_no_sense_of_a_watch_are_refused,
    );
}

/// All that is told until the watch ends.
async fn all_of(mut events: Events) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    while let Some(event) = events.next_or_end().await {
        all.push(event);
    }
    all
}

/// What kind of events there were, and of which objects.
fn shown(events: &[(String, Value)]) -> Vec<(&str, &str)> {
    let name = |object: &Value| object["metadata"]["name"].as_str().map(str::len);
    let named = events.iter().filter(|(_, object)| name(object).is_some_and(|length| length > 0));
    named.map(|(kind, object)| (kind.as_str(), object["metadata"]["name"].as_str().unwrap())).collect()
}

async fn a_watch_ends_in_time_and_with_a_bookmark_where_one_was_asked_for(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("ends").await);
    let one = server.post(&maps, &config_map("one")).await;
    let from = version(&one);
    let query = format!("watch=1&fieldSelector=metadata.name%3Done&resourceVersion={from}&timeoutSeconds=5");
    let began = Instant::now();
    let unasked = tokio::spawn(all_of(server.watch(&format!("{maps}?{query}")).await));
    let asked = tokio::spawn(all_of(server.watch(&format!("{maps}?{query}&allowWatchBookmarks=true")).await));
    server.merge(&format!("{maps}/one"), &json!({"data": {"key": "new"}})).await;
    // Nobody is told of this one, but that it was.
    let other: u64 = version(&server.post(&maps, &config_map("two")).await).parse().unwrap();
    let (unasked, asked) = (unasked.await.unwrap(), asked.await.unwrap());
    assert!(began.elapsed() >= Duration::from_secs(5));
    assert_eq!((shown(&unasked), unasked.len()), (vec![("MODIFIED", "one")], 1));
    assert_eq!((shown(&asked), asked.len()), (vec![("MODIFIED", "one")], 2));
    let (kind, bookmark) = asked.last().unwrap();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!((&bookmark["kind"], &bookmark["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert!(bookmark.get("data").is_none() && bookmark["metadata"].get("annotations").is_none(), "{bookmark}");
    assert!(version(bookmark).parse::<u64>().unwrap() >= other, "{bookmark}");
}

async fn a_watch_of_one_object_shows_that_one(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("single").await);
    for name in ["one", "two"] {
        server.post(&maps, &config_map(name)).await;
    }
    let old = maps.replacen("/api/v1/", "/api/v1/watch/", 1);
    let paths = [
        format!("{maps}?watch=true&fieldSelector=metadata.name%3Done"),
        format!("{old}/one?"),
        format!("{old}?fieldSelector=metadata.name%3Done"),
    ];
    let mut watches = Vec::new();
    for path in &paths {
        watches.push(tokio::spawn(all_of(server.watch(&format!("{path}&timeoutSeconds=6")).await)));
    }
    for name in ["two", "one"] {
        server.merge(&format!("{maps}/{name}"), &json!({"data": {"key": "new"}})).await;
        server.delete(&format!("{maps}/{name}")).await;
    }
    for (watch, path) in watches.into_iter().zip(paths) {
        let seen = watch.await.unwrap();
        assert_eq!(shown(&seen), [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")], "{path}");
    }
    // An object that is read by its name is no watch, whatever is asked for besides.
    server.post(&maps, &config_map("three")).await;
    assert_eq!(server.get(&format!("{maps}/three?watch=true")).await["kind"], "ConfigMap");
}

async fn a_watch_may_begin_with_the_state_or_not(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("begin-with").await);
    server.until(&format!("{maps}/kube-root-ca.crt"), |_| true).await;
    let first = server.post(&maps, &config_map("one")).await;
    let old = version(&first);
    server.post(&maps, &config_map("two")).await;
    let rule = "resourceVersionMatch=NotOlderThan";
    let selected = "fieldSelector=metadata.name%21%3Dkube-root-ca.crt&timeoutSeconds=4";
    let state = vec![("ADDED", "one"), ("ADDED", "two")];
    let later = vec![("ADDED", "two")];
    let mut watches = Vec::new();
    for (query, expected, ends_with_bookmark) in [
        (String::new(), &state, false),
        ("resourceVersion=0".into(), &state, false),
        (format!("resourceVersion={old}"), &later, false),
        (format!("sendInitialEvents=true&{rule}"), &state, false),
        (format!("sendInitialEvents=true&{rule}&allowWatchBookmarks=true"), &state, true),
        (format!("sendInitialEvents=true&{rule}&allowWatchBookmarks=true&resourceVersion=0"), &state, true),
        (format!("sendInitialEvents=true&{rule}&allowWatchBookmarks=true&resourceVersion={old}"), &state, true),
        (format!("sendInitialEvents=false&{rule}&resourceVersion={old}"), &later, false),
        (format!("sendInitialEvents=false&{rule}"), &vec![], false),
    ] {
        let events = server.watch(&format!("{maps}?watch=1&{selected}&{query}")).await;
        watches.push((query, tokio::spawn(all_of(events)), expected.clone(), ends_with_bookmark));
    }
    for (query, watch, expected, ends_with_bookmark) in watches {
        let seen = watch.await.unwrap();
        assert_eq!(shown(&seen), expected, "{query}");
        let marked = |(_, object): &&(String, Value)| {
            object["metadata"]["annotations"]["k8s.io/initial-events-end"] == json!("true")
        };
        assert_eq!(seen.iter().filter(marked).count(), usize::from(ends_with_bookmark), "{query}");
    }
}

async fn options_that_make_no_sense_of_a_watch_are_refused(server: Server) {
    let maps = "/api/v1/namespaces/default/configmaps?watch=1";
    let invalid = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let field = "resourceVersionMatch: ";
    let needs = format!("{field}Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    let alone =
        format!("{field}Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    let exact = format!("{field}Unsupported value: \"Exact\": supported values: \"NotOlderThan\"");
    let token = format!("{field}Forbidden: resourceVersionMatch is forbidden when continue is provided");
    for (query, message) in [
        ("sendInitialEvents=true", needs.clone()),
        ("sendInitialEvents=false&resourceVersion=1", needs.clone()),
        ("resourceVersionMatch=NotOlderThan&resourceVersion=1", alone.clone()),
        ("resourceVersionMatch=NotOlderThan", alone.clone()),
        ("resourceVersionMatch=Exact&resourceVersion=1", format!("[{alone}, {exact}]")),
        ("resourceVersionMatch=Exact&sendInitialEvents=true", format!("[{needs}, {exact}]")),
        ("resourceVersionMatch=NotOlderThan&sendInitialEvents=true&continue=x", token),
    ] {
        let answer = server.admin.ask("GET", &format!("{maps}&{query}"), "").await.unwrap();
        assert_eq!(failure(&answer), told(422, &format!("{invalid}{message}")), "{query}");
    }
    let answer = server.admin.ask("GET", &format!("{maps}&resourceVersion=abc"), "").await.unwrap();
    let why = "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax";
    assert_eq!(failure(&answer), told(500, why));
    let answer = server.admin.ask("GET", &format!("{maps}&timeoutSeconds=x"), "").await.unwrap();
    assert_eq!(failure(&answer).0, 400);
}

/// What takes a minute happens at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_news_is_long() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_watch_tells_its_progress_every_minute,
        a_connection_without_a_request_is_closed,
    );
}

/// How long what takes a minute may take on a busy machine.
const MORE_THAN_A_MINUTE: Duration = Duration::from_secs(100);

async fn a_watch_tells_its_progress_every_minute(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("progress").await);
    let from = version(&server.post(&maps, &config_map("one")).await).to_owned();
    let query = format!("watch=1&labelSelector=nobody%3Dhas&resourceVersion={from}");
    let mut unasked = server.watch(&format!("{maps}?{query}&timeoutSeconds=600")).await;
    let mut asked = server.watch(&format!("{maps}?{query}&timeoutSeconds=600&allowWatchBookmarks=true")).await;
    // There is always something new, and nothing of it is selected.
    let busy = tokio::spawn({
        let (server, one) = (server.clone(), format!("{maps}/one"));
        async move {
            for number in 0.. {
                server.merge(&one, &json!({"data": {"key": number.to_string()}})).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    });
    let next = tokio::time::timeout(MORE_THAN_A_MINUTE, asked.next_or_end()).await;
    let (kind, object) = next.expect("a bookmark came").expect("the watch goes on");
    assert_eq!(kind, "BOOKMARK", "{object}");
    assert!(version(&object).parse::<u64>().unwrap() > from.parse::<u64>().unwrap());
    let silent = tokio::time::timeout(Duration::from_millis(100), unasked.next_or_end()).await;
    assert!(silent.is_err(), "who did not ask for bookmarks gets none");
    busy.abort();
}

async fn a_connection_without_a_request_is_closed(server: Server) {
    let ended = |protocol: &'static [u8], said: &'static [u8]| {
        let server = server.clone();
        async move {
            let mut stream = server.admin.open(&[protocol]).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.unwrap();
            let mut heard = Vec::new();
            let read = tokio::time::timeout(MORE_THAN_A_MINUTE, stream.read_to_end(&mut heard)).await;
            assert!(read.is_ok(), "{:?} stayed open", String::from_utf8_lossy(protocol));
            heard
        }
    };
    let began = Instant::now();
    // One that has asked, one that never does, and one that speaks HTTP/2 and keeps still.
    let asked = ended(b"http/1.1", b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n");
    let silent = ended(b"http/1.1", b"");
    let second = ended(b"h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let (asked, _, _) = tokio::join!(asked, silent, second);
    assert!(asked.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&asked));
    assert!(began.elapsed() < MORE_THAN_A_MINUTE);
    done(&server.admin.ask("GET", "/version", "").await.unwrap());
}
