//! What a stretch of load costs the server: time, processor time and memory, of all its processes and of each.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{
    figure::{Figure, mebibytes, rounded},
    target::Target,
};

/// A stretch of load that is being measured.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    target: &'a Target,
    began: Instant,
    cpu: Vec<Duration>,
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
        let elapsed = self.began.elapsed();
        let cpu: Vec<Duration> =
            self.target.cpu().into_iter().zip(&self.cpu).map(|(now, then)| now.saturating_sub(*then)).collect();
        let figure = figure.with_rate(operations, elapsed, (!cpu.is_empty()).then(|| cpu.iter().sum()));
        let peaks = if self.has_own_peak { self.target.peaks() } else { Vec::new() };
        let figure = if peaks.is_empty() { figure } else { figure.with_mebibytes("peak_mib", peaks.iter().sum()) };
        if cpu.len() < 2 {
            return figure;
        }
        let names = self.target.process_names();
        let count = u32::try_from(operations.max(1)).unwrap_or(u32::MAX);
        let cpu = cpu.into_iter().map(|cpu| rounded(cpu.as_secs_f64() * 1000.0 / f64::from(count)));
        let figure = figure.with("cpu_ms_each_by_process", by_name(&names, cpu));
        match peaks.is_empty() {
            true => figure,
            false => figure.with("peak_mib_by_process", by_name(&names, peaks.into_iter().map(mebibytes))),
        }
    }
}

fn by_name(names: &[String], values: impl Iterator<Item = f64>) -> Map<String, Value> {
    names.iter().cloned().zip(values.map(|value| json!(value))).collect()
}
