//! Lists in chunks, and watches: where they begin, what they show, and that all show the same.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Server, facts, server::Events};

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_watches_agree() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_watch_begins_at_a_version,
        a_watch_goes_on_where_another_ended,
        watches_by_label_show_their_own,
        what_leaves_its_selector_is_shown_as_deleted,
        watches_at_the_same_time_show_the_same_order,
        a_watch_may_begin_with_the_state,
        lists_come_in_chunks_of_one_version,
    );
}

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"watched": label}}, "data": {"mutation": "0"}})
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn mutate(server: &Server, path: &str, to: &str) -> Value {
    server.merge(path, &json!({"data": {"mutation": to}})).await
}

/// The next event's type and what it shows was changed last.
async fn seen(events: &mut Events) -> (String, String) {
    let (kind, object) = events.next().await;
    (kind, object["data"]["mutation"].as_str().unwrap_or_default().to_owned())
}

fn event(kind: &str, mutation: &str) -> (String, String) {
    (kind.to_owned(), mutation.to_owned())
}

async fn a_watch_begins_at_a_version(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("begins").await);
    let one = format!("{maps}/one");
    server.post(&maps, &map("one", "begins")).await;
    let first = mutate(&server, &one, "1").await;
    mutate(&server, &one, "2").await;
    server.delete(&one).await;
    let from = version(&first);
    let query = format!("watch=1&labelSelector=watched%3Dbegins&resourceVersion={from}");
    let mut events = server.watch(&format!("{maps}?{query}")).await;
    assert_eq!(seen(&mut events).await, event("MODIFIED", "2"));
    assert_eq!(seen(&mut events).await, event("DELETED", "2"));
}

async fn a_watch_goes_on_where_another_ended(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("goes-on").await);
    let one = format!("{maps}/one");
    let selected = format!("{maps}?watch=1&labelSelector=watched%3Dgoes-on");
    let mut events = server.watch(&selected).await;
    server.post(&maps, &map("one", "goes-on")).await;
    mutate(&server, &one, "1").await;
    assert_eq!(seen(&mut events).await, event("ADDED", "0"));
    let (kind, last) = events.next().await;
    assert_eq!(kind, "MODIFIED");
    drop(events);
    mutate(&server, &one, "2").await;
    server.delete(&one).await;
    let mut events = server.watch(&format!("{selected}&resourceVersion={}", version(&last))).await;
    assert_eq!(seen(&mut events).await, event("MODIFIED", "2"));
    assert_eq!(seen(&mut events).await, event("DELETED", "2"));
}

async fn watches_by_label_show_their_own(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("labels").await);
    let mut a = server.watch(&format!("{maps}?watch=1&labelSelector=watched%3Da")).await;
    let mut b = server.watch(&format!("{maps}?watch=1&labelSelector=watched%3Db")).await;
    let mut both = server.watch(&format!("{maps}?watch=1&labelSelector=watched%20in%20(a,b)")).await;
    let a_path = format!("{maps}/map-a");
    server.post(&maps, &map("map-a", "a")).await;
    mutate(&server, &a_path, "1").await;
    mutate(&server, &a_path, "2").await;
    server.delete(&a_path).await;
    server.post(&maps, &map("map-b", "b")).await;
    server.delete(&format!("{maps}/map-b")).await;
    for events in [&mut a, &mut both] {
        for expected in [("ADDED", "0"), ("MODIFIED", "1"), ("MODIFIED", "2"), ("DELETED", "2")] {
            assert_eq!(seen(events).await, event(expected.0, expected.1));
        }
    }
    for events in [&mut b, &mut both] {
        // What comes first here came last there: nothing of the other map is shown.
        assert_eq!(seen(events).await, event("ADDED", "0"));
        assert_eq!(seen(events).await, event("DELETED", "0"));
    }
}

async fn what_leaves_its_selector_is_shown_as_deleted(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("leaves").await);
    let one = format!("{maps}/one");
    let mut events = server.watch(&format!("{maps}?watch=1&labelSelector=watched%3Dleaves")).await;
    let relabel = |label: &'static str| json!({"metadata": {"labels": {"watched": label}}});
    server.post(&maps, &map("one", "leaves")).await;
    mutate(&server, &one, "1").await;
    let left = server.merge(&one, &relabel("elsewhere")).await;
    mutate(&server, &one, "2").await;
    let back = server.merge(&one, &relabel("leaves")).await;
    mutate(&server, &one, "3").await;
    server.delete(&one).await;
    assert_eq!(seen(&mut events).await, event("ADDED", "0"));
    assert_eq!(seen(&mut events).await, event("MODIFIED", "1"));
    let (kind, gone) = events.next().await;
    assert_eq!(
        (kind.as_str(), version(&gone)),
        ("DELETED", version(&left)),
        "the object as it last matched, at the version at which it left"
    );
    assert_eq!((&gone["data"]["mutation"], &gone["metadata"]["labels"]["watched"]), (&json!("1"), &json!("leaves")));
    let (kind, added) = events.next().await;
    assert_eq!((kind.as_str(), version(&added)), ("ADDED", version(&back)));
    assert_eq!(added["data"]["mutation"], "2");
    assert_eq!(seen(&mut events).await, event("MODIFIED", "3"));
    assert_eq!(seen(&mut events).await, event("DELETED", "3"));
}

