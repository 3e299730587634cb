//! Nothing secret is on disk in plaintext.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use martello_tests::cluster::Cluster;
use serde_json::json;

use crate::answers::done;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// Files under a folder that hold any of the words.
fn holding(folder: &Path, words: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&path, words));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            if words.iter().any(|word| bytes.windows(word.len()).any(|window| window == word)) {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn no_plaintext_is_under_the_data_directory_or_in_the_log() {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let plain = "correct-horse-battery-staple";
    let changed = "another-secret-altogether-42";
    let body =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}, "stringData": {"password": plain}});
    let made = done(&admin.ask("POST", SECRETS, body.to_string()).await.unwrap());
    assert_eq!(made["data"]["password"], STANDARD.encode(plain));
    let patch = json!({"stringData": {"password": changed}}).to_string();
    done(&admin.ask_as("PATCH", &format!("{SECRETS}/one"), "application/merge-patch+json", patch).await.unwrap());
    // Nor are those objects that are no Secrets.
    let mut map = crate::answers::config_map("one");
    map["data"]["key"] = json!("an-ordinary-value-of-a-map");
    done(&admin.ask("POST", "/api/v1/namespaces/default/configmaps", map.to_string()).await.unwrap());
    // Bad input with a secret in it is answered and logged too.
    let broken = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{{\"name\":\"x\"}},\"stringData\":{{\"password\":[\"{plain}\"]}}}}"
    );
    let answer = admin.ask("POST", SECRETS, broken).await.unwrap();
    assert_eq!(answer.status, 400);

    let mut words = Vec::new();
    for word in [plain, changed, "an-ordinary-value-of-a-map"] {
        words.push(word.as_bytes().to_vec());
        words.push(STANDARD.encode(word).trim_end_matches('=').as_bytes().to_vec());
    }
    words.push(b"PRIVATE KEY".to_vec());
    assert_eq!(holding(&cluster.data_dir(), &words), Vec::<PathBuf>::new(), "while the server runs");
    cluster.stop().await.unwrap();
    assert_eq!(holding(&cluster.data_dir(), &words), Vec::<PathBuf>::new(), "after it stopped");
    let log = cluster.log();
    assert!(!log.contains(plain) && !log.contains(changed));
    assert!(!cluster.root_key_path().starts_with(cluster.data_dir()));

    cluster.boot().await.unwrap();
    let read = done(&admin.ask("GET", &format!("{SECRETS}/one"), "").await.unwrap());
    assert_eq!(read["data"]["password"], STANDARD.encode(changed));
}

#[tokio::test]
async fn without_its_root_key_a_server_does_not_start_and_makes_no_new_one() {
    let mut cluster = Cluster::start().await.unwrap();
    cluster.stop().await.unwrap();
    let kept = cluster.folder().join("kept");
    std::fs::rename(cluster.root_key_path(), &kept).unwrap();
    let refusal = cluster.boot().await.unwrap_err();
    assert!(format!("{refusal:#}").contains("key"), "{refusal:#}");
    drop(std::fs::remove_file(cluster.root_key_path()));
    std::fs::rename(&kept, cluster.root_key_path()).unwrap();
    cluster.boot().await.unwrap();
}
