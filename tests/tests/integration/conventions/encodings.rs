//! Forms in which objects are sent and told: protobuf, tables, metadata alone, compressed.

use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use martello_api::schema::{decode_protobuf, encode_protobuf};
use martello_tests::raw::{Answer, Http};
use serde_json::{Value, json};

use super::{failure, thing, things, told};
use crate::{
    answers::{config_map, done},
    conformance::{Server, facts},
};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const UNACCEPTABLE: &str = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_told_in_many_forms() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        built_in_kinds_are_written_and_read_in_protobuf,
        a_watch_in_protobuf_comes_in_frames,
        custom_kinds_are_told_in_protobuf_as_metadata_alone,
        an_answer_is_compressed_from_its_threshold_on,
        tables_are_told_in_both_versions,
        a_watch_of_a_table_tells_its_columns_once,
        metadata_alone_is_told_in_both_versions,
    );
}

async fn send(server: &Server, method: &str, path: &str, accept: &str, body: Option<&Value>) -> Answer {
    let headers = [("accept", accept), ("content-type", PROTOBUF)];
    let body = body.map(|body| encode_protobuf(body).unwrap()).unwrap_or_default();
    let headers = if body.is_empty() { &headers[..1] } else { &headers[..] };
    server.admin.ask_with(method, path, headers, body).await.unwrap()
}

/// What an answer in protobuf holds.
fn decoded(answer: &Answer) -> (String, Value) {
    assert!((200..300).contains(&answer.status), "{}", answer.text());
    assert_eq!(answer.headers["content-type"], PROTOBUF);
    let (gvk, value) = decode_protobuf(&answer.body).unwrap();
    (gvk.kind.to_string(), value)
}

async fn built_in_kinds_are_written_and_read_in_protobuf(server: Server) {
    server.namespace("protobuf").await;
    let all = "/apis/apps/v1/namespaces/protobuf/deployments";
    let container = json!({"name": "one", "image": "myapp:1.2.0", "resources": {"limits": {"cpu": "1500m"}},
        "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 7},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]});
    let template = json!({"metadata": {"labels": {"app": "one"}}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"app": "one"}}, "template": template});
    let one = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "one"}, "spec": spec});
    let (kind, made) = decoded(&send(&server, "POST", all, PROTOBUF, Some(&one)).await);
    assert_eq!(kind, "Deployment");
    let path = format!("{all}/one");
    let plain = server.get(&path).await;
    assert_eq!(plain["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"], 7);
    assert_eq!(made["spec"], plain["spec"], "what is told in protobuf is what is told in JSON");
    // What is sent in one form may be told in another.
    let mut changed = plain.clone();
    changed["metadata"]["labels"] = json!({"changed": "yes"});
    changed["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let updated = send(&server, "PUT", &path, JSON, Some(&changed)).await;
    assert_eq!(done(&updated)["metadata"]["labels"], json!({"changed": "yes"}));
    let (_, read) = decoded(&send(&server, "GET", &path, PROTOBUF, None).await);
    assert_eq!((&read["metadata"]["labels"], &read["spec"]), (&json!({"changed": "yes"}), &plain["spec"]));
    let (kind, list) = decoded(&send(&server, "GET", &format!("{all}?limit=1"), PROTOBUF, None).await);
    assert_eq!((kind.as_str(), list["items"].as_array().unwrap().len()), ("DeploymentList", 1));
    assert_eq!(list["items"][0]["spec"], plain["spec"]);
    let headers = [("accept", PROTOBUF), ("content-type", "application/merge-patch+json")];
    let patch = json!({"metadata": {"labels": {"patched": "too"}}}).to_string();
    let patched = server.admin.ask_with("PATCH", &path, &headers, patch).await.unwrap();
    assert_eq!(decoded(&patched).1["metadata"]["labels"], json!({"changed": "yes", "patched": "too"}));
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]});
    let trial = match encode_protobuf(&options) {
        Some(body) => server.admin.ask_as("DELETE", &path, PROTOBUF, body).await.unwrap(),
        None => server.ask("DELETE", &path, &options).await,
    };
    done(&trial);
    decoded(&send(&server, "DELETE", &path, PROTOBUF, None).await);
    // A failure is told in protobuf, too.
    let missing = send(&server, "GET", &path, PROTOBUF, None).await;
    assert_eq!((missing.status, &missing.headers["content-type"]), (404, &PROTOBUF.parse().unwrap()));
    assert!(missing.body.starts_with(b"k8s\0") && missing.text().contains("deployments.apps \"one\" not found"));
    // What is cut off, or of another kind, is refused.
    let mut cut = encode_protobuf(&one).unwrap();
    cut.truncate(cut.len() / 2);
    assert_eq!(server.admin.ask_as("POST", all, PROTOBUF, cut).await.unwrap().status, 400);
    assert_eq!(send(&server, "POST", all, JSON, Some(&config_map("one"))).await.status, 400);
}

