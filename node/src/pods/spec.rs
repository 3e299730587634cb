//! What the runtime is asked to run in a pod's sandbox: containers, made from the spec, the image and the node.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, SeccompProfile};

use super::{env::expand, qos};
use crate::{
    images::RunConfig,
    runtime::{ContainerSpec, ContainerUser, Mount, Resources, Rootfs, Seccomp, signals},
};

/// Where a container leaves its last words, if the spec doesn't say.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// The search path of a container whose image names none, as other runtimes set it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Why this node doesn't run a pod or container as it asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The spec asks for what isn't given here.
    #[error("{field} is not supported on this node: {hint}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// Neither spec nor image name a program.
    #[error("no command specified: set command in the container's spec or an entrypoint in the image")]
    NoCommand,
    /// An id is out of range.
    #[error("{field}: {value} is not a user or group id")]
    Id {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
}

/// What a container is made of, beside its spec.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Which start this is.
    pub attempt: u32,
    /// What the image says.
    pub image: &'a RunConfig,
    /// Its layers.
    pub layers: Vec<String>,
    /// The environment that the spec asks for, expanded.
    pub env: Vec<(String, String)>,
    /// The mounts of its volumes.
    pub mounts: Vec<Mount>,
    /// Memory of the node, for the killer's preference.
    pub node_memory_bytes: u64,
}

/// What to ask the runtime for to run `container`.
///
/// # Errors
/// If the container asks for what isn't given here.
pub fn container(pod: &Pod, container: &Container, parts: Parts<'_>) -> Result<ContainerSpec, SpecError> {
    let context = container.security_context.clone().unwrap_or_default();
    refuse_privileged(container)?;
    let capabilities = context.capabilities.clone().unwrap_or_default();
    let bare = |list: Option<Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|name| name.trim_start_matches("CAP_").to_owned()).collect()
    };
    let args = args(container, parts.image, &parts.env)?;
    let cwd = container.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let cwd = cwd.or(Some(parts.image.directory.as_str()).filter(|dir| !dir.is_empty())).unwrap_or("/");
    let last_words = container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
    Ok(ContainerSpec {
        id: container_id(&container.name, parts.attempt),
        name: container.name.clone(),
        attempt: parts.attempt,
        rootfs: Rootfs { layers: parts.layers.clone() },
        args,
        cwd: PathBuf::from(cwd),
        user: user(pod, container, parts.image)?,
        mounts: parts.mounts.clone(),
        resources: resources(container),
        capabilities_add: bare(capabilities.add),
        capabilities_drop: bare(capabilities.drop),
        read_only_root: context.read_only_root_filesystem == Some(true),
        allow_privilege_escalation: context.allow_privilege_escalation == Some(true),
        terminal: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        log_path: log_path(&container.name, parts.attempt),
        stop_signal: stop_signal(container, parts.image),
        seccomp: seccomp(pod, container)?,
        oom_score_adj: oom_score_adj(pod, container, parts.node_memory_bytes),
        termination_message_path: Some(PathBuf::from(last_words)),
        env: whole_env(container, parts),
    })
}

/// The runtime's name for a start of a container.
#[must_use]
pub fn container_id(name: &str, attempt: u32) -> String {
    format!("{name}-{attempt}")
}

/// Where the log of a start lies, below the pod's log directory.
#[must_use]
pub fn log_path(name: &str, attempt: u32) -> PathBuf {
    PathBuf::from(name).join(format!("{attempt}.log"))
}

/// An ephemeral container as an ordinary one: it has the same fields, fewer of which are set.
#[must_use]
pub fn ephemeral(own: &EphemeralContainer) -> Container {
    Container {
        name: own.name.clone(),
        args: own.args.clone(),
        command: own.command.clone(),
        env: own.env.clone(),
        env_from: own.env_from.clone(),
        image: own.image.clone(),
        image_pull_policy: own.image_pull_policy.clone(),
        security_context: own.security_context.clone(),
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        termination_message_path: own.termination_message_path.clone(),
        termination_message_policy: own.termination_message_policy.clone(),
        tty: own.tty,
        volume_mounts: own.volume_mounts.clone(),
        working_dir: own.working_dir.clone(),
        ..Container::default()
    }
}

