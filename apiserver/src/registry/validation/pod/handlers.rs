//! Probes and hooks of containers.

use martello_api::status::Cause;
use serde_json::Value;

use crate::registry::validation::{field::Field, text};

const COUNTS: [&str; 5] =
    ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
const HEADER_NAME: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

/// Checks probes and hooks of a container that may have them.
pub(super) fn check(container: &Field<'_>, grace: i64, causes: &mut Vec<Cause>) {
    if let Some(lifecycle) = container.get("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get(hook) {
                handler(&hook, grace, causes);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name) else { continue };
        let readiness = name == "readinessProbe";
        handler(&probe, grace, causes);
        for key in COUNTS {
            probe.at(key).not_negative(causes);
        }
        let period = probe.at("terminationGracePeriodSeconds");
        if period.int().is_some_and(|seconds| seconds <= 0) {
            period.invalid("must be greater than 0", causes);
        }
        let successes = probe.at("successThreshold");
        if readiness && period.int().is_some() {
            period.invalid("must not be set for readinessProbes", causes);
        }
        if !readiness && successes.int() != Some(1) {
            successes.invalid("must be 1", causes);
        }
    }
}

/// Checks what a plain init container may not have.
pub(super) fn forbid(container: &Field<'_>, causes: &mut Vec<Cause>) {
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.get(key) {
            found.forbidden("may not be set for init containers without restartPolicy=Always", causes);
        }
    }
}

fn handler(field: &Field<'_>, grace: i64, causes: &mut Vec<Cause>) {
    let mut any = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(found) = field.get(kind) else { continue };
        if any {
            found.forbidden("may not specify more than 1 handler type", causes);
            continue;
        }
        any = true;
        match kind {
            "exec" if found.count("command") == 0 => found.at("command").required("", causes),
            "httpGet" => http_get(&found, causes),
            "tcpSocket" | "grpc" => port(&found.at("port"), causes),
            "sleep" => {
                let seconds = found.at("seconds").int().unwrap_or(0);
                if !(0..=grace).contains(&seconds) {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    causes.push(Cause::invalid(found.path, &seconds.into(), &why));
                }
            }
            _ => {}
        }
    }
    if !any {
        field.required("must specify a handler type", causes);
    }
}

fn http_get(get: &Field<'_>, causes: &mut Vec<Cause>) {
    get.at("path").needs_text(causes);
    port(&get.at("port"), causes);
    get.at("scheme").one_of(&["HTTP", "HTTPS"], causes);
    let headers = get.at("httpHeaders");
    for header in get.items("httpHeaders") {
        let name = header.str("name");
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            causes.push(Cause::invalid(headers.path.as_str(), &name.into(), HEADER_NAME));
        }
    }
}

/// Checks a port that is a number or a name.
pub fn port(port: &Field<'_>, causes: &mut Vec<Cause>) {
    match port.value {
        Value::String(_) => port.check(text::port_name, causes),
        other => {
            let number = other.as_i64().unwrap_or(0);
            for fault in text::port_number(number) {
                causes.push(Cause::invalid(port.path.as_str(), &number.into(), &fault));
            }
        }
    }
}
