//! Jobs against pods that come and go.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    pod::{self, Wanted},
    *,
};

fn job(spec: Value) -> Job {
    let mut whole = json!({"completionMode": "NonIndexed", "parallelism": 1, "template": {"spec": {"containers": [], "restartPolicy": "Never"}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": whole}))
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A cluster of one Job.
struct World {
    job: Job,
    pods: BTreeMap<String, Pod>,
    made: usize,
    second: i64,
}

impl World {
    fn new(spec: Value) -> Self {
        Self { job: job(spec), pods: BTreeMap::new(), made: 0, second: 0 }
    }

    fn step(&mut self) -> Plan {
        let owned: Vec<Arc<Pod>> = self.pods.values().cloned().map(Arc::new).collect();
        let plan = plan(&self.job, &owned, at(self.second));
        self.job.status = Some(plan.status.clone());
        for name in &plan.release {
            self.release(name);
        }
        for (name, _) in &plan.delete {
            if plan.delete_uncounted {
                self.release(name);
            }
            let pod = self.pods.get_mut(name).unwrap();
            if pod::is_tracked(pod) {
                pod.metadata.deletion_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(self.second)));
            } else {
                self.pods.remove(name);
            }
        }
        let owner = Owner::of(&self.job);
        for wanted in &plan.create {
            self.made += 1;
            let mut pod = pod::make(&self.job, &owner, *wanted);
            pod.metadata.name = Some(format!("p{}", self.made));
            pod.metadata.uid = Some(format!("uid{}", self.made));
            self.pods.insert(pod.name_any(), pod);
        }
        self.pods.retain(|_, pod| pod.metadata.deletion_timestamp.is_none() || pod::is_tracked(pod));
        plan
    }

    fn release(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.metadata.finalizers = None;
        }
    }

    fn end(&mut self, name: &str, phase: &str) {
        let status = json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 1, "finishedAt": at(self.second).to_string()}}}]});
        self.pods.get_mut(name).unwrap().status = Some(serde_json::from_value(status).unwrap());
    }

    fn active(&self) -> Vec<String> {
        self.pods.values().filter(|pod| pods::is_active(pod)).map(ResourceExt::name_any).collect()
    }

    fn status(&self) -> &JobStatus {
        self.job.status.as_ref().unwrap()
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            self.step();
        }
    }
}

#[test]
fn an_indexed_job_makes_a_pod_per_index() {
    let mut world = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 2}));
    let plan = world.step();
    let indexes: Vec<_> = plan.create.iter().map(|wanted| wanted.index).collect();
    assert_eq!(indexes, [Some(0), Some(1)]);
    world.end("p1", "Succeeded");
    let plan = world.step();
    assert_eq!(plan.create, [Wanted { index: Some(2), failures: None }]);
    assert_eq!(world.status().completed_indexes.as_deref(), Some("0"));
}

#[test]
fn a_job_that_failed_too_often_fails() {
    let mut world = World::new(json!({"completions": 1, "backoffLimit": 0}));
    world.step();
    world.end("p1", "Failed");
    world.settle();
    assert!(is(world.status(), "Failed") && is(world.status(), "FailureTarget"));
    assert_eq!(world.status().failed, Some(1));
    assert_eq!(world.made, 1);
}

#[test]
fn after_a_failure_the_next_pod_waits() {
    let mut world = World::new(json!({"completions": 1, "backoffLimit": 3}));
    world.step();
    world.end("p1", "Failed");
    let plan = world.step();
    assert_eq!((plan.create.len(), plan.look_again_after_seconds), (0, Some(10)));
    world.second = 10;
    assert_eq!(world.step().create.len(), 1);
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_anew() {
    let mut world = World::new(json!({"completions": 2, "parallelism": 2}));
    world.step();
    assert_eq!(world.active().len(), 2);
    let start = |world: &World| world.status().start_time.as_ref().map(|time| time.0);
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    world.second = 30;
    world.settle();
    assert!(world.active().is_empty() && is(world.status(), "Suspended"));
    assert_eq!((start(&world), world.status().failed), (Some(at(0)), None));
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.settle();
    assert!(!is(world.status(), "Suspended") && world.active().len() == 2);
    assert_eq!(start(&world), Some(at(30)));
}

#[test]
fn indexes_beyond_the_completions_go_first() {
    let mut world = World::new(json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}));
    world.step();
    assert_eq!(world.active().len(), 3);
    let spec = world.job.spec.as_mut().unwrap();
    (spec.completions, spec.parallelism) = (Some(1), Some(1));
    world.settle();
    let left: Vec<_> = world.pods.values().filter(|pod| pods::is_active(pod)).filter_map(pod::index).collect();
    assert_eq!(left, [0]);
}

#[test]
fn a_job_that_takes_too_long_ends() {
    let mut world = World::new(json!({"completions": 1, "activeDeadlineSeconds": 30}));
    assert_eq!(world.step().look_again_after_seconds, Some(30));
    world.second = 30;
    let plan = world.step();
    assert_eq!(plan.delete.len(), 1);
    assert_eq!(world.status().conditions.as_ref().unwrap()[0].reason.as_deref(), Some("DeadlineExceeded"));
    world.settle();
    assert!(is(world.status(), "Failed"));
}

#[test]
fn an_index_fails_by_itself() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 0, "backoffLimit": 2147483647});
    let mut world = World::new(spec);
    world.step();
    world.end("p1", "Failed");
    world.settle();
    assert_eq!(world.status().failed_indexes.as_deref(), Some("0"));
    assert!(!is(world.status(), "FailureTarget"));
    world.end("p2", "Succeeded");
    world.settle();
    assert!(is(world.status(), "Failed"));
    assert_eq!(world.made, 2);
}

proptest! {
    /// However pods end, each is counted once, never are more at work than asked for, and the Job ends.
    #[test]
    fn every_pod_is_counted_once(completions in 1..6i32, parallelism in 1..4i32, indexed in any::<bool>(), ends in proptest::collection::vec(any::<bool>(), 80)) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let mut world = World::new(json!({"completionMode": mode, "completions": completions, "parallelism": parallelism, "backoffLimit": 4}));
        let (mut well, mut badly) = (0, 0);
        for good in ends {
            world.step();
            world.second += 2000;
            prop_assert!(world.active().len() <= usize::try_from(parallelism).unwrap());
            if is_finished(world.status()) {
                break;
            }
            if let Some(name) = world.active().first().cloned() {
                world.end(&name, if good { "Succeeded" } else { "Failed" });
                if good { well += 1 } else { badly += 1 }
            }
        }
        for _ in 0..6 {
            world.step();
        }
        prop_assert!(is_finished(world.status()));
        let status = world.status();
        if is(status, "Complete") {
            prop_assert_eq!((status.succeeded.unwrap_or(0), status.failed.unwrap_or(0)), (well, badly));
            prop_assert_eq!(well, completions);
        } else {
            prop_assert!(status.failed.unwrap_or(0) >= badly && badly > 4);
        }
        prop_assert!(status.active.is_none() && status.terminating == Some(0));
    }
}
