//! Figures for Prometheus, under upstream's names where one exists.

use std::{sync::Arc, time::Instant};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    http::{info::RequestInfo, reply::Reply, track::is_long_running},
    registry,
};

mod process;

/// Upper bounds of the buckets of request durations, in seconds.
const DURATIONS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0];

/// What a request was about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
    code: u16,
}

/// As [`Labels`], without the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InflightLabels {
    request_kind: &'static str,
}

/// The figures of a server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Family<DurationLabels, Histogram>,
    reading: Gauge,
    changing: Gauge,
    longrunning: Gauge,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let requests = Family::<Labels, Counter>::default();
        let durations = Family::<DurationLabels, Histogram>::new_with_constructor(|| Histogram::new(DURATIONS));
        let inflight = Family::<InflightLabels, Gauge>::default();
        let longrunning = Gauge::default();
        let mut registry = Registry::default();
        registry.register("apiserver_request", "Requests by verb, resource and HTTP code", requests.clone());
        registry.register("apiserver_request_duration_seconds", "Time to answer, streams excepted", durations.clone());
        registry.register("apiserver_current_inflight_requests", "Requests being served", inflight.clone());
        registry.register("apiserver_longrunning_requests", "Streams being served", longrunning.clone());
        let of = |request_kind| inflight.get_or_create_owned(&InflightLabels { request_kind });
        let (reading, changing) = (of("readOnly"), of("mutating"));
        Arc::new(Self { registry, requests, durations, reading, changing, longrunning })
    }

    /// In Prometheus' text form, with the figures of the store and of the process.
    #[must_use]
    pub fn render(&self, store: &crate::store::Status) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return String::new();
        }
        let body = text.trim_end().trim_end_matches("# EOF").to_owned();
        let figures = [
            ("apiserver_storage_size_bytes", "Bytes of all stored objects", store.size_bytes as f64),
            ("apiserver_storage_objects", "Stored objects", store.objects as f64),
            ("apiserver_storage_log_bytes", "Bytes of the log that a start would replay", store.log_bytes as f64),
            ("apiserver_storage_revision", "Revision of the state", store.revision as f64),
        ];
        let own = figures
            .into_iter()
            .map(|(name, help, value)| format!("# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}\n"));
        let own: String = own.collect();
        format!("{body}\n{own}{}", process::render())
    }
}

/// One request, counted when it is dropped.
pub struct Observed {
    metrics: Arc<Metrics>,
    labels: DurationLabels,
    inflight: Option<Gauge>,
    started: Instant,
    code: u16,
}

impl Observed {
    /// A request came.
    #[must_use]
    pub fn start(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            labels: DurationLabels::default(),
            inflight: None,
            started: Instant::now(),
            code: 500,
        }
    }

    /// What it is about. Only what `registry` serves is counted by its names: others are a client's to choose, and each
    /// would stay in memory.
    pub fn about(&mut self, info: &RequestInfo, registry: &registry::Registry) {
        if is_long_running(info) {
            self.metrics.longrunning.inc();
        } else {
            let is_read = matches!(info.verb, "get" | "list" | "watch");
            let inflight = if is_read { &self.metrics.reading } else { &self.metrics.changing };
            inflight.inc();
            self.inflight = Some(inflight.clone());
        }
        self.labels.verb = info.verb.to_uppercase();
        if let Some(target) = info.resource().filter(|target| registry.serves(target)) {
            self.labels.group.clone_from(&target.group);
            self.labels.version.clone_from(&target.version);
            self.labels.resource.clone_from(&target.resource);
            self.labels.subresource.clone_from(&target.subresource);
            self.labels.scope = match (target.name.is_empty(), target.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            }
            .to_owned();
        }
    }

    /// How it was answered.
    #[must_use]
    pub fn done(mut self, reply: Reply) -> Reply {
        self.code = reply.status().as_u16();
        reply
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        match self.inflight.take() {
            Some(inflight) => {
                inflight.dec();
                let seconds = self.started.elapsed().as_secs_f64();
                self.metrics.durations.get_or_create(&self.labels).observe(seconds);
            }
            None if !self.labels.verb.is_empty() => {
                self.metrics.longrunning.dec();
            }
            None => {}
        }
        let DurationLabels { verb, group, version, resource, subresource, scope } = std::mem::take(&mut self.labels);
        let labels = Labels { verb, group, version, resource, subresource, scope, code: self.code };
        self.metrics.requests.get_or_create(&labels).inc();
    }
}
