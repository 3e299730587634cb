//! Containers of a pod: the regular, the init and the ephemeral ones.

use martello_api::status::Cause;
use serde_json::json;

use super::{claims, environment, handlers, resources, security, volumes};
use crate::registry::validation::{field::Field, text};

/// What an ephemeral container may not have.
const NOT_EPHEMERAL: [&str; 7] =
    ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "resizePolicy"];
/// Most rules by which a container is started again.
const MAX_RESTART_RULES: usize = 20;
/// Most exit codes of such a rule: as many as there are.
const MAX_EXIT_CODES: usize = 255;
/// How long a pod has to end where it says nothing else.
const DEFAULT_GRACE: i64 = 30;

/// Checks all containers of a pod spec.
pub(super) fn check_all(spec: &Field<'_>, volumes: &[&str], causes: &mut Vec<Cause>) {
    let grace = spec.at("terminationGracePeriodSeconds").int().unwrap_or(DEFAULT_GRACE);
    if spec.count("containers") == 0 {
        spec.at("containers").required("", causes);
    }
    let mut names: Vec<&str> = Vec::new();
    for container in spec.items("containers") {
        common(spec, &container, volumes, causes);
        unique(&container, &mut names, causes);
        handlers::check(&container, grace, causes);
        restart_policy(&container, &["Always", "Never", "OnFailure"], causes);
    }
    host_ports(spec, "containers", causes);
    for container in spec.items("initContainers") {
        common(spec, &container, volumes, causes);
        unique(&container, &mut names, causes);
        restart_policy(&container, &["Always", "Never", "OnFailure"], causes);
        if container.str("restartPolicy") == "Always" {
            handlers::check(&container, grace, causes);
        } else {
            handlers::forbid(&container, causes);
        }
    }
    host_ports(spec, "initContainers", causes);
    for container in spec.items("ephemeralContainers") {
        common(spec, &container, volumes, causes);
        unique(&container, &mut names, causes);
        ephemeral(spec, &container, causes);
    }
}

fn common(spec: &Field<'_>, container: &Field<'_>, volumes: &[&str], causes: &mut Vec<Cause>) {
    container.at("name").check_required(text::dns1123_label, causes);
    let image = container.at("image");
    if image.needs_text(causes) && image.text().trim() != image.text() {
        image.invalid("must not have leading or trailing whitespace", causes);
    }
    container.at("terminationMessagePolicy").needs_one_of(&["FallbackToLogsOnError", "File"], causes);
    ports(container, causes);
    environment::check(container, causes);
    volumes::mounts(spec, container, volumes, causes);
    container.at("imagePullPolicy").needs_one_of(&["Always", "IfNotPresent", "Never"], causes);
    resources::check(&container.at("resources"), causes);
    claims::check_container(spec, &container.at("resources"), causes);
    resources::resize_policy(container, spec.str("restartPolicy"), causes);
    if let Some(context) = container.get("securityContext") {
        security::check_container(spec, &context, causes);
    }
}

fn unique<'a>(container: &Field<'a>, names: &mut Vec<&'a str>, causes: &mut Vec<Cause>) {
    let name = container.at("name");
    if names.contains(&name.text()) {
        name.duplicate(causes);
    } else if !name.text().is_empty() {
        names.push(name.text());
    }
}

fn restart_policy(container: &Field<'_>, supported: &[&str], causes: &mut Vec<Cause>) {
    let (policy, rules) = (container.at("restartPolicy"), container.at("restartPolicyRules"));
    let count = container.count("restartPolicyRules");
    if !policy.value.is_null() {
        policy.one_of(supported, causes);
    } else if count > 0 {
        policy.required("must specify restartPolicy when restart rules are used", causes);
    }
    if count > MAX_RESTART_RULES {
        rules.too_many(count, MAX_RESTART_RULES, causes);
    }
    for rule in container.items("restartPolicyRules") {
        rule.at("action").one_of(&["Restart", "RestartAllContainers"], causes);
        let Some(codes) = rule.get("exitCodes") else {
            rule.at("exitCodes").required("must be specified", causes);
            continue;
        };
        codes.at("operator").one_of(&["In", "NotIn"], causes);
        let count = codes.count("values");
        if count > MAX_EXIT_CODES {
            codes.at("values").too_many(count, MAX_EXIT_CODES, causes);
        }
    }
}

fn ports(container: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut names: Vec<&str> = Vec::new();
    for port in container.items("ports") {
        let name = port.at("name");
        if !name.text().is_empty() {
            let before = causes.len();
            name.check(text::port_name, causes);
            if causes.len() == before {
                if names.contains(&name.text()) {
                    name.duplicate(causes);
                }
                names.push(name.text());
            }
        }
        let number = port.at("containerPort");
        match number.int().unwrap_or(0) {
            0 => number.required("", causes),
            own => text::port_number(own).iter().for_each(|fault| number.invalid(fault, causes)),
        }
        let host = port.at("hostPort");
        if let Some(own) = host.int().filter(|own| *own != 0) {
            text::port_number(own).iter().for_each(|fault| host.invalid(fault, causes));
        }
        port.at("protocol").needs_one_of(&["SCTP", "TCP", "UDP"], causes);
    }
}

/// No two containers of a list may take the same port of the host.
fn host_ports(spec: &Field<'_>, list: &str, causes: &mut Vec<Cause>) {
    let mut seen: Vec<String> = Vec::new();
    for container in spec.items(list) {
        for port in container.items("ports") {
            let number = port.at("hostPort").int().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let taken = format!("{}/{}/{number}", port.str("protocol"), port.str("hostIP"));
            if seen.contains(&taken) {
                causes.push(Cause::duplicate(port.at("hostPort").path, &json!(taken)));
            } else {
                seen.push(taken);
            }
        }
    }
}

fn ephemeral(spec: &Field<'_>, container: &Field<'_>, causes: &mut Vec<Cause>) {
    let target = container.at("targetContainerName");
    let known = ["containers", "initContainers"]
        .iter()
        .any(|list| spec.items(list).iter().any(|container| container.str("name") == target.text()));
    if !target.text().is_empty() && !known {
        target.not_found(causes);
    }
    for key in NOT_EPHEMERAL {
        if let Some(found) = container.get(key).filter(|found| !found.is_empty()) {
            found.forbidden("cannot be set for an Ephemeral Container", causes);
        }
    }
    for mount in container.items("volumeMounts") {
        for key in ["subPath", "subPathExpr"] {
            if !mount.str(key).is_empty() {
                mount.at(key).forbidden("cannot be set for an Ephemeral Container", causes);
            }
        }
    }
}
