//! When a probe is due and what its answers add up to.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Holds the other probes back until it succeeds.
    Startup,
    /// Says whether the container may be sent requests.
    Readiness,
    /// Says whether the container must be started again.
    Liveness,
}

impl Purpose {
    /// As events write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The times and thresholds of a probe, with upstream's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Wait after the container's start.
    pub initial: Duration,
    /// Wait between two tries.
    pub period: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// Successes in a row that count as success.
    pub successes: u32,
    /// Failures in a row that count as failure.
    pub failures: u32,
}

impl Rhythm {
    /// The rhythm of `probe`.
    #[must_use]
    pub fn of(probe: &Probe) -> Self {
        let at_least = |value: Option<i32>, default: u32, least: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value >= least).unwrap_or(default)
        };
        let seconds = |value, default, least| Duration::from_secs(u64::from(at_least(value, default, least)));
        Self {
            initial: seconds(probe.initial_delay_seconds, 0, 0),
            period: seconds(probe.period_seconds, 10, 1),
            timeout: seconds(probe.timeout_seconds, 1, 1),
            successes: at_least(probe.success_threshold, 1, 1),
            failures: at_least(probe.failure_threshold, 3, 1),
        }
    }
}

/// Counts the answers of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    rhythm: Rhythm,
    healthy: bool,
    streak_is: bool,
    streak: u32,
}

impl Tally {
    /// Begins with what is believed before the first answer.
    #[must_use]
    pub fn new(rhythm: Rhythm, healthy: bool) -> Self {
        Self { rhythm, healthy, streak_is: healthy, streak: 0 }
    }

    /// What is believed.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.healthy
    }

    /// Counts one answer; returns what is believed now if the threshold for that answer has been reached.
    pub fn count(&mut self, success: bool) -> Option<bool> {
        if self.streak_is == success {
            self.streak = self.streak.saturating_add(1);
        } else {
            self.streak_is = success;
            self.streak = 1;
        }
        let threshold = if success { self.rhythm.successes } else { self.rhythm.failures };
        if self.streak < threshold {
            return None;
        }
        self.healthy = success;
        Some(success)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rhythm(successes: i32, failures: i32) -> Rhythm {
        Rhythm::of(&Probe { success_threshold: Some(successes), failure_threshold: Some(failures), ..Probe::default() })
    }

    #[test]
    fn defaults_are_upstreams() {
        let own = Rhythm::of(&Probe::default());
        assert_eq!((own.period, own.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
        assert_eq!((own.successes, own.failures), (1, 3));
    }

    proptest! {
        #[test]
        fn belief_changes_only_after_enough_answers_in_a_row(
            successes in 1i32..5, failures in 1i32..5, answers in proptest::collection::vec(any::<bool>(), 0..60)
        ) {
            let mut tally = Tally::new(rhythm(successes, failures), false);
            for (index, answer) in answers.iter().enumerate() {
                let before = tally.healthy();
                tally.count(*answer);
                if tally.healthy() != before {
                    let needed = usize::try_from(if *answer { successes } else { failures }).unwrap();
                    let run = answers[..=index].iter().rev().take_while(|own| *own == answer).count();
                    prop_assert!(run >= needed);
                }
            }
        }
    }
}
