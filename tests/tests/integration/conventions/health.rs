//! What those who run the server ask it: how it is, check by check, and what it serves, in the form old clients read.

use std::collections::BTreeSet;

use martello_tests::raw::Answer;

use crate::{
    answers::done,
    conformance::{Server, facts},
};

const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_of_itself() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        checks_are_told_one_by_one_and_may_be_left_out,
        version_two_of_openapi_is_the_same_in_protobuf,
        version_three_of_openapi_may_be_kept_under_its_hash,
    );
}

async fn ask(server: &Server, path: &str) -> Answer {
    server.admin.ask("GET", path, "").await.unwrap()
}

async fn checks_are_told_one_by_one_and_may_be_left_out(server: Server) {
    for what in ["livez", "readyz", "healthz"] {
        let verbose = ask(&server, &format!("/{what}?verbose")).await;
        assert_eq!(
            (verbose.status, verbose.headers["content-type"].to_str().unwrap()),
            (200, "text/plain; charset=utf-8")
        );
        let text = verbose.text();
        let lines: Vec<&str> = text.lines().collect();
        let (last, checks) = lines.split_last().unwrap();
        assert_eq!(*last, format!("{what} check passed"));
        assert!(checks.len() >= 3 && checks.contains(&"[+]ping ok") && checks.contains(&"[+]etcd ok"), "{text}");
        for check in checks {
            let name = check.strip_prefix("[+]").and_then(|check| check.strip_suffix(" ok")).unwrap();
            let one = ask(&server, &format!("/{what}/{name}")).await;
            assert_eq!((one.status, &*one.text()), (200, "ok"), "{what}/{name}");
        }
        let without = ask(&server, &format!("/{what}?exclude=etcd")).await;
        assert_eq!((without.status, &*without.text()), (200, "ok"));
        let without = ask(&server, &format!("/{what}?exclude=etcd&exclude=ping&verbose")).await.text();
        assert!(without.contains("[+]etcd excluded: ok\n") && without.contains("[+]ping excluded: ok\n"), "{without}");
        assert!(without.ends_with(&format!("{what} check passed\n")), "{without}");
        let unknown = ask(&server, &format!("/{what}?exclude=none&verbose")).await.text();
        let warned = "warn: some health checks cannot be excluded: no matches for \"none\"\n";
        assert!(unknown.contains(warned) && unknown.contains("[+]etcd ok\n"), "{unknown}");
        let none = ask(&server, &format!("/{what}/none")).await;
        assert_eq!((none.status, &*none.text()), (404, "404 page not found\n"));
    }
}

/// The fields of a message, by number; those that have bytes.
fn fields(mut bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = varint(bytes);
        let (value, rest) = varint(rest);
        bytes = rest;
        if tag & 7 == 2 {
            let (own, rest) = bytes.split_at(value);
            all.push((tag >> 3, own));
            bytes = rest;
        }
    }
    all
}

fn varint(bytes: &[u8]) -> (usize, &[u8]) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (number, rest) = bytes.split_at(length);
    (number.iter().rev().fold(0, |all, byte| (all << 7) | usize::from(byte & 0x7f)), rest)
}

/// The names in the message that has this number in the document, each of an entry with this number.
fn named(document: &[(usize, &[u8])], number: usize, entry: usize) -> BTreeSet<String> {
    let (_, message) = document.iter().find(|(own, _)| *own == number).unwrap();
    let entries = fields(message).into_iter().filter(|(own, _)| *own == entry);
    let names = entries.map(|(_, entry)| fields(entry)[0].1);
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

async fn version_two_of_openapi_is_the_same_in_protobuf(server: Server) {
    let json = done(&ask(&server, "/openapi/v2").await);
    for accept in [OPENAPI_PROTOBUF, &format!("{OPENAPI_PROTOBUF},application/json")] {
        let answer = server.admin.ask_with("GET", "/openapi/v2", &[("accept", accept)], "").await.unwrap();
        assert_eq!(answer.status, 200);
        let told = answer.headers["content-type"].to_str().unwrap();
        assert_eq!(told, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
        let document = fields(&answer.body);
        assert_eq!(document[0], (1, &b"2.0"[..]));
        let info = fields(document[1].1);
        assert_eq!(info, [(1, &b"Kubernetes"[..]), (2, json["info"]["version"].as_str().unwrap().as_bytes())]);
        let keys = |name: &str| json[name].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert!(keys("paths").len() > 400 && keys("definitions").len() > 500);
        assert_eq!(named(&document, 8, 2), keys("paths"));
        assert_eq!(named(&document, 9, 1), keys("definitions"));
    }
}

async fn version_three_of_openapi_may_be_kept_under_its_hash(server: Server) {
    let index = done(&ask(&server, "/openapi/v3").await);
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (plain, hash) = address.split_once("?hash=").unwrap();
    let tag = format!("\"{hash}\"");
    let header = |answer: &Answer, name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let kept = ask(&server, address).await;
    assert_eq!((kept.status, header(&kept, "etag").as_deref()), (200, Some(&*tag)));
    assert_eq!(header(&kept, "cache-control").as_deref(), Some("public, immutable"));
    assert!(header(&kept, "expires").is_some());
    assert!(done(&kept)["paths"]["/apis/apps/v1/deployments"]["get"].is_object());
    let known = server.admin.ask_with("GET", address, &[("if-none-match", &tag)], "").await.unwrap();
    assert_eq!((known.status, known.body.len()), (304, 0));
    // Without its hash it is asked for anew each time, and one that is outdated leads to the one that is not.
    let asked = ask(&server, plain).await;
    assert_eq!((asked.status, header(&asked, "cache-control").as_deref()), (200, Some("no-cache, private")));
    assert_eq!(asked.body, kept.body);
    let outdated = ask(&server, &format!("{plain}?hash=OLD")).await;
    assert_eq!((outdated.status, header(&outdated, "location").as_deref()), (301, Some(address)));
}
