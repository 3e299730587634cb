//! EndpointSlices.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use crate::registry::{
    core::endpoints::{is_own, shortened},
    kind::{Column, Generation, Strategy, resource},
    object, table,
    validation::{address, field::Field, text},
};

/// EndpointSlices.
pub struct EndpointSlices;

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
/// Most zones or nodes that an endpoint may be meant for.
const MAX_HINTS: usize = 8;

impl Strategy for EndpointSlices {
    fn resource(&self) -> Resource {
        resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices").build()
    }

    fn default(&self, object: &mut Value) {
        for port in object::list_mut(object, &["ports"]).into_iter().flatten() {
            object::set_default(port, &[], "name", "");
            object::set_default(port, &[], "protocol", "TCP");
        }
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let kind = object::text(object, &["addressType"]);
        match kind {
            "" => causes.push(Cause::required("addressType", "")),
            "IPv4" | "IPv6" | "FQDN" => {}
            other => causes.push(Cause::not_supported("addressType", &json!(other), &["FQDN", "IPv4", "IPv6"])),
        }
        let endpoints = object::list(object, &["endpoints"]);
        let too_many = |path: &str, count: usize, limit: usize| {
            Cause::new("FieldValueTooMany", path, format!("Too many: {count}: must have at most {limit} items"))
        };
        if endpoints.len() > MAX_ENDPOINTS {
            causes.push(too_many("endpoints", endpoints.len(), MAX_ENDPOINTS));
        }
        let ports = object::list(object, &["ports"]);
        if ports.len() > MAX_PORTS {
            causes.push(too_many("ports", ports.len(), MAX_PORTS));
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let path = format!("endpoints[{index}].addresses");
            let addresses = object::list(endpoint, &["addresses"]);
            if addresses.is_empty() {
                causes.push(Cause::required(path, "must contain at least 1 address"));
                continue;
            }
            if addresses.len() > MAX_ADDRESSES {
                causes.push(too_many(&path, addresses.len(), MAX_ADDRESSES));
            }
            for (place, address) in addresses.iter().enumerate() {
                let text = address.as_str().unwrap_or_default();
                let faults = match kind {
                    "IPv4" => crate::registry::validation::text::ipv4(text),
                    "IPv6" => crate::registry::validation::text::ipv6(text),
                    "FQDN" => crate::registry::validation::text::dns1123_subdomain(text),
                    _ => Vec::new(),
                };
                for fault in faults {
                    causes.push(Cause::invalid(format!("{path}[{place}]"), address, &fault));
                }
                if matches!(kind, "IPv4" | "IPv6") && !is_own(object) {
                    address::not_special(&Field::new(address, format!("{path}[{place}]")), causes);
                }
            }
        }
        let mut names: HashSet<&str> = HashSet::new();
        for (index, port) in ports.iter().enumerate() {
            let name = object::text(port, &["name"]);
            if names.contains(&name) {
                causes.push(Cause::duplicate(format!("ports[{index}].name"), &json!(name)));
            }
            names.insert(name);
        }
        for port in Field::new(object, "").items("ports") {
            port.at("name").check_if_set(text::dns1123_label, causes);
            port.at("protocol").needs_one_of(&["SCTP", "TCP", "UDP"], causes);
            let number = port.at("port");
            if let Some(own) = number.int() {
                text::port_number(own).iter().for_each(|fault| number.invalid(fault, causes));
            }
            if let Some(protocol) = port.get("appProtocol") {
                protocol.check(text::qualified_name, causes);
            }
        }
        for endpoint in Field::new(object, "").items("endpoints") {
            if let Some(node) = endpoint.get("nodeName") {
                node.check(text::dns1123_subdomain, causes);
            }
            if let Some(host) = endpoint.get("hostname") {
                host.check(text::dns1123_label, causes);
            }
            for (list, limit) in [("forZones", MAX_HINTS), ("forNodes", MAX_HINTS)] {
                hints(&endpoint.at("hints"), list, limit, causes);
            }
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let deprecated = old.is_none() && object::text(object, &["addressType"]) == "FQDN";
        let said = "spec.addressType: FQDN endpoints are deprecated";
        if deprecated { vec![said.to_owned()] } else { Vec::new() }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let new = object.get("addressType");
        if new != old.get("addressType") {
            causes.push(Cause::invalid("addressType", new.unwrap_or(&Value::Null), "field is immutable"));
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 5] = [
            Column::name(),
            Column::text(
                "AddressType",
                "addressType specifies the type of address carried by this EndpointSlice. All addresses in this slice must be the same type. This field is immutable after creation. The following address types are currently supported: * IPv4: Represents an IPv4 Address. * IPv6: Represents an IPv6 Address. * FQDN: Represents a Fully Qualified Domain Name. (Deprecated) The EndpointSlice controller only generates, and kube-proxy only processes, slices of addressType \"IPv4\" and \"IPv6\". No semantics are defined for the \"FQDN\" type.",
            ),
            Column::text(
                "Ports",
                "ports specifies the list of network ports exposed by each endpoint in this slice. Each port must have a unique name. Each slice may include a maximum of 100 ports. Services always have at least 1 port, so EndpointSlices generated by the EndpointSlice controller will likewise always have at least 1 port. EndpointSlices used for other purposes may have an empty ports list.",
            ),
            Column::text(
                "Endpoints",
                "endpoints is a list of unique endpoints in this slice. Each slice may include a maximum of 1000 endpoints.",
            ),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = object::list(object, &["ports"])
            .iter()
            .map(|port| match (object::int(port, &["port"]), port.get("name").and_then(Value::as_str)) {
                (Some(number), _) => number.to_string(),
                (None, name) => name.unwrap_or("*").to_owned(),
            })
            .collect();
        let addresses: Vec<String> = object::list(object, &["endpoints"])
            .iter()
            .flat_map(|endpoint| object::list(endpoint, &["addresses"]))
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect();
        let ports = if ports.iter().all(String::is_empty) { "<unset>".to_owned() } else { shortened(&ports) };
        let addresses = if addresses.is_empty() { "<unset>".to_owned() } else { shortened(&addresses) };
        vec![
            object::name(object).into(),
            object::text(object, &["addressType"]).into(),
            ports.into(),
            addresses.into(),
            table::age(object, now),
        ]
    }
}

/// Checks for whom an endpoint is meant.
fn hints(all: &Field<'_>, list: &str, limit: usize, causes: &mut Vec<Cause>) {
    if all.count(list) > limit {
        return all.at(list).too_many(all.count(list), limit, causes);
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for hint in all.items(list) {
        let name = hint.at("name");
        if seen.contains(&name.text()) {
            name.duplicate(causes);
        }
        seen.insert(name.text());
    }
}
