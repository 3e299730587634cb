//! Leases.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object, table,
};

/// Leases.
pub struct Leases;

impl Strategy for Leases {
    fn resource(&self) -> Resource {
        resource("coordination.k8s.io", "v1", "Lease", "leases").build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &[], "spec", json!({}));
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        without_election(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value, _now: Timestamp) {
        without_election(object);
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        if let Some(seconds) = object::int(object, &["spec", "leaseDurationSeconds"])
            && seconds <= 0
        {
            causes.push(Cause::invalid("spec.leaseDurationSeconds", &json!(seconds), "must be greater than 0"));
        }
        if let Some(transitions) = object::int(object, &["spec", "leaseTransitions"])
            && transitions < 0
        {
            causes.push(Cause::invalid(
                "spec.leaseTransitions",
                &json!(transitions),
                "must be greater than or equal to 0",
            ));
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [
            Column::name(),
            Column::text(
                "Holder",
                "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.",
            ),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let holder = object::text(object, &["spec", "holderIdentity"]);
        vec![object::name(object).into(), holder.into(), table::age(object)]
    }
}

/// Coordinated election is not offered: what asks for it is dropped.
fn without_election(lease: &mut Value) {
    for key in ["strategy", "preferredHolder"] {
        object::remove(lease, &["spec"], key);
    }
}
