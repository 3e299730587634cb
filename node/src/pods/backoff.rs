//! How long to wait before something that failed is tried again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The first wait, as upstream's.
pub const INITIAL: Duration = Duration::from_secs(10);
/// No wait is longer, as upstream's.
pub const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran this long has recovered: its next failure starts from the first wait.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);

/// A wait that doubles with each failure, up to a limit, and is forgotten after a good while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    wait: Duration,
    since: Option<Timestamp>,
}

impl Backoff {
    /// How long the current wait is; zero before the first failure.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// When a new try is due after a failure at `failed`; `None` if it's due at once.
    #[must_use]
    pub fn due(&self, failed: Timestamp) -> Option<Timestamp> {
        let since = self.since?;
        if self.wait.is_zero() || expired(since, failed) {
            return None;
        }
        Some(later(failed, self.wait))
    }

    /// Notes that a new try begins at `now`, after a failure at `failed`: the wait after its own failure will be longer.
    pub fn advance(&mut self, failed: Timestamp, now: Timestamp) {
        let fresh = self.since.is_none_or(|since| expired(since, failed));
        self.wait = if fresh || self.wait.is_zero() { INITIAL } else { (self.wait * 2).min(LONGEST) };
        self.since = Some(now);
    }

    /// A wait as an agent that forgot it may assume it, after this many restarts, the last of them at `since`.
    #[must_use]
    pub fn assumed(restarts: u32, since: Timestamp) -> Self {
        let doublings = restarts.saturating_sub(1).min(5);
        let wait = if restarts == 0 { Duration::ZERO } else { (INITIAL * 2u32.pow(doublings)).min(LONGEST) };
        Self { wait, since: (restarts > 0).then_some(since) }
    }
}

/// `time` and then `wait`, at most the end of representable time.
#[must_use]
pub fn later(time: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// How long from `from` to `to`; zero if `to` is earlier.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

fn expired(since: Timestamp, failed: Timestamp) -> bool {
    between(since, failed) > FORGET_AFTER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_next_wait_doubles_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 1_000;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let failed = at(now);
            let due = backoff.due(failed).unwrap_or(failed);
            waits.push(between(failed, due).as_secs());
            backoff.advance(failed, due);
            now = due.as_second() + 1;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_container_that_ran_ten_minutes_starts_afresh() {
        let mut backoff = Backoff::default();
        backoff.advance(at(0), at(0));
        backoff.advance(at(20), at(20));
        assert_eq!(backoff.due(at(30)), Some(at(50)));
        assert_eq!(backoff.due(at(20 + 601)), None);
        backoff.advance(at(621), at(621));
        assert_eq!(backoff.wait(), INITIAL);
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_limit(steps in proptest::collection::vec(0i64..2_000, 1..60)) {
            let mut backoff = Backoff::default();
            let mut now = 0;
            for step in steps {
                now += step;
                prop_assert!(backoff.due(at(now)).is_none_or(|due| between(at(now), due) <= LONGEST));
                backoff.advance(at(now), at(now));
            }
        }
    }
}
