//! What does not go with the operating system that a pod asks for.

use martello_api::status::Cause;

use super::all_containers;
use crate::registry::validation::field::Field;

/// Settings of a pod in upstream's order; the second says which are of its security context.
const POD: [(&str, bool); 15] = [
    ("appArmorProfile", true),
    ("seLinuxOptions", true),
    ("hostUsers", false),
    ("hostPID", false),
    ("hostIPC", false),
    ("seccompProfile", true),
    ("fsGroup", true),
    ("fsGroupChangePolicy", true),
    ("sysctls", true),
    ("shareProcessNamespace", false),
    ("runAsUser", true),
    ("runAsGroup", true),
    ("supplementalGroups", true),
    ("supplementalGroupsPolicy", true),
    ("seLinuxChangePolicy", true),
];
const CONTAINER_CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];
const NOT_WINDOWS: &str = "cannot be set for a windows pod";

/// Checks the settings of a pod against its `os`.
pub(super) fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(os) = spec.get("os") else { return };
    let name = os.at("name");
    if !name.needs_text(causes) {
        return;
    }
    let contexts = all_containers(spec).into_iter().filter_map(|container| container.get("securityContext"));
    let own = spec.at("securityContext");
    match name.text() {
        "linux" => {
            for options in [own].into_iter().chain(contexts).filter_map(|context| context.get("windowsOptions")) {
                options.forbidden("windows options cannot be set for a linux pod", causes);
            }
        }
        "windows" => {
            for (key, in_context) in POD {
                let found = if in_context { own.get(key) } else { spec.get(key) };
                let unset = |found: &Field<'_>| match key {
                    "hostPID" | "hostIPC" | "sysctls" => found.is_empty(),
                    _ => false,
                };
                if let Some(found) = found.filter(|found| !unset(found)) {
                    found.forbidden(NOT_WINDOWS, causes);
                }
            }
            for context in contexts {
                for found in CONTAINER_CONTEXT.iter().filter_map(|key| context.get(key)) {
                    found.forbidden(NOT_WINDOWS, causes);
                }
            }
        }
        // Upstream names the system here, not its name.
        other => causes.push(Cause::not_supported(os.path.as_str(), &other.into(), &["linux", "windows"])),
    }
}
