//! Tells what happens to pods and the node, as Event objects; never holds up what it tells of.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use martello_api::clock;
use tokio::sync::mpsc;

/// Events that wait to be sent; what comes while so many wait is dropped.
const MOST_WAITING: usize = 1_000;
/// Events that are remembered, so that a repeated one is counted instead of told again.
const MOST_REMEMBERED: usize = 1_000;
/// A repeated event is counted at most this often.
const LEAST_APART: Duration = Duration::from_secs(5);
/// A message longer than this is cut, as the API server would refuse it.
const LONGEST_MESSAGE: usize = 1_024;

/// Whether an event tells of something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All is well.
    Normal,
    /// Something is wrong.
    Warning,
}

/// Tells what happens.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    about: About,
    kind: Kind,
    reason: String,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct About {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    field: Option<String>,
}

#[derive(Debug)]
struct Told {
    key: Key,
    at: Timestamp,
}

impl Recorder {
    /// A recorder and the task that sends what it's told; the task ends when all recorders are gone.
    pub fn new(client: kube::Client, node: String) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        (Self { sender }, send_all(client, node, receiver))
    }

    /// Tells of a pod.
    pub fn pod(&self, pod: &Pod, kind: Kind, reason: &str, message: impl Into<String>) {
        self.tell(about_pod(pod, None), kind, reason, message.into());
    }

    /// Tells of a container of a pod.
    pub fn container(&self, pod: &Pod, container: &str, kind: Kind, reason: &str, message: impl Into<String>) {
        self.tell(about_pod(pod, Some(container)), kind, reason, message.into());
    }

    /// Tells of a node.
    pub fn node(&self, node: &str, kind: Kind, reason: &str, message: impl Into<String>) {
        let about =
            About { kind: "Node", namespace: String::new(), name: node.to_owned(), uid: node.to_owned(), field: None };
        self.tell(about, kind, reason, message.into());
    }

    fn tell(&self, about: About, kind: Kind, reason: &str, mut message: String) {
        if message.len() > LONGEST_MESSAGE {
            let cut = (0..=LONGEST_MESSAGE - 3).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        tracing::debug!(namespace = about.namespace, name = about.name, reason, message, "event");
        let key = Key { about, kind, reason: reason.to_owned(), message };
        if self.sender.try_send(Told { key, at: clock::now() }).is_err() {
            tracing::warn!(reason, "an event was dropped because too many wait to be sent");
        }
    }
}

fn about_pod(pod: &Pod, container: Option<&str>) -> About {
    let meta = &pod.metadata;
    let field = container.map(|name| {
        let has = |list: Option<&Vec<k8s_openapi::api::core::v1::Container>>| {
            list.into_iter().flatten().any(|one| one.name == name)
        };
        let spec = pod.spec.as_ref();
        let list = if has(spec.map(|spec| &spec.containers)) {
            "containers"
        } else if has(spec.and_then(|spec| spec.init_containers.as_ref())) {
            "initContainers"
        } else {
            "ephemeralContainers"
        };
        format!("spec.{list}{{{name}}}")
    });
    About {
        kind: "Pod",
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        field,
    }
}

struct Known {
    name: String,
    count: i32,
    counted: Timestamp,
}

async fn send_all(client: kube::Client, node: String, mut receiver: mpsc::Receiver<Told>) {
    let mut known: HashMap<Key, Known> = HashMap::new();
    let mut order: VecDeque<Key> = VecDeque::new();
    while let Some(told) = receiver.recv().await {
        // The one in the cluster-wide scope lives where upstream puts it.
        let namespace = match told.key.about.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        if let Some(before) = known.get_mut(&told.key) {
            before.count = before.count.saturating_add(1);
            if crate::pods::backoff::between(before.counted, told.at) < LEAST_APART {
                continue;
            }
            before.counted = told.at;
            let change = serde_json::json!({
                "count": before.count,
                "lastTimestamp": clock::rfc3339_seconds(told.at),
            });
            match api.patch(&before.name, &PatchParams::default(), &Patch::Merge(change)).await {
                Ok(_) => continue,
                Err(error) => tracing::debug!(%error, "could not count an event; telling it anew"),
            }
        }
        let event = event(&told, &node, namespace);
        let name = event.metadata.name.clone().unwrap_or_default();
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(%error, reason = told.key.reason, "could not record an event");
            continue;
        }
        if known.insert(told.key.clone(), Known { name, count: 1, counted: told.at }).is_none() {
            order.push_back(told.key);
        }
        if order.len() > MOST_REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }
}

fn event(told: &Told, node: &str, namespace: &str) -> Event {
    let about = &told.key.about;
    let time = Time(crate::pods::status::whole_seconds(told.at));
    let version = "v1".to_owned();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", about.name, told.at.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(version),
            kind: Some(about.kind.to_owned()),
            name: Some(about.name.clone()),
            namespace: (!about.namespace.is_empty()).then(|| about.namespace.clone()),
            uid: Some(about.uid.clone()),
            field_path: about.field.clone(),
            ..ObjectReference::default()
        },
        type_: Some(if told.key.kind == Kind::Normal { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(told.key.reason.clone()),
        message: Some(told.key.message.clone()),
        first_timestamp: Some(time.clone()),
        last_timestamp: Some(time),
        count: Some(1),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}
