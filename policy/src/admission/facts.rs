//! What admission policies look at in a pod: sets of names, derived from its spec.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

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
/// Sysctls that the baseline level lets a pod set, with the minor version of the standards since which.
const BASELINE_SYSCTLS: [(&str, u16); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.tcp_wmem", 32),
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
/// SELinux types that the baseline level allows, with the minor version of the standards since which.
const SELINUX_TYPES: [(&str, u16); 5] =
    [("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];
/// Beginning of the annotations by which pods asked for AppArmor profiles before there was a field.
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Since this minor version of the standards Windows pods need nothing that only Linux has.
const WINDOWS_EXEMPT: u16 = 25;
/// Since this minor version of the standards root in a user namespace of the pod's own is not held for root.
const USER_NAMESPACES_COUNT: u16 = 35;

/// Name under which the pod itself stands among the containers of a set: no container can bear it.
pub(crate) const POD: &str = "pod itself";

/// The facts of one pod. Containers stand in the order init, plain, ephemeral.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Minor version of the standards that was asked for.
    minor: u16,
    /// Whether it is a pod for Windows, as far as the version makes a difference.
    is_windows: bool,
    /// Whether it has a user namespace of its own, as far as the version makes a difference.
    has_own_users: bool,
    pub(crate) all_images: Vec<String>,
    pub(crate) capabilities_added: BTreeSet<String>,
    /// Containers, and what they add beyond the level.
    pub(crate) beyond_baseline: (Vec<String>, BTreeSet<String>),
    pub(crate) beyond_restricted: (Vec<String>, BTreeSet<String>),
    pub(crate) keeping_capabilities: Vec<String>,
    pub(crate) may_escalate: Vec<String>,
    pub(crate) host_ports: (Vec<String>, BTreeSet<String>),
    /// Containers whose probes or hooks go to a host, and the hosts.
    pub(crate) probed_hosts: (BTreeSet<String>, BTreeSet<String>),
    pub(crate) unmasked_proc: (Vec<String>, BTreeSet<String>),
    /// The pod or containers, and the profiles.
    pub(crate) app_armor: (Vec<String>, BTreeSet<String>),
    /// Annotations that ask for a forbidden profile, with their values.
    pub(crate) app_armor_annotations: BTreeSet<String>,
    /// The pod or containers that set forbidden options.
    pub(crate) selinux: Vec<String>,
    pub(crate) selinux_types: BTreeSet<String>,
    /// Whether the options `user` and `role` are set anywhere.
    pub(crate) selinux_set: [bool; 2],
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
    /// The facts of a pod, or of a workload's template, for the standards of a minor version.
    pub(crate) fn of(pod: &Value, minor: u16) -> Self {
        let spec = pod.get("spec").unwrap_or(&Value::Null);
        let mut facts = Self {
            minor,
            is_windows: minor >= WINDOWS_EXEMPT && spec.pointer("/os/name").and_then(Value::as_str) == Some("windows"),
            has_own_users: minor >= USER_NAMESPACES_COUNT
                && spec.get("hostUsers").and_then(Value::as_bool) == Some(false),
            ..Self::default()
        };
        facts.annotations(pod.pointer("/metadata/annotations").and_then(Value::as_object));
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

    fn annotations(&mut self, annotations: Option<&Map<String, Value>>) {
        for (key, value) in annotations.into_iter().flatten() {
            let profile = text(Some(value));
            let is_allowed = profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/");
            if key.starts_with(APP_ARMOR_ANNOTATION) && !is_allowed {
                self.app_armor_annotations.insert(format!("{key}={profile:?}"));
            }
        }
    }

    fn pod(&mut self, security: &Value) -> PodDefaults {
        self.context(POD, security);
        for sysctl in items(security.get("sysctls")) {
            let name = text(sysctl.get("name"));
            if !is_among(&BASELINE_SYSCTLS, name, self.minor) {
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
        if security.get("allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false) && !self.is_windows {
            self.may_escalate.push(name.to_owned());
        }
        let is_silent = security.get("runAsNonRoot").is_none_or(Value::is_null) && defaults.non_root.is_none();
        if is_silent && !self.has_own_users {
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
        let ports: Vec<String> = ports.filter(|&port| port != 0).map(|port| port.to_string()).collect();
        note(&mut self.host_ports, name, ports);
        self.handlers(name, container);
    }

    fn handlers(&mut self, name: &str, container: &Value) {
        let probes =
            ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
        for handler in probes.iter().filter_map(|path| container.pointer(path)) {
            for action in ["/httpGet/host", "/tcpSocket/host"] {
                let host = text(handler.pointer(action));
                if !host.is_empty() {
                    self.probed_hosts.0.insert(name.to_owned());
                    self.probed_hosts.1.insert(host.to_owned());
                }
            }
        }
    }

    fn capabilities(&mut self, name: &str, capabilities: &Value) {
        let added: Vec<&str> = items(capabilities.get("add")).iter().filter_map(Value::as_str).collect();
        self.capabilities_added.extend(added.iter().map(|&capability| capability.to_owned()));
        let beyond = |allowed: &[&str]| -> Vec<String> {
            let beyond = added.iter().filter(|capability| !allowed.contains(capability));
            beyond.map(|&capability| capability.to_owned()).collect()
        };
        note(&mut self.beyond_baseline, name, beyond(&BASELINE_CAPABILITIES));
        if self.is_windows {
            return;
        }
        note(&mut self.beyond_restricted, name, beyond(&["NET_BIND_SERVICE"]));
        if !items(capabilities.get("drop")).iter().any(|dropped| dropped.as_str() == Some("ALL")) {
            self.keeping_capabilities.push(name.to_owned());
        }
    }

    /// What pod and containers can both say.
    fn context(&mut self, who: &str, security: &Value) {
        if security.get("runAsNonRoot").and_then(Value::as_bool) == Some(false) && !self.has_own_users {
            self.says_root.push(who.to_owned());
        }
        if security.get("runAsUser").and_then(Value::as_i64) == Some(0) && !self.has_own_users {
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
        self.selinux_options(who, security.get("seLinuxOptions").unwrap_or(&Value::Null));
    }

    fn selinux_options(&mut self, who: &str, options: &Value) {
        let kind = text(options.get("type"));
        let forbidden_type = !is_among(&SELINUX_TYPES, kind, self.minor);
        if forbidden_type {
            self.selinux_types.insert(kind.to_owned());
        }
        let set = ["user", "role"].map(|name| !text(options.get(name)).is_empty());
        for (all, own) in self.selinux_set.iter_mut().zip(set) {
            *all |= own;
        }
        if forbidden_type || set.contains(&true) {
            self.selinux.push(who.to_owned());
        }
    }

    /// Containers whose own proc is unmasked where root may be the host's.
    pub(crate) fn unmasked_proc_of_host_users(&self) -> &[String] {
        if self.has_own_users { &[] } else { &self.unmasked_proc.0 }
    }

    /// The pod or containers that the restricted level finds without a seccomp profile.
    pub(crate) fn without_seccomp(&self) -> impl Iterator<Item = &String> {
        let all = self.seccomp_unconfined.iter().chain(&self.silent_on_seccomp);
        all.filter(|_| !self.is_windows)
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

/// Whether the standards of a minor version allow `name`, of names with the version since which each is allowed.
fn is_among(allowed: &[(&str, u16)], name: &str, minor: u16) -> bool {
    allowed.iter().any(|&(one, since)| one == name && minor >= since)
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
