//! Ranges of amounts that a namespace sets.

use super::*;

async fn with_range(limits: Value) -> Rig {
    let rig = Rig::new().await;
    let range = json!({"metadata": {"name": "range"}, "spec": {"limits": limits}});
    done(&rig, Method::POST, &format!("{NAMESPACE}/limitranges"), range).await;
    rig
}

fn asking(name: &str, resources: Value) -> Value {
    pod(name, json!({"containers": [{"name": "c", "image": "example.com/i", "resources": resources}]}))
}

#[tokio::test]
async fn a_resize_is_held_to_the_range_and_notes_nothing() {
    let rig = with_range(json!([{"type": "Container", "max": {"cpu": "2"}}])).await;
    let own = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}});
    let made = done(&rig, Method::POST, PODS, asking("p", own)).await;
    assert_eq!(made["metadata"]["annotations"], Value::Null, "nothing was left out");
    let resize = async |cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let body = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        patch(&rig, &format!("{PODS}/p/resize"), STRATEGIC, body).await
    };
    let answer = resize("3").await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.message(), "pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3");
    let more =
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "defaultRequest": {"memory": "1Mi"}}]}});
    patch(&rig, &format!("{NAMESPACE}/limitranges/range"), MERGE, more).await;
    let answer = resize("2").await;
    assert_eq!(answer.status, 200, "{}", answer.message());
    assert_eq!(answer.json()["metadata"]["annotations"], Value::Null);
}

#[tokio::test]
async fn a_pod_on_its_way_out_is_resized_whatever_the_range_says() {
    let rig = with_range(json!([])).await;
    let mut made = asking("p", json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}));
    made["metadata"]["finalizers"] = json!(["example.com/stay"]);
    done(&rig, Method::POST, PODS, made).await;
    done(&rig, Method::DELETE, &format!("{PODS}/p"), json!({"gracePeriodSeconds": 30})).await;
    let limits = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    patch(&rig, &format!("{NAMESPACE}/limitranges/range"), MERGE, limits).await;
    let resources = json!({"requests": {"cpu": "3"}, "limits": {"cpu": "3"}});
    let body = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
    let answer = patch(&rig, &format!("{PODS}/p/resize"), STRATEGIC, body).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
}