/// A number as protobuf writes it, and what follows.
fn varint(bytes: &[u8]) -> (usize, &[u8]) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (number, rest) = bytes.split_at(length);
    (number.iter().rev().fold(0, |all, byte| (all << 7) | usize::from(byte & 0x7f)), rest)
}

/// The bytes of the field that comes first, which has this number, and what follows.
fn field(bytes: &[u8], number: u8) -> (&[u8], &[u8]) {
    assert_eq!(bytes[0], number << 3 | 2, "{bytes:?}");
    let (length, rest) = varint(&bytes[1..]);
    rest.split_at(length)
}

async fn a_watch_in_protobuf_comes_in_frames(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("frames").await);
    let from = server.post(&maps, &config_map("one")).await;
    let query = format!("watch=1&timeoutSeconds=2&allowWatchBookmarks=true&resourceVersion={}", super::version(&from));
    let accept = [("accept", "application/vnd.kubernetes.protobuf;stream=watch,application/vnd.kubernetes.protobuf")];
    let mut connection = server.admin.connect(Http::One).await.unwrap();
    let request = connection.request("GET", &format!("{maps}?{query}"), &accept, Bytes::new()).unwrap();
    let answer = connection.send(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    server.merge(&format!("{maps}/one"), &json!({"data": {"key": "new"}})).await;
    server.delete(&format!("{maps}/one")).await;
    let all = answer.into_body().collect().await.unwrap().to_bytes();
    let (mut rest, mut seen) = (&all[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        let (kind, object) = field(frame, 1);
        let (extension, end) = field(object, 2);
        let (raw, behind) = field(extension, 1);
        assert!(end.is_empty() && behind.is_empty());
        let (gvk, value) = decode_protobuf(raw).unwrap();
        assert_eq!(gvk.kind, "ConfigMap");
        seen.push((String::from_utf8(kind.to_vec()).unwrap(), value["data"]["key"].as_str().map(str::to_owned)));
        rest = after;
    }
    assert!(rest.is_empty());
    let event = |kind: &str, key: Option<&str>| (kind.to_owned(), key.map(str::to_owned));
    let expected = [event("MODIFIED", Some("new")), event("DELETED", Some("new")), event("BOOKMARK", None)];
    assert_eq!(seen[..2], expected[..2]);
    assert!(seen[2..].iter().all(|last| *last == expected[2]), "{seen:?}");
}

async fn custom_kinds_are_told_in_protobuf_as_metadata_alone(server: Server) {
    let group = "encoded.example.com";
    let all = things(&server, group).await;
    server.post(&all, &thing(group, "one", json!({"a": 1}))).await;
    let body = config_map("two");
    let body = encode_protobuf(&body).unwrap();
    let refusal = server.admin.ask_as("POST", &all, PROTOBUF, body).await.unwrap();
    let why = "the body of the request was in an unknown format - accepted media types include: application/json, \
               application/yaml, application/vnd.kubernetes.protobuf";
    assert_eq!((failure(&refusal), &refusal.json()["reason"]), (told(415, why), &json!("UnsupportedMediaType")));
    let one = format!("{all}/one");
    // The first form that is there is taken.
    for accept in [
        "application/vnd.kubernetes.protobuf,application/json",
        "application/vnd.kubernetes.protobuf, */*",
        "application/cbor,application/json;q=0.5",
    ] {
        let answer = server.admin.ask_with("GET", &one, &[("accept", accept)], "").await.unwrap();
        assert_eq!(
            (&answer.headers["content-type"], &done(&answer)["spec"]),
            (&JSON.parse().unwrap(), &json!({"a": 1}))
        );
    }
    let refusal = send(&server, "GET", &one, PROTOBUF, None).await;
    assert_eq!((refusal.status, &refusal.headers["content-type"]), (406, &PROTOBUF.parse().unwrap()));
    assert!(refusal.text().contains(UNACCEPTABLE), "{}", refusal.text());
    for accept in ["text/html", "application/cbor", "application/json;as=Nothing;v=v1;g=meta.k8s.io"] {
        let refusal = server.admin.ask_with("GET", &one, &[("accept", accept)], "").await.unwrap();
        assert_eq!((failure(&refusal), &refusal.json()["reason"]), (told(406, UNACCEPTABLE), &json!("NotAcceptable")));
    }
    let accept = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let (kind, metadata) = decoded(&send(&server, "GET", &one, &accept, None).await);
    assert_eq!((kind.as_str(), &metadata["metadata"]["name"]), ("PartialObjectMetadata", &json!("one")));
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (kind, list) = decoded(&send(&server, "GET", &all, &accept, None).await);
    assert_eq!((kind.as_str(), super::names(&list)), ("PartialObjectMetadataList", vec!["one"]));
}

async fn an_answer_is_compressed_from_its_threshold_on(server: Server) {
    const THRESHOLD: usize = 128 * 1024;
    let maps = format!("{}/configmaps", server.namespace("gzip").await);
    let map = |name: &str, bytes: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x".repeat(bytes)}});
    server.post(&maps, &map("m0", 0)).await;
    let small = server.admin.ask("GET", &format!("{maps}/m0"), "").await.unwrap();
    let besides = small.body.len() - super::version(&small.json()).len();
    for (name, over) in [("m1", false), ("m2", true)] {
        let one = format!("{maps}/{name}");
        let wanted = THRESHOLD + usize::from(over);
        let mut text = wanted - besides - 20;
        server.post(&maps, &map(name, text)).await;
        // Digits of the version are told, and nobody knows beforehand how many there are.
        loop {
            let there = server.admin.ask("GET", &one, "").await.unwrap().body.len();
            if there == wanted {
                break;
            }
            text = text + wanted - there;
            server.merge(&one, &json!({"data": {"k": "x".repeat(text)}})).await;
        }
        for (accepted, compressed) in
            [("gzip", over), ("br, gzip", over), ("identity", false), ("gzip;q=0", false), ("deflate", false)]
        {
            let answer = server.admin.ask_with("GET", &one, &[("accept-encoding", accepted)], "").await.unwrap();
            let encoding = answer.headers.get("content-encoding").map(|value| value.to_str().unwrap());
            assert_eq!(encoding, compressed.then_some("gzip"), "{name} {accepted}");
            if compressed {
                assert_eq!(answer.headers["vary"], "Accept-Encoding");
                // The last four bytes tell how much there was.
                let length = u32::from_le_bytes(*answer.body.last_chunk().unwrap()) as usize;
                assert!(answer.body.starts_with(b"\x1f\x8b\x08") && length == wanted, "{length}");
                assert!(answer.body.len() < THRESHOLD / 10);
            } else {
                assert_eq!(answer.body.len(), wanted, "{name} {accepted}");
            }
        }
        let plain = server.admin.ask("GET", &one, "").await.unwrap();
        assert!(!plain.headers.contains_key("content-encoding"));
        assert_eq!(plain.body.len(), wanted);
    }
    // A list is compressed as it is made.
    let list = server.admin.ask_with("GET", &maps, &[("accept-encoding", "gzip")], "").await.unwrap();
    assert!(list.headers["content-encoding"] == "gzip" && list.body.starts_with(b"\x1f\x8b\x08"));
}

/// As a Table of a version.
fn table(version: &str) -> String {
    format!("application/json;as=Table;v={version};g=meta.k8s.io")
}

async fn tables_are_told_in_both_versions(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("tables").await);
    server.post(&maps, &config_map("one")).await;
    for version in ["v1", "v1beta1"] {
        for (path, included) in [
            (format!("{maps}/one?"), "Metadata"),
            (format!("{maps}/one?includeObject=Metadata"), "Metadata"),
            (format!("{maps}/one?includeObject=Object"), "Object"),
            (format!("{maps}/one?includeObject=None"), "None"),
            (format!("{maps}?fieldSelector=metadata.name%3Done"), "Metadata"),
            (format!("{maps}?fieldSelector=metadata.name%3Done&includeObject=Object"), "Object"),
            (format!("{maps}?fieldSelector=metadata.name%3Done&includeObject=None"), "None"),
        ] {
            let accept = format!("{},application/json", table(version));
            let told = done(&server.admin.ask_with("GET", &path, &[("accept", &accept)], "").await.unwrap());
            assert_eq!(
                (&told["kind"], &told["apiVersion"]),
                (&json!("Table"), &json!(format!("meta.k8s.io/{version}")))
            );
            let columns = told["columnDefinitions"].as_array().unwrap().iter();
            let columns: Vec<_> = columns.map(|column| column["name"].as_str().unwrap()).collect();
            assert_eq!(columns, ["Name", "Data", "Age"]);
            let row = &told["rows"][0];
            assert_eq!(row["cells"].as_array().unwrap()[..2], [json!("one"), json!(1)]);
            let object = &row["object"];
            match included {
                "None" => assert!(object.is_null(), "{path}: {object}"),
                "Object" => {
                    assert_eq!((&object["kind"], &object["data"]["key"]), (&json!("ConfigMap"), &json!("value")))
                }
                _ => {
                    let own = (&object["kind"], &object["apiVersion"], object.get("data"));
                    let wanted = json!(format!("meta.k8s.io/{version}"));
                    assert_eq!(own, (&json!("PartialObjectMetadata"), &wanted, None), "{path}");
                    assert_eq!(object["metadata"]["name"], "one");
                }
            }
        }
        let path = format!("{maps}?includeObject=Some");
        let refusal = server.admin.ask_with("GET", &path, &[("accept", &table(version))], "").await.unwrap();
        let why = "Unable to convert to Table as requested: includeObject: Invalid value: \"Some\": must be 'Metadata', \
                   'Object', 'None', or empty";
        assert_eq!(failure(&refusal), told(400, why));
    }
    // Of a version that there is not, the next form that is accepted is told, or none.
    let accept = format!("{},application/json", table("v2"));
    let answer = server.admin.ask_with("GET", &maps, &[("accept", &accept)], "").await.unwrap();
    assert_eq!(done(&answer)["kind"], "ConfigMapList");
    let answer = server.admin.ask_with("GET", &maps, &[("accept", &table("v2"))], "").await.unwrap();
    assert_eq!(failure(&answer), told(406, UNACCEPTABLE));
}

