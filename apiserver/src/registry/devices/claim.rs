//! ResourceClaims.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::{GROUP, claim_rules, claim_status, defaults, go_form};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Column, Deleted, Strategy, resource},
        object, table,
        validation::field::Field,
    },
    server::Core,
};

/// ResourceClaims.
pub struct Claims;

/// The label of namespaces in which claims may see devices that others use.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";

impl Strategy for Claims {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1", "ResourceClaim", "resourceclaims").status().build()
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            defaults::claim(spec);
        }
        for result in object::list_mut(object, &["status", "allocation", "devices", "results"]).into_iter().flatten() {
            defaults::tolerations(result);
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        claim_status::forget_devices(object, old);
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn reset_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        (subresource == "status").then_some(&[&["spec"]])
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        claim_rules::check(&Field::new(object, "").at("spec"), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if !object::semantically_equal(object.get("spec"), old.get("spec")) {
            let shown = go_form::claim(object.get("spec").unwrap_or(&Value::Null));
            causes.push(Cause::invalid("spec", &shown, "field is immutable"));
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        claim_status::check(object, old, causes);
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [
            Column::name(),
            Column::text("State", "A summary of the current state (allocated, pending, reserved, etc.)."),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), state(object).into(), table::age(object)]
    }

    fn before_commit<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        change: Change<'a>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            if change.old.is_some() {
                return Ok(());
            }
            admin_access(core, call, change.object, "ResourceClaim", &["spec"]).await
        })
    }
}

fn state(claim: &Value) -> String {
    let allocated = object::at(claim, &["status", "allocation"]).is_some_and(|allocation| !allocation.is_null());
    let deleted = object::is_terminating(claim);
    let reserved = !object::list(claim, &["status", "reservedFor"]).is_empty();
    let states = [
        (deleted, "deleted"),
        (!deleted && !allocated, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    states.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
}

/// Checks that who asks for devices that others use does so in a namespace where that is allowed.
pub(super) async fn admin_access(
    core: &Arc<Core>,
    call: &Call,
    object: &Value,
    kind: &str,
    path: &[&str],
) -> Result<(), ApiError> {
    let spec = object::at(object, path).unwrap_or(&Value::Null);
    let spec = Field::new(spec, path.join("."));
    let asked: Vec<_> = spec
        .at("devices")
        .items("requests")
        .iter()
        .map(|request| request.at("exactly"))
        .filter(|exact| exact.flag("adminAccess"))
        .map(|exact| exact.at("adminAccess").path)
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let namespaces = core.registry.find("", "v1", "namespaces").ok_or_else(ApiError::no_such_route)?;
    let entry = core.get(namespaces, "", call.namespace()).await?;
    let namespace = core.value(namespaces, &entry).await?;
    if object::text(&namespace, &["metadata", "labels", ADMIN_LABEL]) == "true" {
        return Ok(());
    }
    let why = format!("admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace");
    let causes = asked.iter().map(|path| Cause::forbidden(path.as_str(), &why)).collect();
    Err(ApiError::invalid(GROUP, kind, object::name(object), causes))
}
