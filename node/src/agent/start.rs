//! Starts one container: its environment, its image, the verdict on it, its process, its first hook.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use kube::ResourceExt as _;
use martello_api::clock;

use super::{
    checks::{Check, Place, full},
    context::Context,
    events::Kind,
    inventories, sources,
};
use crate::{
    images::{ImageError, NOT_INVENTORIED, PullPolicy, Ready, Request},
    pods::{
        adopt,
        env::{self, EnvError},
        fact::Fact,
        model::{Doom, Exit},
        spec::{self, Parts},
    },
    runtime::{ContainerState, RuntimeError},
    volumes::mounts::{self, Places},
};

/// A container that is to be started.
pub struct Start {
    /// Shared by the agent.
    pub context: Arc<Context>,
    /// Its pod.
    pub pod: Arc<Pod>,
    /// The pod's addresses.
    pub ips: Vec<String>,
    /// Its name.
    pub name: String,
    /// Which start it is.
    pub attempt: u32,
    /// The run before, whose writable layer may go.
    pub before: Option<String>,
}

/// Why a container wasn't started: reason and message as clients see them.
struct Refused {
    reason: &'static str,
    message: String,
}

impl Refused {
    fn config(error: impl std::fmt::Display) -> Self {
        Self { reason: "CreateContainerConfigError", message: error.to_string() }
    }
}

/// What failed of the image was told when it failed.
const TOLD_ALREADY: [&str; 3] = ["ErrImagePull", "ErrImageNeverPull", "InvalidImageName"];

/// Hooks that name no limit of their own may take this long.
const LONGEST_HOOK: Duration = Duration::from_secs(600);

impl Start {
    /// Starts it and passes on what happened.
    pub async fn run(self, tell: impl Fn(Fact)) {
        let Some(container) = spec::find(&self.pod, &self.name) else { return };
        let (ready, spec) = match self.prepare(&container).await {
            Ok(prepared) => prepared,
            Err(refused) => {
                let said = format!("Error: {}", refused.message);
                if refused.reason == NOT_INVENTORIED {
                    self.event(Kind::Warning, NOT_INVENTORIED, refused.message.clone());
                } else if !TOLD_ALREADY.contains(&refused.reason) {
                    self.event(Kind::Warning, "Failed", said);
                }
                let reason = refused.reason.to_owned();
                return tell(Fact::Refused { name: self.name, reason, message: refused.message });
            }
        };
        let uid = self.pod.uid().unwrap_or_default();
        if let Some(before) = &self.before
            && let Err(error) = self.context.runtime.remove_container(&uid, before).await
        {
            tracing::debug!(name = self.pod.name_any(), container = before, error = full(&error), "not removed");
        }
        let id = spec.id.clone();
        match self.context.runtime.start_container(&uid, spec).await {
            Ok(status) => {
                let (ContainerState::Running { started_at, .. } | ContainerState::Exited { started_at, .. }) =
                    status.state;
                self.event(Kind::Normal, "Created", format!("Created container: {}", self.name));
                self.event(Kind::Normal, "Started", format!("Started container {}", self.name));
                tell(Fact::Started {
                    name: self.name.clone(),
                    id: id.clone(),
                    image_id: ready.id,
                    started_at,
                    waits_for_startup: container.startup_probe.is_some(),
                    waits_for_readiness: container.readiness_probe.is_some(),
                });
                if let (ContainerState::Exited { .. }, Some(exit)) = (&status.state, adopt::exit(&status)) {
                    return tell(Fact::Ended { name: self.name, exit });
                }
                self.post_start(&container, &id, &tell).await;
            }
            Err(RuntimeError::Unprepared { message }) => {
                self.event(Kind::Warning, "Failed", format!("Error: {message}"));
                let reason = "CreateContainerConfigError".to_owned();
                tell(Fact::Refused { name: self.name, reason, message });
            }
            Err(error) => {
                let message = full(&error);
                self.event(Kind::Warning, "Failed", format!("Error: {message}"));
                let finished_at = clock::now();
                let reason = "StartError".to_owned();
                let exit = Exit { id, code: 128, reason, message, started_at: None, finished_at };
                tell(Fact::Ended { name: self.name, exit });
            }
        }
    }

