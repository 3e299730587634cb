//! One task per pod: takes note of what happens, asks the plan what to do, and begins it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::ResourceExt as _;
use martello_api::clock;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};

use super::{context::Context, events::Kind, perform::Files, probes::Probed, publish, storage};
use crate::{
    pods::{
        adopt,
        backoff::{between, later},
        fact::Fact,
        model::{Exit, Goal, Life, Observed, Sandbox, Stage},
        plan::{Action, Plan, plan},
        spec, status,
        storage::Limits,
    },
    runtime::{ContainerStatus, PodEvent},
    server::logs,
};

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// The pod's object as it is now.
    Pod(Arc<Pod>),
    /// The pod's object is gone.
    Gone,
    /// Something happened to what this worker began.
    Fact(Fact),
    /// Something happened in the runtime.
    Runtime(PodEvent),
    /// Events of the runtime may have been missed.
    Resync,
    /// The status was sent, or couldn't be.
    Published(Result<Box<PodStatus>, publish::Failure>),
}

/// After a status couldn't be sent, it's tried again after this.
const PUBLISH_AGAIN: Duration = Duration::from_secs(2);
/// What of a log becomes a message, as upstream's limits.
const LAST_WORDS_LINES: usize = 80;
const LAST_WORDS_BYTES: usize = 2048;

/// One pod's task.
pub struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    pub(super) goal: Goal,
    pub(super) observed: Observed,
    pub(super) tasks: JoinSet<()>,
    pub(super) files: Arc<tokio::sync::Mutex<Files>>,
    pub(super) gone: bool,
    sender: mpsc::UnboundedSender<Message>,
    receiver: mpsc::UnboundedReceiver<Message>,
    probes: HashMap<String, (String, AbortHandle)>,
    shown: PodStatus,
    sending: bool,
    send_after: Option<Timestamp>,
}

