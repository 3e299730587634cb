//! DaemonSets.

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
        validation::{field::Field, selector},
    },
    server::Core,
};

/// DaemonSets.
pub struct DaemonSets;

/// Counts the versions of the template; clients of old still look at it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

impl Strategy for DaemonSets {
    fn resource(&self) -> Resource {
        resource("apps", "v1", "DaemonSet", "daemonsets").short(&["ds"]).categories(&["all"]).status().build()
    }

    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        if object::text(object, &["spec", "updateStrategy", "type"]).is_empty() {
            object::set(object, &["spec", "updateStrategy"], "type", "RollingUpdate");
        }
        if object::text(object, &["spec", "updateStrategy", "type"]) == "RollingUpdate" {
            let rolling = ["spec", "updateStrategy", "rollingUpdate"];
            object::set_default(object, &rolling, "maxUnavailable", 1);
            object::set_default(object, &rolling, "maxSurge", 0);
        }
        object::set_default(object, &["spec"], "revisionHistoryLimit", 10);
        // Upstream's internal type has it as a field, which is always shown.
        object::set_default(object, &["metadata", "annotations"], TEMPLATE_GENERATION, "0");
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
        let given = template_generation(object).max(1);
        set_template_generation(object, given);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        let template = |value| object::at(value, &["spec", "template"]);
        let changed = !object::same_of("io.k8s.api.core.v1.PodTemplateSpec", template(object), template(old));
        set_template_generation(object, template_generation(old) + i64::from(changed));
    }

    fn begin(&self, _core: &Arc<Core>, change: Change<'_>) -> Result<Begun, ApiError> {
        workload::annotated_number(change.object, TEMPLATE_GENERATION).map(|_| Begun::default()).map_err(|why| {
            ApiError::bad_request(format!("DaemonSet in version \"v1\" cannot be handled as a DaemonSet: {why}"))
        })
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        let found = spec.at("selector");
        selector::check(spec.get("selector").map(|found| found.value), &found.path, causes);
        let labels = spec.at("template").at("metadata").at("labels");
        if found.value.is_null()
            || selector::is_sound(found.value) && !selector::selects(found.value, Some(labels.value))
        {
            labels.invalid("`selector` does not match template `labels`", causes);
        }
        if !found.value.is_null() && selector::is_empty(found.value) {
            found.invalid("empty selector is invalid for daemonset", causes);
        }
        workload::template(object, "DaemonSet", causes);
        spec.at("minReadySeconds").not_negative(causes);
        check_strategy(&spec.at("updateStrategy"), causes);
        spec.at("revisionHistoryLimit").not_negative(causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // Upstream checks the spec of an update twice, and lists what it finds twice.
        self.validate(object, causes);
        workload::check_selector(object, old, causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        workload::check_not_negative_status(object, &COUNTS, causes);
        workload::check_collisions(object, old, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some_and(|old| template_generation(object) == template_generation(old)) {
            return Vec::new();
        }
        workload::template_warnings(object, None, &["spec", "template"], "spec.template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 11] = [
            Column::name(),
            Column::text("Desired", "status.desiredNumberScheduled").integer(),
            Column::text("Current", "status.currentNumberScheduled").integer(),
            Column::text("Ready", "status.numberReady").integer(),
            Column::text("Up-to-date", "status.updatedNumberScheduled").integer(),
            Column::text("Available", "status.numberAvailable").integer(),
            Column::text("Node Selector", "spec.template.spec.nodeSelector"),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "spec.selector").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let count = |key: &str| Cell::from(object::int(object, &["status", key]).unwrap_or(0));
        let [names, images] = workload::containers(object);
        vec![
            object::name(object).into(),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            table::labels_text(object::at(object, &["spec", "template", "spec", "nodeSelector"])).into(),
            table::age(object),
            names,
            images,
            table::selector_text(object::at(object, &["spec", "selector"])).into(),
        ]
    }
}

fn template_generation(object: &Value) -> i64 {
    workload::annotated_number(object, TEMPLATE_GENERATION).ok().flatten().unwrap_or(0)
}

/// What is no number stays, and is refused.
fn set_template_generation(object: &mut Value, number: i64) {
    if workload::annotated_number(object, TEMPLATE_GENERATION).is_err() {
        return;
    }
    object::set(object, &["metadata", "annotations"], TEMPLATE_GENERATION, number.to_string());
}

fn check_strategy(strategy: &Field<'_>, causes: &mut Vec<Cause>) {
    match strategy.str("type") {
        "OnDelete" => {}
        "RollingUpdate" => check_rolling(&strategy.at("rollingUpdate"), causes),
        _ => {
            let shown = share::go_rolling(strategy.value);
            causes.push(Cause::not_supported(strategy.path.as_str(), &shown, &["RollingUpdate", "OnDelete"]));
        }
    }
}

fn check_rolling(rolling: &Field<'_>, causes: &mut Vec<Cause>) {
    let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    for bound in [&unavailable, &surge] {
        share::check(bound, causes);
    }
    for bound in [&unavailable, &surge] {
        share::check_whole(bound, causes);
    }
    match (share::amount(&unavailable) != 0, share::amount(&surge) != 0) {
        (true, true) => surge.invalid("may not be set when maxUnavailable is non-zero", causes),
        (false, false) => unavailable.required("cannot be 0 when maxSurge is 0", causes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolling(unavailable: Value, surge: Value) -> Vec<String> {
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
        let mut causes = Vec::new();
        check_strategy(&Field::new(&strategy, "s"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_rolling_update_has_one_bound() {
        assert_eq!(rolling(json!(1), json!(0)), Vec::<String>::new());
        assert_eq!(rolling(json!(0), json!("30%")), Vec::<String>::new());
        assert_eq!(
            rolling(json!(0), json!("0%")),
            ["s.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]
        );
        assert_eq!(
            rolling(json!(1), json!(1)),
            ["s.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"]
        );
    }

    #[test]
    fn the_template_is_counted() {
        let set =
            |image: &str| json!({"metadata": {}, "spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
        let mut old = set("a");
        DaemonSets.prepare_create(&mut old, Timestamp::UNIX_EPOCH);
        let (mut same, mut other) = (set("a"), set("b"));
        DaemonSets.prepare_update(&mut same, &old, Timestamp::UNIX_EPOCH);
        DaemonSets.prepare_update(&mut other, &old, Timestamp::UNIX_EPOCH);
        assert_eq!((template_generation(&same), template_generation(&other)), (1, 2));
        let mut wrong = json!({"metadata": {"annotations": {TEMPLATE_GENERATION: "x"}}});
        DaemonSets.prepare_create(&mut wrong, Timestamp::UNIX_EPOCH);
        assert_eq!(wrong["metadata"]["annotations"][TEMPLATE_GENERATION], "x");
    }
}
