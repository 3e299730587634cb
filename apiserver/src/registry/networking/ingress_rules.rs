//! What holds for Ingresses.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::cidr;
use crate::registry::{
    object,
    validation::{field::Field, text},
};

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
/// What a path may not contain, or end with: what other software may read as another path.
const ILLEGAL_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const ILLEGAL_ENDS: [&str; 2] = ["/..", "/."];
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

/// Checks an Ingress.
pub fn check(ingress: &Value, causes: &mut Vec<Cause>) {
    let whole = Field::new(ingress, "");
    let spec = whole.at("spec");
    if spec.count("rules") == 0 && spec.get("defaultBackend").is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::invalid("spec", spec.at("rules").value, why));
    }
    if let Some(default) = spec.get("defaultBackend") {
        backend(&default, causes);
    }
    for rule in spec.items("rules") {
        host(&rule.at("host"), causes);
        if let Some(http) = rule.get("http") {
            if http.count("paths") == 0 {
                http.at("paths").required("", causes);
            }
            for path in http.items("paths") {
                http_path(&path, causes);
            }
        }
    }
    for tls in spec.items("tls") {
        for host in tls.items("hosts") {
            if host.text().contains('*') {
                host.check(text::wildcard_dns1123_subdomain, causes);
            } else {
                host.check(text::dns1123_subdomain, causes);
            }
        }
        tls.at("secretName").check_if_set(text::dns1123_subdomain, causes);
    }
    if let Some(class) = spec.get("ingressClassName") {
        class.check(text::dns1123_subdomain, causes);
    }
}

fn host(host: &Field<'_>, causes: &mut Vec<Cause>) {
    if host.text().is_empty() {
        return;
    }
    if cidr::any_ip(host.text()).is_some() {
        host.invalid(NO_ADDRESS, causes);
    }
    if host.text().contains('*') {
        host.check(text::wildcard_dns1123_subdomain, causes);
    } else {
        host.check(text::dns1123_subdomain, causes);
    }
}

fn http_path(http: &Field<'_>, causes: &mut Vec<Cause>) {
    let kind = http.at("pathType");
    if kind.value.is_null() {
        return kind.required("pathType must be specified", causes);
    }
    let path = http.at("path");
    let refuse = |why: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause::invalid(path.path.as_str(), &json!(path.text()), why));
    };
    match kind.text() {
        "Exact" | "Prefix" => {
            if !path.text().starts_with('/') {
                refuse("must be an absolute path", causes);
            }
            for part in ILLEGAL_PARTS.iter().filter(|part| path.text().contains(**part)) {
                refuse(&format!("must not contain '{part}'"), causes);
            }
            for end in ILLEGAL_ENDS.iter().filter(|end| path.text().ends_with(**end)) {
                refuse(&format!("cannot end with '{end}'"), causes);
            }
        }
        "ImplementationSpecific" => {
            if !path.text().is_empty() && !path.text().starts_with('/') {
                refuse("must be an absolute path", causes);
            }
        }
        _ => kind.one_of(&PATH_TYPES, causes),
    }
    backend(&http.at("backend"), causes);
}

fn backend(backend: &Field<'_>, causes: &mut Vec<Cause>) {
    let refuse = |why: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause::invalid(backend.path.as_str(), &json!(""), why));
    };
    match (backend.get("resource"), backend.get("service")) {
        (Some(_), Some(_)) => refuse("cannot set both resource and service backends", causes),
        (Some(resource), None) => reference(&resource, causes),
        (None, Some(service)) => {
            service.at("name").check_required(text::dns1123_label, causes);
            let port = service.at("port");
            let (name, number) = (port.at("name"), port.at("number"));
            match (name.is_empty(), number.is_empty()) {
                (false, false) => refuse("cannot set both port name & port number", causes),
                (false, true) => name.check(text::port_name, causes),
                (true, false) => {
                    for fault in text::port_number(number.int().unwrap_or(0)) {
                        number.invalid(&fault, causes);
                    }
                }
                (true, true) => backend.required("port name or number is required", causes),
            }
        }
        (None, None) => refuse("resource or service backend is required", causes),
    }
}

/// Checks a reference to an object of any kind.
pub fn reference(reference: &Field<'_>, causes: &mut Vec<Cause>) {
    if let Some(group) = reference.get("apiGroup") {
        group.check(text::dns1123_subdomain, causes);
    }
    for (key, missing) in [("kind", "kind is required"), ("name", "name is required")] {
        let found = reference.at(key);
        if found.text().is_empty() {
            found.required(missing, causes);
        } else {
            found.check(text::path_segment, causes);
        }
    }
}

/// Checks the status of an Ingress; addresses of old are let be, however they are written.
pub fn check_status(ingress: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let path = ["status", "loadBalancer", "ingress"];
    let known: Vec<&str> = object::list(old, &path).iter().map(|given| object::text(given, &["ip"])).collect();
    let whole = Field::new(ingress, "");
    for given in whole.at("status").at("loadBalancer").items("ingress") {
        let ip = given.at("ip");
        if !known.contains(&ip.text()) {
            ip.check_if_set(cidr::strict_ip, causes);
        }
        let name = given.at("hostname");
        name.check_if_set(text::dns1123_subdomain, causes);
        if cidr::any_ip(name.text()).is_some() {
            name.invalid(NO_ADDRESS, causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        check(&json!({"spec": spec}), &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn an_ingress_leads_somewhere() {
        assert_eq!(
            faults(json!({})),
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
        );
        assert_eq!(
            faults(json!({"rules": [{"host": "10.0.0.1", "http": {"paths": []}}]})),
            [
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
                "spec.rules[0].http.paths: Required value"
            ]
        );
    }

    #[test]
    fn addresses_of_a_status_are_written_strictly_unless_they_are_of_old() {
        let status = |ip: &str| json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        let faults = |new: &str, old: &str| {
            let mut causes = Vec::new();
            check_status(&status(new), &status(old), &mut causes);
            causes.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
        };
        assert_eq!(faults("10.0.0.1", ""), Vec::<String>::new());
        assert_eq!(faults("010.0.0.1", ""), [r#"Invalid value: "010.0.0.1": must not have leading 0s"#]);
        assert_eq!(faults("010.0.0.1", "010.0.0.1"), Vec::<String>::new());
    }

    #[test]
    fn paths_are_unambiguous() {
        let path = |path: &str, kind: &str| {
            faults(json!({"rules": [{"http": {"paths": [
                {"path": path, "pathType": kind, "backend": {"service": {"name": "s", "port": {"number": 1}}}}
            ]}}]}))
            .len()
        };
        assert_eq!(path("/a", "Exact"), 0);
        assert_eq!(path("/a/..", "Prefix"), 1);
        assert_eq!(path("/a%2fb", "Prefix"), 1);
        assert_eq!(path("", "ImplementationSpecific"), 0);
        assert_eq!(path("a", "ImplementationSpecific"), 1);
        assert_eq!(path("/a", "Other"), 1);
    }
}