async fn a_watch_of_a_table_tells_its_columns_once(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("table-watch").await);
    let from = server.post(&maps, &config_map("one")).await;
    for (version, included) in [("v1", ""), ("v1beta1", "&includeObject=Object")] {
        let from = super::version(&from);
        let query =
            format!("watch=1&timeoutSeconds=2&resourceVersion={from}&fieldSelector=metadata.name%3Done{included}");
        let watch = tokio::spawn({
            let (admin, path) = (server.admin.clone(), format!("{maps}?{query}"));
            async move { admin.ask_with("GET", &path, &[("accept", &table(version))], "").await.unwrap() }
        });
        for key in ["a", "b"] {
            server.merge(&format!("{maps}/one"), &json!({"data": {"key": format!("{key}-{version}")}})).await;
        }
        let answer = watch.await.unwrap();
        let events: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.len() >= 2, "{events:?}");
        for (index, event) in events.iter().enumerate() {
            let told = &event["object"];
            assert_eq!((&event["type"], &told["kind"]), (&json!("MODIFIED"), &json!("Table")));
            assert_eq!(told["apiVersion"], format!("meta.k8s.io/{version}"));
            assert_eq!(told["columnDefinitions"].is_array(), index == 0, "{told}");
            let row = &told["rows"][0];
            assert_eq!(row["cells"][0], "one");
            let kind = if included.is_empty() { "PartialObjectMetadata" } else { "ConfigMap" };
            assert_eq!(row["object"]["kind"], kind);
        }
    }
}

