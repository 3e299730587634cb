//! Pod security: what the level of a namespace judges.

use super::*;

const LEVEL: &str = "pod-security.kubernetes.io/enforce";

async fn with_level(rig: &Rig, mode: &str, level: &str) -> Raw {
    let labels = json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{mode}"): level}}});
    patch(rig, NAMESPACE, MERGE, labels).await
}

fn warned(answer: &Raw) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|told| told.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_level_warns_of_templates_of_every_kind() {
    let rig = Rig::new().await;
    assert_eq!(with_level(&rig, "warn", "baseline").await.status, 200);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x", json!({"hostNetwork": true}))["spec"]});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let job = json!({"template": once});
    let selector = json!({"matchLabels": {"a": "b"}});
    let apps = "/apis/apps/v1/namespaces/default";
    let batch = "/apis/batch/v1/namespaces/default";
    for (path, body) in [
        (format!("{NAMESPACE}/podtemplates"), json!({"template": template})),
        (format!("{NAMESPACE}/replicationcontrollers"), json!({"spec": {"template": template}})),
        (format!("{apps}/deployments"), json!({"spec": {"selector": selector, "template": template}})),
        (format!("{batch}/jobs"), json!({"spec": job})),
        (format!("{batch}/cronjobs"), json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}})),
    ] {
        let mut body = body;
        body["metadata"] = json!({"name": "x"});
        let made = rig.raw(Method::POST, &path, &[("content-type", "application/json")], &body.to_string()).await;
        assert_eq!(made.status, 201, "{path}: {}", made.message());
        let words = "299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostNetwork=true)\"";
        assert_eq!(warned(&made), [words], "{path}");
    }
}

#[tokio::test]
async fn what_runs_already_is_told_of_and_judged_when_it_changes() {
    let rig = Rig::new().await;
    assert_eq!(with_level(&rig, "enforce", "privileged").await.status, 200);
    let init = json!([{"name": "i", "image": "example.com/i"}]);
    done(&rig, Method::POST, PODS, pod("old", json!({"hostNetwork": true, "initContainers": init}))).await;
    let told = with_level(&rig, "enforce", "baseline").await;
    assert_eq!(told.status, 200);
    assert_eq!(
        warned(&told),
        [
            "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"old: host namespaces\""
        ]
    );
    let told = with_level(&rig, "enforce", "baseline").await;
    assert!(warned(&told).is_empty(), "nothing is new");
    let own = format!("{PODS}/old");
    assert_eq!(patch(&rig, &own, MERGE, json!({"metadata": {"labels": {"a": "b"}}})).await.status, 200);
    let image = json!({"spec": {"initContainers": [{"name": "i", "image": "example.com/other"}]}});
    let added = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "example.com/i"}]}});
    for (path, change) in [(own.clone(), image), (format!("{own}/ephemeralcontainers"), added)] {
        let answer = patch(&rig, &path, STRATEGIC, change).await;
        assert_eq!(answer.status, 403, "{path}");
        let words =
            "pods \"old\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
        assert_eq!(answer.message(), words);
    }
}

#[tokio::test]
async fn a_namespace_keeps_a_wrong_label_and_gets_no_other() {
    let rig = Rig::new().await;
    let answer = with_level(&rig, "enforce", "lax").await;
    assert_eq!(answer.status, 422);
    let words = "must be one of privileged, baseline, restricted";
    assert!(answer.message().contains(LEVEL) && answer.message().contains(words), "{}", answer.message());
}
