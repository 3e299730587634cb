//! Accounts and classes that a pod or a claim names.

use super::*;

#[tokio::test]
async fn an_account_limits_the_secrets_of_ephemeral_containers_too() {
    let rig = Rig::new().await;
    let account =
        json!({"metadata": {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}});
    done(&rig, Method::POST, &format!("{NAMESPACE}/serviceaccounts"), account).await;
    done(&rig, Method::POST, PODS, pod("p", json!({"serviceAccountName": "strict"}))).await;
    let container = json!({"name": "e", "image": "example.com/i", "envFrom": [{"secretRef": {"name": "s"}}]});
    let body = json!({"spec": {"ephemeralContainers": [container]}});
    let answer = patch(&rig, &format!("{PODS}/p/ephemeralcontainers"), STRATEGIC, body).await;
    assert_eq!(answer.status, 403, "{}", answer.message());
    assert_eq!(
        answer.message(),
        "pods \"p\" is forbidden: ephemeral container e with envFrom referencing secret.secretName=\"s\" is not \
         allowed because service account strict does not reference that secret"
    );
}

#[tokio::test]
async fn a_pod_says_for_itself_whether_it_gets_a_token() {
    let rig = Rig::new().await;
    let account = json!({"metadata": {"name": "without"}, "automountServiceAccountToken": false});
    done(&rig, Method::POST, &format!("{NAMESPACE}/serviceaccounts"), account).await;
    for (name, own, mounted) in [("silent", Value::Null, 0), ("wants", json!(true), 1), ("declines", json!(false), 0)] {
        let spec = json!({"serviceAccountName": "without", "automountServiceAccountToken": own});
        let made = done(&rig, Method::POST, PODS, pod(name, spec)).await;
        assert_eq!(made["spec"]["volumes"].as_array().map_or(0, Vec::len), mounted, "{name}");
    }
    let made = done(&rig, Method::POST, PODS, pod("of-another", json!({"automountServiceAccountToken": false}))).await;
    assert_eq!(made["spec"]["volumes"], Value::Null);
}

#[tokio::test]
async fn the_overhead_and_the_place_of_a_pod_are_those_of_its_class() {
    let rig = Rig::new().await;
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let class = json!({
        "metadata": {"name": "heavy"}, "handler": "heavy",
        "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"kind": "heavy"}},
    });
    done(&rig, Method::POST, classes, class).await;
    done(&rig, Method::POST, classes, json!({"metadata": {"name": "plain"}, "handler": "plain"})).await;
    let forbidden = |why: &str| format!("pods \"p\" is forbidden: {why}");
    let without = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
    let unlike = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
    let conflict = "conflict: runtimeClass.scheduling.nodeSelector[kind] = heavy; pod.spec.nodeSelector[kind] = light";
    for (spec, why) in [
        (json!({"overhead": {"cpu": "100m"}}), without),
        (json!({"runtimeClassName": "plain", "overhead": {"cpu": "100m"}}), without),
        (json!({"runtimeClassName": "heavy", "overhead": {"cpu": "1"}}), unlike),
        (json!({"runtimeClassName": "heavy", "nodeSelector": {"kind": "light"}}), conflict),
        (json!({"runtimeClassName": "none"}), "pod rejected: RuntimeClass \"none\" not found"),
    ] {
        assert_eq!(refused(&rig, Method::POST, PODS, pod("p", spec)).await, forbidden(why));
    }
    let made = done(&rig, Method::POST, PODS, pod("p", json!({"runtimeClassName": "heavy"}))).await;
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "100m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"kind": "heavy"}));
}

#[tokio::test]
async fn a_claim_grows_when_its_class_lets_it() {
    let rig = Rig::new().await;
    let class = |name: &str, grows: bool| json!({"metadata": {"name": name}, "provisioner": "example.com/p", "allowVolumeExpansion": grows});
    for (name, grows) in [("grows", true), ("stays", false)] {
        done(&rig, Method::POST, "/apis/storage.k8s.io/v1/storageclasses", class(name, grows)).await;
    }
    let claims = format!("{NAMESPACE}/persistentvolumeclaims");
    for (name, code) in [("stays", 403), ("grows", 200), ("none", 403)] {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": name,
            "volumeName": "v", "resources": {"requests": {"storage": "1Gi"}}});
        done(&rig, Method::POST, &claims, json!({"metadata": {"name": name}, "spec": spec})).await;
        let own = format!("{claims}/{name}");
        let answer = patch(&rig, &format!("{own}/status"), MERGE, json!({"status": {"phase": "Bound"}})).await;
        assert_eq!(answer.status, 200, "{}", answer.message());
        let bigger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let answer = patch(&rig, &own, MERGE, bigger).await;
        assert_eq!(answer.status, code, "{name}: {}", answer.message());
        if code == 403 {
            let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
            assert_eq!(answer.message(), format!("persistentvolumeclaims \"{name}\" is forbidden: {why}"));
        }
    }
}

#[tokio::test]
async fn the_newest_default_class_is_taken() {
    let rig = Rig::new().await;
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let class = |name: &str| {
        json!({"provisioner": "example.com/p", "metadata": {
        "name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}})
    };
    let made = done(&rig, Method::POST, classes, class("b-older")).await;
    let older = made["metadata"]["creationTimestamp"].clone();
    // The moment of the second one is told in whole seconds.
    let mut name = String::new();
    for number in 0.. {
        name = format!("c-{number}");
        let made = done(&rig, Method::POST, classes, class(&name)).await;
        if made["metadata"]["creationTimestamp"] != older {
            break;
        }
        done(&rig, Method::DELETE, &format!("{classes}/{name}"), json!({})).await;
    }
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claims = format!("{NAMESPACE}/persistentvolumeclaims");
    let made = done(&rig, Method::POST, &claims, json!({"metadata": {"name": "c"}, "spec": spec})).await;
    assert_eq!(made["spec"]["storageClassName"], name);
}