async fn metadata_alone_is_told_in_both_versions(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("metadata").await);
    server.post(&maps, &config_map("one")).await;
    for version in ["v1", "v1beta1"] {
        let accept = |kind: &str| format!("application/json;as={kind};v={version};g=meta.k8s.io");
        let ask = |path: String, accept: String| {
            let admin = server.admin.clone();
            async move { admin.ask_with("GET", &path, &[("accept", &accept)], "").await.unwrap() }
        };
        let one = done(&ask(format!("{maps}/one"), accept("PartialObjectMetadata")).await);
        let group = json!(format!("meta.k8s.io/{version}"));
        assert_eq!((&one["kind"], &one["apiVersion"]), (&json!("PartialObjectMetadata"), &group));
        assert_eq!((&one["metadata"]["name"], one.get("data")), (&json!("one"), None));
        let list =
            done(&ask(format!("{maps}?fieldSelector=metadata.name%3Done"), accept("PartialObjectMetadataList")).await);
        assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PartialObjectMetadataList"), &group));
        assert_eq!((&list["items"][0]["kind"], list["items"][0].get("data")), (&json!("PartialObjectMetadata"), None));
        let refusal = ask(maps.clone(), accept("PartialObjectMetadata")).await;
        let why = "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)";
        assert_eq!(failure(&refusal), told(406, why));
        let refusal = ask(format!("{maps}/one"), accept("PartialObjectMetadataList")).await;
        let why = "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)";
        assert_eq!(failure(&refusal), told(406, why));
        let query = "watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Done";
        let watch = ask(format!("{maps}?{query}"), accept("PartialObjectMetadata")).await;
        let event: Value = serde_json::from_str(watch.text().lines().next().unwrap()).unwrap();
        assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("PartialObjectMetadata")));
        assert_eq!((&event["object"]["apiVersion"], event["object"].get("data")), (&group, None));
    }
}
