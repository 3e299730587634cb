//! What admission policies look at in a pod: sets of names, derived from its spec.

use std::collections::BTreeSet;

use serde_json::Value;

/// Capabilities that the baseline level lets a container add.
const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls that the baseline level lets a pod set.
const BASELINE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
/// Beginnings of the sysctls that belong to a pod's own network and IPC namespaces.
const NAMESPACED_SYSCTLS: [&str; 5] = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
/// Volume sources that the restricted level allows.
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// SELinux types that the baseline level allows.
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Name under which the pod itself stands among the containers of a set: no container can bear it.
pub(crate) const POD: &str = "pod itself";

/// The facts of one pod. Containers stand in the order init, plain, ephemeral.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) all_images: Vec<String>,
    pub(crate) capabilities_added: BTreeSet<String>,
    /// Containers, and what they add beyond the level.
    pub(crate) beyond_baseline: (Vec<String>, BTreeSet<String>),
    pub(crate) beyond_restricted: (Vec<String>, BTreeSet<String>),
    pub(crate) keeping_capabilities: Vec<String>,
    pub(crate) may_escalate: Vec<String>,
    pub(crate) host_ports: (Vec<String>, BTreeSet<u64>),
    pub(crate) unmasked_proc: (Vec<String>, BTreeSet<String>),
    /// The pod or containers, and the profiles.
    pub(crate) app_armor: (Vec<String>, BTreeSet<String>),
    /// The pod or containers, and in words what is forbidden of their options.
    pub(crate) selinux: (Vec<String>, Vec<String>),
    pub(crate) host_namespaces: Vec<String>,
    pub(crate) host_path_volumes: Vec<String>,
    /// The pod or containers.
    pub(crate) host_process: Vec<String>,
    /// The pod or containers that say that root is fine.
    pub(crate) says_root: Vec<String>,
    /// Containers for which neither they nor the pod say anything.
    pub(crate) silent_on_root: Vec<String>,
    pub(crate) privileged: Vec<String>,
    pub(crate) restricted_volumes: (Vec<String>, BTreeSet<String>),
    pub(crate) user_zero: Vec<String>,
    pub(crate) sysctls_beyond_baseline: Vec<String>,
    pub(crate) sysctls_of_the_node: Vec<String>,
    /// The pod or containers that set no confinement.
    pub(crate) seccomp_unconfined: Vec<String>,
    /// Containers for which neither they nor the pod say anything.
    pub(crate) silent_on_seccomp: Vec<String>,
}

/// What of the pod's own security context counts for containers that say nothing.
struct PodDefaults {
    non_root: Option<bool>,
    seccomp: Option<String>,
}

