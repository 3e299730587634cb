//! Runs the probes of one running container until it is told to stop.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use kube::ResourceExt as _;
use tokio::time::{MissedTickBehavior, interval_at};

use super::{
    checks::{Check, Place},
    context::Context,
    events::Kind,
};
use crate::pods::{
    fact::Fact,
    model::Doom,
    probe::{Purpose, Rhythm, Tally},
};

/// A run of a container, to be probed.
pub struct Probed {
    /// Shared by the agent.
    pub context: Arc<Context>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container.
    pub container: Container,
    /// Its run.
    pub id: String,
    /// The pod's addresses.
    pub ips: Vec<String>,
    /// How long the run lasts already.
    pub age: Duration,
    /// Whether its startup probe has succeeded.
    pub started: bool,
    /// Whether it was found ready.
    pub ready: bool,
}

impl Probed {
    /// Probes until dropped; returns when the container must end.
    pub async fn run(self, tell: impl Fn(Fact) + Sync) {
        if let Some(probe) = self.container.startup_probe.as_ref().filter(|_| !self.started)
            && !self.startup(probe, &tell).await
        {
            return;
        }
        let readiness = async {
            match &self.container.readiness_probe {
                Some(probe) => self.readiness(probe, &tell).await,
                None => futures::future::pending().await,
            }
        };
        let liveness = async {
            match &self.container.liveness_probe {
                Some(probe) => self.liveness(probe, &tell).await,
                None => futures::future::pending().await,
            }
        };
        tokio::select! {
            () = readiness => {}
            () = liveness => {}
        }
    }

    /// Probes until the container has started; false if it must end.
    async fn startup(&self, probe: &Probe, tell: &impl Fn(Fact)) -> bool {
        let mut tally = Tally::new(Rhythm::of(probe), false);
        let mut ticks = self.ticks(probe);
        loop {
            ticks.tick().await;
            let Some(success) = self.look(Purpose::Startup, probe).await else { return true };
            match tally.count(success) {
                Some(true) => {
                    tell(Fact::StartupPassed { name: self.container.name.clone(), id: self.id.clone() });
                    return true;
                }
                Some(false) => {
                    tell(self.doomed(Purpose::Startup, probe));
                    return false;
                }
                None => {}
            }
        }
    }

    async fn readiness(&self, probe: &Probe, tell: &impl Fn(Fact)) {
        let mut tally = Tally::new(Rhythm::of(probe), self.ready);
        let mut believed = self.ready;
        let mut ticks = self.ticks(probe);
        loop {
            ticks.tick().await;
            let Some(success) = self.look(Purpose::Readiness, probe).await else { return };
            if tally.count(success).is_some_and(|ready| ready != believed) {
                believed = tally.healthy();
                let (name, id) = (self.container.name.clone(), self.id.clone());
                tell(Fact::Readiness { name, id, ready: believed });
            }
        }
    }

    async fn liveness(&self, probe: &Probe, tell: &impl Fn(Fact)) {
        let mut tally = Tally::new(Rhythm::of(probe), true);
        let mut ticks = self.ticks(probe);
        loop {
            ticks.tick().await;
            let Some(success) = self.look(Purpose::Liveness, probe).await else { return };
            if tally.count(success) == Some(false) {
                return tell(self.doomed(Purpose::Liveness, probe));
            }
        }
    }

    fn ticks(&self, probe: &Probe) -> tokio::time::Interval {
        let rhythm = Rhythm::of(probe);
        let first = tokio::time::Instant::now() + rhythm.initial.saturating_sub(self.age);
        let mut ticks = interval_at(first, rhythm.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    fn doomed(&self, purpose: Purpose, probe: &Probe) -> Fact {
        let grace = probe.termination_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let name = self.container.name.clone();
        let message = format!("Container {name} failed {} probe, will be restarted", purpose.as_str().to_lowercase());
        Fact::Doomed { name, id: self.id.clone(), doom: Doom { grace: grace.map(Duration::from_secs), message } }
    }

    /// Looks once; nothing if the probe names no way to look.
    async fn look(&self, purpose: Purpose, probe: &Probe) -> Option<bool> {
        let check = match (&probe.exec, &probe.http_get, &probe.tcp_socket, &probe.grpc) {
            (Some(action), _, _, _) => Check::Exec(action.clone()),
            (None, Some(action), _, _) => Check::Http(action.clone()),
            (None, None, Some(action), _) => Check::Tcp(action.clone()),
            (None, None, None, Some(action)) => Check::Grpc(action.clone()),
            (None, None, None, None) => return None,
        };
        let uid = self.pod.uid().unwrap_or_default();
        let place = Place {
            runtime: self.context.runtime.as_ref(),
            pod_uid: &uid,
            container_id: &self.id,
            container: &self.container,
            ip: self.ips.first().and_then(|ip| ip.parse().ok()),
        };
        let answer = check.look(&place, Rhythm::of(probe).timeout).await;
        if let Err(why) = &answer {
            let message = format!("{} probe failed: {why}", purpose.as_str());
            self.context.events.container(&self.pod, &self.container.name, Kind::Warning, "Unhealthy", message);
        }
        Some(answer.is_ok())
    }
}
