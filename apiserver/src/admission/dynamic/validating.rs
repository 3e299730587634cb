//! Policies that judge what is to be written.

use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::{
    binding::{Binding, NoParams},
    conditions::{self, Met},
    equivalent,
    input::{self, Input, NOTHING, Purse, SPENT, Trouble},
    matching::Matched,
    policy::{Policy, Validation},
    request::Request,
    snapshot::Snapshot,
};
use crate::cel::{RUNTIME_BUDGET, Value as Cel};

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
        for binding in &bound.bindings {
            ask(request, policy, binding, &matched, (object, old), &mut denials).await?;
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

/// Asks a policy as one binding says.
async fn ask(
    request: &Request<'_>,
    policy: &Policy,
    binding: &Binding,
    matched: &Matched,
    (object, old): (Option<&Value>, Option<&Value>),
    denials: &mut Vec<Denial>,
) -> Result<(), ApiError> {
    match &binding.resources {
        None => {}
        Some(Ok(resources)) if resources.kind(request, object, old).await?.is_some() => {}
        Some(Ok(_)) => return Ok(()),
        Some(Err(why)) => {
            misconfigured(policy, Some(binding), why, denials);
            return Ok(());
        }
    }
    let params = match binding.params(request, policy).await {
        Ok(params) => params,
        Err(NoParams::Policy(why)) => {
            misconfigured(policy, None, &why, denials);
            return Ok(());
        }
        Err(NoParams::Binding(why)) => {
            misconfigured(policy, Some(binding), &why, denials);
            return Ok(());
        }
        Err(NoParams::Failed(error)) => return Err(error),
    };
    let namespace = request.namespace_object().await?;
    let kind = matched.kind(request);
    let described = Value::Object(request.describe(kind));
    let object = equivalent::shown(request.kind, matched, object.unwrap_or(NOTHING));
    let old = equivalent::shown(request.kind, matched, old.unwrap_or(NOTHING));
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
        act(request, policy, binding, judge(policy, &input), denials);
    }
    Ok(())
}

/// Evaluates a policy.
fn judge(policy: &Policy, input: &Input<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    let fail = |failures: &mut Vec<_>, at: usize, message: String| {
        if !policy.ignores_failure {
            failures.push((at, message, String::new()));
        }
    };
    match conditions::met(&policy.conditions, &policy.variables, input) {
        Met::Yes => {}
        Met::No => return judgement,
        Met::Unclear(why) => {
            fail(&mut judgement.failures, 0, why);
            return judgement;
        }
    }
    let bindings = input.bindings(&policy.variables);
    let mut purse = Purse::new(RUNTIME_BUDGET);
    for (at, validation) in policy.validations.iter().enumerate() {
        match purse.evaluate(&validation.program, &validation.expression, &bindings) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, &bindings, &mut purse);
                let reason = if validation.reason.is_empty() { "Invalid" } else { &validation.reason };
                judgement.failures.push((at, message, reason.to_owned()));
            }
            Err(Trouble::Failed(why)) => fail(&mut judgement.failures, at, why),
            Err(Trouble::Spent) => {
                fail(&mut judgement.failures, at, SPENT.to_owned());
                return judgement;
            }
        }
    }
    let mut purse = Purse::new(RUNTIME_BUDGET);
    for annotation in &policy.annotations {
        match purse.evaluate(&annotation.program, &annotation.expression, &bindings) {
            Ok(Cel::String(text)) if !text.trim().is_empty() => {
                judgement.annotations.push((annotation.key.clone(), text.trim().to_owned()));
            }
            Ok(_) => {}
            Err(_) if policy.ignores_failure => {}
            Err(Trouble::Failed(why)) => judgement.broken_annotations.push(why),
            Err(Trouble::Spent) => judgement.broken_annotations.push(SPENT.to_owned()),
        }
    }
    judgement
}

/// What a failed validation says: its expression's text, its text, or the expression.
fn message<'a>(validation: &'a Validation, bindings: &crate::cel::Bindings<'a>, purse: &mut Purse) -> String {
    let made = validation.message_program.as_ref().and_then(|(source, program)| {
        match purse.evaluate(program, source, bindings) {
            Ok(Cel::String(text)) => Some(text.trim().to_owned()),
            _ => None,
        }
    });
    let made = made.filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n'));
    let own = validation.message.trim();
    made.unwrap_or_else(|| {
        if own.is_empty() { format!("failed expression: {}", validation.expression.trim()) } else { own.to_owned() }
    })
}

/// Does what the binding says about failures.
fn act(request: &Request<'_>, policy: &Policy, binding: &Binding, judgement: Judgement, denials: &mut Vec<Denial>) {
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
                    let told = json!([{
                        "message": message, "policy": policy.name, "binding": binding.name,
                        "expressionIndex": at, "validationActions": binding.actions,
                    }]);
                    request.call.annotate(FAILURE_ANNOTATION.to_owned(), told.to_string());
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
        request.call.annotate(format!("{}/{key}", policy.name), value);
    }
    denials.extend(judgement.broken_annotations.into_iter().map(|why| denial(why, String::new())));
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
    let mut error = request.forbidden(&message);
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
