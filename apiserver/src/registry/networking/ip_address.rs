//! IPAddresses: which address of the Service network belongs to whom.

use std::sync::Arc;

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::service_addresses;
use crate::{
    registry::{
        kind::{Cell, Column, NameRule, Strategy, resource},
        object, table,
        validation::{
            field::{Field, go_form},
            text,
        },
    },
    server::Core,
};

/// IPAddresses.
pub struct IpAddresses;

impl Strategy for IpAddresses {
    fn resource(&self) -> Resource {
        resource("networking.k8s.io", "v1", "IPAddress", "ipaddresses").cluster_scoped().short(&["ip"]).build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Address
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let whole = Field::new(object, "");
        let parent = whole.at("spec").at("parentRef");
        if parent.value.is_null() {
            return parent.required("", causes);
        }
        parent.at("group").check_if_set(text::dns1123_subdomain, causes);
        parent.at("resource").check_required(text::path_segment, causes);
        parent.at("name").check_required(text::path_segment, causes);
        parent.at("namespace").check_if_set(text::path_segment, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let path = ["spec", "parentRef"];
        let (new, was) = (object::at(object, &path), object::at(old, &path));
        if !object::same(new, was) {
            let unset = |key: &'static str, name: &'static str| (key, name, json!(""));
            let fields = [
                unset("group", "Group"),
                unset("resource", "Resource"),
                unset("namespace", "Namespace"),
                unset("name", "Name"),
            ];
            let shown = new.map_or(Value::Null, |new| go_form(new, &fields));
            causes.push(Cause::invalid("spec.parentRef", &shown, "field is immutable"));
        }
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, revision: u64) {
        if let Some(told) = object.or(old) {
            service_addresses::learn(core, told, object.is_some(), revision);
        }
        if let (None, Some(gone)) = (object, old) {
            service_addresses::follow_end(core, gone);
        }
    }

    fn columns(&self) -> &'static [Column] {
        // Rows have an age, which upstream's columns don't tell of.
        const COLUMNS: [Column; 2] = [Column::name(), Column::text("ParentRef", "spec.parentRef")];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let shown = object::at(object, &["spec", "parentRef"]).map_or("<none>".to_owned(), |parent| {
            let text = |key: &str| object::text(parent, &[key]);
            let resource = martello_api::status::qualified(text("group"), text("resource")).to_lowercase();
            match text("namespace") {
                "" => format!("{resource}/{}", text("name")),
                namespace => format!("{resource}/{namespace}/{}", text("name")),
            }
        });
        vec![object::name(object).into(), shown.into(), table::age(object)]
    }
}
