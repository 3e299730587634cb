//! Events that a controller tells users about its objects, in the form of upstream's: what is told again is counted.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Api, Client, api::Patch, runtime::events::EventType};
use martello_api::clock;
use serde_json::json;

use super::{patch, post, queue::Chain};

/// Namespace of events about objects that have none.
const DEFAULT_NAMESPACE: &str = "default";
/// Most events, kinds of events and objects that are kept in mind at once, as upstream.
const MAX_KNOWN: usize = 4096;
/// From this many notes of one kind on they are told as one, unless this many seconds passed since the last.
const MANY_SIMILAR: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
/// Events of one object that are told at once, and seconds until one more may be.
const BURST: i64 = 25;
const REFILL_SECONDS: i64 = 300;

/// Publishes events; one that is told again is counted. Clones share it.
#[derive(Clone)]
pub struct EventSink {
    client: Client,
    component: Arc<str>,
    memory: Arc<Mutex<Memory>>,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    /// The name of the event.
    name: String,
    /// How often it was told.
    count: i32,
    /// When it was told first.
    first: Timestamp,
    /// When it was told last.
    last: Timestamp,
    note: String,
}

/// An object, a type and a reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    object: String,
    type_: &'static str,
    reason: String,
}

#[derive(Default)]
struct Memory {
    /// By kind and note; without a note, those that are told as one.
    events: HashMap<(Kind, Option<String>), Told>,
    similar: HashMap<Kind, (HashSet<String>, Timestamp)>,
    /// What may still be told of an object, and when that was counted.
    left: HashMap<String, (i64, Timestamp)>,
}

impl Memory {
    /// The event to write; none where too much was told of the object.
    fn observe(&mut self, kind: Kind, object_name: &str, note: &str, now: Timestamp) -> Option<Told> {
        bound(&mut self.similar, &kind, |(_, last)| *last);
        let (notes, last) = self.similar.entry(kind.clone()).or_insert_with(|| (HashSet::new(), now));
        if now.as_second() - last.as_second() > SIMILAR_SECONDS {
            notes.clear();
        }
        *last = now;
        let combined = notes.len() >= MANY_SIMILAR || {
            notes.insert(note.to_owned());
            notes.len() >= MANY_SIMILAR
        };
        let shown = if combined { format!("(combined from similar events): {note}") } else { note.to_owned() };
        let object = kind.object.clone();
        let event = (kind, (!combined).then(|| note.to_owned()));
        bound(&mut self.events, &event, |told| told.last);
        let told = self.events.entry(event).or_insert_with(|| Told {
            name: format!("{object_name}.{:x}", now.as_nanosecond()),
            count: 0,
            first: now,
            last: now,
            note: String::new(),
        });
        told.count = told.count.saturating_add(1);
        told.last = now;
        told.note = shown;
        let told = told.clone();
        self.may_tell(object, now).then_some(told)
    }

    fn may_tell(&mut self, object: String, now: Timestamp) -> bool {
        bound(&mut self.left, &object, |(_, since)| *since);
        let (left, since) = self.left.entry(object).or_insert((BURST, now));
        let refilled = (now.as_second() - since.as_second()) / REFILL_SECONDS;
        if refilled > 0 {
            *left = (*left + refilled).min(BURST);
            *since = now;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        true
    }
}

/// Makes room for `key`: the oldest is forgotten when too much is known, and then told anew.
fn bound<K: Clone + Eq + Hash, V>(known: &mut HashMap<K, V>, key: &K, time: impl Fn(&V) -> Timestamp) {
    if known.len() < MAX_KNOWN || known.contains_key(key) {
        return;
    }
    let oldest = known.iter().min_by_key(|(_, value)| time(value)).map(|(oldest, _)| oldest.clone());
    if let Some(oldest) = oldest {
        known.remove(&oldest);
    }
}

impl EventSink {
    /// Publishes as `component`.
    #[must_use]
    pub fn new(client: &Client, component: &str) -> Self {
        Self { client: client.clone(), component: component.into(), memory: Arc::default() }
    }

