//! Priority and fairness: who was let in, who waited, and who was turned away.

use std::{sync::Arc, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds of the buckets of waits and executions, in seconds, as upstream's.
const DURATIONS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabels {
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FlowLabels {
    flow_schema: String,
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabels {
    #[prometheus(flatten)]
    flow: FlowLabels,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabels {
    #[prometheus(flatten)]
    flow: FlowLabels,
    execute: &'static str,
}

/// The figures of priority and fairness. Cheap to clone: all clones count together.
#[derive(Clone)]
pub struct Figures {
    dispatched: Family<FlowLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
    waiting: Family<FlowLabels, Gauge>,
    executing: Family<FlowLabels, Gauge>,
    waits: Family<WaitLabels, Histogram>,
    executions: Family<FlowLabels, Histogram>,
    nominal: Family<LevelLabels, Gauge>,
}

/// The figures of the requests of one schema.
pub struct OfSchema {
    all: Figures,
    labels: FlowLabels,
    dispatched: Counter,
    waiting: Gauge,
    executing: Gauge,
    waits: Histogram,
    executions: Histogram,
}

/// A request that is being served; it is counted out when this is dropped.
pub struct Executing {
    figures: Arc<OfSchema>,
    started: Instant,
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.figures.executing.dec();
        self.figures.executions.observe(self.started.elapsed().as_secs_f64());
    }
}

/// A request that waits for its seat; it is counted out when this is dropped.
pub struct Waiting {
    figures: Arc<OfSchema>,
    since: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.figures.waiting.dec();
    }
}

impl Waiting {
    /// A request comes for a seat.
    #[must_use]
    pub fn start(figures: &Arc<OfSchema>) -> Self {
        figures.waiting.inc();
        Self { figures: Arc::clone(figures), since: Instant::now() }
    }

    /// It got its seat.
    #[must_use]
    pub fn execute(self) -> Executing {
        let figures = Arc::clone(&self.figures);
        figures.waits.observe(self.since.elapsed().as_secs_f64());
        figures.dispatched.inc();
        figures.executing.inc();
        Executing { figures, started: Instant::now() }
    }

    /// It was turned away.
    pub fn reject(self, reason: &'static str) {
        let OfSchema { all, labels, .. } = &*self.figures;
        let refused = WaitLabels { flow: labels.clone(), execute: "false" };
        all.waits.get_or_create(&refused).observe(self.since.elapsed().as_secs_f64());
        all.rejected.get_or_create(&RejectedLabels { flow: labels.clone(), reason }).inc();
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            dispatched: Family::default(),
            rejected: Family::default(),
            waiting: Family::default(),
            executing: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            executions: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            nominal: Family::default(),
        }
    }
}

impl Figures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let figures = Self::default();
        let put = registry.sub_registry_with_prefix("apiserver_flowcontrol");
        put.register("dispatched_requests", "Requests that were let in", figures.dispatched.clone());
        put.register("rejected_requests", "Requests that were turned away", figures.rejected.clone());
        put.register("current_inqueue_requests", "Requests that wait for a seat", figures.waiting.clone());
        put.register("current_executing_requests", "Requests that are being served", figures.executing.clone());
        put.register("request_wait_duration_seconds", "Time that requests waited for a seat", figures.waits.clone());
        put.register("request_execution_seconds", "Time that requests had their seat", figures.executions.clone());
        put.register("nominal_limit_seats", "Seats of a level's own", figures.nominal.clone());
        figures
    }

    /// How many seats the levels have.
    pub fn seats(&self, levels: Vec<(String, u32)>) {
        self.nominal.clear();
        for (priority_level, seats) in levels {
            self.nominal.get_or_create(&LevelLabels { priority_level }).set(seats.into());
        }
    }

    /// The figures of one schema, whose requests have their seats in this level.
    #[must_use]
    pub fn of(&self, schema: &str, level: &str) -> OfSchema {
        let labels = FlowLabels { flow_schema: schema.to_owned(), priority_level: level.to_owned() };
        OfSchema {
            dispatched: self.dispatched.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
            executing: self.executing.get_or_create_owned(&labels),
            waits: self.waits.get_or_create_owned(&WaitLabels { flow: labels.clone(), execute: "true" }),
            executions: self.executions.get_or_create_owned(&labels),
            all: self.clone(),
            labels,
        }
    }
}
