//! CertificateSigningRequests: asked for by anyone, approved by some, signed by the signer that is named.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use martello_api::{
    clock::rfc3339_seconds,
    identity::GROUP_MASTERS,
    resource::Resource,
    status::{ApiError, Cause},
};
use martello_pki::request::SigningRequest;
use serde_json::{Value, json};

use super::{
    GROUP,
    kept::keep,
    signer_name,
    signing_rules::{self, May},
};
use crate::{
    registry::{
        call::Call,
        cell::human_duration,
        kind::{Cell, Change, Checked, Column, Kind, NameRule, STATUS_VERBS, Strategy, resource},
        object, table,
    },
    server::{Core, signers},
};

/// CertificateSigningRequests.
pub struct SigningRequests;

/// The subresource that approves and denies.
pub const APPROVAL: &str = "approval";
/// The signer of certificates for clients of the API server.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Conditions that only the approval sets.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
/// Columns speak of an older version of the kind.
const SIGNER: &str = "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will be defaulted:\n 1. If it's a kubelet client certificate, it is assigned\n    \"kubernetes.io/kube-apiserver-client-kubelet\".\n 2. If it's a kubelet serving certificate, it is assigned\n    \"kubernetes.io/kubelet-serving\".\n 3. Otherwise, it is assigned \"kubernetes.io/legacy-unknown\".\nDistribution of trust for signers happens out of band. You can select on this field using `spec.signerName`.";

impl Strategy for SigningRequests {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1", "CertificateSigningRequest", "certificatesigningrequests")
            .cluster_scoped()
            .short(&["csr"])
            .status()
            .subresource(APPROVAL, STATUS_VERBS)
            .build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Any
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        object::copy_key(object, old, "spec");
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        signing_rules::check(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        signing_rules::check_update(object, old, May::default(), causes);
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        keep(object, old, &DECISIONS);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        signing_rules::check(object, causes);
        signing_rules::check_update(object, old, May { issue: true, approve: false }, causes);
    }

    fn aspects(&self) -> &'static [&'static str] {
        &[APPROVAL]
    }

    fn shape_aspect(&self, _name: &str, object: &mut Value, old: &Value) {
        let decided = object::at(object, &["status", "conditions"]).cloned();
        object::copy_key(object, old, "spec");
        object::copy_key(object, old, "status");
        match decided {
            Some(conditions) => object::set(object, &["status"], "conditions", conditions),
            None => {
                object::remove(object, &["status"], "conditions");
            }
        }
    }

    fn validate_aspect(&self, _name: &str, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        signing_rules::check(object, causes);
        signing_rules::check_update(object, old, May { approve: true, issue: false }, causes);
    }

    fn reset_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        match subresource {
            "" => Some(&[&["spec"], &["status"]]),
            APPROVAL => Some(&[&["spec"], &["status", "certificate"]]),
            _ => Some(&[&["spec"], &["status", "conditions"]]),
        }
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 6] = [
            Column::name(),
            Column::age(),
            Column::text("SignerName", SIGNER),
            Column::text("Requestor", "Base64-encoded PKCS#10 CSR data"),
            Column::text("RequestedDuration", "spec.expirationSeconds"),
            Column::text("Condition", "Conditions applied to the request, such as approval or denial."),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let seconds = object::int(object, &["spec", "expirationSeconds"]);
        vec![
            object::name(object).into(),
            table::age(object),
            object::text(object, &["spec", "signerName"]).into(),
            object::text(object, &["spec", "username"]).into(),
            seconds.map_or("<none>".to_owned(), human_duration).into(),
            state(object).into(),
        ]
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, _old: Option<&Value>, _revision: u64) {
        if let Some(request) = object {
            signers::follow(core, request);
        }
    }

    fn before_commit<'a>(&'a self, _core: &'a Arc<Core>, call: &'a Call, change: Change<'a>) -> Checked<'a> {
        Box::pin(async move {
            match change.old {
                None => set_identity(change.object, call),
                Some(old) => date_conditions(change.object, old, call.now),
            }
            Ok(())
        })
    }
}

fn state(request: &Value) -> String {
    let has = |kind: &str| {
        object::list(request, &["status", "conditions"]).iter().any(|one| object::text(one, &["type"]) == kind)
    };
    let decided = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if object::text(request, &["status", "certificate"]).is_empty() { "" } else { ",Issued" };
    format!("{decided}{failed}{issued}")
}

/// Writes down who asks; what the request itself says of that does not count.
fn set_identity(request: &mut Value, call: &Call) {
    for key in ["username", "uid", "groups", "extra"] {
        object::remove(request, &["spec"], key);
    }
    let user = &call.user;
    object::set(request, &["spec"], "username", user.name.as_str());
    if let Some(uid) = &user.uid {
        object::set(request, &["spec"], "uid", uid.as_str());
    }
    if !user.groups.is_empty() {
        object::set(request, &["spec"], "groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        object::set(request, &["spec"], "extra", json!(user.extra));
    }
}

/// Gives conditions the times that they lack.
fn date_conditions(request: &mut Value, old: &Value, now: Timestamp) {
    let now = rfc3339_seconds(now);
    let before = object::list(old, &["status", "conditions"]);
    for condition in object::list_mut(request, &["status", "conditions"]).into_iter().flatten() {
        object::set_default(condition, &[], "lastUpdateTime", now.as_str());
        let key = |one: &Value| (one.get("type").cloned(), one.get("status").cloned());
        let same = before.iter().filter(|one| key(one) == key(condition));
        let since = same.map(|one| object::text(one, &["lastTransitionTime"])).find(|time| !time.is_empty());
        object::set_default(condition, &[], "lastTransitionTime", since.unwrap_or(&now));
    }
}

/// Admission: who may approve, who may sign, and who may not be asked for.
pub fn admit(core: &Core, kind: &Kind, call: &Call, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let (name, signer) = (object::name(object), object::text(object, &["spec", "signerName"]));
    let refuse = |why: String| Err(kind.forbidden(name, &why));
    match (call.target.subresource.as_str(), old) {
        ("", None) if signer == CLIENT_SIGNER => {
            let pem = STANDARD.decode(object::text(object, &["spec", "request"])).unwrap_or_default();
            let asked = SigningRequest::from_pem(&pem).map(|request| request.organizations).unwrap_or_default();
            if asked.iter().any(|group| group == GROUP_MASTERS) {
                return refuse(format!("use of {signer} signer with {GROUP_MASTERS} group is not allowed"));
            }
            Ok(())
        }
        (APPROVAL, Some(_)) if !signer_name::may(core, call, "approve", signer) => {
            refuse(format!("user not permitted to approve requests with signerName {signer:?}"))
        }
        ("status", Some(old)) => {
            let part = |request: &Value, key: &str| object::at(request, &["status", key]).cloned();
            let touched = ["certificate", "conditions"].iter().any(|key| part(object, key) != part(old, key));
            if touched && !signer_name::may(core, call, "sign", signer) {
                return refuse(format!("user not permitted to sign requests with signerName {signer:?}"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
