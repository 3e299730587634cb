//! Which state a list or a get tells, by `resourceVersion`, `resourceVersionMatch`, `limit` and `continue`.

use serde_json::{Value, json};

use super::{failure, names, told, version};
use crate::{
    answers::{config_map, done},
    conformance::{Server, facts},
};

const FORBIDDEN_MATCH: &str =
    "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden";

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_asked_for_is_met() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        a_list_is_of_the_state_that_was_asked_for,
        versions_that_make_no_sense_are_refused,
        a_version_of_the_future_is_waited_for_and_told,
        a_get_is_of_the_newest_state,
        a_collection_is_deleted_as_it_is_listed,
    );
}

/// Two ConfigMaps, of which one is changed and a third is made: the path, and the versions before and after.
async fn changing(server: &Server, name: &str) -> (String, String, String) {
    let maps = format!("{}/configmaps", server.namespace(name).await);
    // Every namespace has one of its own.
    server.until(&format!("{maps}/kube-root-ca.crt"), |_| true).await;
    server.post(&maps, &config_map("a")).await;
    let old = version(&server.post(&maps, &config_map("b")).await).to_owned();
    server.merge(&format!("{maps}/a"), &json!({"data": {"key": "new"}})).await;
    let new = version(&server.post(&maps, &config_map("c")).await).to_owned();
    (maps, old, new)
}

/// Names and values of what a list tells, but for what every namespace has.
fn state(list: &Value) -> Vec<(&str, &str)> {
    let items = list["items"].as_array().unwrap().iter();
    let all = items.map(|item| (item["metadata"]["name"].as_str().unwrap(), item["data"]["key"].as_str()));
    all.filter_map(|(name, value)| Some((name, value?))).collect()
}

