//! Figures for Prometheus, under upstream's names where one exists.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::{registry::kind::Kind, store};

pub mod admission;
pub mod authentication;
pub mod flow;
mod process;
mod requests;

pub use requests::{Lasting, Observed};

/// The end of the names of those counters that do not end with `_total`.
const COUNT: &str = "_count";
/// Upper bounds of the buckets of durations of parts of a request, in seconds.
const PARTS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 25.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    group: String,
    version: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The figures of a server.
pub struct Metrics {
    registry: Registry,
    requests: requests::Requests,
    /// What policies and webhooks do.
    pub admission: admission::Figures,
    /// Who waits and who is served, by priority level.
    pub flow: flow::Figures,
    /// What is known of identity providers.
    pub authentication: authentication::Figures,
    watch_events: Family<ResourceLabels, Counter>,
    authentications: Family<ResultLabels, Counter>,
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let requests = requests::Requests::register(&mut registry);
        let admission = admission::Figures::register(&mut registry);
        let flow = flow::Figures::register(&mut registry);
        let authentication = authentication::Figures::register(&mut registry);
        let watch_events = Family::default();
        registry.register("apiserver_watch_events", "Events sent to watchers", watch_events.clone());
        let authentications = Family::default();
        registry.register(
            "authentication_attempts",
            "Requests by whether their sender was known",
            authentications.clone(),
        );
        Arc::new(Self { registry, requests, admission, flow, authentication, watch_events, authentications })
    }

    /// The counter of events that watchers of a kind are sent.
    #[must_use]
    pub fn watch_events(&self, kind: &Kind) -> Counter {
        let gvk = &kind.resource.gvk;
        let (group, version, resource) =
            (gvk.group.to_string(), gvk.version.to_string(), kind.resource.plural.to_string());
        self.watch_events.get_or_create_owned(&ResourceLabels { group, version, resource })
    }

    /// Somebody was recognized, or not.
    pub fn authenticated(&self, known: bool) {
        let result = if known { "success" } else { "failure" };
        self.authentications.get_or_create(&ResultLabels { result }).inc();
    }

    /// In Prometheus' text form, with the figures of the store and of the process.
    #[must_use]
    pub fn render(&self, store: &store::Status) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            return String::new();
        }
        let mut text = prometheus_text(&text);
        let figures = [
            ("apiserver_storage_size_bytes", "Bytes of all stored objects", store.size_bytes as f64),
            ("apiserver_storage_objects", "Stored objects", store.objects as f64),
            ("apiserver_storage_log_bytes", "Bytes of the log that a start would replay", store.log_bytes as f64),
            ("apiserver_storage_revision", "Revision of the state", store.revision as f64),
        ];
        for (name, help, value) in figures {
            let _infallible = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}");
        }
        text + &process::render()
    }
}

/// OpenMetrics' text as Prometheus' older form, which all scrapers read: there a counter's description bears the whole name
/// of its samples, which some of upstream's end with `_count`, and nothing marks the end.
fn prometheus_text(open: &str) -> String {
    let lines: Vec<&str> = open.lines().filter(|line| *line != "# EOF").collect();
    let of_counters = lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    let counters: HashSet<&str> = of_counters.filter(|name| !name.ends_with(COUNT)).collect();
    let mut text = String::with_capacity(open.len());
    for line in lines {
        let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let _infallible = match (described.and_then(|rest| rest.split_once(' ')), line.split_once("_count_total")) {
            (Some((name, rest)), _) if counters.contains(name) => {
                writeln!(text, "{} {name}_total {rest}", line.get(..6).unwrap_or_default())
            }
            (None, Some((name, rest))) => writeln!(text, "{name}{COUNT}{rest}"),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        admission::{Ended, Step},
        *,
    };
    use crate::admission::Operation;

    #[test]
    fn a_counters_description_bears_the_name_of_its_samples() {
        let metrics = Metrics::new();
        metrics.authenticated(true);
        metrics.admission.webhook("a.b.c", Step::Validating, Operation::Create, Duration::ZERO, Ended::FailedOpen);
        let text = metrics.render(&store::Status::default());
        assert!(text.contains("# TYPE authentication_attempts_total counter\n"), "{text}");
        assert!(text.contains("authentication_attempts_total{result=\"success\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE apiserver_admission_webhook_admission_duration_seconds histogram\n"), "{text}");
        assert!(text.contains("# TYPE apiserver_admission_webhook_fail_open_count counter\n"), "{text}");
        let failed = "apiserver_admission_webhook_fail_open_count{name=\"a.b.c\",type=\"validating\"} 1\n";
        assert!(text.contains(failed), "{text}");
        assert!(!text.contains("EOF") && !text.contains("_total_total"), "{text}");
    }
}
