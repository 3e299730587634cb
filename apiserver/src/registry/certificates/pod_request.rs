//! PodCertificateRequests: a node asks a signer for a certificate of a pod.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{
    clock::{self, rfc3339_seconds},
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::{GROUP, kept::keep, pod_issued, pod_rules, signer_name};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Checked, Column, Strategy, resource},
        object,
        validation::internal,
    },
    server::Core,
};

/// PodCertificateRequests.
pub struct PodRequests;

const SPEC: &str = "io.k8s.api.certificates.v1beta1.PodCertificateRequestSpec";
/// Conditions that end a request.
pub(super) const ENDS: [&str; 3] = ["Issued", "Denied", "Failed"];

impl Strategy for PodRequests {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1beta1", "PodCertificateRequest", "podcertificaterequests").status().build()
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn reset_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        match subresource {
            "status" => Some(&[&["spec"]]),
            _ => Some(&[]),
        }
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        keep(object, old, &ENDS);
        date_conditions(object, old, clock::now());
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        pod_rules::check(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if !object::same_of(SPEC, object.get("spec"), old.get("spec")) {
            let shown = internal::of(SPEC, object.get("spec").unwrap_or(&Value::Null));
            causes.push(Cause::invalid("spec", &shown, "field is immutable"));
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        pod_issued::check(object, old, clock::now(), causes);
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.signerName", "spec.podName", "spec.nodeName"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 6] = [
            Column::name(),
            Column::text("PodName", "spec.podName"),
            Column::text("ServiceAccountName", "spec.serviceAccountName"),
            Column::text("NodeName", "spec.nodeName"),
            Column::text("SignerName", "spec.signerName"),
            Column::text("State", "Is the request Pending, Issued, Denied, or Failed?"),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let of = |key: &str| Cell::from(object::text(object, &["spec", key]));
        let state = ENDS.into_iter().find(|end| has_ended(object, end)).unwrap_or("Pending");
        vec![
            object::name(object).into(),
            of("podName"),
            of("serviceAccountName"),
            of("nodeName"),
            of("signerName"),
            state.into(),
        ]
    }

    /// Who sets the certificate must be allowed to sign for the signer.
    fn before_commit<'a>(&'a self, core: &'a Arc<Core>, call: &'a Call, change: Change<'a>) -> Checked<'a> {
        Box::pin(async move {
            let chain = |object: &Value| object::text(object, &["status", "certificateChain"]).to_owned();
            let Some(old) = change.old.filter(|old| chain(old) != chain(change.object)) else { return Ok(()) };
            let signer = object::text(old, &["spec", "signerName"]);
            if signer_name::may(core, call, "sign", signer) {
                return Ok(());
            }
            let why = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", call.user.name);
            let causes = vec![Cause::forbidden("spec.signerName", &why)];
            Err(ApiError::invalid(GROUP, "PodCertificateRequest", object::name(old), causes))
        })
    }
}

/// Whether a request has ended so.
pub(super) fn has_ended(request: &Value, end: &str) -> bool {
    let conditions = object::list(request, &["status", "conditions"]);
    conditions.iter().any(|one| object::text(one, &["type"]) == end && object::text(one, &["status"]) == "True")
}

/// Gives conditions the times that they lack.
fn date_conditions(request: &mut Value, old: &Value, now: Timestamp) {
    let before = object::list(old, &["status", "conditions"]);
    for condition in object::list_mut(request, &["status", "conditions"]).into_iter().flatten() {
        let key = |one: &Value| (one.get("type").cloned(), one.get("status").cloned());
        let same = before.iter().find(|one| key(one) == key(condition));
        let since = same.map(|one| object::text(one, &["lastTransitionTime"])).filter(|time| !time.is_empty());
        let since = since.map_or_else(|| rfc3339_seconds(now), str::to_owned);
        object::set_default(condition, &[], "lastTransitionTime", since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_request_ended_is_not_rewritten() {
        let condition = |reason: &str| json!({"type": "Denied", "status": "True", "reason": reason});
        let old = json!({"status": {"conditions": [condition("First")]}});
        let mut new = json!({"status": {"conditions": [condition("Second")]}});
        keep(&mut new, &old, &ENDS);
        assert_eq!(new, old);
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        date_conditions(&mut new, &old, now);
        assert_eq!(new["status"]["conditions"][0]["lastTransitionTime"], "2026-02-02T00:00:00Z");
        assert!(has_ended(&new, "Denied") && !has_ended(&new, "Failed"));
    }
}
