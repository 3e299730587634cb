//! HorizontalPodAutoscaler: without a metrics API it keeps its target within its bounds, and says that it can't measure.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::{
        v1::Scale,
        v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch},
    runtime::events::EventType,
};
use martello_api::clock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Caches,
    runtime::{Attempt, EventSink, Key, Mapping, Queue, RequestError, patch, said, work, write_status},
};

const WORKERS: usize = 2;
/// How often a target is looked at, as upstream's default.
const PERIOD: Duration = Duration::from_secs(15);

/// What was found of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// It wants so many pods.
    Scale {
        /// `spec.replicas`.
        wanted: i32,
    },
    /// It could not be read, and why.
    Unreadable(String),
}

/// The number of pods to ask for and why, where it has to change: a target out of its bounds is brought back. One that
/// is scaled to zero is switched off and left alone.
#[must_use]
pub fn rescale(own: &HorizontalPodAutoscaler, target: &Target) -> Option<(i32, &'static str)> {
    let spec = &own.spec;
    let least = spec.min_replicas.unwrap_or(1);
    match target {
        Target::Scale { wanted: 0 } if least != 0 => None,
        Target::Scale { wanted } if *wanted > spec.max_replicas => {
            Some((spec.max_replicas, "Current number of replicas above Spec.MaxReplicas"))
        }
        Target::Scale { wanted } if *wanted < least => {
            Some((least, "Current number of replicas below Spec.MinReplicas"))
        }
        _ => None,
    }
}

/// The status after a look at the target.
#[must_use]
pub fn status(own: &HorizontalPodAutoscaler, target: &Target, now: Timestamp) -> HorizontalPodAutoscalerStatus {
    let mut status = own.status.clone().unwrap_or_default();
    let mut set = |kind: &str, truth: &str, reason: &str, message: &str| {
        let all = status.conditions.get_or_insert_default();
        let same = all.iter().find(|own| own.type_ == kind && own.status == truth);
        let since = same.and_then(|own| own.last_transition_time.clone()).unwrap_or(Time(now));
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: truth.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(since),
        };
        match all.iter_mut().find(|own| own.type_ == kind) {
            Some(own) => *own = condition,
            None => all.push(condition),
        }
    };
    match target {
        Target::Unreadable(why) => {
            let message = format!("the HPA controller was unable to get the target's current scale: {why}");
            set("AbleToScale", "False", "FailedGetScale", &message);
        }
        Target::Scale { wanted } => {
            let moved = rescale(own, target);
            let off = *wanted == 0 && own.spec.min_replicas != Some(0);
            match moved {
                Some((replicas, _)) => {
                    let message = format!("the HPA controller was able to update the target scale to {replicas}");
                    set("AbleToScale", "True", "SucceededRescale", &message);
                }
                None => {
                    let message = "the HPA controller was able to get the target's current scale";
                    set("AbleToScale", "True", "SucceededGetScale", message);
                }
            }
            if off {
                let message = "scaling is disabled since the replica count of the target is zero";
                set("ScalingActive", "False", "ScalingDisabled", message);
            } else if moved.is_none() {
                let (reason, why) = unmeasured(own);
                let message = format!("the HPA was unable to compute the replica count: {why}");
                set("ScalingActive", "False", reason, &message);
            }
            status.current_replicas = Some(*wanted).filter(|count| *count != 0);
            if let Some((replicas, _)) = moved {
                status.desired_replicas = replicas;
                status.last_scale_time = Some(Time(now));
            } else if off {
                status.desired_replicas = 0;
            }
        }
    }
    status
}

/// Why nothing is measured, in upstream's words: the first metric names the API that is missing.
fn unmeasured(own: &HorizontalPodAutoscaler) -> (&'static str, String) {
    let metrics = own.spec.metrics.as_deref().unwrap_or_default();
    let why = "the server could not find the requested resource";
    let Some(metric) = metrics.first() else {
        return ("FailedGetResourceMetric", why.to_owned());
    };
    let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
    match metric.type_.as_str() {
        "Pods" => (
            "FailedGetPodsMetric",
            format!(
                "unable to get metric {}: unable to fetch metrics from custom metrics API: {why} (get pods.custom.metrics.k8s.io)",
                name(metric.pods.as_ref().map(|own| own.metric.name.as_str()))
            ),
        ),
        "Object" => (
            "FailedGetObjectMetric",
            format!(
                "unable to get metric {}: unable to fetch metrics from custom metrics API: {why}",
                name(metric.object.as_ref().map(|own| own.metric.name.as_str()))
            ),
        ),
        "External" => (
            "FailedGetExternalMetric",
            format!(
                "unable to get external metric {}: unable to fetch metrics from external metrics API: {why}",
                name(metric.external.as_ref().map(|own| own.metric.name.as_str()))
            ),
        ),
        "ContainerResource" => (
            "FailedGetContainerResourceMetric",
            format!(
                "failed to get {} usage: unable to get metrics for resource {0}: unable to fetch metrics from resource metrics API: {why} (get pods.metrics.k8s.io)",
                name(metric.container_resource.as_ref().map(|own| own.name.as_str()))
            ),
        ),
        _ => (
            "FailedGetResourceMetric",
            format!(
                "failed to get {} utilization: unable to get metrics for resource {0}: unable to fetch metrics from resource metrics API: {why} (get pods.metrics.k8s.io)",
                name(metric.resource.as_ref().map(|own| own.name.as_str()))
            ),
        ),
    }
}

