//! One measured figure, and how it is written down.

use std::{io::Write as _, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// One figure: what it is of, and what was measured.
#[derive(Clone, Debug)]
pub struct Figure {
    of: Map<String, Value>,
    measured: Map<String, Value>,
}

impl Figure {
    /// A figure without values yet.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { of: Map::from_iter([("figure".to_owned(), json!(name))]), measured: Map::new() }
    }

    /// The same, told apart from others of its name by one thing more.
    #[must_use]
    pub fn of(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.of.insert(name.to_owned(), value.into());
        self
    }

    /// The same with one more value that was measured.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.measured.insert(name.to_owned(), value.into());
        self
    }

    /// This figure in multiples of the same one of another server; none where they are not of the same.
    #[must_use]
    pub fn over(&self, other: &Self) -> Option<Self> {
        if self.of != other.of {
            return None;
        }
        let ratio = |name: &str, ours: &Value| {
            let (ours, theirs) = (ours.as_f64()?, other.measured.get(name)?.as_f64()?);
            (theirs > 0.0).then(|| ours / theirs)
        };
        let ratios = self.measured.iter().filter_map(|(name, ours)| Some((name, ratio(name, ours)?)));
        let same = Self { of: self.of.clone(), measured: Map::new() };
        Some(ratios.fold(same, |figure, (name, ratio)| figure.with_number(name, ratio)))
    }

    /// The same with a number of three decimals.
    #[must_use]
    pub fn with_number(self, name: &str, value: f64) -> Self {
        self.with(name, rounded(value))
    }

    /// The same with a duration in milliseconds.
    #[must_use]
    pub fn with_millis(self, name: &str, value: Duration) -> Self {
        self.with_number(name, value.as_secs_f64() * 1000.0)
    }

    /// The same with an amount of memory in mebibytes.
    #[must_use]
    pub fn with_mebibytes(self, name: &str, bytes: u64) -> Self {
        self.with(name, mebibytes(bytes))
    }

    /// The same with how many operations were done in a time, and the server's processor time for each.
    #[must_use]
    pub fn with_rate(self, operations: u64, elapsed: Duration, cpu: Option<Duration>) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
        let count = operations.max(1) as f64;
        let figure = self
            .with("operations", operations)
            .with_number("per_second", count / elapsed.as_secs_f64().max(f64::MIN_POSITIVE));
        match cpu {
            Some(cpu) => figure.with_number("cpu_ms_each", cpu.as_secs_f64() * 1000.0 / count),
            None => figure,
        }
    }

    /// Writes the figure as a line of JSON to standard output.
    pub fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let values = self.of.iter().chain(&self.measured).map(|(name, value)| (name.clone(), value.clone()));
        writeln!(out, "{}", Value::Object(values.collect())).context("print a figure")?;
        out.flush().context("print a figure")
    }
}

/// A number with three decimals.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Bytes in mebibytes, with three decimals.
pub(super) fn mebibytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a server's memory is far below 2^52 bytes")]
    let bytes = bytes as f64;
    rounded(bytes / (1024.0 * 1024.0))
}

/// How long each of many operations took.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Notes one operation.
    pub fn push(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Takes over what another worker noted.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many operations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len().try_into().unwrap_or(u64::MAX)
    }

    /// The latency that `percent` of the operations did not exceed; zero where there was none.
    #[must_use]
    pub fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }

    /// Adds median, 99th percentile and worst to a figure.
    #[must_use]
    pub fn describe(mut self, figure: Figure) -> Figure {
        figure
            .with_millis("p50_ms", self.percentile(50))
            .with_millis("p99_ms", self.percentile(99))
            .with_millis("max_ms", self.percentile(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_what_both_have_and_of_the_same_figure_only() {
        let figure = |concurrency: u64, rate: f64| {
            Figure::named("get").of("concurrency", concurrency).with_number("per_second", rate)
        };
        let ours = figure(1, 300.0).with_number("peak_mib", 20.0);
        let ratio = ours.over(&figure(1, 200.0)).unwrap();
        assert_eq!(Value::Object(ratio.measured), json!({"per_second": 1.5}));
        assert!(ours.over(&figure(16, 200.0)).is_none());
    }

    #[test]
    fn percentiles_are_ranks_of_the_sorted_latencies() {
        let mut latencies = Latencies::default();
        for millis in (1..=100).rev() {
            latencies.push(Duration::from_millis(millis));
        }
        assert_eq!(latencies.percentile(50), Duration::from_millis(50));
        assert_eq!(latencies.percentile(99), Duration::from_millis(99));
        assert_eq!(latencies.percentile(100), Duration::from_millis(100));
        assert_eq!(Latencies::default().percentile(50), Duration::ZERO);
    }
}
