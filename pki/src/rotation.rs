//! Rotation of authorities and signing keys, as a pure state machine: what to do, given the generations and the time.
//!
//! A generation is *next* first: everyone already trusts it, nothing is signed with it. Then it is *active*. Then it
//! is *retired*: it signs no more, and stays trusted until the last thing it signed has expired.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far a new generation's validity begins in the past, for clocks that are behind.
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// How long generations live and overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From the making of a generation to the end of its validity.
    pub lifetime: SignedDuration,
    /// How long a generation signs before the next one takes over.
    pub active_for: SignedDuration,
    /// How long before it takes over the next generation is made and trusted.
    pub ahead: SignedDuration,
    /// The longest life of what it signs: so long a retired generation stays trusted.
    pub longest_issue: SignedDuration,
}

/// Where a generation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Trusted, does not sign yet.
    Next,
    /// Trusted, and signs.
    Active,
    /// Still trusted, signs no more.
    Retired,
}

/// A generation, with whatever is kept of it.
#[derive(Clone, Debug)]
pub struct Generation<K> {
    /// Its number, which is never used again.
    pub id: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when it is there.
    pub since: Timestamp,
    /// Begin of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// The key, or nothing where only the plan matters.
    pub material: K,
}

/// One step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a generation that will take over later.
    CreateNext,
    /// Make a generation that signs at once, for there is none that can.
    CreateActive,
    /// Let the next generation sign; the active one retires.
    Promote {
        /// The generation that takes over.
        id: u32,
    },
    /// Forget a retired generation: all that it signed has expired.
    Drop {
        /// The generation to forget.
        id: u32,
    },
}

/// The generations of one key.
#[derive(Clone, Debug)]
pub struct Rotating<K> {
    generations: Vec<Generation<K>>,
    last_id: u32,
}

impl<K> Default for Rotating<K> {
    fn default() -> Self {
        Self { generations: Vec::new(), last_id: 0 }
    }
}

impl<K> Rotating<K> {
    /// Takes up generations that were stored.
    #[must_use]
    pub fn from_stored(generations: Vec<Generation<K>>, last_id: u32) -> Self {
        let highest = generations.iter().map(|generation| generation.id).max().unwrap_or(0);
        Self { generations, last_id: last_id.max(highest) }
    }

    /// All generations that are trusted.
    pub fn iter(&self) -> impl Iterator<Item = &Generation<K>> {
        self.generations.iter()
    }

    /// The highest number that was given to a generation.
    #[must_use]
    pub fn last_id(&self) -> u32 {
        self.last_id
    }

    /// The generation that signs.
    #[must_use]
    pub fn active(&self) -> Option<&Generation<K>> {
        self.generations.iter().find(|generation| generation.phase == Phase::Active)
    }

    fn next(&self) -> Option<&Generation<K>> {
        self.generations.iter().find(|generation| generation.phase == Phase::Next)
    }

    /// What has to be done now, in this order. Empty when there is nothing to do.
    #[must_use]
    pub fn plan(&self, schedule: &Schedule, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        let can_sign = |generation: &Generation<K>| generation.not_after > now;
        match (self.active().filter(|active| can_sign(active)), self.next().filter(|next| can_sign(next))) {
            (None, None) => actions.push(Action::CreateActive),
            (None, Some(next)) => actions.push(Action::Promote { id: next.id }),
            (Some(active), None) if age(active, now) >= schedule.active_for - schedule.ahead => {
                actions.push(Action::CreateNext);
            }
            (Some(active), Some(next))
                if age(active, now) >= schedule.active_for && age(next, now) >= schedule.ahead =>
            {
                actions.push(Action::Promote { id: next.id });
            }
            (Some(_), _) => {}
        }
        let done = |generation: &&Generation<K>| match generation.phase {
            Phase::Retired => !can_sign(generation) || age(generation, now) > schedule.longest_issue + BACKDATE,
            Phase::Next | Phase::Active => !can_sign(generation),
        };
        actions.extend(self.generations.iter().filter(done).map(|generation| Action::Drop { id: generation.id }));
        actions
    }

    /// Performs one step; `make` makes the key of a new generation with this number and validity.
    ///
    /// # Errors
    /// What `make` fails with; nothing has changed then.
    pub fn apply<E>(
        &mut self,
        action: Action,
        schedule: &Schedule,
        now: Timestamp,
        make: impl FnOnce(u32, Timestamp, Timestamp) -> Result<K, E>,
    ) -> Result<(), E> {
        match action {
            Action::CreateNext => self.create(Phase::Next, schedule, now, make),
            Action::CreateActive => {
                self.create(Phase::Active, schedule, now, make)?;
                self.retire_all_active_but(self.last_id, now);
                Ok(())
            }
            Action::Promote { id } => {
                for generation in self.generations.iter_mut().filter(|generation| generation.id == id) {
                    (generation.phase, generation.since) = (Phase::Active, now);
                }
                self.retire_all_active_but(id, now);
                Ok(())
            }
            Action::Drop { id } => {
                self.generations.retain(|generation| generation.id != id);
                Ok(())
            }
        }
    }

    fn create<E>(
        &mut self,
        phase: Phase,
        schedule: &Schedule,
        now: Timestamp,
        make: impl FnOnce(u32, Timestamp, Timestamp) -> Result<K, E>,
    ) -> Result<(), E> {
        let id = self.last_id.saturating_add(1);
        let (not_before, not_after) = (before(now, BACKDATE), after(now, schedule.lifetime));
        let material = make(id, not_before, not_after)?;
        self.last_id = id;
        self.generations.push(Generation { id, phase, since: now, not_before, not_after, material });
        Ok(())
    }

