//! Steps of claims and volumes.

use serde_json::json;

use super::*;

fn volume(name: &str, size: &str, more: serde_json::Value) -> Arc<PersistentVolume> {
    let mut value = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c"},
        "status": {"phase": "Available"},
    });
    for (key, own) in more.as_object().unwrap() {
        value["spec"][key] = own.clone();
    }
    Arc::new(serde_json::from_value(value).unwrap())
}

fn claim(more: serde_json::Value) -> PersistentVolumeClaim {
    let mut value = json!({
        "metadata": {"name": "data", "namespace": "shop", "uid": "u"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "c", "resources": {"requests": {"storage": "2Gi"}}},
    });
    for (key, own) in more.as_object().unwrap() {
        value["spec"][key] = own.clone();
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_claim_gets_the_smallest_volume_that_fits() {
    let all = [volume("small", "1Gi", json!({})), volume("large", "9Gi", json!({})), volume("right", "3Gi", json!({}))];
    assert_eq!(claim_step(&claim(json!({})), &all, None), ClaimStep::Bind(Arc::clone(&all[2])));
    let taken = volume("taken", "2Gi", json!({"claimRef": {"namespace": "shop", "name": "other"}}));
    let own = volume("own", "5Gi", json!({"claimRef": {"namespace": "shop", "name": "data"}}));
    let all = [taken, volume("free", "2Gi", json!({})), own];
    assert_eq!(claim_step(&claim(json!({})), &all, None), ClaimStep::Bind(Arc::clone(&all[2])));
}

#[test]
fn what_can_little_more_goes_first_and_a_named_volume_may_be_of_any_class() {
    let able = volume("able", "2Gi", json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}));
    let plain = volume("plain", "5Gi", json!({}));
    assert_eq!(claim_step(&claim(json!({})), &[able, Arc::clone(&plain)], None), ClaimStep::Bind(plain));
    let own = json!({"claimRef": {"namespace": "shop", "name": "data"}, "storageClassName": "other"});
    let own = volume("own", "5Gi", own);
    assert_eq!(claim_step(&claim(json!({})), &[Arc::clone(&own)], None), ClaimStep::Bind(own));
}

#[test]
fn who_makes_a_volume_is_told() {
    let told = |provisioner: &str| {
        let class = json!({"metadata": {"name": "c"}, "provisioner": provisioner});
        let class: StorageClass = serde_json::from_value(class).unwrap();
        match claim_step(&claim(json!({})), &[], Some(&class)) {
            ClaimStep::Provision(by, _) => by,
            ClaimStep::Wait(Some(note)) => note.message,
            _ => String::new(),
        }
    };
    assert_eq!(told("example.com/disks"), "example.com/disks");
    assert_eq!(told("kubernetes.io/aws-ebs"), "ebs.csi.aws.com");
    assert_eq!(told("kubernetes.io/no-provisioner"), "no volume plugin matched name: kubernetes.io/no-provisioner");
}

#[test]
fn what_does_not_fit_is_told() {
    let all = [volume("pv", "1Gi", json!({}))];
    let ClaimStep::Wait(Some(note)) = claim_step(&claim(json!({"volumeName": "pv"})), &all, None) else { panic!() };
    assert_eq!(note.message, "Cannot bind to requested volume \"pv\": requested PV is too small");
    let ClaimStep::Wait(Some(note)) = claim_step(&claim(json!({})), &all, None) else { panic!() };
    assert_eq!(note.message, "storageclass.storage.k8s.io \"c\" not found");
}

#[test]
fn a_claim_whose_class_waits_is_bound_only_by_name() {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": "c"}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    }))
    .unwrap();
    let all = [volume("pv", "2Gi", json!({}))];
    let step = claim_step(&claim(json!({})), &all, Some(&class));
    assert!(matches!(step, ClaimStep::Wait(Some(note)) if note.reason == "WaitForFirstConsumer"));
    let mut chosen = claim(json!({}));
    chosen.annotations_mut().insert(SELECTED_NODE.to_owned(), "n".to_owned());
    assert_eq!(claim_step(&chosen, &all, Some(&class)), ClaimStep::Bind(Arc::clone(&all[0])));
}

#[test]
fn a_bound_claim_without_its_volume_is_lost() {
    let mut lost = claim(json!({"volumeName": "pv"}));
    lost.annotations_mut().insert(COMPLETED.to_owned(), "yes".to_owned());
    assert!(matches!(claim_step(&lost, &[], None), ClaimStep::Lose(Some(note)) if note.reason == "ClaimLost"));
    let other = volume("pv", "2Gi", json!({"claimRef": {"namespace": "shop", "name": "data", "uid": "before"}}));
    assert!(matches!(claim_step(&lost, &[other], None), ClaimStep::Lose(Some(note)) if note.reason == "ClaimMisbound"));
}

#[test]
fn a_volume_follows_its_claim() {
    let own = json!({"claimRef": {"namespace": "shop", "name": "data", "uid": "u"}, "persistentVolumeReclaimPolicy": "Delete"});
    let bound = claim(json!({"volumeName": "pv"}));
    let one = volume("pv", "2Gi", own);
    assert_eq!(volume_step(&one, Some(&bound)), VolumeStep::Phase("Bound"));
    assert_eq!(volume_step(&one, None), VolumeStep::Phase("Released"));
    let mut released = one.as_ref().clone();
    released.status.as_mut().unwrap().phase = Some("Released".to_owned());
    assert!(matches!(volume_step(&released, None), VolumeStep::Fail(_)));
    assert_eq!(volume_step(&volume("pv", "2Gi", json!({})), None), VolumeStep::Phase("Available"));
}