async fn a_list_is_of_the_state_that_was_asked_for(server: Server) {
    let (maps, old, new) = changing(&server, "state-of").await;
    let (then, now) = ([("a", "value"), ("b", "value")], [("a", "new"), ("b", "value"), ("c", "value")]);
    for (query, exact) in [
        (String::new(), false),
        ("resourceVersion=0".into(), false),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan".into(), false),
        ("resourceVersionMatch=".into(), false),
        (format!("resourceVersion={old}"), false),
        (format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan"), false),
        (format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan&limit=9"), false),
        (format!("resourceVersion={new}"), false),
        (format!("resourceVersion={old}&resourceVersionMatch=Exact"), true),
        (format!("resourceVersion={old}&resourceVersionMatch=Exact&limit=9"), true),
        // With a limit, a version is the one that is meant.
        (format!("resourceVersion={old}&limit=9"), true),
    ] {
        let list = server.get(&format!("{maps}?{query}")).await;
        assert_eq!(state(&list), if exact { &then[..] } else { &now[..] }, "{query}");
        let told: u64 = version(&list).parse().unwrap();
        let (old, new): (u64, u64) = (old.parse().unwrap(), new.parse().unwrap());
        assert!(if exact { told == old } else { told >= new }, "{query}: {told}");
    }
    // What follows is of the same state, whatever happens meanwhile.
    let first = server.get(&format!("{maps}?limit=1&resourceVersion={old}&resourceVersionMatch=Exact")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    server.merge(&format!("{maps}/b"), &json!({"data": {"key": "newer"}})).await;
    for query in [format!("continue={token}"), format!("continue={token}&resourceVersion=0&limit=5")] {
        let rest = server.get(&format!("{maps}?{query}")).await;
        assert_eq!((state(&first).len() + state(&rest).len(), version(&rest)), (2, old.as_str()), "{query}");
        assert_eq!(state(&rest).last(), Some(&("b", "value")), "{query}");
    }
}

async fn versions_that_make_no_sense_are_refused(server: Server) {
    let (maps, old, _) = changing(&server, "senseless").await;
    let token = server.get(&format!("{maps}?limit=1")).await["metadata"]["continue"].as_str().unwrap().to_owned();
    let unless = format!("{FORBIDDEN_MATCH} unless resourceVersion is provided");
    let with_continue = format!("{FORBIDDEN_MATCH} when continue is provided");
    let unsupported =
        "resourceVersionMatch: Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"";
    let invalid = "ListOptions.meta.k8s.io \"\" is invalid: ";
    let zero = "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
    let bad = "invalid resource version: resourceVersion: Invalid value: ";
    let syntax = "strconv.ParseUint: parsing";
    let both = "specifying resource version is not allowed when using continue";
    for (query, code, message) in [
        ("resourceVersionMatch=Exact".into(), 422, unless.clone()),
        ("resourceVersionMatch=NotOlderThan&limit=1".into(), 422, unless.clone()),
        (format!("resourceVersion={old}&resourceVersionMatch=Foo"), 422, format!("{invalid}{unsupported}")),
        ("resourceVersion=0&resourceVersionMatch=Exact".into(), 422, format!("{invalid}{zero}")),
        (format!("resourceVersion={old}&resourceVersionMatch=Exact&continue={token}"), 422, with_continue.clone()),
        (format!("resourceVersion=0&resourceVersionMatch=NotOlderThan&continue={token}"), 422, with_continue),
        (format!("resourceVersion={old}&continue={token}"), 400, both.into()),
        ("resourceVersion=abc".into(), 400, format!("{bad}\"abc\": {syntax} \"abc\": invalid syntax")),
        ("resourceVersion=-1&limit=2".into(), 400, format!("{bad}\"-1\": {syntax} \"-1\": invalid syntax")),
        (
            format!("resourceVersion={old}&sendInitialEvents=true"),
            422,
            format!("{invalid}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        ),
    ] {
        let answer = server.admin.ask("GET", &format!("{maps}?{query}"), "").await.unwrap();
        assert_eq!(failure(&answer), told(code, &message), "{query}");
    }
    let answer = server.admin.ask("GET", &format!("{maps}?limit=1&continue=x"), "").await.unwrap();
    let (code, message) = failure(&answer);
    assert!(code == 400 && message.starts_with("invalid continue token: continue key is not valid: "), "{message}");
}

async fn a_version_of_the_future_is_waited_for_and_told(server: Server) {
    let (maps, _, new) = changing(&server, "future").await;
    let future = new.parse::<u64>().unwrap() + 1_000_000;
    for query in ["", "&resourceVersionMatch=NotOlderThan", "&resourceVersionMatch=Exact"] {
        for path in [&*maps, &format!("{maps}/a")] {
            if path != maps && !query.is_empty() {
                continue;
            }
            let answer = server.admin.ask("GET", &format!("{path}?resourceVersion={future}{query}"), "").await.unwrap();
            let (code, message) = failure(&answer);
            assert_eq!((code, &answer.json()["reason"]), (504, &json!("Timeout")), "{path} {query}");
            assert!(
                message.starts_with(&format!("Timeout: Too large resource version: {future}, current: ")),
                "{message}"
            );
            assert_eq!(answer.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
            assert_eq!(answer.json()["details"]["retryAfterSeconds"], 1);
        }
    }
    // A version that comes while it is waited for is told.
    let soon = version(&server.get(&maps).await).parse::<u64>().unwrap() + 1;
    let waiting = tokio::spawn({
        let (server, path) = (server.clone(), format!("{maps}?resourceVersion={soon}"));
        async move { server.get(&path).await }
    });
    server.merge(&format!("{maps}/a"), &json!({"data": {"key": "newest"}})).await;
    let list = waiting.await.unwrap();
    assert!(version(&list).parse::<u64>().unwrap() >= soon);
}

async fn a_get_is_of_the_newest_state(server: Server) {
    let (maps, old, new) = changing(&server, "get-of").await;
    for query in [String::new(), "?resourceVersion=0".into(), format!("?resourceVersion={old}")] {
        assert_eq!(server.get(&format!("{maps}/a{query}")).await["data"]["key"], "new", "{query}");
    }
    assert_eq!(version(&server.get(&format!("{maps}/c?resourceVersion={new}")).await), new);
    let answer = server.admin.ask("GET", &format!("{maps}/a?resourceVersion=abc"), "").await.unwrap();
    let why = "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax";
    assert_eq!(failure(&answer), told(500, why));
}

async fn a_collection_is_deleted_as_it_is_listed(server: Server) {
    let (maps, old, _) = changing(&server, "deleted-as").await;
    let selected = "fieldSelector=metadata.name%21%3Dkube-root-ca.crt";
    for (query, message) in [
        ("resourceVersionMatch=Exact".to_owned(), format!("{FORBIDDEN_MATCH} unless resourceVersion is provided")),
        (
            "resourceVersion=0&resourceVersionMatch=Exact".into(),
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is \
             forbidden for resourceVersion \"0\""
                .into(),
        ),
    ] {
        let answer = server.admin.ask("DELETE", &format!("{maps}?{selected}&{query}"), "").await.unwrap();
        assert_eq!(failure(&answer), told(422, &message), "{query}");
    }
    // In the query, a version is also what each object has to have.
    let answer = server.admin.ask("DELETE", &format!("{maps}?{selected}&resourceVersion={old}"), "").await.unwrap();
    let (code, message) = failure(&answer);
    let begins = format!(
        "Operation cannot be fulfilled on ConfigMap \"a\": the ResourceVersion in the precondition ({old}) does not match"
    );
    assert!(code == 409 && message.starts_with(&begins), "{code} {message}");
    // Options in a body leave it to say what is listed: what was not there at that version stays.
    let options = |trial: Value| json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": trial});
    for (query, listed) in [
        (format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan"), &["a", "b", "c"][..]),
        (format!("resourceVersion={old}&resourceVersionMatch=Exact"), &["a", "b"]),
        (format!("resourceVersion={old}"), &["a", "b"]),
        ("resourceVersion=0".into(), &["a", "b", "c"]),
    ] {
        let path = format!("{maps}?{selected}&{query}");
        let would = done(&server.ask("DELETE", &path, &options(json!(["All"]))).await);
        assert_eq!(names(&would), listed, "{query}");
    }
    assert_eq!(state(&server.get(&maps).await).len(), 3);
    let path = format!("{maps}?{selected}&resourceVersion={old}");
    let deleted = done(&server.ask("DELETE", &path, &options(json!([]))).await);
    assert_eq!((names(&deleted), state(&deleted)[0]), (vec!["a", "b"], ("a", "value")), "as they were then");
    assert_eq!(state(&server.get(&maps).await), [("c", "value")]);
}
