//! How often each extension server is looked at: by and by, and soon after something changed, but never in a flood.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How often servers are looked at: those that answer, and those that don't.
pub(super) const CALM: Duration = Duration::from_secs(30);
const ANXIOUS: Duration = Duration::from_secs(2);
/// Least time between two looks at the same one, however often it, its Service or its endpoints change.
const LEAST: Duration = Duration::from_secs(1);

/// When each was looked at last, by the name of its APIService: one that is changed, or made anew, stays the same.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<String, Look>);

#[derive(Debug)]
struct Look {
    at: Instant,
    /// Whether something changed since.
    is_urged: bool,
}

impl Pace {
    /// Something changed that may concern each of them.
    pub(super) fn urge(&mut self) {
        self.0.values_mut().for_each(|look| look.is_urged = true);
    }

    /// How long it is until one is to be looked at; nothing for one that never was.
    pub(super) fn wait(&self, name: &str, is_available: bool, now: Instant) -> Duration {
        let Some(look) = self.0.get(name) else { return Duration::ZERO };
        let pause = match (look.is_urged, is_available) {
            (true, _) => LEAST,
            (false, true) => CALM,
            (false, false) => ANXIOUS,
        };
        (look.at + pause).saturating_duration_since(now)
    }

    /// These are looked at now; those that are long since gone are forgotten.
    pub(super) fn look<'a>(&mut self, names: impl Iterator<Item = &'a str>, now: Instant) {
        self.0.retain(|_, look| now.saturating_duration_since(look.at) <= CALM * 2);
        self.0.extend(names.map(|name| (name.to_owned(), Look { at: now, is_urged: false })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_looked_at_by_and_by() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait("a", false, now), Duration::ZERO);
        pace.look(["a"].into_iter(), now);
        assert_eq!(pace.wait("a", true, now), CALM);
        assert_eq!(pace.wait("a", false, now), ANXIOUS);
        assert_eq!(pace.wait("a", true, now + CALM), Duration::ZERO);
        assert_eq!(pace.wait("b", true, now), Duration::ZERO);
    }

    #[test]
    fn changes_hasten_the_next_look_and_make_no_flood() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut looks = 0;
        // It changes a thousand times a second.
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            pace.urge();
            if pace.wait("a", millisecond % 2 == 0, now).is_zero() {
                pace.look(["a"].into_iter(), now);
                looks += 1;
            }
        }
        assert_eq!(looks, 10);
        let now = start + Duration::from_secs(10);
        pace.urge();
        assert!(pace.wait("a", true, now) <= LEAST);
    }

    #[test]
    fn one_that_is_gone_for_a_while_is_forgotten() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.look(["a", "b"].into_iter(), now);
        pace.look(["b"].into_iter(), now + CALM);
        assert_eq!(pace.0.len(), 2);
        pace.look(["b"].into_iter(), now + CALM * 3);
        assert_eq!(pace.0.keys().collect::<Vec<_>>(), ["b"]);
    }
}
