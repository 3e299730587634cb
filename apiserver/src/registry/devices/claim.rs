//! ResourceClaims.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{GROUP, authority, claim_rules, claim_status, defaults, go_form};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Column, Deleted, Judged, Strategy, resource},
        object, table,
        validation::field::Field,
    },
    server::Core,
};

/// ResourceClaims.
pub struct Claims;

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
        if !object::same_of("io.k8s.api.resource.v1.ResourceClaimSpec", object.get("spec"), old.get("spec")) {
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

    fn judged<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        object: &'a Value,
        old: Option<&'a Value>,
    ) -> Judged<'a> {
        Box::pin(async move {
            match old {
                Some(old) => authority::told(core, call, object, old).await,
                None => authority::asked(core, call, object, &["spec"]).await,
            }
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