    /// Tells `note` about `object`. An event that cannot be written is logged: it must not hold up the work it tells of.
    pub async fn publish(&self, object: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let now = clock::now();
        let type_ = match type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        let kind = Kind { object: identity(object), type_, reason: reason.to_owned() };
        let name = object.name.as_deref().unwrap_or_default();
        let told = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.observe(kind, name, &note, now)
        };
        let Some(told) = told else { return };
        let namespace = object.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let written = self.write(&api, &told, object, type_, reason, now).await;
        if let Err(error) = written {
            tracing::debug!(namespace, name, reason, error = %Chain(&error), "event was not written");
        }
    }

    async fn write(
        &self,
        api: &Api<Event>,
        told: &Told,
        object: &ObjectReference,
        type_: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        if told.count > 1 {
            let body = json!({"count": told.count, "lastTimestamp": clock::rfc3339_seconds(now), "message": told.note});
            match api.patch(&told.name, &patch(), &Patch::Strategic(body)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = Event {
            metadata: ObjectMeta {
                name: Some(told.name.clone()),
                namespace: Some(object.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())),
                ..ObjectMeta::default()
            },
            involved_object: object.clone(),
            reason: Some(reason.to_owned()),
            message: Some(told.note.clone()),
            source: Some(EventSource { component: Some(self.component.to_string()), host: None }),
            first_timestamp: Some(Time(told.first)),
            last_timestamp: Some(Time(now)),
            count: Some(told.count),
            type_: Some(type_.to_owned()),
            reporting_component: Some(self.component.to_string()),
            ..Event::default()
        };
        api.create(&post(), &event).await.map(drop)
    }
}

fn identity(object: &ObjectReference) -> String {
    let parts = [&object.api_version, &object.kind, &object.namespace, &object.name, &object.uid, &object.field_path];
    parts.map(|part| part.as_deref().unwrap_or_default()).join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn kind(object: &str) -> Kind {
        Kind { object: object.to_owned(), type_: "Warning", reason: "Failed".to_owned() }
    }

    #[test]
    fn what_is_told_again_is_counted() {
        let mut memory = Memory::default();
        let first = memory.observe(kind("a"), "a", "no", at(1)).unwrap();
        let again = memory.observe(kind("a"), "a", "no", at(2)).unwrap();
        assert_eq!((first.count, again.count), (1, 2));
        assert_eq!((&first.name, first.first), (&again.name, again.first));
        assert_eq!(memory.observe(kind("a"), "a", "yes", at(3)).unwrap().count, 1);
        assert_eq!(memory.observe(kind("b"), "b", "no", at(3)).unwrap().count, 1);
    }

    #[test]
    fn many_of_a_kind_are_told_as_one() {
        let mut memory = Memory::default();
        let told: Vec<Told> =
            (0..12).filter_map(|at_| memory.observe(kind("a"), "a", &format!("no {at_}"), at(at_))).collect();
        let combined: Vec<&Told> = told.iter().filter(|told| told.note.starts_with("(combined from")).collect();
        assert_eq!(combined.len(), 3);
        assert_eq!(combined.last().map(|told| told.count), Some(3));
        assert!(!memory.observe(kind("a"), "a", "no 99", at(1000)).unwrap().note.starts_with("(combined"));
    }

    #[test]
    fn of_too_much_the_oldest_is_forgotten() {
        let mut memory = Memory::default();
        let mut told = |object: i64, second| {
            let name = object.to_string();
            memory.observe(kind(&name), &name, "no", at(second)).unwrap().count
        };
        assert!((0..4196).all(|object| told(object, object) == 1));
        assert_eq!([100, 4195, 99].map(|object| told(object, 4196)), [2, 2, 1]);
        assert_eq!((memory.events.len(), memory.similar.len(), memory.left.len()), (4096, 4096, 4096));
    }

    #[test]
    fn an_object_is_told_of_so_often() {
        let mut memory = Memory::default();
        let told = (0..100).filter(|_| memory.observe(kind("a"), "a", "no", at(1)).is_some()).count();
        assert_eq!(told, 25);
        assert!(memory.observe(kind("a"), "a", "no", at(302)).is_some());
        assert!(memory.observe(kind("a"), "a", "no", at(302)).is_none());
    }
}
