//! Which versions are served, as `--runtime-config` says.

use martello_tests::cluster::{Cluster, Options};

fn options(runtime_config: &str) -> Options {
    Options { arguments: vec![format!("--runtime-config={runtime_config}")], ..Options::default() }
}

#[tokio::test]
async fn versions_are_switched_on_and_off_by_name() {
    let asked = "certificates.k8s.io/v1beta1=true,autoscaling/v1=false";
    let mut cluster = Cluster::start_with(options(asked)).await.unwrap();
    let admin = cluster.admin().await.unwrap();
    let versions = async |group: &str| {
        let group = admin.ask("GET", &format!("/apis/{group}"), "").await.unwrap().json();
        let versions = group["versions"].as_array().cloned().unwrap_or_default();
        versions.iter().map(|one| one["version"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(versions("certificates.k8s.io").await, ["v1", "v1beta1"]);
    assert_eq!(versions("autoscaling").await, ["v2"]);
    assert_eq!(versions("resource.k8s.io").await, ["v1"], "what was not asked for stays off");
    for (path, status) in [
        ("/apis/certificates.k8s.io/v1beta1/clustertrustbundles", 200),
        ("/apis/certificates.k8s.io/v1alpha1/clustertrustbundles", 404),
        ("/apis/autoscaling/v2/horizontalpodautoscalers", 200),
        ("/apis/autoscaling/v1/horizontalpodautoscalers", 404),
        ("/apis/autoscaling/v1", 404),
    ] {
        let answer = admin.ask("GET", path, "").await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_server_that_is_asked_for_what_it_does_not_know_does_not_start() {
    for (asked, why) in [
        ("none.example.com/v1", "unknown api groups none.example.com"),
        ("apps/v9=true", "group version apps/v9 that has not been registered"),
        ("api/beta=maybe", "neither true nor false"),
        ("api/all=false", "nothing would be served"),
    ] {
        let refused = Cluster::start_with(options(asked)).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{asked}: {refused}");
    }
}
