//! Columns of pods: the one word that says how a pod is.

use jiff::Timestamp;
use serde_json::Value;

use crate::registry::{kind::Column, object, table};

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
pub fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    let summary = Summary::of(pod);
    let restarts = match &summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, table::since(last, now).as_str().unwrap_or_default())
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        object::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        table::age(pod, now),
        or_none(object::text(pod, &["status", "podIP"])),
        or_none(object::text(pod, &["spec", "nodeName"])),
        or_none(object::text(pod, &["status", "nominatedNodeName"])),
        gates(pod),
    ]
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
        let initializing = summary.init(pod);
        if !initializing {
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

    /// Looks at the init containers; whether one of them is still at work.
    fn init(&mut self, pod: &Value) -> bool {
        let specs = object::list(pod, &["spec", "initContainers"]);
        let is_sidecar = |name: &str| {
            specs
                .iter()
                .any(|spec| object::text(spec, &["name"]) == name && object::text(spec, &["restartPolicy"]) == "Always")
        };
        self.total += specs.iter().filter(|spec| object::text(spec, &["restartPolicy"]) == "Always").count();
        for (index, status) in object::list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            self.count_restarts(status);
            let sidecar = is_sidecar(object::text(status, &["name"]));
            if sidecar && object::flag(status, &["started"]) {
                if object::flag(status, &["ready"]) {
                    self.ready += 1;
                }
                continue;
            }
            let state = status.get("state").unwrap_or(&Value::Null);
            if let Some(ended) = state.get("terminated") {
                if object::int(ended, &["exitCode"]) == Some(0) {
                    continue;
                }
                self.reason = format!("Init:{}", ended_reason(ended));
                return true;
            }
            let waiting = object::text(state, &["waiting", "reason"]);
            self.reason = if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
            return true;
        }
        false
    }

    fn main(&mut self, pod: &Value) {
        let mut running = false;
        for status in object::list(pod, &["status", "containerStatuses"]).iter().rev() {
            self.count_restarts(status);
            let state = status.get("state").unwrap_or(&Value::Null);
            let waiting = object::text(state, &["waiting", "reason"]);
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(ended) = state.get("terminated").filter(|ended| !ended.is_null()) {
                self.reason = ended_reason(ended);
            } else if object::flag(status, &["ready"]) && state.get("running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = object::list(pod, &["status", "conditions"]).iter().any(|condition| {
                object::text(condition, &["type"]) == "Ready" && object::text(condition, &["status"]) == "True"
            });
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += object::int(status, &["restartCount"]).unwrap_or(0);
        let finished = object::text(status, &["lastState", "terminated", "finishedAt"]);
        if !finished.is_empty() && self.last_restart.as_deref().unwrap_or_default() < finished {
            self.last_restart = Some(finished.to_owned());
        }
    }
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
    let conditions = object::list(pod, &["status", "conditions"]);
    let met = gates.iter().filter(|gate| {
        let wanted = object::text(gate, &["conditionType"]);
        conditions.iter().any(|condition| {
            object::text(condition, &["type"]) == wanted && object::text(condition, &["status"]) == "True"
        })
    });
    format!("{}/{}", met.count(), gates.len()).into()
}