impl Facts {
    /// The facts of a pod's spec, or of the spec in a workload's template.
    pub(crate) fn of(spec: &Value) -> Self {
        let mut facts = Self::default();
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if is_true(spec.get(field)) {
                facts.host_namespaces.push(format!("{field}=true"));
            }
        }
        let defaults = facts.pod(spec.get("securityContext").unwrap_or(&Value::Null));
        for field in ["initContainers", "containers", "ephemeralContainers"] {
            for container in items(spec.get(field)) {
                facts.container(container, &defaults);
            }
        }
        for volume in items(spec.get("volumes")) {
            facts.volume(volume);
        }
        facts
    }

    fn pod(&mut self, security: &Value) -> PodDefaults {
        self.context(POD, security);
        for sysctl in items(security.get("sysctls")) {
            let name = text(sysctl.get("name"));
            if !BASELINE_SYSCTLS.contains(&name) {
                self.sysctls_beyond_baseline.push(name.to_owned());
            }
            if !NAMESPACED_SYSCTLS.iter().any(|beginning| name.starts_with(beginning)) {
                self.sysctls_of_the_node.push(name.to_owned());
            }
        }
        PodDefaults {
            non_root: security.get("runAsNonRoot").and_then(Value::as_bool),
            seccomp: security.pointer("/seccompProfile/type").and_then(Value::as_str).map(str::to_owned),
        }
    }

    fn container(&mut self, container: &Value, defaults: &PodDefaults) {
        let name = text(container.get("name"));
        let security = container.get("securityContext").unwrap_or(&Value::Null);
        self.all_images.push(text(container.get("image")).to_owned());
        self.context(name, security);
        if is_true(security.get("privileged")) {
            self.privileged.push(name.to_owned());
        }
        if security.get("allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false) {
            self.may_escalate.push(name.to_owned());
        }
        if security.get("runAsNonRoot").is_none_or(Value::is_null) && defaults.non_root.is_none() {
            self.silent_on_root.push(name.to_owned());
        }
        if security.pointer("/seccompProfile/type").is_none() && defaults.seccomp.is_none() {
            self.silent_on_seccomp.push(name.to_owned());
        }
        self.capabilities(name, security.get("capabilities").unwrap_or(&Value::Null));
        let proc_mount = text(security.get("procMount"));
        if !["", "Default"].contains(&proc_mount) {
            note(&mut self.unmasked_proc, name, [proc_mount.to_owned()]);
        }
        let ports = items(container.get("ports")).iter().filter_map(|port| port.get("hostPort")?.as_u64());
        let ports: Vec<u64> = ports.filter(|&port| port != 0).collect();
        note(&mut self.host_ports, name, ports);
    }

    fn capabilities(&mut self, name: &str, capabilities: &Value) {
        let added: Vec<&str> = items(capabilities.get("add")).iter().filter_map(Value::as_str).collect();
        self.capabilities_added.extend(added.iter().map(|&capability| capability.to_owned()));
        let beyond = |allowed: &[&str]| -> Vec<String> {
            let beyond = added.iter().filter(|capability| !allowed.contains(capability));
            beyond.map(|&capability| capability.to_owned()).collect()
        };
        note(&mut self.beyond_baseline, name, beyond(&BASELINE_CAPABILITIES));
        note(&mut self.beyond_restricted, name, beyond(&["NET_BIND_SERVICE"]));
        if !items(capabilities.get("drop")).iter().any(|dropped| dropped.as_str() == Some("ALL")) {
            self.keeping_capabilities.push(name.to_owned());
        }
    }

    /// What pod and containers can both say.
    fn context(&mut self, who: &str, security: &Value) {
        if security.get("runAsNonRoot").and_then(Value::as_bool) == Some(false) {
            self.says_root.push(who.to_owned());
        }
        if security.get("runAsUser").and_then(Value::as_i64) == Some(0) {
            self.user_zero.push(who.to_owned());
        }
        if security.pointer("/seccompProfile/type").and_then(Value::as_str) == Some("Unconfined") {
            self.seccomp_unconfined.push(who.to_owned());
        }
        if is_true(security.pointer("/windowsOptions/hostProcess")) {
            self.host_process.push(who.to_owned());
        }
        let profile = text(security.pointer("/appArmorProfile/type"));
        if !["", "RuntimeDefault", "Localhost"].contains(&profile) {
            note(&mut self.app_armor, who, [profile.to_owned()]);
        }
        let option = |name: &str| text(security.pointer(&format!("/seLinuxOptions/{name}")));
        let mut forbidden = Vec::new();
        if !SELINUX_TYPES.contains(&option("type")) {
            forbidden.push(format!("type {:?}", option("type")));
        }
        for name in ["user", "role"] {
            if !option(name).is_empty() {
                forbidden.push(format!("{name} may not be set"));
            }
        }
        if !forbidden.is_empty() {
            self.selinux.0.push(who.to_owned());
            for words in forbidden {
                if !self.selinux.1.contains(&words) {
                    self.selinux.1.push(words);
                }
            }
        }
    }

    fn volume(&mut self, volume: &Value) {
        let name = text(volume.get("name"));
        if volume.get("hostPath").is_some_and(|source| !source.is_null()) {
            self.host_path_volumes.push(name.to_owned());
        }
        let sources = volume.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null());
        let source = sources.map(|(field, _)| field.as_str()).find(|&field| field != "name");
        if let Some(source) = source.filter(|source| !RESTRICTED_VOLUMES.contains(source)) {
            note(&mut self.restricted_volumes, name, [source.to_owned()]);
        }
    }
}

/// Notes `who` with `values`, if there are any.
fn note<V: Ord>(found: &mut (Vec<String>, BTreeSet<V>), who: &str, values: impl IntoIterator<Item = V>) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_some() {
        found.0.push(who.to_owned());
        found.1.extend(values);
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool) == Some(true)
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
