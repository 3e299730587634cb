//! Policies that judge what is to be written.

use std::sync::Arc;

use martello_api::status::{ApiError, Cause};
use serde::Serialize;
use serde_json::Value;

use super::{
    binding::{Binding, NoParams, param_kind},
    conditions::{self, Met},
    equivalent,
    input::{self, Input, NOTHING, Purse, SPENT, Trouble},
    matching::Matched,
    policy::{Policy, Validation},
    request::Request,
    snapshot::Snapshot,
};
use crate::{
    cel::{RUNTIME_BUDGET, Value as Cel},
    registry::kind::Kind,
};

/// Longest message that an expression may make.
const MAX_MESSAGE_BYTES: usize = 5 * 1024;
/// Longest value of an audit annotation; the rest is cut off.
const MAX_ANNOTATION_BYTES: usize = 10 * 1024;
const FAILURE_ANNOTATION: &str = "validation.policy.admission.k8s.io/validation_failure";

/// A refusal by a policy.
struct Denial {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

/// What a policy says of a request.
#[derive(Default)]
struct Judgement {
    /// Place of the expression, message and reason.
    failures: Vec<(usize, String, String)>,
    annotations: Vec<(String, String)>,
    /// Why an annotation could not be worked out, where that refuses.
    broken_annotations: Vec<String>,
}

/// What one policy tells the audit trail: the values of each key that its bindings and parameters make.
type Annotations = Vec<(String, Vec<String>)>;

/// Asks all policies that are meant.
pub(super) async fn dispatch(
    request: &Request<'_>,
    hooks: &Snapshot,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let mut denials = Vec::new();
    for bound in &hooks.validating {
        let policy = &*bound.policy;
        let matched = match &policy.constraints {
            Ok(constraints) => constraints.kind(request, object, old).await?,
            Err(why) => {
                misconfigured(policy, None, why, &mut denials);
                continue;
            }
        };
        let Some(matched) = matched else { continue };
        let params = match param_kind(request, policy) {
            Ok(params) => params,
            Err(why) => {
                misconfigured(policy, None, &why, &mut denials);
                continue;
            }
        };
        let mut annotations = Annotations::new();
        let asked = Asked { request, policy, params, matched, object, old };
        for binding in &bound.bindings {
            asked.by(binding, &mut annotations, &mut denials).await?;
        }
        for (key, values) in annotations {
            request.call.annotate(format!("{}/{key}", policy.name), values.join(", "));
        }
    }
    match denials.into_iter().next() {
        Some(denial) => Err(refusal(request, denial)),
        None => Ok(()),
    }
}

fn misconfigured(policy: &Policy, binding: Option<&Binding>, why: &str, denials: &mut Vec<Denial>) {
    if policy.ignores_failure {
        return;
    }
    let what = if binding.is_some() { "binding" } else { "policy" };
    denials.push(Denial {
        policy: policy.name.clone(),
        binding: binding.map(|binding| binding.name.clone()),
        message: format!("failed to configure {what}: {why}"),
        reason: String::new(),
    });
}

/// A policy that is for a request.
struct Asked<'q, 'a> {
    request: &'q Request<'a>,
    policy: &'q Policy,
    /// The kind of its parameters.
    params: Option<Arc<Kind>>,
    matched: Matched,
    object: Option<&'q Value>,
    old: Option<&'q Value>,
}

impl Asked<'_, '_> {
    /// Asks the policy as one binding says.
    async fn by(
        &self,
        binding: &Binding,
        annotations: &mut Annotations,
        denials: &mut Vec<Denial>,
    ) -> Result<(), ApiError> {
        let Self { request, policy, .. } = *self;
        match &binding.resources {
            None => {}
            Some(Ok(resources)) if resources.kind(request, self.object, self.old).await?.is_some() => {}
            Some(Ok(_)) => return Ok(()),
            Some(Err(why)) => {
                misconfigured(policy, Some(binding), why, denials);
                return Ok(());
            }
        }
        let params = match binding.params(request, self.params.as_deref()).await {
            Ok(params) => params,
            Err(NoParams::Binding(why)) => {
                misconfigured(policy, Some(binding), &why, denials);
                return Ok(());
            }
            Err(NoParams::Failed(error)) => return Err(error),
        };
        let namespace = request.namespace_object().await?;
        let described = Value::Object(request.describe(self.matched.kind(request)));
        let object = equivalent::shown(request.kind, &self.matched, self.object.unwrap_or(NOTHING));
        let old = equivalent::shown(request.kind, &self.matched, self.old.unwrap_or(NOTHING));
        for params in &params {
            let input = Input {
                object: &object,
                old: &old,
                request: &described,
                namespace: &namespace,
                params,
                authorizer: input::authorizer(request),
                target: request.call.target.clone(),
            };
            act(request, policy, binding, judge(policy, &input), (&mut *annotations, &mut *denials));
        }
        Ok(())
    }
}

impl Judgement {
    /// Of a policy that can't be evaluated.
    fn failed(policy: &Policy, why: String) -> Self {
        let mut judgement = Self::default();
        if !policy.ignores_failure {
            judgement.failures.push((0, why, String::new()));
        }
        judgement
    }
}

/// Evaluates a policy.
fn judge(policy: &Policy, input: &Input<'_>) -> Judgement {
    match conditions::met(&policy.conditions, &policy.variables, input) {
        Met::Yes => {}
        Met::No => return Judgement::default(),
        Met::Unclear(why) => return Judgement::failed(policy, why),
    }
    let bindings = input.bindings(&policy.variables);
    let mut purse = Purse::new(RUNTIME_BUDGET);
    let mut outcomes = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        match purse.evaluate(&validation.program, &validation.expression, &bindings) {
            Ok(value) => outcomes.push(Ok(matches!(value, Cel::Bool(true)))),
            Err(Trouble::Failed(why)) => outcomes.push(Err(why)),
            Err(Trouble::Spent) => return Judgement::failed(policy, SPENT.to_owned()),
        }
    }
    let unasking = input.without_authorizer();
    let made = messages(policy, &unasking.bindings(&policy.variables), &mut purse);
    let mut judgement = Judgement::default();
    for (at, (validation, outcome)) in policy.validations.iter().zip(outcomes).enumerate() {
        let error = match (outcome, &made) {
            (Err(why), _) => why,
            // Whether it holds or not: what it would say can't be known.
            (Ok(_), None) => format!("failed messageExpression: {SPENT}"),
            (Ok(true), Some(_)) => continue,
            (Ok(false), Some(made)) => {
                let message = message(validation, made.get(at).and_then(Option::as_deref));
                let reason = if validation.reason.is_empty() { "Invalid" } else { &validation.reason };
                judgement.failures.push((at, message, reason.to_owned()));
                continue;
            }
        };
        if !policy.ignores_failure {
            judgement.failures.push((at, error, String::new()));
        }
    }
    annotate(policy, &unasking.bindings(&policy.variables), judgement)
}