async fn watches_at_the_same_time_show_the_same_order(server: Server) {
    const WRITES: usize = 40;
    let maps = format!("{}/configmaps", server.namespace("order").await);
    let from = version(&server.get(&maps).await);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (server, maps) = (server.clone(), maps.clone());
            tokio::spawn(async move {
                let one = format!("{maps}/map-{writer}");
                for round in 0..WRITES / 4 {
                    match round % 3 {
                        0 => drop(server.post(&maps, &map(&format!("map-{writer}"), "order")).await),
                        1 => drop(mutate(&server, &one, "1").await),
                        _ => drop(server.delete(&one).await),
                    }
                }
            })
        })
        .collect();
    let mut first = server.watch(&format!("{maps}?watch=1&resourceVersion={from}")).await;
    let mut order = Vec::new();
    let mut later = Vec::new();
    for _ in 0..WRITES {
        let (kind, object) = first.next().await;
        order.push((kind, version(&object)));
        // A watch that begins at this event shows all that come after it.
        later.push(server.watch(&format!("{maps}?watch=1&resourceVersion={}", version(&object))).await);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(order.is_sorted_by_key(|(_, version)| *version), "{order:?}");
    for (begun, events) in later.iter_mut().enumerate() {
        for expected in &order[begun + 1..] {
            let (kind, object) = events.next().await;
            assert_eq!(&(kind, version(&object)), expected);
        }
    }
}

async fn a_watch_may_begin_with_the_state(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("state").await);
    for name in ["one", "two"] {
        server.post(&maps, &map(name, "state")).await;
    }
    let query = "watch=1&labelSelector=watched%3Dstate&allowWatchBookmarks=true";
    let streamed = format!("{maps}?{query}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let mut events = server.watch(&streamed).await;
    let mut names = BTreeSet::new();
    let end = loop {
        let (kind, object) = events.next().await;
        if kind == "BOOKMARK" {
            break object;
        }
        assert_eq!(kind, "ADDED");
        names.insert(object["metadata"]["name"].as_str().unwrap().to_owned());
    };
    assert_eq!(names, ["one".to_owned(), "two".to_owned()].into());
    assert_eq!(end["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    mutate(&server, &format!("{maps}/one"), "1").await;
    let (kind, object) = events.next().await;
    assert_eq!(kind, "MODIFIED");
    assert!(version(&object) > version(&end));
}

async fn lists_come_in_chunks_of_one_version(server: Server) {
    const COUNT: usize = 23;
    const LIMIT: usize = 7;
    let templates = format!("{}/podtemplates", server.namespace("chunks").await);
    let container = json!({"name": "one", "image": "myapp:1.2.0"});
    for index in 0..COUNT {
        let name = format!("template-{index:02}");
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}});
        server.post(&templates, &json!({"metadata": {"name": name}, "template": template})).await;
    }
    let (mut found, mut token, mut first) = (0, String::new(), None);
    loop {
        let page = server.get(&format!("{templates}?limit={LIMIT}&continue={token}")).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= LIMIT);
        for (index, item) in items.iter().enumerate() {
            assert_eq!(item["metadata"]["name"], format!("template-{:02}", found + index));
        }
        found += items.len();
        assert_eq!(version(&page), *first.get_or_insert(version(&page)));
        let Some(next) = page["metadata"]["continue"].as_str() else {
            assert_eq!((found, &page["metadata"]["remainingItemCount"]), (COUNT, &Value::Null));
            break;
        };
        assert_eq!(page["metadata"]["remainingItemCount"], COUNT - found);
        if token.is_empty() {
            // What is made meanwhile is not in the later chunks.
            let template = json!({"spec": {"containers": [container]}});
            server.post(&templates, &json!({"metadata": {"name": "template-99"}, "template": template})).await;
        }
        token = next.to_owned();
    }
    assert_eq!(server.get(&templates).await["items"].as_array().unwrap().len(), COUNT + 1);
}
