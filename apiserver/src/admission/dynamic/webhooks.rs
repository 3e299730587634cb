//! Calls webhooks: those that change objects one after the other, those that judge all at once.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use martello_api::{patch, status::ApiError};
use serde::Serialize;
use serde_json::Value;

use super::{
    conditions::{self, Met},
    equivalent, exempt,
    input::{self, Input, NOTHING},
    matching::Matched,
    patching,
    request::Request,
    review,
    snapshot::Snapshot,
    webhook::Webhook,
};
use crate::{
    metrics::admission::{Ended, Step},
    registry::validation::text::label_key,
};

/// How long a part of the system that may go on without a webhook waits for it: nodes renew their Leases every ten seconds.
const SYSTEM_PATIENCE: Duration = Duration::from_secs(3);

/// Which webhooks were called, and which are to be called again.
#[derive(Default)]
pub(super) struct Called {
    again: BTreeSet<String>,
    may_again: BTreeSet<String>,
    last: Option<Value>,
    /// Whether a webhook changed the object: then everything is asked again.
    pub(super) changed: bool,
}

impl Called {
    /// Notes what others made of the object.
    pub(super) fn seen(&mut self, object: &Value) {
        if self.last.as_ref().is_some_and(|last| last != object) {
            self.again.append(&mut self.may_again);
        }
    }

    /// Those that were called before may see what was changed since.
    fn change(&mut self) {
        self.changed = true;
        self.again.append(&mut self.may_again);
    }
}

/// Why a webhook did not do its work.
enum Failure {
    /// It refused.
    Refused(ApiError),
    /// It could not be asked, or its answer is of no use.
    Call(String),
    /// Its answer can't be carried out.
    Internal(String),
}

/// Calls webhooks that may change the object, in the order of their configurations' names.
pub(super) async fn mutate(
    request: &Request<'_>,
    hooks: &Snapshot,
    object: &mut Value,
    old: Option<&Value>,
    called: &mut Called,
    again: bool,
) -> Result<(), ApiError> {
    for (at, webhook) in hooks.mutating_webhooks.iter().enumerate() {
        let new = Some(&*object).filter(|object| !object.is_null());
        let Some(asked) = Asked::of(request, webhook, new, old).await? else { continue };
        if again && !called.again.contains(&webhook.uid) {
            continue;
        }
        let started = Instant::now();
        let outcome = asked.mutate(object).await;
        count(request, webhook, Step::Mutating, started.elapsed(), outcome.as_ref().err());
        let changed = matches!(outcome, Ok(true));
        annotate(request, webhook, at, again, &outcome);
        if changed {
            called.change();
        }
        if webhook.reinvoked {
            called.may_again.insert(webhook.uid.clone());
        }
        if let Err(failure) = outcome {
            settle(request, webhook, failure)?;
        }
    }
    called.last = Some(object.clone());
    Ok(())
}

/// Tells the audit trail what a webhook did. The patch itself is not told: it is part of the body, and none is recorded.
fn annotate(request: &Request<'_>, webhook: &Webhook, at: usize, again: bool, outcome: &Result<bool, Failure>) {
    let round = u8::from(again);
    let mutated = matches!(outcome, Ok(true));
    let told = Mutation { configuration: &webhook.configuration, webhook: &webhook.name, mutated };
    let told = serde_json::to_string(&told).unwrap_or_default();
    request.call.annotate(format!("mutation.webhook.admission.k8s.io/round_{round}_index_{at}"), told);
    if fails_open(request, webhook, outcome.as_ref().err()) {
        let key = format!("failed-open.mutation.webhook.admission.k8s.io/round_{round}_index_{at}");
        request.call.annotate(key, webhook.name.clone());
    }
}

/// What the audit trail is told of a webhook that may change the object.
#[derive(Serialize)]
struct Mutation<'m> {
    configuration: &'m str,
    webhook: &'m str,
    mutated: bool,
}

/// Whether a webhook failed, and the request goes on all the same.
fn fails_open(request: &Request<'_>, webhook: &Webhook, failure: Option<&Failure>) -> bool {
    matches!(failure, Some(Failure::Call(_))) && (webhook.ignores_failure || exempt::fails_open(request))
}

