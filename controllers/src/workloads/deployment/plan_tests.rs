use serde_json::json;

use super::*;
use crate::workloads::rollout::REVISION;

fn deployment(image: &str, replicas: i32, extra: serde_json::Value) -> Deployment {
    let mut value = json!({"metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}});
    for (key, field) in extra.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn present(mut set: ReplicaSet, uid: &str, available: i32) -> Arc<ReplicaSet> {
    set.metadata.uid = Some(uid.into());
    set.metadata.generation = Some(1);
    let replicas = counts(&set).wanted;
    set.status =
        serde_json::from_value(json!({"replicas": replicas, "availableReplicas": available, "observedGeneration": 1}))
            .unwrap();
    Arc::new(set)
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

#[test]
fn a_first_rollout_makes_its_set_at_full_size() {
    let plan = plan(&deployment("i:1", 3, json!({})), &[], now());
    let set = plan.create.unwrap();
    assert_eq!(counts(&set).wanted, 3);
    assert_eq!(set.annotations()[REVISION], "1");
    assert_eq!(set.annotations()[MAX_REPLICAS], "4");
    let hash = set.labels()["pod-template-hash"].clone();
    let selector = set.spec.unwrap().selector.match_labels.unwrap();
    assert_eq!(selector["pod-template-hash"], hash);
}

#[test]
fn a_rollback_takes_the_old_set_up_again_with_a_new_revision() {
    let first = deployment("i:1", 1, json!({}));
    let one = present(plan(&first, &[], now()).create.unwrap(), "1", 1);
    let second = deployment("i:2", 1, json!({}));
    let two = present(plan(&second, &[Arc::clone(&one)], now()).create.unwrap(), "2", 1);
    assert_eq!(two.annotations()[REVISION], "2");
    let back = plan(&first, &[one, two], now());
    assert!(back.create.is_none());
    assert_eq!(back.revision.as_deref(), Some("3"));
    let taken = &back.scale[0].annotations;
    assert_eq!((taken[REVISION].as_str(), taken["deployment.kubernetes.io/revision-history"].as_str()), ("3", "1"));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let strategy = json!({"strategy": {"type": "Recreate"}});
    let one = present(plan(&deployment("i:1", 2, strategy.clone()), &[], now()).create.unwrap(), "1", 2);
    let second = deployment("i:2", 2, strategy);
    let step = plan(&second, &[Arc::clone(&one)], now());
    assert!(step.create.is_none());
    assert_eq!(step.scale[0].to, 0);
    let mut gone = one.as_ref().clone();
    gone.spec.as_mut().unwrap().replicas = Some(0);
    let gone = present(gone, "1", 0);
    assert_eq!(counts(&plan(&second, &[gone], now()).create.unwrap()).wanted, 2);
}

#[test]
fn a_paused_deployment_rolls_nothing_out_but_is_resized() {
    let one = present(plan(&deployment("i:1", 2, json!({})), &[], now()).create.unwrap(), "1", 2);
    let paused = deployment("i:2", 4, json!({"paused": true}));
    let step = plan(&paused, &[one], now());
    assert!(step.create.is_none());
    assert_eq!(step.scale.len(), 1);
    assert_eq!(step.scale[0].to, 4);
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let first = deployment("i:1", 2, json!({}));
    let one = present(plan(&first, &[], now()).create.unwrap(), "1", 2);
    let step = plan(&first, &[one], now());
    assert_eq!(step, Plan { revision: Some("1".into()), ..Plan::default() });
}
