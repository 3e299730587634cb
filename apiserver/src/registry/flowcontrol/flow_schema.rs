//! FlowSchemas: which requests belong together, and to which priority level.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{bootstrap, flow_schema_rules};
use crate::{
    flow::condition,
    registry::{
        kind::{Cell, Column, Generation, Strategy, resource},
        object, table,
        validation::field::{capitalized, go_form},
    },
    server::Core,
};

/// FlowSchemas.
pub struct FlowSchemas;

const DEFAULT_PRECEDENCE: i64 = 1000;

impl Strategy for FlowSchemas {
    fn resource(&self) -> Resource {
        resource("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas").cluster_scoped().status().build()
    }

    fn default(&self, object: &mut Value) {
        if object::int(object, &["spec", "matchingPrecedence"]).unwrap_or(0) == 0 {
            object::set(object, &["spec"], "matchingPrecedence", DEFAULT_PRECEDENCE);
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        flow_schema_rules::check(object, causes);
        must_equal(object, "FlowSchema", causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        check_conditions(object, causes);
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        core.flow.note(object, old, revision);
        if let Some(schema) = object {
            condition::follow_one(core, object::name(schema));
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 6] = [
            Column::name(),
            Column::text("PriorityLevel", "spec.priorityLevelConfiguration.name"),
            Column::text("MatchingPrecedence", "spec.matchingPrecedence"),
            Column::text("DistinguisherMethod", "spec.distinguisherMethod"),
            Column::age(),
            Column::text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
        ];
        &COLUMNS
    }

    /// In the order in which they are asked about a request.
    fn row_rank(&self) -> Option<fn(&Value) -> i64> {
        Some(precedence)
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let method = object::at(object, &["spec", "distinguisherMethod", "type"]).and_then(Value::as_str);
        let conditions = object::list(object, &["status", "conditions"]);
        let dangling = conditions.iter().find(|one| object::text(one, &["type"]) == "Dangling");
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "priorityLevelConfiguration", "name"]).into(),
            precedence(object).into(),
            method.unwrap_or("<none>").into(),
            table::age(object),
            dangling.map_or("?", |one| object::text(one, &["status"])).into(),
        ]
    }
}

fn precedence(schema: &Value) -> i64 {
    object::int(schema, &["spec", "matchingPrecedence"]).unwrap_or(0)
}

/// Checks that a mandatory object has the spec that it must have.
fn must_equal(object: &Value, kind: &str, causes: &mut Vec<Cause>) {
    let name = object::name(object);
    let Some(fixed) = bootstrap::mandatory_spec(kind, name) else { return };
    if !object::same_of("io.k8s.api.flowcontrol.v1.FlowSchemaSpec", object.get("spec"), Some(fixed)) {
        let why = format!("spec of '{name}' must equal the fixed value");
        causes.push(Cause::invalid("spec", &shown(object.get("spec").unwrap_or(&Value::Null)), &why));
    }
}

/// The spec as Go's internal types show it.
fn shown(spec: &Value) -> Value {
    let all = |owner: &Value, key: &str, form: &dyn Fn(&Value) -> Value| match owner.get(key) {
        Some(Value::Array(items)) => Value::Array(items.iter().map(form).collect()),
        _ => Value::Null,
    };
    let form = |value: &Value, names: &[(&str, &str)]| {
        let fields: Vec<(&str, &str, Value)> = names.iter().map(|(key, name)| (*key, *name, Value::Null)).collect();
        go_form(value, &fields)
    };
    let subject = |subject: &Value| {
        form(subject, &[("kind", "Kind"), ("user", "User"), ("group", "Group"), ("serviceAccount", "ServiceAccount")])
    };
    let resources = |rule: &Value| {
        let mut shown = form(rule, &[("verbs", "Verbs"), ("apiGroups", "APIGroups"), ("resources", "Resources")]);
        object::set(&mut shown, &[], "ClusterScope", object::flag(rule, &["clusterScope"]));
        object::set(&mut shown, &[], "Namespaces", rule.get("namespaces").cloned().unwrap_or_default());
        shown
    };
    let urls = |rule: &Value| form(rule, &[("verbs", "Verbs"), ("nonResourceURLs", "NonResourceURLs")]);
    let rule = |rule: &Value| {
        json!({
            "Subjects": all(rule, "subjects", &subject),
            "ResourceRules": all(rule, "resourceRules", &resources),
            "NonResourceRules": all(rule, "nonResourceRules", &urls),
        })
    };
    let method = spec.get("distinguisherMethod").filter(|own| !own.is_null());
    json!({
        "PriorityLevelConfiguration": {"Name": object::text(spec, &["priorityLevelConfiguration", "name"])},
        "MatchingPrecedence": object::int(spec, &["matchingPrecedence"]).unwrap_or(0),
        "DistinguisherMethod": method.map_or(Value::Null, capitalized),
        "Rules": all(spec, "rules", &rule),
    })
}

/// Checks conditions as both kinds of the group have them.
pub(super) fn check_conditions(object: &Value, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (index, condition) in object::list(object, &["status", "conditions"]).iter().enumerate() {
        let kind = object::text(condition, &["type"]);
        let path = format!("status.conditions[{index}].type");
        if seen.contains(&kind) {
            causes.push(Cause::duplicate(path.as_str(), &json!(kind)));
        }
        seen.insert(kind);
        if kind.is_empty() {
            causes.push(Cause::required(path, "must not be empty"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_shown_in_the_order_in_which_they_are_asked() {
        let rank = FlowSchemas.row_rank().unwrap();
        let all = bootstrap::MANDATORY.iter().chain(bootstrap::SUGGESTED.iter());
        let mut schemas: Vec<&Value> = all.filter(|one| one["kind"] == "FlowSchema").collect();
        schemas.sort_by_key(|schema| object::name(schema));
        schemas.sort_by_key(|schema| rank(schema));
        let names: Vec<&str> = schemas.into_iter().map(object::name).collect();
        assert_eq!(names[..3], ["exempt", "probes", "system-leader-election"]);
        assert_eq!(names[5..7], ["kube-controller-manager", "kube-scheduler"]);
        assert_eq!(names.last(), Some(&"catch-all"));
    }

    #[test]
    fn a_condition_has_a_type() {
        let schema = json!({"status": {"conditions": [{"type": "A"}, {"status": "True"}, {"type": "A"}]}});
        let mut causes = Vec::new();
        FlowSchemas.validate_status(&schema, &schema, &mut causes);
        let said: Vec<_> = causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(
            said,
            [
                "status.conditions[1].type: Required value: must not be empty",
                "status.conditions[2].type: Duplicate value: \"A\"",
            ]
        );
    }
}
