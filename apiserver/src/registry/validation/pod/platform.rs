//! What does not go with the operating system that a pod asks for.

use martello_api::status::Cause;

use crate::registry::validation::field::Field;

const POD_CONTEXT: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
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
const POD: [&str; 3] = ["hostPID", "hostIPC", "shareProcessNamespace"];
const NOT_WINDOWS: &str = "cannot be set for a windows pod";

/// Checks the settings of a pod against its `os`.
pub(super) fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(os) = spec.get("os") else { return };
    os.at("name").needs_one_of(&["linux", "windows"], causes);
    let contexts = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| spec.items(list))
        .filter_map(|container| container.get("securityContext"));
    let own = spec.get("securityContext");
    match os.str("name") {
        "linux" => {
            for options in own.into_iter().chain(contexts).filter_map(|context| context.get("windowsOptions")) {
                options.forbidden("windows options cannot be set for a linux pod", causes);
            }
        }
        "windows" => {
            for key in POD.into_iter().filter(|key| spec.flag(key)) {
                spec.at(key).forbidden(NOT_WINDOWS, causes);
            }
            if let Some(context) = own {
                forbid(&context, &POD_CONTEXT, causes);
            }
            contexts.for_each(|context| forbid(&context, &CONTAINER_CONTEXT, causes));
        }
        _ => {}
    }
}

fn forbid(context: &Field<'_>, keys: &[&str], causes: &mut Vec<Cause>) {
    for found in keys.iter().filter_map(|key| context.get(key)) {
        found.forbidden(NOT_WINDOWS, causes);
    }
}
