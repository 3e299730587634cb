//! Endpoints.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    networking::cidr,
    object, table,
    validation::{address, field::Field, text},
};

/// Endpoints.
pub struct Endpoints;

const SHOWN: usize = 3;
/// Label that tells who writes Endpoints.
const MANAGER: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

impl Strategy for Endpoints {
    fn resource(&self) -> Resource {
        let mut resource = resource("", "v1", "Endpoints", "endpoints").short(&["ep"]).build();
        resource.singular = "endpoints".into();
        resource
    }

    fn deprecation(&self) -> Option<&str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn default(&self, object: &mut Value) {
        let Some(subsets) = object::list_mut(object, &["subsets"]) else { return };
        for subset in subsets {
            for port in object::list_mut(subset, &["ports"]).into_iter().flatten() {
                object::set_default(port, &[], "protocol", "TCP");
            }
        }
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        for subset in Field::new(object, "").items("subsets") {
            check_subset(&subset, is_own(object), causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        // What was stored under older rules is let be.
        if !object::same_at("io.k8s.api.core.v1.Endpoints", &["subsets"], object, old) {
            self.validate_create(object, causes);
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        // The controller writes addresses as they should be.
        if object::text(object, &["metadata", "labels", MANAGER]) == CONTROLLER {
            return Vec::new();
        }
        let subsets = Field::new(object, "").items("subsets");
        let lists = subsets.iter().flat_map(|subset| ["addresses", "notReadyAddresses"].map(|list| subset.items(list)));
        lists.flatten().filter_map(|found| address::warning(&found.at("ip"))).collect()
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 3] = [
            Column::name(),
            Column::text(
                "Endpoints",
                "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the IPs they share. A single address with multiple ports, some of which are ready and some of which are not (because they come from different containers) will result in the address being displayed in different subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the same subset. Sets of addresses and ports that comprise a service.",
            ),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), addresses(object).into(), table::age(object)]
    }
}

/// Whether these are the addresses of the server itself, which may well listen on its own machine only.
#[must_use]
pub fn is_own(object: &Value) -> bool {
    object::namespace(object) == "default"
        && object::text(object, &["metadata", "labels", "kubernetes.io/service-name"]) == "kubernetes"
        || (object::namespace(object), object::name(object)) == ("default", "kubernetes")
}

fn check_subset(subset: &Field<'_>, own: bool, causes: &mut Vec<Cause>) {
    let lists = ["addresses", "notReadyAddresses"];
    if lists.iter().all(|list| subset.count(list) == 0) {
        subset.required("must specify `addresses` or `notReadyAddresses`", causes);
    }
    for found in lists.iter().flat_map(|list| subset.items(list)) {
        let ip = found.at("ip");
        ip.check(cidr::strict_ip, causes);
        found.at("hostname").check_if_set(text::dns1123_label, causes);
        if let Some(node) = found.get("nodeName") {
            node.check(text::dns1123_subdomain, causes);
        }
        if !own {
            address::not_special(&ip, causes);
        }
    }
    let ports = subset.items("ports");
    for port in &ports {
        let (name, number) = (port.at("name"), port.at("port"));
        if ports.len() > 1 {
            name.needs_text(causes);
        }
        name.check_if_set(text::dns1123_label, causes);
        let own = number.int().unwrap_or(0);
        for fault in text::port_number(own) {
            causes.push(Cause::invalid(number.path.as_str(), &own.into(), &fault));
        }
        port.at("protocol").needs_one_of(&["SCTP", "TCP", "UDP"], causes);
        if let Some(protocol) = port.get("appProtocol") {
            protocol.check(text::qualified_name, causes);
        }
    }
}

fn addresses(object: &Value) -> String {
    let mut all = Vec::new();
    let subsets = object::list(object, &["subsets"]);
    for subset in subsets {
        let ports = object::list(subset, &["ports"]);
        let ips = || object::list(subset, &["addresses"]).iter().map(|address| object::text(address, &["ip"]));
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports.iter().map(|port| object::int(port, &["port"]).unwrap_or(0)) {
            all.extend(
                ips().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    // Subsets without an address that is ready show nothing.
    if all.is_empty() && !subsets.is_empty() { String::new() } else { shortened(&all) }
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
