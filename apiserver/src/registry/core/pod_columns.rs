//! Columns of pods: the one word that says how a pod is.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column},
    object, table,
};

/// Columns.
pub const COLUMNS: [Column; 9] = [
    Column::name(),
    Column::text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    Column::text("Status", "The aggregate status of the containers in this pod."),
    Column::text(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    Column::age(),
    Column::text("IP", "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.").wide(),
    Column::text("Node", "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName. Once this field is set, the kubelet for this node becomes responsible for the lifecycle of this pod. This field should not be used to express a desire for the pod to be scheduled on a specific node. https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#nodename").wide(),
    Column::text("Nominated Node", "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods. This field does not guarantee that the pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is scheduled.").wide(),
    Column::text("Readiness Gates", "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates").wide(),
];

/// Cells of a pod.
#[must_use]
pub fn row(pod: &Value) -> Vec<Cell> {
    let or_none = |text: &str| Cell::from(if text.is_empty() { "<none>" } else { text });
    let summary = Summary::of(pod);
    let restarts = match &summary.last_restart {
        Some(last) if summary.restarts > 0 => Cell::since(last).between(format!("{} (", summary.restarts), " ago)"),
        _ => summary.restarts.to_string().into(),
    };
    vec![
        object::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts,
        table::age(pod),
        or_none(object::text(pod, &["status", "podIP"])),
        or_none(object::text(pod, &["spec", "nodeName"])),
        or_none(object::text(pod, &["status", "nominatedNodeName"])),
        gates(pod).into(),
    ]
}

/// What a row says of a pod that has come to its end.
#[must_use]
pub fn end(pod: &Value) -> Option<Value> {
    let phase = object::text(pod, &["status", "phase"]);
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": phase, "message": message}))
}

struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<String>,
    reason: String,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let containers = object::list(pod, &["spec", "containers"]);
        let phase = object::text(pod, &["status", "phase"]);
        let own = object::text(pod, &["status", "reason"]);
        let mut summary = Self {
            ready: 0,
            total: containers.len(),
            restarts: 0,
            last_restart: None,
            reason: if own.is_empty() { phase.to_owned() } else { own.to_owned() },
        };
        let gated = object::list(pod, &["status", "conditions"]).iter().any(|condition| {
            object::text(condition, &["type"]) == "PodScheduled"
                && object::text(condition, &["reason"]) == "SchedulingGated"
        });
        if gated {
            summary.reason = "SchedulingGated".to_owned();
        }
        let (done, restarts, last) = summary.init(pod);
        if done || is_initialized(pod) {
            // What happened while it was initialized is past.
            (summary.restarts, summary.last_restart) = (restarts, last);
            summary.main(pod);
        }
        if object::is_terminating(pod) {
            let lost = own == "NodeLost";
            if lost {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Looks at the init containers, up to the first that is at work; answers whether none is, and how often those before
    /// restarted that go on.
    fn init(&mut self, pod: &Value) -> (bool, i64, Option<String>) {
        let specs = object::list(pod, &["spec", "initContainers"]);
        let sidecars = sidecars(pod);
        let (mut restarts, mut last) = (0, None);
        self.total += specs.iter().filter(|spec| object::text(spec, &["restartPolicy"]) == "Always").count();
        for (index, status) in object::list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            self.count_restarts(status);
            let stays = sidecars.contains(object::text(status, &["name"]));
            if stays {
                count_restarts(status, &mut restarts, &mut last);
            }
            let state = status.get("state").unwrap_or(&Value::Null);
            let ended = state.get("terminated").filter(|ended| !ended.is_null());
            if ended.is_some_and(|ended| object::int(ended, &["exitCode"]).unwrap_or(0) == 0) {
                continue;
            }
            if stays && object::flag(status, &["started"]) {
                self.ready += usize::from(object::flag(status, &["ready"]));
                continue;
            }
            let waiting = object::text(state, &["waiting", "reason"]);
            self.reason = match ended {
                Some(ended) => format!("Init:{}", ended_reason(ended)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            return (false, restarts, last);
        }
        (true, restarts, last)
    }

    fn main(&mut self, pod: &Value) {
        let (mut running, mut failed) = (false, None);
        for status in object::list(pod, &["status", "containerStatuses"]).iter().rev() {
            self.count_restarts(status);
            let state = status.get("state").unwrap_or(&Value::Null);
            let waiting = object::text(state, &["waiting", "reason"]);
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = state.get("terminated").filter(|ended| !ended.is_null()) {
                self.reason = ended_reason(ended);
                if object::int(ended, &["exitCode"]).unwrap_or(0) != 0 {
                    failed = Some(self.reason.clone());
                }
            } else if object::flag(status, &["ready"]) && state.get("running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            match failed {
                _ if running && is_true(pod, "Ready") => "Running".clone_into(&mut self.reason),
                Some(failed) => self.reason = failed,
                None if running => "NotReady".clone_into(&mut self.reason),
                None => {}
            }
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        count_restarts(status, &mut self.restarts, &mut self.last_restart);
    }
}

fn count_restarts(status: &Value, restarts: &mut i64, last: &mut Option<String>) {
    *restarts += object::int(status, &["restartCount"]).unwrap_or(0);
    let finished = object::text(status, &["lastState", "terminated", "finishedAt"]);
    if !finished.is_empty() && last.as_deref().unwrap_or_default() < finished {
        *last = Some(finished.to_owned());
    }
}

/// The names of init containers that go on beside the others.
fn sidecars(pod: &Value) -> HashSet<&str> {
    let specs = object::list(pod, &["spec", "initContainers"]).iter();
    specs
        .filter(|spec| object::text(spec, &["restartPolicy"]) == "Always")
        .map(|spec| object::text(spec, &["name"]))
        .collect()
}

/// Of several conditions of one type the first counts here.
fn is_initialized(pod: &Value) -> bool {
    first_status(pod, "Initialized") == Some("True")
}

fn first_status<'a>(pod: &'a Value, wanted: &str) -> Option<&'a str> {
    let mut conditions = object::list(pod, &["status", "conditions"]).iter();
    conditions
        .find(|condition| object::text(condition, &["type"]) == wanted)
        .map(|condition| object::text(condition, &["status"]))
}

fn is_true(pod: &Value, wanted: &str) -> bool {
    object::list(pod, &["status", "conditions"])
        .iter()
        .any(|condition| object::text(condition, &["type"]) == wanted && object::text(condition, &["status"]) == "True")
}

fn ended_reason(ended: &Value) -> String {
    let reason = object::text(ended, &["reason"]);
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match object::int(ended, &["signal"]).unwrap_or(0) {
        0 => format!("ExitCode:{}", object::int(ended, &["exitCode"]).unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

fn gates(pod: &Value) -> Value {
    let gates = object::list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates.iter().filter(|gate| first_status(pod, object::text(gate, &["conditionType"])) == Some("True"));
    format!("{}/{}", met.count(), gates.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(spec: Value, status: Value) -> Vec<String> {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        row(&pod).iter().take(4).map(|cell| cell.shown(0).as_str().unwrap_or_default().to_owned()).collect()
    }

    fn ended(name: &str, code: i64, restarts: i64) -> Value {
        json!({"name": name, "restartCount": restarts, "state": {"terminated": {"exitCode": code}}})
    }

    #[test]
    fn restarts_of_init_containers_count_while_they_are_at_work_only() {
        let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]});
        let running = json!({"name": "c", "ready": true, "restartCount": 1, "state": {"running": {}}});
        let done =
            json!({"phase": "Running", "initContainerStatuses": [ended("i", 0, 3)], "containerStatuses": [running]});
        assert_eq!(cells(spec.clone(), done), ["p", "1/1", "Running", "1"]);
        let failing = json!({"phase": "Pending", "initContainerStatuses": [ended("i", 2, 3)]});
        assert_eq!(cells(spec, failing), ["p", "0/1", "Init:ExitCode:2", "3"]);
    }

    #[test]
    fn a_sidecar_is_one_of_the_containers() {
        let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "c"}]});
        let sidecar = json!({"name": "s", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}});
        let main = json!({"name": "c", "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}});
        let status = json!({"phase": "Pending", "initContainerStatuses": [sidecar], "containerStatuses": [main]});
        assert_eq!(cells(spec, status), ["p", "1/2", "ContainerCreating", "2"]);
    }

    #[test]
    fn an_initialized_pod_shows_its_containers_whatever_its_init_containers_do() {
        let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]});
        let again = json!({"name": "i", "restartCount": 1, "state": {"running": {}}});
        let main = json!({"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let conditions = json!([{"type": "Initialized", "status": "True"}]);
        let status = json!({"phase": "Running", "conditions": conditions, "initContainerStatuses": [again],
            "containerStatuses": [main]});
        assert_eq!(cells(spec, status), ["p", "1/1", "Init:0/1", "0"]);
    }

    #[test]
    fn a_container_that_failed_is_shown_before_one_that_completed() {
        let container = |name: &str, code: i64, reason: &str| json!({"name": name, "state": {"terminated": {"exitCode": code, "reason": reason}}});
        let statuses = [container("a", 0, "Completed"), container("b", 1, "Error")];
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let status = json!({"phase": "Failed", "containerStatuses": statuses});
        assert_eq!(cells(spec, status), ["p", "0/2", "Error", "0"]);
    }

    #[test]
    fn a_pod_at_its_end_says_so_beside_its_cells() {
        let end = |phase: &str| end(&json!({"status": {"phase": phase}}));
        assert_eq!(end("Running"), None);
        assert_eq!(end("Succeeded").unwrap()["message"], "The pod has completed successfully.");
        assert_eq!(end("Failed").unwrap()["reason"], "Failed");
    }
}