/// Works out what the audit trail is to tell besides.
fn annotate<'a>(policy: &'a Policy, bindings: &crate::cel::Bindings<'a>, mut judgement: Judgement) -> Judgement {
    let mut purse = Purse::new(RUNTIME_BUDGET);
    for annotation in &policy.annotations {
        match purse.evaluate(&annotation.program, &annotation.expression, bindings) {
            Ok(Cel::String(text)) if !text.trim().is_empty() => {
                judgement.annotations.push((annotation.key.clone(), text.trim().to_owned()));
            }
            Ok(_) => {}
            Err(Trouble::Spent) => return Judgement::failed(policy, SPENT.to_owned()),
            Err(Trouble::Failed(_)) if policy.ignores_failure => {}
            Err(Trouble::Failed(why)) => judgement.broken_annotations.push(why),
        }
    }
    judgement
}

/// What the validations' own expressions say, whether that is needed or not; none where it costs too much.
fn messages<'a>(
    policy: &'a Policy,
    bindings: &crate::cel::Bindings<'a>,
    purse: &mut Purse,
) -> Option<Vec<Option<String>>> {
    let mut made = Vec::with_capacity(policy.validations.len());
    for validation in &policy.validations {
        let Some((source, program)) = &validation.message_program else {
            made.push(None);
            continue;
        };
        match purse.evaluate(program, source, bindings) {
            Ok(Cel::String(text)) => made.push(Some(text.trim().to_owned())),
            Ok(_) | Err(Trouble::Failed(_)) => made.push(None),
            Err(Trouble::Spent) => return None,
        }
    }
    Some(made)
}

