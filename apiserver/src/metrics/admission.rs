//! Admission: how long its steps and webhooks take, and what they decide.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::PARTS;
use crate::admission::Operation;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    name: String,
    #[prometheus(flatten)]
    step: StepLabels,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    name: String,
    operation: &'static str,
    r#type: &'static str,
    error_type: &'static str,
    rejection_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailOpenLabels {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    policy: String,
    policy_binding: String,
    enforcement_action: &'static str,
    error_type: &'static str,
}

/// Which half of admission: what changes an object, or what judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It may change the object.
    Mutating,
    /// It judges the object.
    Validating,
}

impl Step {
    const fn of_step(self) -> &'static str {
        match self {
            Self::Mutating => "admit",
            Self::Validating => "validate",
        }
    }

    const fn of_webhook(self) -> &'static str {
        match self {
            Self::Mutating => "admit",
            Self::Validating => "validating",
        }
    }
}

/// How a webhook's call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It let the request pass.
    Passed,
    /// It refused, with this code.
    Refused(u16),
    /// It could not be asked, and the request passes all the same.
    FailedOpen,
    /// It could not be asked, and the request is refused.
    FailedClosed,
}

/// The figures of admission.
pub struct Figures {
    steps: Family<StepLabels, Histogram>,
    webhooks: Family<WebhookLabels, Histogram>,
    rejections: Family<RejectionLabels, Counter>,
    failed_open: Family<FailOpenLabels, Counter>,
    checks: Family<CheckLabels, Counter>,
}

impl Figures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let figures = Self {
            steps: Family::new_with_constructor(|| Histogram::new(PARTS)),
            webhooks: Family::new_with_constructor(|| Histogram::new(PARTS)),
            rejections: Family::default(),
            failed_open: Family::default(),
            checks: Family::default(),
        };
        let help = "Time that a step of admission took";
        registry.register("apiserver_admission_step_admission_duration_seconds", help, figures.steps.clone());
        let help = "Time that a webhook took";
        registry.register("apiserver_admission_webhook_admission_duration_seconds", help, figures.webhooks.clone());
        // Upstream's names of these two do not end as a counter's, but with `_count`.
        let help = "Requests that a webhook refused, or that were refused since it could not be asked";
        registry.register("apiserver_admission_webhook_rejection_count", help, figures.rejections.clone());
        let help = "Requests that passed although a webhook could not be asked";
        registry.register("apiserver_admission_webhook_fail_open_count", help, figures.failed_open.clone());
        let help = "Judgements of validating policies";
        registry.register("apiserver_validating_admission_policy_check", help, figures.checks.clone());
        figures
    }

    /// A step of admission is through.
    pub fn step(&self, step: Step, operation: Operation, took: Duration, refused: bool) {
        let labels = StepLabels { operation: name_of(operation), rejected: said(refused), r#type: step.of_step() };
        self.steps.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A webhook was called.
    pub fn webhook(&self, name: &str, step: Step, operation: Operation, took: Duration, ended: Ended) {
        let (operation, r#type) = (name_of(operation), step.of_webhook());
        let refused = matches!(ended, Ended::Refused(_) | Ended::FailedClosed);
        let labels =
            WebhookLabels { name: name.to_owned(), step: StepLabels { operation, rejected: said(refused), r#type } };
        self.webhooks.get_or_create(&labels).observe(took.as_secs_f64());
        let rejection = match ended {
            Ended::Passed => return,
            Ended::FailedOpen => {
                let labels = FailOpenLabels { name: name.to_owned(), r#type };
                self.failed_open.get_or_create(&labels).inc();
                return;
            }
            Ended::Refused(rejection_code) => ("no_error", rejection_code),
            Ended::FailedClosed => ("calling_webhook_error", 0),
        };
        let (error_type, rejection_code) = rejection;
        let labels = RejectionLabels { name: name.to_owned(), operation, r#type, error_type, rejection_code };
        self.rejections.get_or_create(&labels).inc();
    }

    /// A validating policy judged, as one of its bindings says.
    pub fn check(&self, policy: &str, binding: &str, enforcement_action: &'static str) {
        let labels = CheckLabels {
            policy: policy.to_owned(),
            policy_binding: binding.to_owned(),
            enforcement_action,
            error_type: "no_error",
        };
        self.checks.get_or_create(&labels).inc();
    }
}

const fn said(refused: bool) -> &'static str {
    if refused { "true" } else { "false" }
}

const fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}
