//! APIServices.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{clock::rfc3339_seconds, resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::{
    registry::{
        kind::{Cell, Column, NameRule, Strategy, resource},
        object, table,
        validation::{field::Field, text},
    },
    server::Core,
};

/// APIServices.
pub struct ApiServices;

/// The group.
pub const GROUP: &str = "apiregistration.k8s.io";
/// The condition that says whether the group is served.
pub const AVAILABLE: &str = "Available";
const DEFAULT_PORT: i64 = 443;
/// Largest priorities.
const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1000;

impl Strategy for ApiServices {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1", "APIService", "apiservices")
            .cluster_scoped()
            .categories(&["api-extensions"])
            .status()
            .build()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn default(&self, object: &mut Value) {
        if !is_local(object) {
            object::set_default(object, &["spec", "service"], "port", DEFAULT_PORT);
        }
    }

    fn prepare_create(&self, object: &mut Value, now: Timestamp) {
        let status = if is_local(object) { json!({"conditions": [local_condition(now)]}) } else { json!({}) };
        object::set(object, &[], "status", status);
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        check(object, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        for condition in Field::new(object, "").at("status").items("conditions") {
            condition.at("status").one_of(&["True", "False", "Unknown"], causes);
        }
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        core.extensions.note(object, old, revision);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("Service", "The reference to the service that hosts this API endpoint."),
            Column::text("Available", "Whether this service is available."),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let part = |key: &str| object::text(object, &["spec", "service", key]);
        let service =
            if is_local(object) { "Local".to_owned() } else { format!("{}/{}", part("namespace"), part("name")) };
        let conditions = object::list(object, &["status", "conditions"]);
        let found = conditions.iter().find(|one| object::text(one, &["type"]) == AVAILABLE);
        let available = found.map_or("Unknown".to_owned(), |one| match object::text(one, &["status"]) {
            other if other == "True" || object::text(one, &["reason"]).is_empty() => other.to_owned(),
            other => format!("{other} ({})", object::text(one, &["reason"])),
        });
        vec![object::name(object).into(), service.into(), available.into(), table::age(object)]
    }
}

/// Whether this server itself serves the group.
#[must_use]
pub fn is_local(object: &Value) -> bool {
    object::at(object, &["spec", "service"]).is_none_or(Value::is_null)
}

fn local_condition(now: Timestamp) -> Value {
    json!({
        "type": AVAILABLE,
        "status": "True",
        "lastTransitionTime": rfc3339_seconds(now),
        "reason": "Local",
        "message": "Local APIServices are always available",
    })
}

fn check(object: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(object, "");
    let spec = whole.at("spec");
    let (group, version) = (spec.at("group"), spec.at("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    for key in ["generateName", "name"] {
        let name = object::text(object, &["metadata", key]);
        // What is missing, or no name at all, is told of elsewhere.
        if name != wanted && !name.is_empty() && text::path_segment(name).is_empty() {
            let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
            causes.push(Cause::invalid(format!("metadata.{key}"), &json!(name), &why));
        }
    }
    if group.text().is_empty() && version.text() != "v1" {
        group.required("only v1 may have an empty group and it better be legacy kube", causes);
    }
    group.check_if_set(text::dns1123_subdomain, causes);
    version.check(text::dns1035_label, causes);
    for (key, limit) in [("groupPriorityMinimum", MAX_GROUP_PRIORITY), ("versionPriority", MAX_VERSION_PRIORITY)] {
        let priority = spec.at(key);
        let number = priority.int().unwrap_or(0);
        if !(1..=limit).contains(&number) {
            let why = format!("must be positive and less than {limit}");
            causes.push(Cause::invalid(priority.path, &json!(number), &why));
        }
    }
    let (bundle, insecure) = (spec.at("caBundle"), spec.at("insecureSkipTLSVerify"));
    let Some(service) = spec.get("service") else {
        if !bundle.text().is_empty() {
            let bytes = bundle.text().trim_end_matches('=').len() * 3 / 4;
            let why = "local APIServices may not have a caBundle";
            causes.push(Cause::invalid(bundle.path, &json!(format!("{bytes} bytes")), why));
        }
        if spec.flag("insecureSkipTLSVerify") {
            insecure.invalid("local APIServices may not have insecureSkipTLSVerify", causes);
        }
        return;
    };
    service.at("namespace").needs_text(causes);
    service.at("name").needs_text(causes);
    let port = service.at("port");
    let faults = text::port_number(port.int().unwrap_or(0));
    if !faults.is_empty() {
        port.invalid(&format!("port is not valid: {}", faults.join(",")), causes);
    }
    if spec.flag("insecureSkipTLSVerify") && !bundle.text().is_empty() {
        insecure.invalid("may not be true if caBundle is present", causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_version_and_group() {
        let faults = |metadata: Value| {
            let mut causes = Vec::new();
            let spec =
                json!({"group": "g.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1});
            check(&json!({"metadata": metadata, "spec": spec}), &mut causes);
            causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        assert!(faults(json!({"name": "v1.g.example.com"})).is_empty());
        assert!(faults(json!({"name": ""})).is_empty());
        assert!(faults(json!({"name": "a/b"})).is_empty());
        assert_eq!(faults(json!({"name": "v2.g.example.com"})), ["metadata.name"]);
        assert_eq!(faults(json!({"generateName": "a-", "name": "a-x"})), ["metadata.generateName", "metadata.name"]);
    }

    #[test]
    fn a_condition_holds_or_not_or_nobody_knows() {
        let status = json!({"status": {"conditions": [{"status": "Unknown"}, {"status": "Maybe"}]}});
        let mut causes = Vec::new();
        ApiServices.validate_status(&status, &status, &mut causes);
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].field, "status.conditions[1].status");
        assert_eq!(
            causes[0].message,
            "Unsupported value: \"Maybe\": supported values: \"True\", \"False\", \"Unknown\""
        );
    }

    #[test]
    fn a_cell_gives_a_reason_where_there_is_one() {
        let cell = |condition: Value| {
            let mut condition = condition;
            object::set(&mut condition, &[], "type", AVAILABLE);
            ApiServices.row(&json!({"metadata": {"name": "n"}, "status": {"conditions": [condition]}})).remove(2)
        };
        assert_eq!(cell(json!({"status": "False", "reason": "R"})), Cell::from("False (R)"));
        assert_eq!(cell(json!({"status": "False"})), Cell::from("False"));
        assert_eq!(cell(json!({"status": "True", "reason": "R"})), Cell::from("True"));
    }
}
