//! Requests: how many, how they were answered, how long that took, and how many are being served.

use std::{sync::Arc, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::Metrics;
use crate::{
    http::{info::RequestInfo, query::Query, reply::Reply, track::is_long_running},
    registry,
};

/// Upper bounds of the buckets of request durations, in seconds: upstream's, for the rules that are written for it, and
/// shorter ones below.
const DURATIONS: [f64; 25] = [
    0.0005, 0.001, 0.0025, 0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 60.0,
];
/// Upper bounds of the buckets of the sizes of answers, in bytes, as upstream's.
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

/// As [`Labels`], and whether nothing was to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    #[prometheus(flatten)]
    about: Labels,
    dry_run: &'static str,
}

/// As [`RequestLabels`], with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnsweredLabels {
    #[prometheus(flatten)]
    request: RequestLabels,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InflightLabels {
    request_kind: &'static str,
}

/// The figures of requests.
pub(super) struct Requests {
    answered: Family<AnsweredLabels, Counter>,
    durations: Family<RequestLabels, Histogram>,
    sizes: Family<Labels, Histogram>,
    reading: Gauge,
    changing: Gauge,
    lasting: Family<Labels, Gauge>,
}

impl Requests {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let inflight = Family::<InflightLabels, Gauge>::default();
        let of = |request_kind| inflight.get_or_create_owned(&InflightLabels { request_kind });
        let figures = Self {
            answered: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            sizes: Family::new_with_constructor(|| Histogram::new(SIZES)),
            reading: of("readOnly"),
            changing: of("mutating"),
            lasting: Family::default(),
        };
        registry.register("apiserver_request", "Requests by verb, resource and HTTP code", figures.answered.clone());
        let help = "Time to answer, streams excepted";
        registry.register("apiserver_request_duration_seconds", help, figures.durations.clone());
        registry.register("apiserver_response_sizes", "Bytes of answers, streams excepted", figures.sizes.clone());
        registry.register("apiserver_current_inflight_requests", "Requests being served", inflight);
        registry.register("apiserver_longrunning_requests", "Streams being served", figures.lasting.clone());
        figures
    }
}

/// One request, counted when it is dropped.
pub struct Observed {
    metrics: Arc<Metrics>,
    about: Option<RequestLabels>,
    inflight: Option<Gauge>,
    lasting: Option<Arc<Lasting>>,
    started: Instant,
    code: u16,
}

/// A stream that is being served, until the last clone of it is dropped.
pub struct Lasting(Gauge);

#[cfg(test)]
impl Lasting {
    /// One that nobody counts.
    pub(crate) fn uncounted() -> Self {
        Self(Gauge::default())
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Observed {
    /// A request came.
    #[must_use]
    pub fn start(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            about: None,
            inflight: None,
            lasting: None,
            started: Instant::now(),
            code: 500,
        }
    }

    /// What it is about. Only what `registry` serves is counted by its names: others are a client's to choose, and each
    /// would stay in memory.
    pub fn about(&mut self, info: &RequestInfo, query: &Query, registry: &registry::Registry) {
        let mut about = Labels {
            verb: info.verb.to_uppercase(),
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            scope: "",
            component: "apiserver",
        };
        if let Some(target) = info.resource().filter(|target| registry.serves(target)) {
            about.group.clone_from(&target.group);
            about.version.clone_from(&target.version);
            about.resource.clone_from(&target.resource);
            about.subresource.clone_from(&target.subresource);
            about.scope = match (target.name.is_empty(), target.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            };
        }
        let requests = &self.metrics.requests;
        if is_long_running(info) {
            let gauge = requests.lasting.get_or_create_owned(&about);
            gauge.inc();
            self.lasting = Some(Arc::new(Lasting(gauge)));
        } else {
            let is_read = matches!(info.verb, "get" | "list");
            let inflight = if is_read { &requests.reading } else { &requests.changing };
            inflight.inc();
            self.inflight = Some(inflight.clone());
        }
        let dry_run = if query.get("dryRun") == "All" { "All" } else { "" };
        self.about = Some(RequestLabels { about, dry_run });
    }

    /// The stream that it is, for whoever serves it on after the answer's head.
    #[must_use]
    pub fn lasting(&self) -> Option<Arc<Lasting>> {
        self.lasting.clone()
    }

    /// How it was answered. A stream counts as served until it is dropped.
    #[must_use]
    pub fn done(mut self, mut reply: Reply) -> Reply {
        self.code = reply.status().as_u16();
        if let (Some(lasting), body) = (&self.lasting, reply.body_mut()) {
            body.hold(Arc::clone(lasting));
        } else if let (Some(RequestLabels { about, .. }), Some(bytes)) = (&self.about, reply.body().ready_len()) {
            self.metrics.requests.sizes.get_or_create(about).observe(bytes as f64);
        }
        reply
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let requests = &self.metrics.requests;
        let Some(request) = self.about.take() else { return };
        if let Some(inflight) = self.inflight.take() {
            inflight.dec();
            requests.durations.get_or_create(&request).observe(self.started.elapsed().as_secs_f64());
        }
        requests.answered.get_or_create(&AnsweredLabels { request, code: self.code }).inc();
    }
}
