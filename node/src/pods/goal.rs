//! What a pod wants on this node, as the plan sees it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

/// What upstream uses where a pod names no grace period.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// When a container is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    Always,
    /// Unless it was zero.
    OnFailure,
    /// Never.
    Never,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// Starts in the order of the init containers and stays.
    Sidecar,
    /// What the pod is for.
    Main,
    /// Was added for debugging; is never restarted.
    Ephemeral,
}

/// A container as the plan sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Unique among all containers of the pod.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// When it is started again.
    pub policy: RestartPolicy,
    /// Exceptions to the policy, by exit code.
    pub rules: Vec<Rule>,
    /// Whether something must be called before it is told to stop.
    pub has_pre_stop: bool,
}

/// One exception to a restart policy (KEP-5307).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether the codes are those that match, or those that don't.
    pub matches: bool,
    /// Exit codes.
    pub codes: Vec<i32>,
}

/// A pod as the plan sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Init containers and sidecars, in order.
    pub init: Vec<Wanted>,
    /// Main containers.
    pub main: Vec<Wanted>,
    /// Debugging containers.
    pub ephemeral: Vec<Wanted>,
    /// The pod's restart policy.
    pub policy: RestartPolicy,
    /// How long containers may take to stop.
    pub grace: Duration,
    /// How long the pod may be active.
    pub active_deadline: Option<Duration>,
    /// Whether it is being deleted, and the grace that the deletion gives.
    pub deletion: Option<Duration>,
}

impl Goal {
    /// Reads what the plan needs from `pod`.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let policy = restart_policy(spec.restart_policy.as_deref()).unwrap_or(RestartPolicy::Always);
        let init = spec.init_containers.iter().flatten().map(|container| init(container, policy)).collect();
        let main = spec.containers.iter().map(|container| wanted(container, Role::Main, policy)).collect();
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| Wanted {
            name: container.name.clone(),
            role: Role::Ephemeral,
            policy: RestartPolicy::Never,
            rules: Vec::new(),
            has_pre_stop: false,
        });
        let deletion = pod.metadata.deletion_timestamp.as_ref().map(|_| {
            let seconds = pod.metadata.deletion_grace_period_seconds.or(spec.termination_grace_period_seconds);
            seconds.map_or(DEFAULT_GRACE, seconds_duration)
        });
        Self {
            init,
            main,
            ephemeral: ephemeral.collect(),
            policy,
            grace: spec.termination_grace_period_seconds.map_or(DEFAULT_GRACE, seconds_duration),
            active_deadline: spec.active_deadline_seconds.map(seconds_duration),
            deletion,
        }
    }

    /// All containers: init, main, ephemeral.
    pub fn all(&self) -> impl Iterator<Item = &Wanted> {
        self.init.iter().chain(&self.main).chain(&self.ephemeral)
    }

    /// The container of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Wanted> {
        self.all().find(|wanted| wanted.name == name)
    }
}

impl Wanted {
    /// Whether it is started again after `exit_code`.
    #[must_use]
    pub fn restarts_after(&self, exit_code: i32) -> bool {
        if self.rules.iter().any(|rule| rule.codes.contains(&exit_code) == rule.matches) {
            return true;
        }
        match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Never => false,
        }
    }
}

fn init(container: &Container, pod: RestartPolicy) -> Wanted {
    match container.restart_policy.as_deref() {
        Some("Always") => Wanted { policy: RestartPolicy::Always, ..wanted(container, Role::Sidecar, pod) },
        _ => {
            let own = wanted(container, Role::Init, pod);
            // An init container that succeeded is done, whatever the pod's policy.
            let policy = if own.policy == RestartPolicy::Always { RestartPolicy::OnFailure } else { own.policy };
            Wanted { policy, ..own }
        }
    }
}

fn wanted(container: &Container, role: Role, pod: RestartPolicy) -> Wanted {
    let lifecycle = container.lifecycle.as_ref();
    Wanted {
        name: container.name.clone(),
        role,
        policy: restart_policy(container.restart_policy.as_deref()).unwrap_or(pod),
        rules: container.restart_policy_rules.iter().flatten().filter_map(rule).collect(),
        has_pre_stop: lifecycle.is_some_and(|lifecycle| lifecycle.pre_stop.is_some()),
    }
}

fn rule(rule: &ContainerRestartRule) -> Option<Rule> {
    let codes = rule.exit_codes.as_ref().filter(|_| rule.action == "Restart")?;
    Some(Rule { matches: codes.operator == "In", codes: codes.values.clone().unwrap_or_default() })
}

fn restart_policy(name: Option<&str>) -> Option<RestartPolicy> {
    match name? {
        "Always" => Some(RestartPolicy::Always),
        "OnFailure" => Some(RestartPolicy::OnFailure),
        "Never" => Some(RestartPolicy::Never),
        _ => None,
    }
}

fn seconds_duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