    fn retire_all_active_but(&mut self, id: u32, now: Timestamp) {
        let others = |generation: &&mut Generation<K>| generation.phase == Phase::Active && generation.id != id;
        for generation in self.generations.iter_mut().filter(others) {
            (generation.phase, generation.since) = (Phase::Retired, now);
        }
    }
}

fn age<K>(generation: &Generation<K>, now: Timestamp) -> SignedDuration {
    now.duration_since(generation.since)
}

/// `time` plus `duration`, at most the last time there is.
pub(crate) fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `time` minus `duration`, at least the first time there is.
pub(crate) fn before(time: Timestamp, duration: SignedDuration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3600;

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_secs(days * DAY)
    }

    fn schedule() -> Schedule {
        Schedule { lifetime: days(1000), active_for: days(365), ahead: days(30), longest_issue: days(31) }
    }

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + day * DAY).unwrap()
    }

    /// Performs what is planned; twice must be enough to leave nothing to do.
    fn settle(state: &mut Rotating<()>, now: Timestamp) {
        for _ in 0..2 {
            for action in state.plan(&schedule(), now) {
                state.apply(action, &schedule(), now, |_, _, _| Ok::<_, Infallible>(())).unwrap();
            }
        }
        assert_eq!(state.plan(&schedule(), now), [], "{now}");
    }

    fn phases(state: &Rotating<()>) -> Vec<(u32, Phase)> {
        state.iter().map(|generation| (generation.id, generation.phase)).collect()
    }

    #[test]
    fn a_life_goes_from_next_to_active_to_retired() {
        let mut state = Rotating::default();
        settle(&mut state, at(0));
        assert_eq!(phases(&state), [(1, Phase::Active)]);
        settle(&mut state, at(334));
        assert_eq!(phases(&state), [(1, Phase::Active)]);
        settle(&mut state, at(335));
        assert_eq!(phases(&state), [(1, Phase::Active), (2, Phase::Next)]);
        settle(&mut state, at(365));
        assert_eq!(phases(&state), [(1, Phase::Retired), (2, Phase::Active)]);
        settle(&mut state, at(397));
        assert_eq!(phases(&state), [(2, Phase::Active)]);
    }

    #[test]
    fn a_cluster_that_was_off_for_years_signs_again_at_once() {
        let mut state = Rotating::default();
        settle(&mut state, at(0));
        settle(&mut state, at(5000));
        assert_eq!(phases(&state), [(2, Phase::Active)]);
    }

    #[test]
    fn what_was_made_late_signs_only_when_it_was_trusted_for_as_long_as_any() {
        let mut state = Rotating::default();
        settle(&mut state, at(0));
        settle(&mut state, at(400));
        assert_eq!(phases(&state), [(1, Phase::Active), (2, Phase::Next)], "it was off, and nobody knows the next one");
        settle(&mut state, at(429));
        assert_eq!(phases(&state), [(1, Phase::Active), (2, Phase::Next)]);
        settle(&mut state, at(430));
        assert_eq!(phases(&state), [(1, Phase::Retired), (2, Phase::Active)]);
    }

    #[test]
    fn what_retires_stays_as_long_as_the_last_that_it_issued() {
        let mut state = Rotating::default();
        for day in [0, 335, 365] {
            settle(&mut state, at(day));
        }
        let end = at(365 + 31);
        for (now, left) in [(end, 2), (end + BACKDATE, 2), (end + BACKDATE + SignedDuration::from_secs(1), 1)] {
            settle(&mut state, now);
            assert_eq!(state.iter().count(), left, "{now}");
        }
    }

    #[test]
    fn a_clock_that_went_back_changes_nothing() {
        let mut state = Rotating::default();
        settle(&mut state, at(100));
        assert_eq!(state.plan(&schedule(), at(-100)), []);
    }

    proptest! {
        #[test]
        fn whenever_it_is_run_one_generation_signs_and_what_it_signed_stays_trusted(steps in proptest::collection::vec(0i64..500, 1..40)) {
            let mut state = Rotating::default();
            let mut day = 0;
            let mut signed: Vec<(u32, Timestamp)> = Vec::new();
            for step in steps {
                day += step;
                let now = at(day);
                settle(&mut state, now);
                prop_assert_eq!(state.iter().filter(|generation| generation.phase == Phase::Active).count(), 1);
                let active = state.active().unwrap();
                prop_assert!(active.not_before <= now && active.not_after > now);
                signed.retain(|(_, expires)| *expires > now);
                for (id, _) in &signed {
                    prop_assert!(state.iter().any(|generation| generation.id == *id), "generation {} was dropped too early", id);
                }
                signed.push((active.id, active.not_after.min(now + schedule().longest_issue)));
            }
        }

        #[test]
        fn run_daily_nothing_signs_before_it_was_trusted_for_a_while(days in 400i64..1500) {
            let mut state = Rotating::default();
            for day in 0..days {
                let known: Vec<u32> = state.iter().map(|generation| generation.id).collect();
                settle(&mut state, at(day));
                if day > 0 {
                    prop_assert!(known.contains(&state.active().unwrap().id));
                }
            }
        }
    }
}
