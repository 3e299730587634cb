//! How long events last: so long after they were last written, whatever dates their writers gave them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use martello_api::clock;
use serde_json::Value;

use crate::{
    registry::object,
    store::{Entry, Event, EventKind, Expect, Key, Op},
};

/// What tells beside a stored event when it was written, in milliseconds of the Unix clock. No field has such a name.
const WRITTEN: &str = "written()";

/// The mark of an event that is written `now`, for what is kept beside it.
#[must_use]
pub fn mark(now: Timestamp) -> (String, String) {
    (WRITTEN.to_owned(), now.as_millisecond().to_string())
}

/// The mark of an event that is written at this moment.
#[must_use]
pub fn mark_now() -> (String, String) {
    mark(clock::now())
}

/// When the events that there are end, in the order in which they were written. It holds one place for each event, never
/// reads what events say, and looks at nothing that isn't due.
#[derive(Debug)]
pub struct Lifetimes {
    /// How long an event lasts, in milliseconds.
    last: i64,
    /// By the revision that wrote the event: which it is, and when it ends.
    events: BTreeMap<u64, (Key, i64)>,
}

impl Lifetimes {
    /// Of no events yet, each of which lasts so many milliseconds.
    #[must_use]
    pub fn new(last_ms: i64) -> Self {
        Self { last: last_ms, events: BTreeMap::new() }
    }

    /// Notes an event as it is in the store.
    pub fn note(&mut self, entry: &Entry, now: Timestamp) {
        let ends = written(entry, now).saturating_add(self.last);
        self.events.insert(entry.revision, (entry.key.clone(), ends));
    }

    /// Notes what happened to an event: it is written anew, or gone.
    pub fn follow(&mut self, change: &Event, now: Timestamp) {
        if let Some(previous) = &change.previous {
            self.events.remove(&previous.revision);
        }
        if change.kind != EventKind::Deleted {
            self.note(&change.entry, now);
        }
    }

    /// Brings ends that were noted while the clock was ahead back to as long from `now` as any event lasts: what is behind them
    /// would wait for them.
    pub fn heed(&mut self, now: Timestamp) {
        let latest = now.as_millisecond().saturating_add(self.last);
        if self.events.values().next().is_some_and(|(_, ends)| *ends > latest) {
            for (_, ends) in self.events.values_mut() {
                *ends = (*ends).min(latest);
            }
        }
    }

    /// When the next event ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Timestamp> {
        let (_, ends) = self.events.values().next()?;
        Some(Timestamp::from_millisecond(*ends).unwrap_or(Timestamp::MAX))
    }

    /// The events that have ended, `most` of them at most, as what removes them unless they were written again.
    #[must_use]
    pub fn ended(&self, now: Timestamp, most: usize) -> Vec<Op> {
        let ended = self.events.iter().take_while(|(_, (_, ends))| *ends <= now.as_millisecond()).take(most);
        ended.map(|(&revision, (key, _))| Op::Delete { key: key.clone(), expect: Expect::Revision(revision) }).collect()
    }
}

/// When an event was written. No event is of the future: the clock may have been set back since.
fn written(entry: &Entry, now: Timestamp) -> i64 {
    let now = now.as_millisecond();
    let marked = entry.fields.get(WRITTEN).and_then(|mark| mark.parse().ok());
    marked.or_else(|| created(entry)).map_or(now, |written: i64| written.min(now))
}