impl Worker {
    /// A worker for `pod`, of which the runtime may know already, and the way to tell it things.
    pub async fn adopt(context: Arc<Context>, pod: Arc<Pod>) -> (Self, mpsc::UnboundedSender<Message>) {
        let uid = pod.uid().unwrap_or_default();
        let made = context.runtime.pods().into_iter().find(|made| made.uid == uid);
        let found = match &made {
            Some(_) => context.runtime.containers(&uid).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let goal = Goal::of(&pod);
        let observed = adopt::adopt(&pod, &goal, made.as_ref(), &found, clock::now());
        let (sender, receiver) = mpsc::unbounded_channel();
        let worker = Self {
            shown: pod.status.clone().unwrap_or_default(),
            context,
            pod,
            goal,
            observed,
            tasks: JoinSet::new(),
            files: Arc::default(),
            gone: false,
            sender: sender.clone(),
            receiver,
            probes: HashMap::new(),
            sending: false,
            send_after: None,
        };
        (worker, sender)
    }

    /// Works until the pod is gone from the node and from the API server.
    pub async fn run(mut self) {
        let refresh = self.context.config.refresh;
        let mut refreshes = tokio::time::interval_at(Instant::now() + refresh, refresh);
        refreshes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.observed.volumes == Stage::Done {
            self.refresh_volumes();
        }
        self.watch_storage();
        loop {
            let now = clock::now();
            let plan = self.step(now);
            if self.observed.sandbox == Sandbox::Gone && (self.gone || self.observed.removal == Stage::Done) {
                return;
            }
            let wake = [plan.wake, self.send_after].into_iter().flatten().min();
            let pause = wake.map_or(refresh, |wake| between(now, wake));
            tokio::select! {
                message = self.receiver.recv() => {
                    let Some(message) = message else { return };
                    self.take(message);
                    while let Ok(message) = self.receiver.try_recv() {
                        self.take(message);
                    }
                }
                () = tokio::time::sleep(pause) => {}
                _ = refreshes.tick() => self.refresh_volumes(),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    /// Limits of what is stored don't change while a pod runs.
    fn watch_storage(&mut self) {
        let limits = Limits::of(&self.pod);
        if !limits.is_empty() && !self.observed.settled {
            let (context, pod, tell) = (Arc::clone(&self.context), Arc::clone(&self.pod), self.teller());
            self.tasks.spawn(storage::watch(context, pod, limits, tell));
        }
    }

    /// Begins what is due, and shows what is new.
    fn step(&mut self, now: Timestamp) -> Plan {
        self.observed.note(&self.goal, now);
        let mut plan = plan(&self.goal, &self.observed, now);
        for action in &plan.actions {
            // That it has ended is told by itself, before what ended is put away: clients wait for either.
            if matches!(action, Action::Settle) && self.is_telling(now) {
                plan.wake = None;
                break;
            }
            self.perform(action, now);
            self.observed.begin(action, now);
        }
        self.tend_probes(now);
        self.show(now);
        plan
    }

    fn take(&mut self, message: Message) {
        let now = clock::now();
        match message {
            Message::Pod(pod) => {
                self.goal = Goal::of(&pod);
                self.pod = pod;
            }
            Message::Gone => {
                self.gone = true;
                // Nobody waits for a grace that nobody gave.
                self.goal.deletion = Some(Duration::ZERO);
            }
            Message::Fact(fact) => self.observed.apply(fact, &self.goal, now),
            Message::Runtime(PodEvent::Container(status)) => self.ended(&status, now),
            Message::Runtime(PodEvent::Lost) => {
                let message = "Pod sandbox changed, it will be killed and re-created.";
                self.context.events.pod(&self.pod, Kind::Normal, "SandboxChanged", message);
                self.observed.apply(Fact::SandboxLost, &self.goal, now);
            }
            Message::Resync => self.resync(),
            Message::Published(result) => self.published(result, now),
        }
    }

    fn ended(&mut self, status: &ContainerStatus, now: Timestamp) {
        let Some(mut exit) = adopt::exit(status) else { return };
        self.add_last_words(status, &mut exit);
        self.observed.apply(Fact::Ended { name: status.name.clone(), exit }, &self.goal, now);
    }

    fn add_last_words(&self, status: &ContainerStatus, exit: &mut Exit) {
        let container = spec::find(&self.pod, &status.name);
        let policy = container.and_then(|container| container.termination_message_policy);
        if policy.as_deref() == Some("FallbackToLogsOnError") && exit.code != 0 && exit.message.is_empty() {
            exit.message = logs::last_words(&status.log_path, LAST_WORDS_LINES, LAST_WORDS_BYTES);
        }
    }

    fn resync(&mut self) {
        let (runtime, sender) = (Arc::clone(&self.context.runtime), self.sender.clone());
        let uid = self.pod.uid().unwrap_or_default();
        self.tasks.spawn(async move {
            for status in runtime.containers(&uid).await.unwrap_or_default() {
                // Nobody listens any more when the pod is gone.
                sender.send(Message::Runtime(PodEvent::Container(status))).ok();
            }
        });
    }

    /// A way for what was begun to tell what happened.
    pub(super) fn teller(&self) -> impl Fn(Fact) + Send + Sync + Clone + 'static {
        let sender = self.sender.clone();
        move |fact| {
            // Nobody listens any more when the pod is gone.
            sender.send(Message::Fact(fact)).ok();
        }
    }

    /// One task for each run that has probes; none for runs that end.
    fn tend_probes(&mut self, now: Timestamp) {
        let observed = &self.observed;
        self.probes.retain(|name, (id, handle)| {
            let runs = matches!(&observed.record(name).life, Life::Running(run) if run.id == *id);
            if !runs {
                handle.abort();
            }
            runs
        });
        for (name, record) in &self.observed.containers {
            let Life::Running(run) = &record.life else { continue };
            let Some(container) = spec::find(&self.pod, name).filter(|_| !self.probes.contains_key(name)) else {
                continue;
            };
            let probes = [&container.startup_probe, &container.readiness_probe, &container.liveness_probe];
            if record.doom.is_some() || probes.iter().all(|probe| probe.is_none()) {
                continue;
            }
            let probed = Probed {
                context: Arc::clone(&self.context),
                pod: Arc::clone(&self.pod),
                container,
                id: run.id.clone(),
                ips: self.observed.ips().to_vec(),
                age: between(run.started_at, now),
                started: record.started,
                ready: record.ready,
            };
            let tell = self.teller();
            let handle = self.tasks.spawn(async move { probed.run(tell).await });
            self.probes.insert(name.clone(), (run.id.clone(), handle));
        }
    }

    /// Whether a status is on its way, this one too if it has changed. When it has arrived the pod is looked at again.
    fn is_telling(&mut self, now: Timestamp) -> bool {
        self.show(now);
        self.sending
    }

    /// Sends the status if it has changed; one at a time.
    fn show(&mut self, now: Timestamp) {
        if self.send_after.is_some_and(|after| after <= now) {
            self.send_after = None;
        }
        if self.sending || self.gone || self.send_after.is_some() || self.observed.removal != Stage::Pending {
            return;
        }
        let status = self.status(now);
        if status == self.shown {
            return;
        }
        publish::tell_backoffs(&self.context.events, &self.pod, &self.shown, &status);
        self.shown = status.clone();
        self.sending = true;
        let (context, pod, sender) = (Arc::clone(&self.context), Arc::clone(&self.pod), self.sender.clone());
        self.tasks.spawn(async move {
            let result = publish::send(&context.client, &pod, &status).await.map(|()| Box::new(status));
            sender.send(Message::Published(result)).ok();
        });
    }

    /// The status as it is now; a condition's time stays while it doesn't change.
    pub(super) fn status(&self, now: Timestamp) -> PodStatus {
        let mut pod = Pod { metadata: self.pod.metadata.clone(), spec: self.pod.spec.clone(), status: None };
        let mut before = self.shown.clone();
        publish::join_foreign_conditions(&mut before, self.pod.status.as_ref());
        pod.status = Some(before);
        status::status(&pod, &self.goal, &self.observed, &self.context.config.host_ips(), now)
    }

    fn published(&mut self, result: Result<Box<PodStatus>, publish::Failure>, now: Timestamp) {
        self.sending = false;
        match result {
            Ok(_) => {}
            Err(publish::Failure::Gone) => {}
            Err(publish::Failure::Again(why)) => {
                tracing::warn!(namespace = self.pod.namespace(), name = self.pod.name_any(), why, "status not sent");
                // What was shown is not known any more: the next comparison must differ.
                self.shown.phase = None;
                self.send_after = Some(later(now, PUBLISH_AGAIN));
            }
        }
    }
}
