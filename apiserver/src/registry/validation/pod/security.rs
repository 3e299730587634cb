//! Security settings of pods and containers.

use martello_api::status::Cause;
use serde_json::Value;

use super::volumes::local_path;
use crate::registry::validation::field::{Field, go_form};

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const SYSCTL: &str = r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// Longest name of a sysctl.
const SYSCTL_LIMIT: usize = 253;
/// Fields of a container's security context in upstream's order.
const CONTEXT: [(&str, &str); 12] = [
    ("capabilities", "Capabilities"),
    ("privileged", "Privileged"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("windowsOptions", "WindowsOptions"),
    ("runAsUser", "RunAsUser"),
    ("runAsGroup", "RunAsGroup"),
    ("runAsNonRoot", "RunAsNonRoot"),
    ("readOnlyRootFilesystem", "ReadOnlyRootFilesystem"),
    ("allowPrivilegeEscalation", "AllowPrivilegeEscalation"),
    ("procMount", "ProcMount"),
    ("seccompProfile", "SeccompProfile"),
    ("appArmorProfile", "AppArmorProfile"),
];

/// Checks the security context of a container.
pub(super) fn check_container(spec: &Field<'_>, context: &Field<'_>, causes: &mut Vec<Cause>) {
    ids(context, &["runAsUser", "runAsGroup"], causes);
    if let Some(mount) = context.get("procMount") {
        mount.one_of(&["Default", "Unmasked"], causes);
        let own_users = spec.at("hostUsers").value == &Value::Bool(false);
        if mount.text() == "Unmasked" && !own_users {
            mount.invalid("`hostUsers` must be false to use `Unmasked`", causes);
        }
    }
    profiles(context, causes);
    if context.at("allowPrivilegeEscalation").value != &Value::Bool(false) {
        return;
    }
    let shown = go_form(context.value, &CONTEXT.map(|(key, name)| (key, name, Value::Null)));
    let adds = context.at("capabilities").items("add");
    if context.flag("privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        causes.push(Cause::invalid(context.path.as_str(), &shown, why));
    }
    if adds.iter().any(|one| one.text() == "CAP_SYS_ADMIN") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        causes.push(Cause::invalid(context.path.as_str(), &shown, why));
    }
}

/// Checks the security context of a pod.
pub(super) fn check_pod(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let context = spec.at("securityContext");
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let share =
            Field::new(spec.at("shareProcessNamespace").value, format!("{}.shareProcessNamespace", context.path));
        share.invalid("ShareProcessNamespace and HostPID cannot both be enabled", causes);
    }
    ids(&context, &["fsGroup", "runAsUser", "runAsGroup"], causes);
    for group in context.items("supplementalGroups") {
        id(&group, causes);
    }
    if let Some(policy) = context.get("supplementalGroupsPolicy") {
        policy.one_of(&["Merge", "Strict"], causes);
    }
    sysctls(spec, &context, causes);
    if let Some(policy) = context.get("fsGroupChangePolicy") {
        policy.one_of(&["Always", "OnRootMismatch"], causes);
    }
    profiles(&context, causes);
}

fn ids(context: &Field<'_>, keys: &[&str], causes: &mut Vec<Cause>) {
    for key in keys {
        id(&context.at(key), causes);
    }
}

fn id(id: &Field<'_>, causes: &mut Vec<Cause>) {
    if id.int().is_some_and(|number| !(0..=i64::from(i32::MAX)).contains(&number)) {
        id.invalid(ID_RANGE, causes);
    }
}

fn profiles(context: &Field<'_>, causes: &mut Vec<Cause>) {
    for (key, name, word) in
        [("seccompProfile", "seccomp", "seccompProfile"), ("appArmorProfile", "AppArmor", "appArmorProfile")]
    {
        let Some(profile) = context.get(key) else { continue };
        let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
        match kind.text() {
            "Localhost" if local.value.is_null() => {
                local.required(&format!("must be set when {name} type is Localhost"), causes);
            }
            "Localhost" if key == "seccompProfile" => local_path(&local, false, causes),
            "Localhost" if local.text().trim() != local.text() => {
                local.invalid("must not be padded with whitespace", causes);
            }
            "Localhost" => {}
            _ if !local.value.is_null() => {
                local.invalid(&format!("can only be set when {name} type is Localhost"), causes);
            }
            _ => {}
        }
        if kind.text().is_empty() {
            kind.required(&format!("type is required when {word} is set"), causes);
        } else {
            kind.one_of(&["Localhost", "RuntimeDefault", "Unconfined"], causes);
        }
    }
}

fn sysctls(spec: &Field<'_>, context: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: Vec<String> = Vec::new();
    for sysctl in context.items("sysctls") {
        let name = sysctl.at("name");
        let normal = name.text().replace('/', ".");
        if name.text().is_empty() {
            name.required("", causes);
        } else if !is_sysctl(name.text()) {
            name.invalid(SYSCTL, causes);
        } else if seen.contains(&normal) {
            name.duplicate(causes);
        }
        let of_ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| normal.starts_with(prefix))
            || normal == "kernel.sem";
        if spec.flag("hostNetwork") && normal.starts_with("net.") {
            name.invalid("may not be specified when 'hostNetwork' is true", causes);
        }
        if spec.flag("hostIPC") && of_ipc {
            name.invalid("may not be specified when 'hostIPC' is true", causes);
        }
        seen.push(normal);
    }
}

fn is_sysctl(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= SYSCTL_LIMIT
        && name.split(['.', '/']).all(|part| {
            part.bytes().all(|byte| word(byte) || byte == b'-' || byte == b'_')
                && part.bytes().next().is_some_and(word)
                && part.bytes().next_back().is_some_and(word)
        })
}
