//! Security settings of pods and containers.

use std::collections::HashSet;

use martello_api::status::Cause;
use serde_json::Value;

use super::{volumes::local_path, windows};
use crate::registry::validation::{field::Field, internal};

const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const SYSCTL: &str = r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// Longest name of a sysctl.
const SYSCTL_LIMIT: usize = 253;
/// Kinds of profiles.
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
/// Longest name of a profile: the longest path.
pub(super) const MAX_PROFILE: usize = 4095;

/// Sysctls of the IPC namespace, beside those of message queues.
const IPC_SYSCTLS: [&str; 10] = [
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
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
    seccomp(context, causes);
    if context.at("allowPrivilegeEscalation").value == &Value::Bool(false) {
        escalation(context, causes);
    }
    windows::check(&context.at("windowsOptions"), causes);
    app_armor(context, causes);
}

/// Checks what lets a process become more, where it may not.
fn escalation(context: &Field<'_>, causes: &mut Vec<Cause>) {
    let shown = internal::of("io.k8s.api.core.v1.SecurityContext", context.value);
    if context.flag("privileged") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        causes.push(Cause::invalid(context.path.as_str(), &shown, why));
    }
    for _ in context.at("capabilities").items("add").iter().filter(|one| one.text() == "CAP_SYS_ADMIN") {
        let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        causes.push(Cause::invalid(context.path.as_str(), &shown, why));
    }
}

/// Checks the security context of a pod.
pub(super) fn check_pod(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let context = spec.at("securityContext");
    ids(&context, &["fsGroup", "runAsUser", "runAsGroup"], causes);
    for group in context.items("supplementalGroups") {
        id(&group, causes);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let share =
            Field::new(spec.at("shareProcessNamespace").value, format!("{}.shareProcessNamespace", context.path));
        share.invalid("ShareProcessNamespace and HostPID cannot both be enabled", causes);
    }
    sysctls(spec, &context, causes);
    if let Some(policy) = context.get("fsGroupChangePolicy") {
        policy.one_of(&["Always", "OnRootMismatch"], causes);
    }
    seccomp(&context, causes);
    windows::check(&context.at("windowsOptions"), causes);
    app_armor(&context, causes);
    if let Some(policy) = context.get("supplementalGroupsPolicy") {
        policy.one_of(&["Merge", "Strict"], causes);
    }
    if let Some(policy) = context.get("seLinuxChangePolicy") {
        // The other needs a feature that is off.
        policy.one_of(&["Recursive"], causes);
    }
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

fn seccomp(context: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(profile) = context.get("seccompProfile") else { return };
    let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
    if kind.text().is_empty() {
        kind.required("type is required when seccompProfile is set", causes);
    } else {
        kind.one_of(&PROFILES, causes);
    }
    match (kind.text(), local.value.is_null()) {
        ("Localhost", true) => local.required("must be set when seccomp type is Localhost", causes),
        ("Localhost", false) => local_path(&local, false, causes),
        (_, true) => {}
        (_, false) => {
            let shown = internal::of("io.k8s.api.core.v1.SeccompProfile", profile.value);
            let why = "can only be set when seccomp type is Localhost";
            causes.push(Cause::invalid(local.path, &shown, why));
        }
    }
}

fn app_armor(context: &Field<'_>, causes: &mut Vec<Cause>) {
    const UNNAMED: &str = "must be set when AppArmor type is Localhost";
    let Some(profile) = context.get("appArmorProfile") else { return };
    let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
    match kind.text() {
        "Localhost" if local.value.is_null() => local.required(UNNAMED, causes),
        "Localhost" => {
            if local.text().trim() != local.text() {
                local.invalid("must not be padded with whitespace", causes);
            } else if local.text().is_empty() {
                local.required(UNNAMED, causes);
            }
            if local.text().len() > MAX_PROFILE {
                causes.push(Cause::too_long(local.path, MAX_PROFILE));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if !local.value.is_null() {
                local.invalid("can only be set when AppArmor type is Localhost", causes);
            }
        }
        "" => kind.required("type is required when appArmorProfile is set", causes),
        _ => kind.one_of(&PROFILES, causes),
    }
}

fn sysctls(spec: &Field<'_>, context: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for sysctl in context.items("sysctls") {
        let name = sysctl.at("name");
        let normal = normal_sysctl(name.text());
        if name.text().is_empty() {
            name.required("", causes);
        } else if !is_sysctl(name.text()) {
            name.invalid(SYSCTL, causes);
        } else if seen.contains(&name.text()) {
            name.duplicate(causes);
        }
        let of_ipc = IPC_SYSCTLS.contains(&normal.as_str()) || normal.starts_with("fs.mqueue.");
        if spec.flag("hostNetwork") && normal.starts_with("net.") {
            name.invalid("may not be specified when 'hostNetwork' is true", causes);
        }
        if spec.flag("hostIPC") && of_ipc {
            name.invalid("may not be specified when 'hostIPC' is true", causes);
        }
        seen.insert(name.text());
    }
}

/// A name with dots between its parts: one whose first separator is a slash has them the other way round, so that parts may
/// hold dots, as names of network devices do.
fn normal_sysctl(name: &str) -> String {
    if name.chars().find(|letter| matches!(letter, '.' | '/')) != Some('/') {
        return name.to_owned();
    }
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swapped).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sysctls_of_a_shared_namespace_are_found_by_their_whole_names() {
        let faults = |name: &str| {
            let spec = json!({"hostNetwork": true, "hostIPC": true, "securityContext": {"sysctls": [{"name": name}]}});
            let mut causes = Vec::new();
            check_pod(&Field::new(&spec, "spec"), &mut causes);
            causes.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
        };
        for (name, shared) in [
            ("kernel.shmmax", "IPC"),
            ("kernel/shmmax", "IPC"),
            ("fs.mqueue.x", "IPC"),
            ("net.core.somaxconn", "Network"),
            ("net/ipv4/conf/eth0.1/rp_filter", "Network"),
        ] {
            assert_eq!(
                faults(name),
                [format!("Invalid value: {name:?}: may not be specified when 'host{shared}' is true")]
            );
        }
        assert!(faults("kernel.shmfoo").is_empty());
        assert!(faults("kernel.shm/max").is_empty());
    }
}