/// Asks all webhooks that judge, at once; the first refusal in their order counts.
pub(super) async fn validate(
    request: &Request<'_>,
    hooks: &Snapshot,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let mut asked = Vec::new();
    for webhook in &hooks.validating_webhooks {
        asked.extend(Asked::of(request, webhook, object, old).await?);
    }
    let calls = asked.iter().map(|asked| async move {
        let started = Instant::now();
        let outcome = asked.validate(object).await;
        count(request, asked.webhook, Step::Validating, started.elapsed(), outcome.as_ref().err());
        (asked.webhook, outcome)
    });
    let mut settled = Ok(());
    for (at, (webhook, outcome)) in join_all(calls).await.into_iter().enumerate() {
        let Err(failure) = outcome else { continue };
        if fails_open(request, webhook, Some(&failure)) {
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
            request.call.annotate(key, webhook.name.clone());
        }
        settled = settled.and(settle(request, webhook, failure));
    }
    settled
}

/// Counts a call and how it ended.
fn count(request: &Request<'_>, webhook: &Webhook, step: Step, took: Duration, failure: Option<&Failure>) {
    let ended = match failure {
        None => Ended::Passed,
        Some(Failure::Refused(error)) => Ended::Refused(error.code),
        Some(Failure::Call(_)) if fails_open(request, webhook, failure) => Ended::FailedOpen,
        Some(Failure::Call(_) | Failure::Internal(_)) => Ended::FailedClosed,
    };
    request.core.metrics.admission.webhook(&webhook.name, step, request.operation, took, ended);
}

/// What a failure means for the request.
fn settle(request: &Request<'_>, webhook: &Webhook, failure: Failure) -> Result<(), ApiError> {
    match failure {
        Failure::Refused(error) => Err(error),
        Failure::Internal(why) => Err(ApiError::internal(why)),
        Failure::Call(why) if webhook.ignores_failure => {
            tracing::warn!(webhook = webhook.name, why, "a webhook failed, and the request passes as configured");
            Ok(())
        }
        Failure::Call(why) if exempt::fails_open(request) => {
            let user = request.call.user.name.as_str();
            tracing::warn!(webhook = webhook.name, why, user, "a webhook failed, and a system component goes on");
            Ok(())
        }
        Failure::Call(why) => {
            tracing::warn!(webhook = webhook.name, why, "a webhook failed, and the request is refused as configured");
            Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", webhook.name)))
        }
    }
}

/// A webhook that a request is for.
struct Asked<'w, 'a> {
    request: &'w Request<'a>,
    webhook: &'w Arc<Webhook>,
    matched: Matched,
    old: Option<&'w Value>,
}

impl<'w, 'a> Asked<'w, 'a> {
    async fn of(
        request: &'w Request<'a>,
        webhook: &'w Arc<Webhook>,
        object: Option<&Value>,
        old: Option<&'w Value>,
    ) -> Result<Option<Self>, ApiError> {
        let matches = match &webhook.matches {
            Ok(matches) => matches,
            Err(why) => return Err(ApiError::internal(format!("webhook {:?}: {why}", webhook.name))),
        };
        let Some(matched) = matches.kind(request, object, old).await? else { return Ok(None) };
        let asked = Self { request, webhook, matched, old };
        match asked.met(object) {
            Met::Yes => Ok(Some(asked)),
            Met::No => Ok(None),
            Met::Unclear(_) if webhook.ignores_failure => Ok(None),
            Met::Unclear(why) => Err(request.forbidden(&why)),
        }
    }

    fn met(&self, object: Option<&Value>) -> Met {
        if self.webhook.conditions.is_empty() {
            return Met::Yes;
        }
        let own = self.request.kind;
        let described = Value::Object(self.request.describe(self.matched.kind(self.request)));
        let input = Input {
            object: &equivalent::shown(own, &self.matched, object.unwrap_or(NOTHING)),
            old: &equivalent::shown(own, &self.matched, self.old.unwrap_or(NOTHING)),
            request: &described,
            namespace: NOTHING,
            params: NOTHING,
            authorizer: input::authorizer(self.request),
            target: self.request.call.target.clone(),
        };
        conditions::met(&self.webhook.conditions, &[], &input)
    }