/// When an event without a mark was made: versions before marks did not write any.
fn created(entry: &Entry) -> Option<i64> {
    let metadata: Value = serde_json::from_slice(&entry.metadata()?).ok()?;
    let created: Timestamp = object::text(&metadata, &["creationTimestamp"]).parse().ok()?;
    Some(created.as_millisecond())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::store::{Body, ListAt, MemoryStore, Object, Page, Pairs, Resource, Scope, Store};

    const HOUR: i64 = 3_600_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn key(name: &str) -> Key {
        Key::new(&Resource::new("", "events"), "default", name)
    }

    fn event(name: &str, fields: Option<(String, String)>, says: &str) -> Op {
        let json = json!({"metadata": {"creationTimestamp": says}, "lastTimestamp": says, "eventTime": says});
        let body = Body::json(&Bytes::from(json.to_string())).unwrap();
        let object = Object { uid: name.into(), labels: Pairs::default(), fields: Pairs::from_iter(fields), body };
        Op::Put { key: key(name), object, expect: Expect::Any }
    }

    fn names(ops: &[Op]) -> Vec<&str> {
        ops.iter().map(|op| op.key().name()).collect()
    }

    /// All events of a store, as a server that starts notes them.
    async fn learned(store: &MemoryStore, now: Timestamp) -> Lifetimes {
        let scope = Scope::all(&Resource::new("", "events"));
        let mut lifetimes = Lifetimes::new(HOUR);
        for entry in store.list(&scope, ListAt::Latest, Page::default()).await.unwrap().items {
            lifetimes.note(&entry, now);
        }
        lifetimes
    }

    #[tokio::test]
    async fn an_event_ends_so_long_after_it_was_written_whatever_it_says() {
        let store = MemoryStore::default();
        for (minute, name, says) in
            [(0, "past", "1970-01-01T00:00:00Z"), (1, "future", "9999-12-31T23:59:59Z"), (2, "vague", "soon")]
        {
            store.commit(vec![event(name, Some(mark(at(minute))), says)]).await.unwrap();
        }
        let lifetimes = learned(&store, at(10)).await;
        assert_eq!(lifetimes.next_end(), Some(at(60)));
        assert!(lifetimes.ended(at(59), 9).is_empty());
        assert_eq!(names(&lifetimes.ended(at(60), 9)), ["past"]);
        assert_eq!(names(&lifetimes.ended(at(62), 9)), ["past", "future", "vague"]);
        assert_eq!(names(&lifetimes.ended(at(62), 2)), ["past", "future"], "so many at once and no more");
    }

    #[tokio::test]
    async fn a_write_renews_an_event_and_a_removal_that_comes_late_does_nothing() {
        let store = MemoryStore::default();
        let mut watch = store.watch(&Scope::all(&Resource::new("", "events")), 1).await.unwrap();
        let mut lifetimes = Lifetimes::new(HOUR);
        for (minute, name) in [(0, "renewed"), (1, "once")] {
            store.commit(vec![event(name, Some(mark(at(minute))), "")]).await.unwrap();
        }
        for change in watch.next().await.unwrap().events {
            lifetimes.follow(&change, at(1));
        }
        let late = lifetimes.ended(at(60), 1);
        store.commit(vec![event("renewed", Some(mark(at(59))), "")]).await.unwrap();
        store.commit(late).await.unwrap_err();
        for change in watch.next().await.unwrap().events {
            lifetimes.follow(&change, at(59));
        }
        assert_eq!(names(&lifetimes.ended(at(118), 9)), ["once"]);
        store.commit(lifetimes.ended(at(118), 9)).await.unwrap();
        for change in watch.next().await.unwrap().events {
            assert_eq!((change.kind, change.entry.key.name()), (EventKind::Deleted, "once"));
            lifetimes.follow(&change, at(118));
        }
        assert_eq!(names(&lifetimes.ended(at(119), 9)), ["renewed"]);
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_makes_no_event_last_longer_than_from_now() {
        let store = MemoryStore::default();
        store.commit(vec![event("ahead", Some(mark(at(100_000))), "")]).await.unwrap();
        assert_eq!(learned(&store, at(5)).await.next_end(), Some(at(65)));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_meanwhile_holds_up_no_event_behind() {
        let store = MemoryStore::default();
        for (minute, name) in [(100_000, "ahead"), (1, "behind")] {
            store.commit(vec![event(name, Some(mark(at(minute))), "")]).await.unwrap();
        }
        let mut lifetimes = learned(&store, at(100_000)).await;
        lifetimes.heed(at(2));
        assert_eq!(names(&lifetimes.ended(at(62), 9)), ["ahead", "behind"]);
    }

    #[tokio::test]
    async fn an_event_without_a_mark_ends_so_long_after_it_was_made() {
        let store = MemoryStore::default();
        store.commit(vec![event("made", None, &at(3).to_string()), event("vague", None, "soon")]).await.unwrap();
        let lifetimes = learned(&store, at(10)).await;
        assert_eq!(names(&lifetimes.ended(at(63), 9)), ["made"]);
        assert_eq!(names(&lifetimes.ended(at(70), 9)), ["made", "vague"]);
    }

    #[test]
    fn both_views_of_events_are_marked_when_they_are_stored() {
        use crate::registry::{events, kind::Strategy as _};
        let stored = json!({"metadata": {}, "reason": "Tested"});
        for index in [events::core::Events.index(&stored), events::new::Events.index(&stored)] {
            let pairs = Pairs::from_iter(index);
            assert_eq!(pairs.get("reason"), Some("Tested"));
            assert!(pairs.get(WRITTEN).is_some_and(|mark| mark.parse::<i64>().is_ok()));
        }
    }
}
