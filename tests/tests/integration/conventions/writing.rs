//! Writes: names that the server makes, who owns the fields, and how unknown and duplicate fields are met in YAML.

use std::collections::BTreeSet;

use serde_json::json;

use super::{failure, told};
use crate::{
    answers::{config_map, done},
    conformance::{Server, facts},
};

const YAML: &str = "application/yaml";

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_met_as_they_ask() {
    let (_cluster, server) = Server::start().await;
    facts!(server;
        names_are_made_of_their_bases,
        a_manager_of_fields_has_a_name_that_fits,
        fields_are_validated_in_yaml_as_in_json,
    );
}

async fn names_are_made_of_their_bases(server: Server) {
    const COUNT: usize = 50;
    let maps = format!("{}/configmaps", server.namespace("bases").await);
    let mut names = BTreeSet::new();
    for _ in 0..COUNT {
        let made = server.post(&maps, &json!({"metadata": {"generateName": "base-"}})).await;
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        let suffix = name.strip_prefix("base-").unwrap();
        assert!(
            suffix.len() == 5 && suffix.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte)),
            "{name}"
        );
        names.insert(name);
    }
    assert_eq!(names.len(), COUNT);
    // A long base is cut, so that a name of 63 letters comes of it.
    let made = server.post(&maps, &json!({"metadata": {"generateName": "x".repeat(70)}})).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.len() == 63 && name.starts_with(&"x".repeat(58)), "{name}");
    // A name that is given is the one that counts.
    let given = json!({"metadata": {"name": "given", "generateName": "base-"}});
    assert_eq!(server.post(&maps, &given).await["metadata"]["name"], "given");
    let again = server.ask("POST", &maps, &given).await;
    let taken = "configmaps \"given\" already exists, the server was not able to generate a unique name for the object";
    assert_eq!(failure(&again), told(409, taken));
    assert_eq!(again.json()["details"]["retryAfterSeconds"], 1);
}

async fn a_manager_of_fields_has_a_name_that_fits(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("managers").await);
    server.post(&maps, &config_map("one")).await;
    let one = format!("{maps}/one");
    let fits = "x".repeat(128);
    let long = format!("{fits}x");
    for (method, path, media, options) in [
        ("POST", &maps, "application/json", "CreateOptions"),
        ("PUT", &one, "application/json", "UpdateOptions"),
        ("PATCH", &one, "application/merge-patch+json", "PatchOptions"),
        ("PATCH", &one, "application/apply-patch+yaml", "PatchOptions"),
    ] {
        let ask = |manager: String| {
            let path = format!("{path}?dryRun=All&fieldManager={manager}");
            let body = config_map(if method == "POST" { "two" } else { "one" }).to_string();
            let admin = server.admin.clone();
            async move { admin.ask_as(method, &path, media, body).await.unwrap() }
        };
        let invalid = format!("{options}.meta.k8s.io \"\" is invalid: fieldManager: ");
        let refusal = format!("{invalid}Too long: may not be more than 128 bytes");
        assert_eq!(failure(&ask(long.clone()).await), told(422, &refusal), "{method} {media}");
        let refusal = format!("{invalid}Invalid value: \"a\\ab\": invalid character U+0007 (at position 1)");
        assert_eq!(failure(&ask("a%07b".into()).await), told(422, &refusal), "{method} {media}");
        done(&ask(fits.clone()).await);
    }
    let apply = server.admin.ask_as("PATCH", &one, "application/apply-patch+yaml", config_map("one").to_string());
    let refusal = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
    assert_eq!(failure(&apply.await.unwrap()), told(422, refusal));
    let made = server.ask("POST", &format!("{maps}?fieldManager={fits}"), &config_map("two")).await;
    assert_eq!(done(&made)["metadata"]["managedFields"][0]["manager"], json!(fits));
}

async fn fields_are_validated_in_yaml_as_in_json(server: Server) {
    let maps = format!("{}/configmaps", server.namespace("yaml").await);
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\n  nope: 1\ndata:\n  a: \"1\"\n  a: \"2\"\n";
    let post = |asked: &str| {
        let (admin, path) = (server.admin.clone(), format!("{maps}?dryRun=All{asked}"));
        async move { admin.ask_as("POST", &path, YAML, text).await.unwrap() }
    };
    let twice = "line 8: key \"a\" already set in map";
    let strict = format!(
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  \
         {twice}, unknown field \"metadata.nope\""
    );
    assert_eq!(failure(&post("&fieldValidation=Strict").await), told(400, &strict));
    for asked in ["", "&fieldValidation=Warn"] {
        let answer = post(asked).await;
        let warned = answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap());
        let warned: Vec<_> = warned.map(|text| text.replace("\\\"", "\"")).collect();
        assert_eq!(warned, [format!("299 - \"{twice}\""), "299 - \"unknown field \"metadata.nope\"\"".to_owned()]);
        assert_eq!(done(&answer)["data"]["a"], "2", "the last counts");
    }
    let ignored = post("&fieldValidation=Ignore").await;
    assert!(!ignored.headers.contains_key("warning"));
    assert_eq!(done(&ignored)["data"]["a"], "2");
    // Where nobody looks at fields, an object that does not say what it is is told as the JSON that it is.
    let things = super::things(&server, "yaml.example.com").await;
    let path = format!("{things}?fieldValidation=Ignore");
    let answer = server.admin.ask_as("POST", &path, YAML, "spec: {x: [1, 2]}\nmetadata: {name: one}\n").await.unwrap();
    let why = "Thing in version \"v1\" cannot be handled as a Thing: Object 'Kind' is missing in \
               '{\"metadata\":{\"name\":\"one\"},\"spec\":{\"x\":[1,2]}}'";
    assert_eq!(failure(&answer), told(400, why));
    let refusal = "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Perhaps\": supported \
                   values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
    assert_eq!(failure(&post("&fieldValidation=Perhaps").await), told(422, refusal));
}
