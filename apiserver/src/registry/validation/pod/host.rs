//! What a pod shares with its host, and what doesn't go with it.

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::all_containers;
use crate::registry::validation::{field::Field, text};

/// Longest name of a host.
const MAX_HOSTNAME: usize = 64;

/// Checks what a pod shares with its host. The ports of templates are filled in later.
pub(super) fn check(spec: &Field<'_>, of_pod: bool, causes: &mut Vec<Cause>) {
    if spec.flag("hostNetwork") {
        for port in spec.items("containers").iter().flat_map(|container| container.items("ports")) {
            let (own, host) = (port.at("containerPort").int().unwrap_or(0), port.at("hostPort").int().unwrap_or(0));
            if (of_pod || host != 0) && host != own {
                let why = "must match `containerPort` when `hostNetwork` is true";
                causes.push(Cause::invalid(port.at("hostPort").path, &host.into(), why));
            }
        }
    }
}

/// Checks what does not go with users of the pod's own.
pub(super) fn users(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    if spec.at("hostUsers").value != &Value::Bool(false) {
        return;
    }
    for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(key) {
            spec.at(shown).forbidden("when `hostUsers` is false", causes);
        }
    }
    for container in all_containers(spec).iter().filter(|container| container.count("volumeDevices") > 0) {
        container.at("volumeDevices").forbidden("when `hostUsers` is false", causes);
    }
}

/// Checks a name of the host that is given outright.
pub(super) fn name(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(name) = spec.get("hostnameOverride") else { return };
    if spec.flag("setHostnameAsFQDN") {
        name.forbidden("may not be specified when setHostnameAsFQDN is true", causes);
    }
    if spec.flag("hostNetwork") {
        name.forbidden("may not be specified when hostNetwork is true", causes);
    }
    if name.text().len() > MAX_HOSTNAME {
        causes.push(Cause::too_long(name.path.as_str(), MAX_HOSTNAME));
    }
    name.check(text::dns1123_subdomain, causes);
}

/// Checks containers that are processes of a Windows host: all of a pod's are, or none.
pub(super) fn processes(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let of = |holder: &Field<'_>| holder.at("securityContext").at("windowsOptions").at("hostProcess").value.as_bool();
    let pod = of(spec);
    let (mut all, mut hosted) = (0_usize, 0_usize);
    for container in all_containers(spec) {
        let own = of(&container);
        all += 1;
        hosted += usize::from(own.or(pod) == Some(true));
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let path = format!("{}.securityContext.windowsOptions.hostProcess", container.path);
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            causes.push(Cause::invalid(path, &own.into(), &why));
        }
    }
    if hosted == 0 {
        return;
    }
    if hosted != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        causes.push(Cause::invalid(spec.path.as_str(), &json!(""), why));
    }
    if !spec.flag("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        causes.push(Cause::invalid(spec.at("hostNetwork").path, &json!(false), why));
    }
}