/// What a failed validation says: its expression's text, its text, or the expression.
fn message(validation: &Validation, made: Option<&str>) -> String {
    let made = made.filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n'));
    let own = validation.message.trim();
    match made {
        Some(made) => made.to_owned(),
        None if own.is_empty() => format!("failed expression: {}", validation.expression.trim()),
        None => own.to_owned(),
    }
}

/// Does what the binding says about failures.
fn act(
    request: &Request<'_>,
    policy: &Policy,
    binding: &Binding,
    judgement: Judgement,
    (annotations, denials): (&mut Annotations, &mut Vec<Denial>),
) {
    let denial = |message: String, reason: String| Denial {
        policy: policy.name.clone(),
        binding: Some(binding.name.clone()),
        message,
        reason,
    };
    let figures = &request.core.metrics.admission;
    if judgement.failures.is_empty() {
        figures.check(&policy.name, &binding.name, "allow");
    }
    for (at, message, reason) in judgement.failures {
        for action in &binding.actions {
            figures.check(&policy.name, &binding.name, enforcement(action));
            match action.as_str() {
                "Deny" => denials.push(denial(message.clone(), reason.clone())),
                "Warn" => request.call.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                    policy.name, binding.name
                )),
                "Audit" => {
                    let told = [Failed {
                        message: &message,
                        policy: &policy.name,
                        binding: &binding.name,
                        expression_index: at,
                        validation_actions: &binding.actions,
                    }];
                    let told = serde_json::to_string(&told).unwrap_or_default();
                    request.call.annotate(FAILURE_ANNOTATION.to_owned(), told);
                }
                _ => {}
            }
        }
    }
    for (key, mut value) in judgement.annotations {
        let mut end = value.len().min(MAX_ANNOTATION_BYTES);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        match annotations.iter_mut().find(|(own, _)| *own == key) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => annotations.push((key, vec![value])),
        }
    }
    denials.extend(judgement.broken_annotations.into_iter().map(|why| denial(why, String::new())));
}

/// What the audit trail is told of a validation that failed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'f> {
    message: &'f str,
    policy: &'f str,
    binding: &'f str,
    expression_index: usize,
    validation_actions: &'f [String],
}

/// A binding's action as figures name it.
fn enforcement(action: &str) -> &'static str {
    match action {
        "Warn" => "warn",
        "Audit" => "audit",
        _ => "deny",
    }
}

fn refusal(request: &Request<'_>, denial: Denial) -> ApiError {
    let message = match &denial.binding {
        Some(binding) => format!(
            "ValidatingAdmissionPolicy '{}' with binding '{binding}' denied request: {}",
            denial.policy, denial.message
        ),
        None => format!("ValidatingAdmissionPolicy '{}' denied request: {}", denial.policy, denial.message),
    };
    let mut error = request.refused(&message);
    error.reason = if denial.reason.is_empty() { "Invalid".to_owned() } else { denial.reason };
    error.code = match error.reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    if let Some(details) = &mut error.details {
        details.causes.push(Cause { message, ..Cause::default() });
    }
    error
}