/// What upstream says before it says why the first metric could not be had.
fn first_error(own: &HorizontalPodAutoscaler) -> String {
    let metric = own.spec.metrics.as_deref().unwrap_or_default().first();
    match metric.map(|metric| metric.type_.as_str()) {
        Some("Resource") => {
            let name = metric.and_then(|metric| metric.resource.as_ref()).map(|own| own.name.as_str());
            format!("failed to get {} resource metric value: ", name.unwrap_or_default())
        }
        Some("ContainerResource") => {
            let name = metric.and_then(|metric| metric.container_resource.as_ref()).map(|own| own.name.as_str());
            format!("failed to get {} container metric value: ", name.unwrap_or_default())
        }
        Some("Object") => "failed to get object metric value: ".to_owned(),
        Some("Pods") => "failed to get pods metric value: ".to_owned(),
        Some("External") => {
            let name = metric.and_then(|metric| metric.external.as_ref()).map(|own| own.metric.name.as_str());
            format!("failed to get {} external metric value: ", name.unwrap_or_default())
        }
        _ => String::new(),
    }
}

pub(crate) fn spawn(client: &Client, caches: &Arc<Caches>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let (on_change, known) = (queue.clone(), Arc::new(Mutex::new(HashSet::new())));
    let followed = Arc::clone(&known);
    caches.autoscalers.on_change(move |_, after| {
        // One look per period, however often it changes: only what is not followed yet is.
        if let Some(key) = after.map(|own| Key::of(own.as_ref()))
            && followed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone())
        {
            on_change.add_after(key, PERIOD);
        }
    });
    let events = EventSink::new(client, "horizontal-pod-autoscaler");
    let (client, caches) = (client.clone(), Arc::clone(caches));
    let controller = Controller { client, caches, queue: queue.clone(), known, events };
    work(tasks, "horizontalpodautoscaler", &queue, WORKERS, shutdown, controller, Controller::reconcile);
}

