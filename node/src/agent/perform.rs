//! Begins what the plan asks for; each action tells what became of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use martello_api::clock;

use super::{
    checks::full,
    context::Context,
    events::Kind,
    publish::{self, Failure},
    sources::{self, Token},
    start::{Start, run_hook},
    worker::Worker,
};
use crate::{
    pods::{
        adopt,
        backoff::between,
        fact::Fact,
        model::Ending,
        plan::{Action, Why},
        sandbox, spec,
    },
    runtime::{Runtime, RuntimeError},
    volumes::{
        payload,
        place::{Placing, Written},
    },
};

/// After a sandbox couldn't be taken down, it's tried again after this.
const STOP_AGAIN: Duration = Duration::from_secs(3);

/// What is remembered of a pod's volumes.
#[derive(Default)]
pub struct Files {
    written: Written,
    tokens: BTreeMap<payload::TokenAsked, Token>,
}

impl Worker {
    pub(super) fn perform(&mut self, action: &Action, now: Timestamp) {
        tracing::debug!(namespace = self.pod.namespace(), name = self.pod.name_any(), ?action, "begin");
        match action {
            Action::StartSandbox => self.start_sandbox(),
            Action::PrepareVolumes => self.prepare_volumes(),
            Action::Start { name } => self.start(name),
            Action::PreStop { name, id, deadline, why } => {
                self.tell_killing(name, why);
                self.pre_stop(name, id, between(now, *deadline));
            }
            Action::Ask { name, id, deadline, why, .. } => {
                self.tell_killing(name, why);
                self.stop(name, id, between(now, *deadline));
            }
            Action::Kill { name, id } => self.stop(name, id, Duration::ZERO),
            Action::EmptyVolumes => self.empty_volumes(),
            Action::StopSandbox => self.stop_sandbox(),
            Action::Remove => self.remove(),
            Action::End(ending) => {
                let message = ending.message.clone();
                self.context.events.pod(&self.pod, Kind::Normal, &ending.reason, message);
            }
            Action::Initialized | Action::Settle => {}
        }
    }

    fn start_sandbox(&mut self) {
        let tell = self.teller();
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let memory = context.allocatable().get("memory").map_or(u64::MAX, |memory| memory.units());
        let spec = match sandbox::sandbox(&pod, &context.config.naming, memory) {
            Ok(spec) => spec,
            Err(error) => {
                let ending = Ending { reason: "Unsupported".to_owned(), message: error.to_string(), grace: None };
                context.events.pod(&pod, Kind::Warning, &ending.reason, ending.message.clone());
                return tell(Fact::Evicted(ending));
            }
        };
        self.tasks.spawn(async move {
            match context.runtime.create_pod(spec).await {
                Ok(made) => tell(Fact::SandboxReady { ips: made.ip.iter().map(ToString::to_string).collect() }),
                Err(error) => {
                    let message = format!("Failed to create pod sandbox: {}", full(&error));
                    context.events.pod(&pod, Kind::Warning, "FailedCreatePodSandBox", message);
                    tell(Fact::SandboxFailed);
                }
            }
        });
    }

    fn prepare_volumes(&mut self) {
        let tell = self.teller();
        let (context, pod, files) = (Arc::clone(&self.context), Arc::clone(&self.pod), Arc::clone(&self.files));
        let ips = self.observed.ips().to_vec();
        self.tasks.spawn(async move {
            match place_volumes(&context, &pod, &ips, &mut *files.lock().await).await {
                Ok(()) => tell(Fact::VolumesReady),
                Err(message) => {
                    context.events.pod(&pod, Kind::Warning, "FailedMount", message);
                    tell(Fact::VolumesFailed);
                }
            }
        });
    }

    /// Brings what the volumes hold up to date, if they are in place.
    pub(super) fn refresh_volumes(&mut self) {
        let has_volumes = self.pod.spec.as_ref().is_some_and(|spec| spec.volumes.iter().flatten().next().is_some());
        let ends = self.observed.settled || self.observed.ending.is_some();
        if self.observed.volumes != crate::pods::model::Stage::Done || !has_volumes || self.gone || ends {
            return;
        }
        let (context, pod, files) = (Arc::clone(&self.context), Arc::clone(&self.pod), Arc::clone(&self.files));
        let ips = self.observed.ips().to_vec();
        self.tasks.spawn(async move {
            if let Err(message) = place_volumes(&context, &pod, &ips, &mut *files.lock().await).await {
                context.events.pod(&pod, Kind::Warning, "FailedMount", message);
            }
        });
    }

    fn start(&mut self, name: &str) {
        let record = self.observed.record(name);
        let tell = self.teller();
        let start = Start {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            ips: self.observed.ips().to_vec(),
            name: name.to_owned(),
            attempt: record.next_attempt(),
            before: record.life.exit().map(|exit| exit.id.clone()).filter(|id| !id.is_empty()),
        };
        self.tasks.spawn(async move { start.run(tell).await });
    }

