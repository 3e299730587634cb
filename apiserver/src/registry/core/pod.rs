//! Pods.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{
    clock::rfc3339_seconds,
    resource::{GroupVersionKind, Resource},
    status::{ApiError, Cause},
};
use martello_policy::Change as PolicyChange;
use serde_json::{Value, json};

use super::{
    binding::PodBinding, eviction::Evictions, node_proxy, pod_columns, pod_defaults, pod_new, pod_resize,
    pod_status_rules, pod_update, proxied::Proxied,
};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Checked, Column, Connect, Deleted, Generation, STATUS_VERBS, Strategy, resource},
        meta, object,
        validation::{pod as rules, text},
    },
    server::Core,
};

/// Pods.
pub struct Pods;

const STREAM_VERBS: &[&str] = &["create", "get"];
const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
const FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];

impl Strategy for Pods {
    fn resource(&self) -> Resource {
        let core = |kind| GroupVersionKind::new("", "v1", kind);
        resource("", "v1", "Pod", "pods")
            .short(&["po"])
            .categories(&["all"])
            .status()
            .subresource_of("attach", core("PodAttachOptions"), STREAM_VERBS)
            .subresource_of("binding", core("Binding"), &["create"])
            .subresource("ephemeralcontainers", STATUS_VERBS)
            .subresource_of("eviction", GroupVersionKind::new("policy", "v1", "Eviction"), &["create"])
            .subresource_of("exec", core("PodExecOptions"), STREAM_VERBS)
            .subresource("log", &["get"])
            .subresource_of("portforward", core("PodPortForwardOptions"), STREAM_VERBS)
            .subresource_of("proxy", core("PodProxyOptions"), PROXY_VERBS)
            .subresource("resize", STATUS_VERBS)
            .build()
    }

    fn default(&self, object: &mut Value) {
        pod_defaults::spec(object, &["spec"], true);
        pod_defaults::status(object);
    }

    fn prepare_create(&self, object: &mut Value, now: Timestamp) {
        pod_new::prepare(object);
        let class = rules::qos_class(object);
        object::set(object, &[], "status", json!({"phase": "Pending", "qosClass": class}));
        if !object::list(object, &["spec", "schedulingGates"]).is_empty() {
            let condition = json!({
                "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": rfc3339_seconds(now),
                "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
            });
            object::set(object, &["status"], "conditions", json!([condition]));
        }
    }

    fn prepare_update(&self, object: &mut Value, _: &Value, _: Timestamp) {
        pod_new::app_armor(object);
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        pod_status_rules::prepare(object, old);
        meta::restore(object, old, "ownerReferences");
    }

    fn reset_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        let of_status: &[&[&str]] = &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]];
        (subresource == "status").then_some(of_status)
    }

    fn written_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        super::pod_parts::written_fields(subresource)
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        rules::pod(object, causes);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        rules::creation(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        pod_update::check(object, old, causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        pod_status_rules::check(object, old, causes);
    }

    fn validate_aspect(&self, name: &str, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        match name {
            "ephemeralcontainers" => {
                rules::pod(object, causes);
                pod_update::check_ephemeral(object, old, causes);
            }
            "resize" => {
                rules::pod(object, causes);
                pod_resize::check(object, old, causes);
            }
            _ => {}
        }
    }

    fn early_warnings(&self, object: &Value) -> Vec<String> {
        pod_new::app_armor_warnings(object)
    }

    fn status_warnings(&self, object: &Value) -> Vec<String> {
        pod_status_rules::warnings(object)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        // What happens to a pod later is nobody's typing: upstream warns when it is made, and then no more.
        if old.is_some() {
            return Vec::new();
        }
        let mut said = rules::warnings(object);
        let faults = text::dns1123_label(object::name(object));
        if !faults.is_empty() {
            said.insert(
                0,
                format!(
                    "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                    faults.join(" ")
                ),
            );
        }
        said
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn grace(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let unscheduled = object::text(object, &["spec", "nodeName"]).is_empty();
        let ended = matches!(object::text(object, &["status", "phase"]), "Succeeded" | "Failed");
        if unscheduled || ended {
            return Some(0);
        }
        let seconds = asked.or_else(|| object::int(object, &["spec", "terminationGracePeriodSeconds"])).unwrap_or(30);
        // A negative period is met as one second: it was meant as "at once", and the agent still has to act.
        Some(if seconds < 0 { 1 } else { seconds })
    }

    fn selectable(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn selects(&self, path: &str) -> bool {
        // Upstream takes the last two and knows nothing of the one, and another name for the other.
        FIELDS.contains(&path) || matches!(path, "status.podIPs" | "spec.host")
    }

    fn stored_field(&self, path: &str) -> Option<&'static str> {
        (path == "spec.host").then_some("spec.nodeName")
    }

    fn field(&self, object: &Value, path: &str) -> String {
        let found = crate::registry::kind::plain_field(object, path);
        if path == "spec.hostNetwork" && found.is_empty() { "false".to_owned() } else { found }
    }

    fn columns(&self) -> &'static [Column] {
        &pod_columns::COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        pod_columns::row(object)
    }

    fn row_condition(&self, object: &Value) -> Option<Value> {
        pod_columns::end(object)
    }

    fn before_commit<'a>(&'a self, _: &'a Arc<Core>, call: &'a Call, change: Change<'a>) -> Checked<'a> {
        // A binding is written past the handlers that note whose fields are whose.
        if let Some(old) = change.old.filter(|_| call.target.subresource == "binding") {
            meta::restore(change.object, old, "managedFields");
        }
        let checked = PolicyChange::written(change.object).map(|_| ()).map_err(|error| {
            ApiError::bad_request(format!("Pod in version \"v1\" cannot be handled as a Pod: {}", error.cause))
        });
        Box::pin(async move { checked })
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        crate::server::bootstrap::tell_authorizer(core, object, old, revision);
    }

    fn subresource(&self, name: &str) -> Option<&'static dyn Connect> {
        match name {
            "binding" => Some(&PodBinding),
            "eviction" => Some(&Evictions),
            "log" => Some(&node_proxy::PodStream::Log),
            "exec" => Some(&node_proxy::PodStream::Exec),
            "attach" => Some(&node_proxy::PodStream::Attach),
            "portforward" => Some(&node_proxy::PodStream::PortForward),
            "ephemeralcontainers" => Some(&super::pod_parts::EphemeralContainers),
            "resize" => Some(&super::pod_parts::Resize),
            "proxy" => Some(&Proxied::Pod),
            _ => None,
        }
    }
}