#[derive(Clone)]
struct Controller {
    client: Client,
    caches: Arc<Caches>,
    queue: Queue<Key>,
    /// Those that are looked at again and again.
    known: Arc<Mutex<HashSet<Key>>>,
    events: EventSink,
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), RequestError> {
        self.caches.autoscalers.synced().await;
        let Some(own) = self.caches.autoscalers.get(&key) else {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            return Ok(());
        };
        let mut api = self.targets(&own);
        let name = own.spec.scale_target_ref.name.clone();
        let (mut scale, mut unserved) = (api.get_scale(&name).await, None);
        if matches!(&scale, Err(kube::Error::Api(status)) if status.code == 404) {
            match self.mapped(&own).await? {
                // Its name is another than its kind lets one expect.
                Some(resource) => {
                    let namespace = own.namespace().unwrap_or_default();
                    api = Api::namespaced_with(self.client.clone(), &namespace, &resource);
                    scale = api.get_scale(&name).await;
                }
                None => unserved = Some(no_match(&own)),
            }
        }
        let target = match scale {
            Ok(scale) => seen(&scale),
            Err(kube::Error::Api(status)) => Target::Unreadable(unserved.unwrap_or_else(|| status.message.clone())),
            Err(error) => return Err(error).attempt(|| format!("read the scale of {name}")),
        };
        if let Some((replicas, why)) = rescale(&own, &target) {
            let body = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            let scaled = api.patch_scale(&name, &patch(), &body).await;
            if let Some(error) = scaled.as_ref().err().map(said) {
                let note = format!("New size: {replicas}; reason: {why}; error: {error}");
                self.tell(&own, EventType::Warning, "FailedRescale", note).await;
            }
            scaled.attempt(|| format!("scale {name} to {replicas}"))?;
            let note = format!("New size: {replicas}; reason: {why}");
            self.tell(&own, EventType::Normal, "SuccessfulRescale", note).await;
        } else {
            self.tell_trouble(&own, &target).await;
        }
        let status = Some(status(&own, &target, clock::now()));
        let all = Api::namespaced(self.client.clone(), &key.namespace);
        let updated = HorizontalPodAutoscaler { status, ..HorizontalPodAutoscaler::clone(&own) };
        write_status(&all, &self.caches.autoscalers, &own, updated).await?;
        self.queue.add_after(key, PERIOD);
        Ok(())
    }

    async fn tell_trouble(&self, own: &HorizontalPodAutoscaler, target: &Target) {
        match target {
            Target::Unreadable(why) => self.tell(own, EventType::Warning, "FailedGetScale", why.clone()).await,
            Target::Scale { wanted: 0 } if own.spec.min_replicas != Some(0) => {}
            Target::Scale { .. } => {
                let (reason, why) = unmeasured(own);
                self.tell(own, EventType::Warning, reason, why.clone()).await;
                let count = own.spec.metrics.as_deref().unwrap_or_default().len();
                let note = format!(
                    "invalid metrics ({count} invalid out of {count}), first error is: {}{why}",
                    first_error(own)
                );
                self.tell(own, EventType::Warning, "FailedComputeMetricsReplicas", note).await;
            }
        }
    }

    async fn tell(&self, own: &HorizontalPodAutoscaler, kind: EventType, reason: &str, note: String) {
        self.events.publish(&own.object_ref(&()), kind, reason, note).await;
    }

    /// The resource of what is scaled, as discovery tells.
    async fn mapped(&self, own: &HorizontalPodAutoscaler) -> Result<Option<ApiResource>, RequestError> {
        let target = &own.spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or_default();
        let found = Mapping::find(&self.client, version, &target.kind).await;
        Ok(found.attempt(|| format!("find the resource of {version} {}", target.kind))?.map(|mapping| mapping.resource))
    }

    fn targets(&self, own: &HorizontalPodAutoscaler) -> Api<DynamicObject> {
        let target = own.spec.scale_target_ref.clone();
        let version = target.api_version.unwrap_or_default();
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &target.kind));
        Api::namespaced_with(self.client.clone(), &own.namespace().unwrap_or_default(), &resource)
    }
}

/// Why something is not scaled whose kind nothing serves.
fn no_match(own: &HorizontalPodAutoscaler) -> String {
    let target = &own.spec.scale_target_ref;
    let group =
        target.api_version.as_deref().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    format!("no matches for kind {:?} in group {group:?}", target.kind)
}

fn seen(scale: &Scale) -> Target {
    Target::Scale { wanted: scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn autoscaler(least: i32, most: i32) -> HorizontalPodAutoscaler {
        serde_json::from_value(json!({"metadata": {"name": "h"}, "spec": {"minReplicas": least, "maxReplicas": most,
            "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}))
        .unwrap()
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        let found = status(&autoscaler(1, 3), &Target::Scale { wanted: 2 }, Timestamp::UNIX_EPOCH);
        let conditions = found.conditions.unwrap();
        assert_eq!(conditions[0].reason.as_deref(), Some("SucceededGetScale"));
        assert_eq!(
            (conditions[1].status.as_str(), conditions[1].reason.as_deref()),
            ("False", Some("FailedGetResourceMetric"))
        );
        assert_eq!(
            conditions[1].message.as_deref(),
            Some(
                "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
            )
        );
        assert_eq!((found.current_replicas, found.desired_replicas), (Some(2), 0));
    }

    #[test]
    fn a_target_out_of_its_bounds_is_brought_back() {
        let found = status(&autoscaler(1, 3), &Target::Scale { wanted: 5 }, Timestamp::UNIX_EPOCH);
        let conditions = found.conditions.unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].reason.as_deref(), Some("SucceededRescale"));
        assert_eq!((found.current_replicas, found.desired_replicas), (Some(5), 3));
    }

    #[test]
    fn a_target_that_is_switched_off_stays_off() {
        assert_eq!(rescale(&autoscaler(1, 3), &Target::Scale { wanted: 0 }), None);
    }

    proptest! {
        #[test]
        fn a_target_is_kept_within_its_bounds(least in 1..5i32, more in 0..5i32, wanted in 1..20i32) {
            let own = autoscaler(least, least + more);
            let next = rescale(&own, &Target::Scale { wanted }).map_or(wanted, |(next, _)| next);
            prop_assert!((least..=least + more).contains(&next));
        }
    }
}
