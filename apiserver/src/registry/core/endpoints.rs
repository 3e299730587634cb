//! Endpoints.

use jiff::Timestamp;
use martello_api::resource::Resource;
use serde_json::Value;

use crate::registry::{
    kind::{Column, Strategy, resource},
    object, table,
};

/// Endpoints.
pub struct Endpoints;

const SHOWN: usize = 3;

impl Strategy for Endpoints {
    fn resource(&self) -> Resource {
        let mut resource = resource("", "v1", "Endpoints", "endpoints").short(&["ep"]).build();
        resource.singular = "endpoints".into();
        resource
    }

    fn warnings(&self, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
    }

    fn default(&self, object: &mut Value) {
        let Some(subsets) = object::list_mut(object, &["subsets"]) else { return };
        for subset in subsets {
            for port in object::list_mut(subset, &["ports"]).into_iter().flatten() {
                object::set_default(port, &[], "protocol", "TCP");
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [Column::name(), Column::text("Endpoints", "subsets"), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![object::name(object).into(), addresses(object).into(), table::age(object, now)]
    }
}

fn addresses(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in object::list(object, &["subsets"]) {
        let ports = object::list(subset, &["ports"]);
        for address in object::list(subset, &["addresses"]) {
            let ip = object::text(address, &["ip"]);
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{ip}:{}", object::int(port, &["port"]).unwrap_or(0))));
        }
    }
    shortened(&all)
}

/// The first few, and how many more there are.
#[must_use]
pub fn shortened(all: &[String]) -> String {
    match all.len() {
        0 => "<none>".to_owned(),
        1..=SHOWN => all.join(","),
        count => {
            format!("{} + {} more...", all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(","), count - SHOWN)
        }
    }
}
