//! What a policy that refuses a pod found, in the words of upstream's Pod Security admission.

use std::fmt::Display;

use super::facts::{Facts, POD};

/// Headline and detail of the policy `id`, in upstream's form `headline (detail)`; `None` for an unknown policy.
pub(super) fn words(id: &str, facts: &Facts) -> Option<(&'static str, String)> {
    let context = "securityContext";
    Some(match id {
        "pod-security/app-armor" => app_armor(facts),
        "pod-security/capabilities" => {
            ("non-default capabilities", must_not_add(&facts.beyond_baseline.0, &quoted(&facts.beyond_baseline.1)))
        }
        "pod-security/host-namespaces" => ("host namespaces", facts.host_namespaces.join(", ")),
        "pod-security/host-path" => ("hostPath volumes", volumes(&facts.host_path_volumes)),
        "pod-security/host-ports" => ("hostPort", host_ports(facts)),
        "pod-security/host-probes" => ("probe or lifecycle host", probed_hosts(facts)),
        "pod-security/privileged" => {
            ("privileged", format!("{} must not set {context}.privileged=true", containers(&facts.privileged)))
        }
        "pod-security/proc-mount" | "pod-security/proc-mount-of-host-users" | "pod-security/proc-mount-restricted" => {
            let (who, mounts) = &facts.unmasked_proc;
            ("procMount", format!("{} must not set {context}.procMount to {}", containers(who), quoted(mounts)))
        }
        "pod-security/selinux" => {
            let who = whom(&facts.selinux, "and");
            ("seLinuxOptions", format!("{who} set forbidden {context}.seLinuxOptions: {}", selinux(facts)))
        }
        "pod-security/seccomp-unconfined" => ("seccompProfile", unconfined(facts)),
        "pod-security/sysctls" => ("forbidden sysctls", facts.sysctls_beyond_baseline.join(", ")),
        "pod-security/sysctls-of-the-node" => ("forbidden sysctls", facts.sysctls_of_the_node.join(", ")),
        "pod-security/windows-host-process" => {
            let who = whom(&facts.host_process, "and");
            ("hostProcess", format!("{who} must not set {context}.windowsOptions.hostProcess=true"))
        }
        _ => return restricted(id, facts),
    })
}

fn restricted(id: &str, facts: &Facts) -> Option<(&'static str, String)> {
    let context = "securityContext";
    Some(match id {
        "pod-security/privilege-escalation" => {
            let who = containers(&facts.may_escalate);
            ("allowPrivilegeEscalation != false", format!("{who} must set {context}.allowPrivilegeEscalation=false"))
        }
        "pod-security/capabilities-restricted" => {
            let mut parts = Vec::new();
            if !facts.keeping_capabilities.is_empty() {
                let who = containers(&facts.keeping_capabilities);
                parts.push(format!("{who} must set {context}.capabilities.drop=[\"ALL\"]"));
            }
            if !facts.beyond_restricted.0.is_empty() {
                parts.push(must_not_add(&facts.beyond_restricted.0, &quoted(&facts.beyond_restricted.1)));
            }
            ("unrestricted capabilities", parts.join("; "))
        }
        "pod-security/volume-types" => {
            let (names, types) = &facts.restricted_volumes;
            let verb = if names.len() == 1 { "uses" } else { "use" };
            let kind = if types.len() == 1 { "type" } else { "types" };
            let detail = format!("{} {verb} restricted volume {kind} {}", volumes(names), quoted(types));
            ("restricted volume types", detail)
        }
        "pod-security/run-as-non-root" => {
            let detail = if facts.says_root.is_empty() {
                format!("pod or {} must set {context}.runAsNonRoot=true", containers(&facts.silent_on_root))
            } else {
                format!("{} must not set {context}.runAsNonRoot=false", whom(&facts.says_root, "and"))
            };
            ("runAsNonRoot != true", detail)
        }
        "pod-security/run-as-user" => {
            ("runAsUser=0", format!("{} must not set runAsUser=0", whom(&facts.user_zero, "and")))
        }
        "pod-security/seccomp" => {
            let detail = if facts.seccomp_unconfined.is_empty() {
                let who = containers(&facts.silent_on_seccomp);
                let wanted = "\"RuntimeDefault\" or \"Localhost\"";
                format!("pod or {who} must set {context}.seccompProfile.type to {wanted}")
            } else {
                unconfined(facts)
            };
            ("seccompProfile", detail)
        }
        _ => return None,
    })
}

