//! IPAddresses: which address of the Service network belongs to whom.

use std::{net::IpAddr, sync::Arc};

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::{
    registry::{
        kind::{Cell, Column, NameRule, Strategy, resource},
        object, table,
        validation::{
            field::{Field, go_form},
            text,
        },
    },
    server::{Core, bootstrap, followup},
};

/// IPAddresses.
pub struct IpAddresses;

const PATH: &str = "/apis/networking.k8s.io/v1/ipaddresses";

/// Follows a write of a Service: its address has an object that names it, as long as the Service has the address.
pub fn follow(core: &Arc<Core>, service: Option<&Value>, old: Option<&Value>) {
    let address = |service: Option<&Value>| {
        let found = service.map_or("", |service| object::text(service, &["spec", "clusterIP"]));
        found.parse::<IpAddr>().ok()
    };
    let (now, before) = (address(service), address(old));
    if let (Some(service), Some(ip)) = (service, now.filter(|now| Some(*now) != before)) {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let parent = json!({
            "group": "", "resource": "services", "namespace": object::namespace(service), "name": object::name(service),
        });
        let labels = json!({
            "ipaddress.kubernetes.io/ip-family": family,
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        });
        let body = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": ip.to_string(), "labels": labels}, "spec": {"parentRef": parent},
        });
        let core = Arc::clone(core);
        followup::spawn("note a Service's address", &ip.to_string(), async move {
            bootstrap::create(&core.own_client(), PATH, &body).await
        });
    }
    if let Some(ip) = before.filter(|before| Some(*before) != now) {
        let core = Arc::clone(core);
        followup::spawn("forget a Service's address", &ip.to_string(), async move {
            followup::delete(&core.own_client(), &format!("{PATH}/{ip}")).await
        });
    }
}

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
        if !object::semantically_equal(new, was) {
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
