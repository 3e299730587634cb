//! StorageVersionMigrations: a wish that all objects of a resource be stored in the version of today.

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object,
    validation::{
        condition,
        field::{Field, capitalized},
        text,
    },
};

/// StorageVersionMigrations.
pub struct Migrations;

impl Strategy for Migrations {
    fn resource(&self) -> Resource {
        resource("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration", "storageversionmigrations")
            .cluster_scoped()
            .status()
            .build()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let wanted = Field::new(object, "").at("spec").at("resource");
        let (plural, group) = (wanted.at("resource"), wanted.at("group"));
        if plural.text().is_empty() {
            plural.required("resource is required to be set", causes);
        } else {
            joined(&plural, text::dns1035_label, causes);
        }
        if !group.text().is_empty() {
            joined(&group, text::dns1123_subdomain, causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if !object::same(object.get("spec"), old.get("spec")) {
            let shown = capitalized(object.get("spec").unwrap_or(&Value::Null));
            causes.push(Cause::invalid("spec", &shown, "field is immutable"));
        }
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        check_status(&Field::new(object, "").at("status"), &Field::new(old, "").at("status"), causes);
    }

    fn columns(&self) -> &'static [Column] {
        const NAME: Column = Column { format: "", ..Column::name() };
        const COLUMNS: [Column; 2] = [NAME, Column::text("Resource", "Fully qualified resource to migrate")];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let of = |key: &str| object::text(object, &["spec", "resource", key]);
        vec![object::name(object).into(), martello_api::status::qualified(of("group"), of("resource")).into()]
    }
}

fn joined(field: &Field<'_>, rule: fn(&str) -> text::Faults, causes: &mut Vec<Cause>) {
    let faults = rule(field.text());
    if !faults.is_empty() {
        field.invalid(&faults.join(","), causes);
    }
}

/// Checks a status against what it was: what has ended stays ended.
fn check_status(status: &Field<'_>, old: &Field<'_>, causes: &mut Vec<Cause>) {
    let revision = status.at("resourceVersion");
    let digits = revision.text().bytes().all(|byte| byte.is_ascii_digit());
    if revision.text().is_empty() || revision.text().starts_with('0') || !digits {
        let why = format!("resource version is not well formed: {}", revision.text());
        causes.push(Cause::invalid(revision.path.as_str(), &json!(revision.text()), &why));
    }
    condition::check(status, causes);
    let before = old.str("resourceVersion");
    if !before.is_empty() && before != revision.text() {
        causes.push(Cause::invalid(revision.path.as_str(), &json!(revision.text()), "field is immutable"));
    }
    let is = |status: &Field<'_>, kind: &str| {
        let all = status.items("conditions");
        all.iter().find(|one| one.str("type") == kind).is_some_and(|one| one.str("status") == "True")
    };
    let (succeeded, failed, running) = (is(status, "Succeeded"), is(status, "Failed"), is(status, "Running"));
    let rules = [
        (succeeded && failed, "Both success and failed conditions cannot be true at the same time"),
        (succeeded && running, "Running condition cannot be true when success condition is true"),
        (failed && running, "Running condition cannot be true when failed condition is true"),
        (is(old, "Succeeded") && !succeeded, "Success condition cannot be set to false once it is true"),
        (is(old, "Failed") && !failed, "Failed condition cannot be set to false once it is true"),
    ];
    let conditions = status.at("conditions");
    for (_, why) in rules.iter().filter(|(broken, _)| *broken) {
        conditions.invalid(why, causes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(status: &Value, old: &Value) -> Vec<String> {
        let mut causes = Vec::new();
        check_status(&Field::new(status, "status"), &Field::new(old, "status"), &mut causes);
        causes.into_iter().map(|cause| cause.message).collect()
    }

    fn status(revision: &str, kinds: &[&str]) -> Value {
        let since = "2026-01-01T00:00:00Z";
        let condition = |kind: &&str| json!({"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": since});
        json!({"resourceVersion": revision, "conditions": kinds.iter().map(condition).collect::<Vec<_>>()})
    }

    #[test]
    fn what_has_ended_stays_ended() {
        assert!(faults(&status("7", &["Running"]), &json!({})).is_empty());
        assert!(faults(&status("7", &["Succeeded"]), &status("7", &["Running"])).is_empty());
        let found = faults(&status("8", &["Running"]), &status("7", &["Succeeded"]));
        assert_eq!(found[0], "Invalid value: \"8\": field is immutable");
        assert!(found[1].ends_with("Success condition cannot be set to false once it is true"), "{found:?}");
        assert_eq!(faults(&status("7", &["Succeeded", "Failed", "Running"]), &json!({})).len(), 3);
    }

    #[test]
    fn a_status_says_up_to_which_revision() {
        for bad in ["", "07", "x"] {
            let told = format!("Invalid value: {bad:?}: resource version is not well formed: {bad}");
            assert_eq!(faults(&status(bad, &[]), &json!({})), [told]);
        }
    }
}
