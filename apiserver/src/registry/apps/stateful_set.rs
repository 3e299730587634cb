//! StatefulSets.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{share, workload};
use crate::registry::{
    core::{claim as claims, claim_rules},
    kind::{Cell, Column, Generation, NameRule, Strategy, resource},
    object, table,
    validation::{
        field::{Field, go_form},
        pod, selector, text,
    },
};

/// StatefulSets.
pub struct StatefulSets;

/// What may change in a spec.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const ROLLING: [&str; 3] = ["spec", "updateStrategy", "rollingUpdate"];
/// A bound that upstream, as it comes, does not take (`MaxUnavailableStatefulSet` is off in 1.36).
const MAX_UNAVAILABLE: &str = "maxUnavailable";
const IMMUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const COUNTS: [&str; 7] = [
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
];

impl Strategy for StatefulSets {
    fn resource(&self) -> Resource {
        resource("apps", "v1", "StatefulSet", "statefulsets")
            .short(&["sts"])
            .categories(&["all"])
            .status()
            .scale()
            .build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        let spec = &["spec"];
        if object::text(object, &["spec", "podManagementPolicy"]).is_empty() {
            object::set(object, spec, "podManagementPolicy", "OrderedReady");
        }
        let strategy = &["spec", "updateStrategy"];
        if object::text(object, &["spec", "updateStrategy", "type"]).is_empty() {
            object::set(object, strategy, "type", "RollingUpdate");
        }
        if object::text(object, &["spec", "updateStrategy", "type"]) == "RollingUpdate" {
            object::set_default(object, &["spec", "updateStrategy", "rollingUpdate"], "partition", 0);
        }
        for key in ["whenDeleted", "whenScaled"] {
            if object::text(object, &["spec", "persistentVolumeClaimRetentionPolicy", key]).is_empty() {
                object::set(object, &["spec", "persistentVolumeClaimRetentionPolicy"], key, "Retain");
            }
        }
        object::set_default(object, spec, "replicas", 1);
        object::set_default(object, spec, "revisionHistoryLimit", 10);
        for claim in object::list_mut(object, &["spec", "volumeClaimTemplates"]).into_iter().flatten() {
            object::set(claim, &[], "kind", "PersistentVolumeClaim");
            object::set(claim, &[], "apiVersion", "v1");
            claims::default_spec(claim, &["spec"]);
            object::set_default(claim, &["status"], "phase", "Pending");
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
        object::remove(object, &ROLLING, MAX_UNAVAILABLE);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        if object::at(old, &ROLLING).and_then(|rolling| rolling.get(MAX_UNAVAILABLE)).is_none() {
            object::remove(object, &ROLLING, MAX_UNAVAILABLE);
        }
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, New::Whole, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // What was stored is let be, wrong as it may be.
        let mut stored = Vec::new();
        check(old, New::Changed, &mut stored);
        check(object, if stored.is_empty() { New::Changed } else { New::Tolerated }, causes);
        let rest = |value: &Value| {
            let mut spec = value.get("spec").cloned().unwrap_or_default();
            for key in MUTABLE {
                object::remove(&mut spec, &[], key);
            }
            spec
        };
        if !object::same_of("io.k8s.api.apps.v1.StatefulSetSpec", Some(&rest(object)), Some(&rest(old))) {
            causes.push(Cause::forbidden("spec", IMMUTABLE));
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        workload::check_not_negative_status(object, &COUNTS, causes);
        let status = Field::new(object, "").at("status");
        let count = |key: &str| status.at(key).int().unwrap_or(0);
        for key in ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"] {
            if count(key) > count("replicas") {
                status.at(key).invalid("cannot be greater than status.replicas", causes);
            }
        }
        if count("availableReplicas") > count("readyReplicas") {
            status.at("availableReplicas").invalid("cannot be greater than status.readyReplicas", causes);
        }
        workload::check_collisions(object, old, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut said = workload::template_warnings(object, old, &["spec", "template"], "spec.template");
        for claim in Field::new(object, "").at("spec").items("volumeClaimTemplates") {
            // The paths are upstream's.
            let path = if old.is_some() { format!("{}.Spec", claim.path) } else { claim.path.clone() };
            said.extend(claims::warnings(&Field::new(claim.at("spec").value, path)));
        }
        if object::int(object, &["spec", "revisionHistoryLimit"]).is_some_and(|limit| limit < 0) {
            said.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        said
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 5] = [
            Column::name(),
            Column::text("Ready", "Number of the pod with ready state"),
            Column::age(),
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let ready = object::int(object, &["status", "readyReplicas"]).unwrap_or(0);
        let wanted = object::int(object, &["spec", "replicas"]).unwrap_or(0);
        let [names, images] = workload::containers(object);
        vec![object::name(object).into(), format!("{ready}/{wanted}").into(), table::age(object), names, images]
    }
}

/// What of a set is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum New {
    /// All of it.
    Whole,
    /// What a change may touch.
    Changed,
    /// The same, but for the template: the one that there was is not sound.
    Tolerated,
}

fn check(object: &Value, new: New, causes: &mut Vec<Cause>) {
    let spec = Field::new(object, "").at("spec");
    check_policies(&spec, causes);
    if new == New::Whole {
        for claim in spec.items("volumeClaimTemplates") {
            claim_rules::check(&claim.at("spec"), causes);
        }
    }
    spec.at("replicas").not_negative(causes);
    spec.at("minReadySeconds").not_negative(causes);
    spec.at("ordinals").at("start").not_negative(causes);
    if new == New::Whole {
        spec.at("serviceName").check_if_set(text::dns1123_label, causes);
    }
    check_template(&spec, new != New::Tolerated, causes);
    workload::always_restarts(object, "StatefulSet", causes);
}

fn check_policies(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let management = spec.at("podManagementPolicy");
    if !matches!(management.text(), "OrderedReady" | "Parallel") {
        management.invalid("must be 'OrderedReady' or 'Parallel'", causes);
    }
    let strategy = spec.at("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match (strategy.str("type"), rolling) {
        ("OnDelete", Some(rolling)) => {
            let shown = go_rolling(rolling.value);
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            causes.push(Cause::invalid(rolling.path, &shown, why));
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => check_rolling(&rolling, causes),
        (_, rolling) => {
            let mut shown = go_form(strategy.value, &[("type", "Type", json!(""))]);
            let rolling = rolling.map_or(Value::Null, |rolling| go_rolling(rolling.value));
            object::set(&mut shown, &[], "RollingUpdate", rolling);
            causes.push(Cause::invalid(strategy.path, &shown, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
    let retention = spec.at("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        retention.at(key).one_of(&["Retain", "Delete"], causes);
    }
}

fn go_rolling(rolling: &Value) -> Value {
    go_form(rolling, &[("partition", "Partition", json!(0)), ("maxUnavailable", "MaxUnavailable", Value::Null)])
}

fn check_rolling(rolling: &Field<'_>, causes: &mut Vec<Cause>) {
    rolling.at("partition").not_negative(causes);
    let Some(unavailable) = rolling.get("maxUnavailable") else { return };
    share::check(&unavailable, causes);
    if share::amount(&unavailable) == 0 {
        unavailable.invalid("cannot be 0", causes);
    }
    share::check_whole(&unavailable, causes);
}

/// Checks selector and template; the claims stand for volumes that the template need not have.
fn check_template(spec: &Field<'_>, pods: bool, causes: &mut Vec<Cause>) {
    let found = spec.at("selector");
    if found.value.is_null() {
        found.required("", causes);
    } else {
        selector::check(Some(found.value), &found.path, causes);
        if selector::is_empty(found.value) {
            found.invalid("empty selector is invalid for statefulset", causes);
        }
        if !selector::is_sound(found.value) {
            return found.invalid("", causes);
        }
    }
    let labels = spec.at("template").at("metadata").at("labels");
    if found.value.is_null() || !selector::selects(found.value, Some(labels.value)) {
        labels.invalid("`selector` does not match template `labels`", causes);
    }
    let template = pods_of(spec);
    if pods {
        pod::template(&template, &[], "spec.template", causes);
    }
    // Upstream looks at these twice, and lists what it finds twice.
    pod::template_metadata(&template, "spec.template", causes);
}

/// The template as the controller uses it: with the claims for volumes, and with names that it gives.
fn pods_of(spec: &Field<'_>) -> Value {
    let mut template = spec.at("template").value.clone();
    for key in ["subdomain", "hostname"] {
        object::remove(&mut template, &["spec"], key);
    }
    let claims = spec.items("volumeClaimTemplates");
    let mut volumes: Vec<Value> = Vec::new();
    for name in claims.iter().map(|claim| object::name(claim.value)) {
        if !volumes.iter().any(|volume| object::text(volume, &["name"]) == name) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    for own in object::list(&template, &["spec", "volumes"]) {
        let claimed = claims.iter().any(|claim| object::name(claim.value) == object::text(own, &["name"]));
        if !claimed {
            volumes.push(own.clone());
        }
    }
    if !volumes.is_empty() {
        object::set(&mut template, &["spec"], "volumes", volumes);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check_policies(&Field::new(&spec, "spec"), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn an_unknown_strategy_is_shown_whole() {
        let retention = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
        let spec = |strategy: Value| {
            json!({"podManagementPolicy": "Parallel", "updateStrategy": strategy,
                "persistentVolumeClaimRetentionPolicy": retention})
        };
        assert_eq!(
            faults(spec(json!({"type": "Bar"}))),
            [
                r#"spec.updateStrategy: Invalid value: {"Type":"Bar","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete'"#
            ]
        );
        let rolling = json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}});
        assert_eq!(
            faults(spec(rolling)),
            [
                r#"spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":1,"MaxUnavailable":null}: only allowed for updateStrategy 'RollingUpdate'"#
            ]
        );
    }

    #[test]
    fn a_claim_stays_the_same_however_its_amount_is_written() {
        let with = |storage: &str, selector: Value| {
            let spec = json!({"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "selector": selector,
                "resources": {"requests": {"storage": storage}}});
            json!({"metadata": {"name": "s"}, "spec": {"volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": spec}]}})
        };
        let told = |new: &Value| {
            let mut causes = Vec::new();
            StatefulSets.validate_update(new, &with("1Gi", Value::Null), &mut causes);
            causes.into_iter().any(|cause| cause.message.contains(IMMUTABLE))
        };
        assert!(!told(&with("1024Mi", Value::Null)));
        assert!(told(&with("1G", Value::Null)));
        assert!(told(&with("1Gi", json!({}))), "a pointer to nothing is something");
    }
}