fn app_armor(facts: &Facts) -> (&'static str, String) {
    let (who, profiles) = &facts.app_armor;
    let annotations = &facts.app_armor_annotations;
    let mut setters: Vec<String> = if who.is_empty() { Vec::new() } else { vec![whom(who, "and")] };
    if !annotations.is_empty() {
        setters.push(if annotations.len() == 1 { "annotation" } else { "annotations" }.to_owned());
    }
    let values: Vec<&str> = profiles.iter().chain(annotations).map(String::as_str).collect();
    let headline = if values.len() == 1 { "forbidden AppArmor profile" } else { "forbidden AppArmor profiles" };
    // Upstream puts the values between quotes as they are, an annotation's own quotes included.
    let values = format!("\"{}\"", values.join("\", \""));
    (headline, format!("{} must not set AppArmor profile type to {values}", setters.join(" and ")))
}

fn probed_hosts(facts: &Facts) -> String {
    let (who, hosts) = &facts.probed_hosts;
    let who: Vec<String> = who.iter().cloned().collect();
    let verb = if who.len() == 1 { "uses" } else { "use" };
    let noun = if hosts.len() == 1 { "probe or lifecycle host" } else { "probe or lifecycle hosts" };
    format!("{} {verb} {noun} {}", containers(&who), quoted(hosts))
}

fn selinux(facts: &Facts) -> String {
    let mut parts = Vec::new();
    if !facts.selinux_types.is_empty() {
        let noun = if facts.selinux_types.len() == 1 { "type" } else { "types" };
        parts.push(format!("{noun} {}", quoted(&facts.selinux_types)));
    }
    let set = ["user may not be set", "role may not be set"].into_iter().zip(facts.selinux_set);
    parts.extend(set.filter(|(_, is_set)| *is_set).map(|(words, _)| words.to_owned()));
    parts.join("; ")
}

fn unconfined(facts: &Facts) -> String {
    format!(
        "{} must not set securityContext.seccompProfile.type to \"Unconfined\"",
        whom(&facts.seccomp_unconfined, "and")
    )
}

fn must_not_add(who: &[String], what: &str) -> String {
    format!("{} must not include {what} in securityContext.capabilities.add", containers(who))
}

fn host_ports(facts: &Facts) -> String {
    let (who, ports) = &facts.host_ports;
    let verb = if who.len() == 1 { "uses" } else { "use" };
    let noun = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    format!("{} {verb} {noun} {}", containers(who), ports.join(", "))
}

/// The pod, containers, or both.
fn whom(who: &[String], joined_by: &str) -> String {
    let named: Vec<String> = who.iter().filter(|name| *name != POD).cloned().collect();
    match (who.len() != named.len(), named.is_empty()) {
        (true, true) => "pod".to_owned(),
        (true, false) => format!("pod {joined_by} {}", containers(&named)),
        (false, _) => containers(&named),
    }
}

fn containers(names: &[String]) -> String {
    let noun = if names.len() == 1 { "container" } else { "containers" };
    format!("{noun} {}", quoted(names))
}

fn volumes(names: &[String]) -> String {
    let noun = if names.len() == 1 { "volume" } else { "volumes" };
    format!("{noun} {}", quoted(names))
}

fn quoted<T: Display>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|text| format!("{:?}", text.to_string())).collect::<Vec<_>>().join(", ")
}