    async fn prepare(&self, container: &Container) -> Result<(Ready, crate::runtime::ContainerSpec), Refused> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let found = sources::fetch(&self.context, &namespace, &env::references(container)).await;
        let found = found.map_err(Refused::config)?;
        let host_ips = self.context.config.host_ips();
        let facts = self.context.facts(&self.ips, &host_ips);
        let made = env::environment(&self.pod, container, &found, &facts);
        let env = made.map_err(|error: EnvError| Refused::config(error))?;
        let ready = self.image(container).await?;
        let verdict = self.context.images.verdict(&ready.digest).await;
        verdict.map_err(|why| Refused { reason: NOT_INVENTORIED, message: why })?;
        let uid = self.pod.uid().unwrap_or_default();
        let unpacked = self.context.runtime.unpack_image(&uid, &ready.layers).await;
        let unpacked = unpacked.map_err(|error| Refused { reason: "CreateContainerError", message: full(&error) })?;
        let places = Places::of(&self.context.runtime.info(), &uid);
        let mounts = mounts::mounts(&self.pod, container, &places, &env);
        let mounts = mounts.map_err(|error| Refused::config(error.full()))?;
        let parts = Parts {
            attempt: self.attempt,
            image: &ready.config,
            layers: unpacked,
            env,
            mounts,
            node_memory_bytes: self.context.machine.memory_bytes,
        };
        let spec = spec::container(&self.pod, container, parts).map_err(Refused::config)?;
        Ok((ready, spec))
    }

    async fn image(&self, container: &Container) -> Result<Ready, Refused> {
        let image = container.image.clone().unwrap_or_default();
        let credentials = sources::credentials(&self.context, &self.pod).await.map_err(Refused::config)?;
        let policy = PullPolicy::of(container.image_pull_policy.as_deref(), &image);
        let request = Request { reference: image.clone(), policy, credentials };
        if self.context.images.will_pull(&request).await {
            self.event(Kind::Normal, "Pulling", format!("Pulling image {image:?}"));
        }
        match self.context.images.ensure(request).await {
            Ok(ready) => {
                let message = match ready.pulled {
                    Some(pulled) => format!(
                        "Successfully pulled image {image:?} in {0}ms ({0}ms including waiting). Image size: {1} bytes.",
                        pulled.took.as_millis(),
                        pulled.bytes
                    ),
                    None => {
                        format!("Container image {image:?} already present on machine and can be accessed by the pod")
                    }
                };
                self.event(Kind::Normal, "Pulled", message);
                inventories::publish(&self.context, &ready.digest);
                Ok(ready)
            }
            Err(error) => {
                let said = match &error {
                    ImageError::Pull(why) => format!("Failed to pull image {image:?}: {why}"),
                    other => other.to_string(),
                };
                if !matches!(error, ImageError::Refused(_)) {
                    let reason = if matches!(error, ImageError::Never { .. }) { error.reason() } else { "Failed" };
                    self.event(Kind::Warning, reason, said);
                    self.event(Kind::Warning, "Failed", format!("Error: {}", error.reason()));
                }
                Err(Refused { reason: error.reason(), message: error.to_string() })
            }
        }
    }

    async fn post_start(&self, container: &Container, id: &str, tell: &impl Fn(Fact)) {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return };
        let ran = run_hook(&self.context, &self.pod, container, id, &self.ips, hook, LONGEST_HOOK).await;
        let Err(why) = ran else { return };
        self.event(Kind::Warning, "FailedPostStartHook", format!("PostStartHook failed: {why}"));
        let doom = Doom { grace: None, message: "FailedPostStartHook".to_owned() };
        tell(Fact::Doomed { name: self.name.clone(), id: id.to_owned(), doom });
    }

    fn event(&self, kind: Kind, reason: &str, message: String) {
        self.context.events.container(&self.pod, &self.name, kind, reason, message);
    }
}

/// Runs a hook of a container to its end, or until `timeout`.
///
/// # Errors
/// Why it failed.
pub async fn run_hook(
    context: &Context,
    pod: &Pod,
    container: &Container,
    id: &str,
    ips: &[String],
    hook: &LifecycleHandler,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        let pause = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(pause.min(timeout)).await;
        return Ok(());
    }
    let check = match (&hook.exec, &hook.http_get, &hook.tcp_socket) {
        (Some(action), _, _) => Check::Exec(action.clone()),
        (None, Some(action), _) => Check::Http(action.clone()),
        (None, None, Some(action)) => Check::Tcp(action.clone()),
        (None, None, None) => return Ok(()),
    };
    let uid = pod.uid().unwrap_or_default();
    let place = Place {
        runtime: context.runtime.as_ref(),
        pod_uid: &uid,
        container_id: id,
        container,
        ip: ips.first().and_then(|ip| ip.parse().ok()),
    };
    check.look(&place, timeout).await
}
