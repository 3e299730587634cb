//! PodDisruptionBudgets.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    apps::{share, workload},
    kind::{Cell, Column, Generation, NameRule, Strategy, resource},
    object, table,
    validation::{
        condition,
        field::{Field, selector_shown},
        selector,
    },
};

/// PodDisruptionBudgets.
pub struct DisruptionBudgets;

impl Strategy for DisruptionBudgets {
    fn resource(&self) -> Resource {
        resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets").short(&["pdb"]).status().build()
    }

    // As upstream's, whose rules for budgets do not look at names.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
        if least.is_some() && most.is_some() {
            let why = "minAvailable and maxUnavailable cannot be both set";
            causes.push(Cause::invalid("spec", &shown(&spec), why));
        }
        for bound in least.iter().chain(&most) {
            share::check(bound, causes);
            share::check_whole(bound, causes);
        }
        let found = spec.at("selector");
        selector::check(Some(found.value), &found.path, causes);
        if let Some(policy) = spec.get("unhealthyPodEvictionPolicy") {
            policy.one_of(&["AlwaysAllow", "IfHealthyBudget"], causes);
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        condition::check(&Field::new(object, "").at("status"), causes);
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        workload::check_not_negative_status(object, &counts, causes);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 5] = [
            Column::name(),
            Column::text("Min Available", "The minimum number of pods that must be available."),
            Column::text("Max Unavailable", "The maximum number of pods that may be unavailable."),
            Column::text("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time.")
                .integer(),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let bound = |key: &str| match object::at(object, &["spec", key]) {
            Some(Value::Number(number)) => number.to_string().into(),
            Some(Value::String(text)) => text.as_str().into(),
            _ => Cell::from("N/A"),
        };
        vec![
            object::name(object).into(),
            bound("minAvailable"),
            bound("maxUnavailable"),
            object::int(object, &["status", "disruptionsAllowed"]).unwrap_or(0).into(),
            table::age(object),
        ]
    }
}

fn shown(spec: &Field<'_>) -> Value {
    let of = |key: &str| spec.at(key).value.clone();
    json!({
        "MinAvailable": of("minAvailable"),
        "Selector": selector_shown(spec.at("selector").value),
        "MaxUnavailable": of("maxUnavailable"),
        "UnhealthyPodEvictionPolicy": of("unhealthyPodEvictionPolicy"),
    })
}