    fn tell_killing(&self, name: &str, why: &Why) {
        let message = match why {
            Why::PodEnds => format!("Stopping container {name}"),
            Why::Doomed(message) => message.clone(),
            Why::Told => return,
        };
        self.context.events.container(&self.pod, name, Kind::Normal, "Killing", message);
    }

    fn pre_stop(&mut self, name: &str, id: &str, timeout: Duration) {
        let done = Fact::HookDone { name: name.to_owned(), id: id.to_owned() };
        let tell = self.teller();
        let container = spec::find(&self.pod, name);
        let hook = container.as_ref().and_then(|own| own.lifecycle.clone()?.pre_stop);
        let (Some(container), Some(hook)) = (container, hook) else { return tell(done) };
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let (ips, id) = (self.observed.ips().to_vec(), id.to_owned());
        self.tasks.spawn(async move {
            if let Err(why) = run_hook(&context, &pod, &container, &id, &ips, &hook, timeout).await {
                let message = format!("PreStopHook failed: {why}");
                context.events.container(&pod, &container.name, Kind::Warning, "FailedPreStopHook", message);
            }
            tell(done);
        });
    }

    fn stop(&mut self, name: &str, id: &str, grace: Duration) {
        let tell = self.teller();
        let runtime = Arc::clone(&self.context.runtime);
        let (uid, name, id) = (self.pod.uid().unwrap_or_default(), name.to_owned(), id.to_owned());
        self.tasks.spawn(async move {
            match runtime.stop_container(&uid, &id, grace).await {
                Ok(status) => {
                    if let Some(exit) = adopt::exit(&status) {
                        tell(Fact::Ended { name, exit });
                    }
                }
                Err(error) => tracing::warn!(container = id, error = full(&error), "a container did not stop"),
            }
        });
    }

    /// What can't be deleted now is deleted with the pod.
    fn empty_volumes(&mut self) {
        let (runtime, files) = (Arc::clone(&self.context.runtime), Arc::clone(&self.files));
        let uid = self.pod.uid().unwrap_or_default();
        self.tasks.spawn(async move {
            // Not while they are being brought up to date.
            let _files = files.lock().await;
            if let Err(error) = runtime.remove_volumes(&uid).await {
                tracing::warn!(uid, error = full(&error), "the volumes of a pod that has ended are still there");
            }
        });
    }

    fn stop_sandbox(&mut self) {
        let tell = self.teller();
        let runtime = Arc::clone(&self.context.runtime);
        let uid = self.pod.uid().unwrap_or_default();
        self.tasks.spawn(async move {
            while let Err(error) = take_down(runtime.as_ref(), &uid).await {
                tracing::warn!(uid, error, "a pod's sandbox could not be taken down; trying again");
                tokio::time::sleep(STOP_AGAIN).await;
            }
            tell(Fact::SandboxStopped);
        });
    }

    fn remove(&mut self) {
        let tell = self.teller();
        if self.gone {
            return tell(Fact::Removed);
        }
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let status = self.status(clock::now());
        self.tasks.spawn(async move {
            let sent = match publish::send(&context.client, &pod, &status).await {
                Ok(()) => publish::remove(&context.client, &pod).await,
                failed => failed,
            };
            match sent {
                Ok(()) | Err(Failure::Gone) => tell(Fact::Removed),
                Err(Failure::Again(why)) => {
                    tracing::warn!(namespace = pod.namespace(), name = pod.name_any(), why, "pod not removed");
                    tell(Fact::RemovalFailed);
                }
            }
        });
    }
}

/// Ends whatever is left of a pod on this node.
///
/// # Errors
/// Why something is still there.
pub async fn take_down(runtime: &dyn Runtime, uid: &str) -> Result<(), String> {
    match runtime.remove_pod(uid).await {
        Ok(()) | Err(RuntimeError::NoPod { .. }) => {}
        Err(error) => return Err(full(&error)),
    }
    runtime.remove_volumes(uid).await.map_err(|error| full(&error))
}

async fn place_volumes(context: &Context, pod: &Pod, ips: &[String], files: &mut Files) -> Result<(), String> {
    let now = clock::now();
    let namespace = pod.namespace().unwrap_or_default();
    let failed = |volume: &str, why: String| format!("MountVolume.SetUp failed for volume {volume:?} : {why}");
    let found = sources::fetch(context, &namespace, &payload::references(pod)).await;
    let found = found.map_err(|error| format!("MountVolume.SetUp failed: {}", full(&error)))?;
    let tokens = sources::tokens_for(context, pod, &mut files.tokens, now).await;
    let tokens = tokens.map_err(|(volume, error)| failed(&volume, error.full()))?;
    let host_ips = context.config.host_ips();
    let facts = context.facts(ips, &host_ips);
    let placing =
        Placing { runtime: context.runtime.as_ref(), pod, sources: &found, tokens: &tokens, facts: &facts, now };
    placing.place(&mut files.written).await.map_err(|(volume, error)| failed(&volume, error.full()))
}