/// The container of this name, of whatever role.
#[must_use]
pub fn find(pod: &Pod, name: &str) -> Option<Container> {
    let spec = pod.spec.as_ref()?;
    let mut ordinary = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if let Some(found) = ordinary.find(|container| container.name == name) {
        return Some(found.clone());
    }
    spec.ephemeral_containers.iter().flatten().find(|container| container.name == name).map(ephemeral)
}

fn refuse_privileged(container: &Container) -> Result<(), SpecError> {
    let Some(context) = &container.security_context else { return Ok(()) };
    if context.privileged == Some(true) {
        let hint = "every container is rootless; ask for single capabilities instead";
        return Err(SpecError::Unsupported { field: "securityContext.privileged", hint });
    }
    if context.proc_mount.as_deref() == Some("Unmasked") {
        let hint = "/proc stays masked; use Default";
        return Err(SpecError::Unsupported { field: "securityContext.procMount", hint });
    }
    if container.volume_devices.iter().flatten().next().is_some() {
        let hint = "there are no block volumes; mount a file system";
        return Err(SpecError::Unsupported { field: "volumeDevices", hint });
    }
    Ok(())
}

fn args(container: &Container, image: &RunConfig, env: &[(String, String)]) -> Result<Vec<String>, SpecError> {
    let lookup = |name: &str| env.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand(text, &lookup)).collect()
    };
    let command = expanded(&container.command);
    let args = expanded(&container.args);
    let all: Vec<String> = match (command.is_empty(), args.is_empty()) {
        (true, true) => image.entrypoint.iter().chain(&image.command).cloned().collect(),
        (true, false) => image.entrypoint.iter().cloned().chain(args).collect(),
        (false, _) => command.into_iter().chain(args).collect(),
    };
    if all.is_empty() { Err(SpecError::NoCommand) } else { Ok(all) }
}

fn whole_env(container: &Container, parts: Parts<'_>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = parts.image.env.clone();
    let mut set = |name: &str, value: &str, overrides: bool| match all.iter_mut().find(|(own, _)| own == name) {
        Some(entry) if overrides => entry.1 = value.to_owned(),
        Some(_) => {}
        None => all.push((name.to_owned(), value.to_owned())),
    };
    for (name, value) in &parts.env {
        set(name, value, true);
    }
    set("PATH", PATH, false);
    if container.tty == Some(true) {
        set("TERM", "xterm", false);
    }
    all
}

fn id(field: &'static str, value: Option<i64>) -> Result<Option<u32>, SpecError> {
    let convert = |value| u32::try_from(value).map_err(|_| SpecError::Id { field, value });
    value.map(convert).transpose()
}

fn user(pod: &Pod, container: &Container, image: &RunConfig) -> Result<ContainerUser, SpecError> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let mut groups = Vec::new();
    for group in of_pod.supplemental_groups.iter().flatten() {
        groups.extend(id("supplementalGroups", Some(*group))?);
    }
    groups.extend(id("fsGroup", of_pod.fs_group)?);
    Ok(ContainerUser {
        image_user: image.user.clone(),
        uid: id("runAsUser", own.run_as_user.or(of_pod.run_as_user))?,
        gid: id("runAsGroup", own.run_as_group.or(of_pod.run_as_group))?,
        additional_gids: groups,
        must_not_be_root: own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true),
    })
}

fn resources(container: &Container) -> Resources {
    Resources {
        cpu_limit_millis: qos::limit(container, "cpu").map(|amount| amount.milli()),
        cpu_request_millis: qos::request(container, "cpu").or(qos::limit(container, "cpu")).map(|one| one.milli()),
        memory_limit_bytes: qos::limit(container, "memory").map(|amount| amount.units()),
        pids_limit: None,
    }
}

fn seccomp(pod: &Pod, container: &Container) -> Result<Seccomp, SpecError> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.seccomp_profile.as_ref());
    let own = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    match own.or(of_pod).map(|SeccompProfile { type_, .. }| type_.as_str()) {
        Some("Unconfined") => Ok(Seccomp::Unconfined),
        Some("Localhost") => {
            let hint = "profiles are not read from the node; use RuntimeDefault";
            Err(SpecError::Unsupported { field: "seccompProfile of type Localhost", hint })
        }
        _ => Ok(Seccomp::RuntimeDefault),
    }
}

