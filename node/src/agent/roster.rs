//! Watches the pods that are bound to this node and keeps one worker for each.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    context::Context,
    perform::take_down,
    worker::{Message, Worker},
};
use crate::runtime::RuntimeEvent;

/// After what no pod needs couldn't be taken down, it's tried again after this.
const TAKE_DOWN_AGAIN: Duration = Duration::from_secs(5);

/// Namespace and name.
type Name = (String, String);

/// The pods that this node is to run, by namespace and name: what the agent's server looks up.
#[derive(Clone, Default)]
pub struct Pods {
    by_name: Arc<Mutex<HashMap<Name, Arc<Pod>>>>,
}

impl Pods {
    /// The pod of this name, if it's bound to this node.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.by_name.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.by_name.lock().values().cloned().collect()
    }

    fn set(&self, pod: &Arc<Pod>) {
        self.by_name.lock().insert(key(pod), Arc::clone(pod));
    }

    fn remove(&self, pod: &Pod) {
        let mut all = self.by_name.lock();
        // A new pod may have the name by now.
        if all.get(&key(pod)).is_some_and(|own| own.uid() == pod.uid()) {
            all.remove(&key(pod));
        }
    }
}

fn key(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

struct Roster {
    context: Arc<Context>,
    pods: Pods,
    /// How to tell each pod's worker something, by uid.
    workers: HashMap<String, mpsc::UnboundedSender<Message>>,
    tasks: JoinSet<String>,
    /// Uids that the initial list has named so far.
    listed: HashSet<String>,
}

/// Works until told to stop. What runs goes on running then.
pub async fn run(context: Arc<Context>, pods: Pods, shutdown: CancellationToken) {
    let api: Api<Pod> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", context.config.node_name));
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut happenings = context.runtime.events();
    let mut roster = Roster { context, pods, workers: HashMap::new(), tasks: JoinSet::new(), listed: HashSet::new() };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.try_next() => match event {
                Ok(Some(event)) => roster.watched(event).await,
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "the watch of this node's pods was interrupted"),
            },
            happened = happenings.recv() => match happened {
                Ok(RuntimeEvent { pod_uid, event }) => roster.tell(&pod_uid, Message::Runtime(event)),
                Err(RecvError::Lagged(_)) => roster.resync(),
                Err(RecvError::Closed) => return,
            },
            Some(done) = roster.tasks.join_next() => roster.finished(done),
        }
    }
}

impl Roster {
    async fn watched(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.uid());
                self.apply(pod).await;
            }
            Event::InitDone => self.listed_all(),
            Event::Apply(pod) => self.apply(pod).await,
            Event::Delete(pod) => {
                self.pods.remove(&pod);
                self.tell(&pod.uid().unwrap_or_default(), Message::Gone);
            }
        }
    }

    async fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        let pod = Arc::new(pod);
        self.pods.set(&pod);
        if let Some(worker) = self.workers.get(&uid)
            && worker.send(Message::Pod(Arc::clone(&pod))).is_ok()
        {
            return;
        }
        let (worker, sender) = Worker::adopt(Arc::clone(&self.context), pod).await;
        self.workers.insert(uid.clone(), sender);
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    /// The list is complete: what it doesn't name is gone.
    fn listed_all(&mut self) {
        let gone: Vec<String> = self.workers.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
        for uid in gone {
            self.tell(&uid, Message::Gone);
        }
        for pod in self.pods.all() {
            if pod.uid().is_none_or(|uid| !self.listed.contains(&uid)) {
                self.pods.remove(&pod);
            }
        }
        for made in self.context.runtime.pods() {
            if !self.listed.contains(&made.uid) && !self.workers.contains_key(&made.uid) {
                tracing::info!(
                    namespace = made.namespace,
                    name = made.name,
                    uid = made.uid,
                    "taking down a pod that is gone"
                );
                let runtime = Arc::clone(&self.context.runtime);
                tokio::spawn(async move {
                    while let Err(error) = take_down(runtime.as_ref(), &made.uid).await {
                        tracing::warn!(uid = made.uid, error, "a pod that is gone could not be taken down");
                        tokio::time::sleep(TAKE_DOWN_AGAIN).await;
                    }
                });
            }
        }
    }

    fn tell(&self, uid: &str, message: Message) {
        if let Some(worker) = self.workers.get(uid) {
            // A worker that has just finished needs to know nothing more.
            worker.send(message).ok();
        }
    }

    fn resync(&self) {
        for worker in self.workers.values() {
            worker.send(Message::Resync).ok();
        }
    }

    fn finished(&mut self, done: Result<String, tokio::task::JoinError>) {
        match done {
            Ok(uid) => {
                // A worker that was told something after its end is replaced by the next event.
                if self.workers.get(&uid).is_some_and(mpsc::UnboundedSender::is_closed) {
                    self.workers.remove(&uid);
                }
            }
            Err(error) => tracing::error!(%error, "a pod's worker failed"),
        }
    }
}
