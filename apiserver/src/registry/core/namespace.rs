//! Namespaces: deleted in two steps, so that what is in them goes first.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use crate::{
    registry::{
        call::Call,
        codec,
        kind::{Cell, Column, Connect, Deleted, Kind, NameRule, Served, Strategy, resource},
        object, table,
        validation::{field::Field, text},
        verbs::{
            answer,
            change::{Part, Plan, change},
        },
    },
    server::Core,
};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Namespaces that stay.
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Namespaces.
pub struct Namespaces;

impl Strategy for Namespaces {
    fn resource(&self) -> Resource {
        resource("", "v1", "Namespace", "namespaces")
            .cluster_scoped()
            .short(&["ns"])
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
            .status()
            .subresource("finalize", &["update"])
            .build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn default(&self, object: &mut Value) {
        let name = object::name(object).to_owned();
        if !name.is_empty() {
            object::set(object, &["metadata", "labels"], NAME_LABEL, name);
        }
        if object::text(object, &["status", "phase"]).is_empty() {
            object::set(object, &["status"], "phase", "Active");
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        let name = object::name(object).to_owned();
        object::set(object, &["metadata", "labels"], NAME_LABEL, name);
        let mut finalizers: Vec<Value> = object::list(object, &["spec", "finalizers"]).to_vec();
        if !finalizers.contains(&json!(FINALIZER)) {
            finalizers.push(json!(FINALIZER));
        }
        object::set(object, &["spec"], "finalizers", finalizers);
        object::set(object, &[], "status", json!({"phase": "Active"}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        match object::at(old, &["spec", "finalizers"]).cloned() {
            Some(finalizers) => object::set(object, &["spec"], "finalizers", finalizers),
            None => {
                object::remove(object, &["spec"], "finalizers");
            }
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        for finalizer in object::list(object, &["spec", "finalizers"]) {
            check_finalizer(&Field::new(finalizer, "spec.finalizers"), causes);
        }
    }

    fn validate_aspect(&self, _name: &str, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        for finalizer in Field::new(object, "").at("spec").items("finalizers") {
            check_finalizer(&finalizer, causes);
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let phase = object::text(object, &["status", "phase"]);
        let deleting = object::is_terminating(object);
        if deleting && phase != "Terminating" {
            causes.push(Cause::invalid(
                "status.Phase",
                &json!(phase),
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            ));
        }
        if !deleting && phase != "Active" {
            causes.push(Cause::invalid(
                "status.Phase",
                &json!(phase),
                "may only be 'Active' if `deletionTimestamp` is empty",
            ));
        }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn holds_back(&self, object: &Value) -> bool {
        // The first delete only begins it, even if nothing is waited for.
        !object::is_terminating(object) || !object::list(object, &["spec", "finalizers"]).is_empty()
    }

    fn mark_deleted(&self, object: &mut Value) {
        object::set(object, &["status"], "phase", "Terminating");
        object::remove(object, &["metadata"], "deletionGracePeriodSeconds");
    }

    fn before_delete(&self, _call: &Call, object: &Value) -> Result<(), ApiError> {
        let name = object::name(object);
        if PROTECTED.contains(&name) {
            return Err(ApiError::forbidden("", "namespaces", name, "this namespace may not be deleted"));
        }
        Ok(())
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] =
            [Column::name(), Column::text("Status", "The status of the namespace"), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), object::text(object, &["status", "phase"]).into(), table::age(object)]
    }

    fn subresource(&self, name: &str) -> Option<&'static dyn Connect> {
        (name == "finalize").then_some(&Finalize as &dyn Connect)
    }
}

fn check_finalizer(finalizer: &Field<'_>, causes: &mut Vec<Cause>) {
    finalizer.check(text::qualified_name, causes);
    let name = finalizer.text();
    if !name.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&name) {
        finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified", causes);
    }
}

/// `finalize`: the one way to change `spec.finalizers`, and a way to change the metadata too.
struct Finalize;

impl Connect for Finalize {
    fn serve<'a>(&'a self, core: &'a Arc<Core>, kind: &'a Arc<Kind>, call: Call) -> Served<'a> {
        Box::pin(async move {
            let dry_run = call.dry_run("UpdateOptions")?;
            let body = codec::decode(kind, &call, "UpdateOptions")?;
            let plan = Plan {
                part: Part::Whole("finalize"),
                dry_run,
                creates: false,
                unconditional: true,
                transform: &|current| {
                    let Some(current) = current else { return Err(kind.not_found(call.name())) };
                    // All but the status is as it was sent.
                    let mut new = body.clone();
                    object::copy_key(&mut new, current, "status");
                    Ok(new)
                },
            };
            let (written, _) = change(core, kind, &call, &plan).await?;
            answer::stored(core, kind, &call, 200, written).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_delete_only_begins_it_and_finalizers_are_waited_for() {
        let held = |time: Option<&str>, finalizers: &[&str]| {
            Namespaces.holds_back(&json!({"metadata": {"deletionTimestamp": time}, "spec": {"finalizers": finalizers}}))
        };
        let time = Some("2026-01-01T00:00:00Z");
        assert!(held(None, &[]) && held(None, &["a"]) && held(time, &["a"]));
        assert!(!held(time, &[]));
    }
}
