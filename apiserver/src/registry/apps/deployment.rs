//! Deployments.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::{share, workload};
use crate::{
    registry::{
        kind::{Begun, Cell, Change, Column, Generation, Strategy, resource},
        object, table,
        validation::field::Field,
    },
    server::Core,
};

/// Deployments.
pub struct Deployments;

/// To which revision a Deployment goes back; upstream's internal type has it as a field.
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

impl Strategy for Deployments {
    fn resource(&self) -> Resource {
        resource("apps", "v1", "Deployment", "deployments")
            .short(&["deploy"])
            .categories(&["all"])
            .status()
            .scale()
            .build()
    }

    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        object::set_default(object, &["spec"], "replicas", 1);
        object::set_default(object, &["spec"], "revisionHistoryLimit", 10);
        object::set_default(object, &["spec"], "progressDeadlineSeconds", 600);
        if object::text(object, &["spec", "strategy", "type"]).is_empty() {
            object::set(object, &["spec", "strategy"], "type", "RollingUpdate");
        }
        if object::text(object, &["spec", "strategy", "type"]) == "RollingUpdate" {
            object::set_default(object, &["spec", "strategy", "rollingUpdate"], "maxUnavailable", "25%");
            object::set_default(object, &["spec", "strategy", "rollingUpdate"], "maxSurge", "25%");
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    /// Annotations count too: they are copied to the sets.
    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        if !same_annotations(object, old) {
            let before = object::int(old, &["metadata", "generation"]).unwrap_or(0);
            object::set(object, &["metadata"], "generation", before + 1);
        }
    }

    fn begin(&self, _core: &Arc<Core>, change: Change<'_>) -> Result<Begun, ApiError> {
        if object::text(change.object, &["metadata", "annotations", ROLLBACK_TO]).is_empty() {
            return Ok(Begun::default());
        }
        let revision = workload::annotated_number(change.object, ROLLBACK_TO).map_err(|why| {
            let text = object::text(change.object, &["metadata", "annotations", ROLLBACK_TO]);
            ApiError::bad_request(format!(
                "Deployment in version \"v1\" cannot be handled as a Deployment: failed to parse annotation[{ROLLBACK_TO}]={text} as int64: {why}"
            ))
        })?;
        if let Some(revision) = revision {
            object::set(change.object, &["metadata", "annotations"], ROLLBACK_TO, revision.to_string());
        }
        Ok(Begun::default())
    }

    fn prepare_status(&self, object: &mut Value, old: &Value) {
        crate::registry::meta::restore(object, old, "labels");
    }

    fn reset_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        (subresource == "status").then_some(&[&["spec"], &["metadata", "labels"]])
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        workload::not_negative(object, "replicas", causes);
        workload::check(object, causes);
        check_strategy(object, causes);
        workload::not_negative(object, "minReadySeconds", causes);
        workload::not_negative(object, "revisionHistoryLimit", causes);
        let revision = workload::annotated_number(object, ROLLBACK_TO).ok().flatten();
        if let Some(revision) = revision.filter(|revision| *revision < 0) {
            // The path is upstream's.
            let why = "must be greater than or equal to 0";
            causes.push(Cause::invalid("spec.rollback.version", &revision.into(), why));
        }
        workload::not_negative(object, "progressDeadlineSeconds", causes);
        let whole = Field::new(object, "");
        let deadline = whole.at("spec").at("progressDeadlineSeconds");
        let ready = whole.at("spec").at("minReadySeconds").int().unwrap_or(0);
        if deadline.int().is_some_and(|seconds| seconds <= ready) {
            deadline.invalid("must be greater than minReadySeconds", causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        workload::check_selector(object, old, causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let keys = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        workload::check_counts(object, &keys, causes);
        workload::check_collisions(object, old, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        workload::warnings(object, old)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 8] = [
            Column::name(),
            Column::text("Ready", "Number of the pod with ready state"),
            Column::text("Up-to-date", "Total number of non-terminating pods targeted by this deployment that have the desired template spec."),
            Column::text("Available", "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment."),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected by this deployment. It must match the pod template's labels.").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let count = |key: &str| object::int(object, &["status", key]).unwrap_or(0);
        let wanted = object::int(object, &["spec", "replicas"]).unwrap_or(0);
        let [names, images] = workload::containers(object);
        vec![
            object::name(object).into(),
            format!("{}/{wanted}", count("readyReplicas")).into(),
            count("updatedReplicas").into(),
            count("availableReplicas").into(),
            table::age(object),
            names,
            images,
            table::selector_text(object::at(object, &["spec", "selector"])).into(),
        ]
    }
}

fn same_annotations(object: &Value, old: &Value) -> bool {
    object::same_at("io.k8s.api.apps.v1.Deployment", &["metadata", "annotations"], object, old)
}

fn check_strategy(object: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let strategy = whole.at("spec").at("strategy");
    let rolling = strategy.at("rollingUpdate");
    match strategy.str("type") {
        "Recreate" if !rolling.value.is_null() => {
            rolling.forbidden("may not be specified when strategy `type` is 'Recreate'", causes);
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            share::check(&unavailable, causes);
            share::check(&surge, causes);
            if share::amount(&unavailable) == 0 && share::amount(&surge) == 0 {
                unavailable.invalid("may not be 0 when `maxSurge` is 0", causes);
            }
            share::check_whole(&unavailable, causes);
        }
        _ => {
            let shown = share::go_rolling(strategy.value);
            causes.push(Cause::not_supported(strategy.path, &shown, &["Recreate", "RollingUpdate"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(strategy: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check_strategy(&json!({"spec": {"strategy": strategy}}), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn an_unknown_strategy_is_shown_whole() {
        assert_eq!(
            faults(json!({"type": "Foo"})),
            [
                r#"spec.strategy: Unsupported value: {"Type":"Foo","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate""#
            ]
        );
        assert_eq!(
            faults(json!({"type": "Foo", "rollingUpdate": {"maxSurge": "5%"}})),
            [
                r#"spec.strategy: Unsupported value: {"Type":"Foo","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":"5%"}}: supported values: "Recreate", "RollingUpdate""#
            ]
        );
    }

    #[test]
    fn a_change_of_annotations_is_a_new_generation() {
        let old = json!({"metadata": {"generation": 3, "annotations": {}}, "spec": {}});
        let mut labeled = json!({"metadata": {"generation": 3, "labels": {"a": "b"}}, "spec": {}});
        Deployments.prepare_update(&mut labeled, &old, Timestamp::UNIX_EPOCH);
        assert_eq!(labeled["metadata"]["generation"], 3);
        let mut annotated = json!({"metadata": {"generation": 3, "annotations": {"a": "b"}}, "spec": {}});
        Deployments.prepare_update(&mut annotated, &old, Timestamp::UNIX_EPOCH);
        assert_eq!(annotated["metadata"]["generation"], 4);
    }

    #[test]
    fn a_rolling_update_moves() {
        let rolling = |unavailable: Value, surge: Value| {
            faults(
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}),
            )
        };
        assert_eq!(rolling(json!("25%"), json!(0)), Vec::<String>::new());
        assert_eq!(rolling(json!(0), json!("0%")).len(), 1);
        assert_eq!(
            rolling(json!("120%"), json!(1)),
            [r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "120%": must not be greater than 100%"#]
        );
    }
}
