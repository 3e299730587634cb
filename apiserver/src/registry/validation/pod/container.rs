//! Containers of a pod: the regular, the init and the ephemeral ones.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::json;

use super::{claims, environment, handlers, mounts, resources, security};
use crate::registry::validation::{field::Field, text};

/// What an ephemeral container may not have.
const NOT_EPHEMERAL: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];
/// Most rules by which a container is started again.
const MAX_RESTART_RULES: usize = 20;
/// Most exit codes of such a rule: as many as there are.
const MAX_EXIT_CODES: usize = 255;
const NO_POLICY: &str = "must specify restartPolicy when restart rules are used";
/// How long a pod has to end where it says nothing else.
const DEFAULT_GRACE: i64 = 30;

/// What the containers of a pod may name, put together once.
struct Known<'a> {
    volumes: &'a HashSet<&'a str>,
    /// The volumes that may be raw devices.
    devices: HashSet<&'a str>,
    claimed: claims::Claimed<'a>,
}

/// Checks all containers of a pod spec.
pub(super) fn check_all(spec: &Field<'_>, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let grace = spec.at("terminationGracePeriodSeconds").int().unwrap_or(DEFAULT_GRACE);
    if spec.count("containers") == 0 {
        spec.at("containers").required("", causes);
    }
    let known = Known { volumes, devices: mounts::devices(spec), claimed: claims::Claimed::of(spec) };
    let mut names: HashSet<&str> = HashSet::new();
    for container in spec.items("containers") {
        common(spec, &container, &known, causes);
        unique(&container, false, &mut names, causes);
        handlers::check(&container, grace, causes);
        restart_policy(&container, causes);
    }
    host_ports(&spec.at("containers"), &spec.items("containers"), causes);
    for container in spec.items("initContainers") {
        common(spec, &container, &known, causes);
        init_restart_policy(&container, causes);
        unique(&container, true, &mut names, causes);
        // They run one by one. Upstream calls each the first.
        host_ports(&spec.at("initContainers"), std::slice::from_ref(&container), causes);
        if container.str("restartPolicy") == "Always" {
            handlers::check(&container, grace, causes);
        } else {
            handlers::forbid(&container, causes);
            resources::no_restart(&container, causes);
        }
    }
    let targets = names.clone();
    for container in spec.items("ephemeralContainers") {
        common(spec, &container, &known, causes);
        image_as_is(&container, causes);
        unique(&container, false, &mut names, causes);
        ephemeral(&container, &targets, causes);
    }
}

/// Checks what only holds for containers of pods: templates have been taken with any image.
pub(super) fn check_images(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    for list in ["containers", "initContainers"] {
        spec.items(list).iter().for_each(|container| image_as_is(container, causes));
    }
}

/// Checks that an image has no blanks around it.
pub fn image_as_is(container: &Field<'_>, causes: &mut Vec<Cause>) {
    let image = container.at("image");
    if image.text().trim() != image.text() {
        image.invalid("must not have leading or trailing whitespace", causes);
    }
}

fn common(spec: &Field<'_>, container: &Field<'_>, known: &Known<'_>, causes: &mut Vec<Cause>) {
    container.at("name").check_required(text::dns1123_label, causes);
    container.at("image").needs_text(causes);
    container.at("terminationMessagePolicy").needs_one_of(&["File", "FallbackToLogsOnError"], causes);
    ports(container, causes);
    environment::check(container, causes);
    mounts::check(container, known.volumes, &known.devices, causes);
    container.at("imagePullPolicy").needs_one_of(&["Always", "IfNotPresent", "Never"], causes);
    resources::check(&container.at("resources"), causes);
    claims::check_container(&known.claimed, &container.at("resources"), causes);
    resources::resize_policy(container, spec.str("restartPolicy"), causes);
    if let Some(context) = container.get("securityContext") {
        security::check_container(spec, &context, causes);
    }
}

fn unique<'a>(container: &Field<'a>, init: bool, names: &mut HashSet<&'a str>, causes: &mut Vec<Cause>) {
    let name = container.at("name");
    if names.contains(&name.text()) {
        causes.push(Cause::duplicate(name.path.as_str(), &json!(name.text())));
    } else if !(init && name.text().is_empty()) {
        names.insert(name.text());
    }
}

/// As [`restart_policy`]; rules of an init container are looked at only beside a policy.
fn init_restart_policy(container: &Field<'_>, causes: &mut Vec<Cause>) {
    let policy = container.at("restartPolicy");
    if !policy.value.is_null() {
        restart_policy(container, causes);
    } else if container.count("restartPolicyRules") > 0 {
        policy.required(NO_POLICY, causes);
    }
}

fn restart_policy(container: &Field<'_>, causes: &mut Vec<Cause>) {
    let (policy, rules) = (container.at("restartPolicy"), container.at("restartPolicyRules"));
    let count = container.count("restartPolicyRules");
    if !policy.value.is_null() {
        policy.one_of(&["Always", "Never", "OnFailure"], causes);
    } else if count > 0 {
        policy.required(NO_POLICY, causes);
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
    let mut names: HashSet<&str> = HashSet::new();
    for port in container.items("ports") {
        let name = port.at("name");
        if !name.text().is_empty() {
            let before = causes.len();
            name.check(text::port_name, causes);
            if causes.len() == before {
                if names.contains(&name.text()) {
                    name.duplicate(causes);
                }
                names.insert(name.text());
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

/// No two of these containers may take the same port of the host.
fn host_ports(list: &Field<'_>, containers: &[Field<'_>], causes: &mut Vec<Cause>) {
    let mut seen: HashSet<String> = HashSet::new();
    for (place, container) in containers.iter().enumerate() {
        for (index, port) in container.items("ports").into_iter().enumerate() {
            let number = port.at("hostPort").int().unwrap_or(0);
            if number == 0 {
                continue;
            }
            let taken = format!("{}/{}/{number}", port.str("protocol"), port.str("hostIP"));
            if seen.contains(&taken) {
                let path = format!("{}[{place}].ports[{index}].hostPort", list.path);
                causes.push(Cause::duplicate(path, &json!(taken)));
            } else {
                seen.insert(taken);
            }
        }
    }
}

/// Checks what only holds for ephemeral containers. `targets` are the names of all others.
fn ephemeral(container: &Field<'_>, targets: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let target = container.at("targetContainerName");
    if !target.text().is_empty() && !targets.contains(target.text()) {
        target.not_found(causes);
    }
    for key in NOT_EPHEMERAL {
        // What is an empty list or an empty set of amounts is not set; an empty probe is.
        let unset = |found: &Field<'_>| matches!(key, "ports" | "resources") && found.is_empty();
        if let Some(found) = container.get(key).filter(|found| !unset(found)) {
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