    async fn ask(&self, object: Option<&Value>, mutating: bool) -> Result<review::Answer, Failure> {
        let webhook = self.webhook;
        if self.request.dry_run && !webhook.dry_runs {
            let why = format!("admission webhook {:?} does not support dry run", webhook.name);
            return Err(Failure::Refused(ApiError::bad_request(why)));
        }
        let own = self.request.kind;
        let uid = uuid::Uuid::new_v4().to_string();
        let mut described = self.request.describe(self.matched.kind(self.request));
        described.insert("uid".into(), uid.as_str().into());
        let object = equivalent::shown(own, &self.matched, object.unwrap_or(NOTHING));
        let old = equivalent::shown(own, &self.matched, self.old.unwrap_or(NOTHING));
        described.insert("object".into(), object.into_owned());
        described.insert("oldObject".into(), old.into_owned());
        let Some(version) = webhook.version else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Failure::Call(why.to_owned()));
        };
        let review = review::ask(version, Value::Object(described));
        let open = exempt::fails_open(self.request);
        if open && webhook.caller.is_silent() {
            return Err(Failure::Call("failed to call webhook: it did not answer in time a moment ago".to_owned()));
        }
        let patience = if open { webhook.timeout.min(SYSTEM_PATIENCE) } else { webhook.timeout };
        let answered = webhook.caller.call_for(self.request.core, &review, patience, open).await;
        let answered = answered.map_err(|why| Failure::Call(format!("failed to call webhook: {why}")))?;
        let answer = review::read(&answered, version, &uid, mutating).map_err(|unusable| match unusable {
            review::Unusable::Unreadable(why) => Failure::Call(format!("failed to call webhook: {why}")),
            review::Unusable::Invalid(why) => Failure::Call(format!("received invalid webhook response: {why}")),
        })?;
        for (key, value) in &answer.annotations {
            let key = format!("{}/{key}", webhook.name);
            match label_key(&key).as_slice() {
                [] => self.request.call.annotate(key, value.clone()),
                faults => {
                    tracing::warn!(key, ?faults, "a webhook's audit annotation has no usable key and is left out")
                }
            }
        }
        answer.warnings.iter().for_each(|warning| self.request.call.warn(warning.clone()));
        if answer.allowed { Ok(answer) } else { Err(Failure::Refused(answer.refusal(&webhook.name))) }
    }

    async fn validate(&self, object: Option<&Value>) -> Result<(), Failure> {
        self.ask(object, false).await.map(|_| ())
    }

    /// Whether it changed the object.
    async fn mutate(&self, object: &mut Value) -> Result<bool, Failure> {
        let given = (!object.is_null()).then(|| object.clone());
        let answer = self.ask(given.as_ref(), true).await?;
        if answer.patch.is_empty() {
            return Ok(false);
        }
        let operations: Option<Value> = serde_json::from_slice(&answer.patch).ok();
        if operations.is_some_and(|own| own.is_null() || own.as_array().is_some_and(Vec::is_empty)) {
            return Ok(false);
        }
        let own = self.request.kind;
        let shown = equivalent::shown(own, &self.matched, given.as_ref().unwrap_or(NOTHING));
        let patched = match patch::loose_json_patch(&shown, &answer.patch) {
            Ok(patched) => Ok(patched.value),
            Err(error @ patch::PatchError::Operation { .. }) => Err(patching::failure(&shown, &answer.patch, &error)),
            Err(other) => {
                return Err(Failure::Call(format!("received undecodable patch in webhook response: {other}")));
            }
        };
        let Some(given) = &given else {
            return Err(Failure::Internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                self.webhook.name
            )));
        };
        if answer.patch_type != "JSONPatch" {
            return Err(Failure::Call(format!("unsupported patch type {:?}", answer.patch_type)));
        }
        let back = equivalent::back(own, &self.matched, patched.map_err(Failure::Internal)?);
        let remade = patching::remade(self.request, own, back, false).map_err(Failure::Internal)?;
        let changed = remade != *given;
        if changed {
            *object = remade;
        }
        Ok(changed)
    }
}