/// The signal of the spec, else the image's; one that doesn't exist counts as none.
fn stop_signal(container: &Container, image: &RunConfig) -> i32 {
    let own = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    own.and_then(signals::number)
        .or_else(|| image.stop_signal.as_deref().and_then(signals::number))
        .unwrap_or(signals::DEFAULT)
}

/// Upstream's preference: what promises least is killed first.
fn oom_score_adj(pod: &Pod, container: &Container, node_memory_bytes: u64) -> i32 {
    match qos::class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = qos::request(container, "memory").or(qos::limit(container, "memory"));
            let share = request.map_or(0, |amount| amount.units());
            let share = u128::from(share) * 1000 / u128::from(node_memory_bytes.max(1));
            1000i32.saturating_sub(i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-1", "namespace": "shop", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    fn made(pod: &Pod, image: &RunConfig) -> Result<ContainerSpec, SpecError> {
        let own = find(pod, "a").unwrap();
        let env = vec![("WHO".to_owned(), "me".to_owned())];
        let parts = Parts { attempt: 2, image, layers: vec![], env, mounts: vec![], node_memory_bytes: 1 << 30 };
        container(pod, &own, parts)
    }

    fn image() -> RunConfig {
        RunConfig {
            entrypoint: vec!["/app".into()],
            command: vec!["serve".into()],
            env: vec![("WHO".into(), "image".into()), ("PATH".into(), "/bin".into())],
            directory: "/srv".into(),
            ..RunConfig::default()
        }
    }

    #[test]
    fn command_and_args_outrank_the_image_as_documented() {
        let args = |spec: serde_json::Value| made(&pod(json!({"containers": [spec]})), &image()).unwrap().args;
        assert_eq!(args(json!({"name": "a"})), ["/app", "serve"]);
        assert_eq!(args(json!({"name": "a", "args": ["hi", "$(WHO)"]})), ["/app", "hi", "me"]);
        assert_eq!(args(json!({"name": "a", "command": ["/x"]})), ["/x"]);
        let none = made(&pod(json!({"containers": [{"name": "a"}]})), &RunConfig::default());
        assert_eq!(none.unwrap_err(), SpecError::NoCommand);
    }

    #[test]
    fn the_spec_outranks_the_image() {
        let spec = made(
            &pod(json!({"containers": [{"name": "a", "workingDir": "/w",
            "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}}}]})),
            &image(),
        )
        .unwrap();
        assert_eq!(spec.env, [("WHO".to_owned(), "me".to_owned()), ("PATH".to_owned(), "/bin".to_owned())]);
        assert_eq!((spec.cwd.to_str(), spec.id.as_str()), (Some("/w"), "a-2"));
        assert_eq!(spec.resources.memory_limit_bytes, Some(512 << 20));
        assert_eq!(spec.resources.cpu_limit_millis, Some(500));
        assert_eq!(spec.oom_score_adj, -997);
    }

    #[test]
    fn the_spec_and_then_the_image_say_what_stops_a_container() {
        let signal = |lifecycle: serde_json::Value, image: Option<&str>| {
            let pod = pod(json!({"containers": [{"name": "a", "command": ["/x"], "lifecycle": lifecycle}]}));
            let image = RunConfig { stop_signal: image.map(str::to_owned), ..RunConfig::default() };
            made(&pod, &image).unwrap().stop_signal
        };
        assert_eq!(signal(json!({}), None), 15);
        assert_eq!(signal(json!({}), Some("SIGQUIT")), 3);
        assert_eq!(signal(json!({}), Some("37")), 37);
        assert_eq!(signal(json!({}), Some("NONSENSE")), 15);
        assert_eq!(signal(json!({"stopSignal": "SIGUSR1"}), Some("SIGQUIT")), 10);
    }

    #[test]
    fn what_would_break_out_is_refused_by_name() {
        let privileged = pod(json!({"containers": [{"name": "a", "securityContext": {"privileged": true}}]}));
        assert!(made(&privileged, &image()).unwrap_err().to_string().contains("securityContext.privileged"));
    }
}
