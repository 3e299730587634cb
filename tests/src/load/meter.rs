//! What a stretch of load costs the server: time, processor time and memory.

use std::time::{Duration, Instant};

use super::{figure::Figure, target::Target};

/// A stretch of load that is being measured.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    target: &'a Target,
    began: Instant,
    cpu: Option<Duration>,
    has_own_peak: bool,
}

impl<'a> Meter<'a> {
    /// Begins to measure.
    pub(super) fn start(target: &'a Target) -> Self {
        let has_own_peak = target.forget_peak();
        Self { target, began: Instant::now(), cpu: target.cpu(), has_own_peak }
    }

    /// How long it has taken so far.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends with so many operations done.
    pub(super) fn finish(self, figure: Figure, operations: u64) -> Figure {
        let figure = figure.with_rate(operations, self.began.elapsed(), self.target.cpu_since(self.cpu));
        match self.target.peak() {
            Some(bytes) if self.has_own_peak => figure.with_mebibytes("peak_mib", bytes),
            _ => figure,
        }
    }
}
