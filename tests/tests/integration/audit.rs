//! Every request leaves a record, and a record that was touched is found.

use std::path::PathBuf;

use martello_tests::cluster::Cluster;

use crate::answers::{config_map, done, refused};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn verify(cluster: &Cluster) -> anyhow::Result<String> {
    let (data, key) = (cluster.data_dir(), cluster.root_key_path());
    cluster.secctl(&[
        "audit",
        "verify",
        "--data-dir",
        &data.to_string_lossy(),
        "--root-key-file",
        &key.to_string_lossy(),
    ])
}

/// The newest records of a cluster, as they are shown.
pub(crate) fn tail(cluster: &Cluster, count: &str) -> String {
    let (data, key) = (cluster.data_dir(), cluster.root_key_path());
    let arguments = [
        "audit",
        "tail",
        "--json",
        "-n",
        count,
        "--data-dir",
        &data.to_string_lossy(),
        "--root-key-file",
        &key.to_string_lossy(),
    ];
    cluster.secctl(&arguments).unwrap()
}

/// The trail's files, oldest first.
fn files(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cluster.data_dir().join("audit")).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

async fn with_some_records() -> Cluster {
    let mut cluster = Cluster::start().await.unwrap();
    let admin = cluster.admin().await.unwrap();
    for index in 0..20 {
        done(&admin.ask("POST", MAPS, config_map(&format!("audited-{index}")).to_string()).await.unwrap());
    }
    cluster
}

#[tokio::test]
async fn requests_are_recorded_with_user_decision_and_outcome() {
    let mut cluster = with_some_records().await;
    let anyone = cluster.anonymous().await.unwrap();
    refused(&anyone.ask("DELETE", &format!("{MAPS}/audited-0"), "").await.unwrap(), 403, "Forbidden");
    // The record of a change is written before it is answered, and with it all that came before.
    let admin = cluster.admin().await.unwrap();
    done(&admin.ask("POST", MAPS, config_map("last").to_string()).await.unwrap());
    verify(&cluster).unwrap();
    let trail = tail(&cluster, "2000");
    let events: Vec<serde_json::Value> = trail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let creates = events.iter().filter(|event| {
        event["verb"] == "create"
            && event["objectRef"]["resource"] == "configmaps"
            && event["objectRef"]["name"].as_str().is_some_and(|name| name.starts_with("audited-"))
    });
    let creates: Vec<_> = creates.filter(|event| event["stage"] == "ResponseComplete").collect();
    assert_eq!(creates.len(), 20);
    for event in creates {
        assert_eq!(event["user"]["username"], "admin");
        assert_eq!(event["responseStatus"]["code"], 201);
        assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow");
    }
    let denied = events
        .iter()
        .find(|event| {
            event["verb"] == "delete"
                && event["objectRef"]["name"] == "audited-0"
                && event["stage"] == "ResponseComplete"
        })
        .unwrap();
    assert_eq!(denied["user"]["username"], "system:anonymous");
    assert_eq!(denied["responseStatus"]["code"], 403);
    assert_eq!(denied["annotations"]["authorization.k8s.io/decision"], "forbid");
}

#[tokio::test]
async fn the_trail_is_whole_after_stops_and_crashes() {
    let mut cluster = with_some_records().await;
    cluster.kill().unwrap();
    verify(&cluster).unwrap();
    cluster.boot().await.unwrap();
    cluster.stop().await.unwrap();
    verify(&cluster).unwrap();
}

#[tokio::test]
async fn an_edit_a_removal_and_a_cut_are_found() {
    let mut cluster = with_some_records().await;
    cluster.stop().await.unwrap();
    verify(&cluster).unwrap();
    let file = files(&cluster).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(lines.len() > 20, "{} lines", lines.len());

    let mut edited = whole.clone();
    let middle = edited.len() / 2;
    edited[middle] ^= 1;
    let mut removed = lines.clone();
    removed.remove(lines.len() / 2);
    let mut swapped = lines.clone();
    swapped.swap(lines.len() / 2, lines.len() / 2 + 1);
    let cut = lines[..lines.len() - 1].concat();
    for (what, content) in
        [("edited", edited), ("removed", removed.concat()), ("swapped", swapped.concat()), ("cut", cut)]
    {
        std::fs::write(&file, content).unwrap();
        let found = verify(&cluster);
        assert!(found.is_err(), "{what}: {found:?}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(verify(&cluster).is_err(), "the last file is gone");
    std::fs::write(&file, &whole).unwrap();
    verify(&cluster).unwrap();
}
