//! Policies that change what is to be written.

use std::collections::BTreeSet;

use martello_api::status::{ApiError, Cause};
use serde_json::Value;

use super::{
    binding::{Binding, NoParams},
    conditions::{self, Met},
    equivalent,
    input::{self, Input, NOTHING, Purse, SPENT, Trouble},
    matching::Matched,
    patching,
    policy::Policy,
    request::Request,
    snapshot::Snapshot,
};
use crate::{
    cel::RUNTIME_BUDGET,
    registry::{codec, object},
};

/// Which policies were called, and which are to be called again.
#[derive(Default)]
pub(super) struct Called {
    again: BTreeSet<Key>,
    may_again: BTreeSet<Key>,
    last: Option<Value>,
}

/// Policy, binding, and the parameters' namespace and name.
type Key = (String, String, String);

impl Called {
    /// Notes what others made of the object.
    pub(super) fn seen(&mut self, object: &Value) {
        if self.last.as_ref().is_some_and(|last| last != object) {
            self.again.append(&mut self.may_again);
        }
    }
}

/// Why a policy could not do its work.
struct Failure {
    policy: String,
    binding: Option<String>,
    message: String,
    invalid: bool,
}

/// Lets all policies that are meant change the object, in the order of their names.
pub(super) async fn dispatch(
    request: &Request<'_>,
    hooks: &Snapshot,
    object: &mut Value,
    old: Option<&Value>,
    called: &mut Called,
    again: bool,
) -> Result<(), ApiError> {
    let mut failures = Vec::new();
    for bound in &hooks.mutating {
        let policy = &*bound.policy;
        let matched = match &policy.constraints {
            Ok(constraints) => constraints.kind(request, Some(object), old).await?,
            Err(why) => {
                misconfigured(policy, None, why, &mut failures);
                continue;
            }
        };
        let Some(matched) = matched else { continue };
        for binding in &bound.bindings {
            let work = Work { request, policy, binding, matched: &matched };
            work.run(object, old, called, again, &mut failures).await?;
        }
    }
    called.last = Some(object.clone());
    refuse(request, failures)
}

fn misconfigured(policy: &Policy, binding: Option<&Binding>, why: &str, failures: &mut Vec<Failure>) {
    let what = if binding.is_some() { "binding" } else { "policy" };
    note(policy, binding, format!("failed to configure {what}: {why}"), false, failures);
}

fn note(policy: &Policy, binding: Option<&Binding>, message: String, invalid: bool, failures: &mut Vec<Failure>) {
    if !policy.ignores_failure {
        let binding = binding.map(|binding| binding.name.clone());
        failures.push(Failure { policy: policy.name.clone(), binding, message, invalid });
    }
}

/// One policy by one binding.
struct Work<'w, 'a> {
    request: &'w Request<'a>,
    policy: &'w Policy,
    binding: &'w Binding,
    matched: &'w Matched,
}

impl Work<'_, '_> {
    async fn run(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        called: &mut Called,
        again: bool,
        failures: &mut Vec<Failure>,
    ) -> Result<(), ApiError> {
        match &self.binding.resources {
            None => {}
            Some(Ok(resources)) if resources.kind(self.request, Some(object), old).await?.is_some() => {}
            Some(Ok(_)) => return Ok(()),
            Some(Err(why)) => {
                misconfigured(self.policy, Some(self.binding), why, failures);
                return Ok(());
            }
        }
        let params = match self.binding.params(self.request, self.policy).await {
            Ok(params) => params,
            Err(NoParams::Policy(why)) => {
                misconfigured(self.policy, None, &why, failures);
                return Ok(());
            }
            Err(NoParams::Binding(why)) => {
                misconfigured(self.policy, Some(self.binding), &why, failures);
                return Ok(());
            }
            Err(NoParams::Failed(error)) => return Err(error),
        };
        let namespace = self.request.namespace_object().await?;
        for params in &params {
            let about = format!("{}/{}", object::namespace(params), object::name(params));
            let key = (self.policy.name.clone(), self.binding.name.clone(), about);
            if again && !called.again.contains(&key) {
                continue;
            }
            let before = object.clone();
            if !self.mutate(object, old, params, &namespace, failures) {
                continue;
            }
            if *object != before {
                called.again.append(&mut called.may_again);
            }
            if self.policy.reinvoked {
                called.may_again.insert(key);
            }
        }
        Ok(())
    }

    /// Does all mutations; false if the request is not meant.
    fn mutate(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        params: &Value,
        namespace: &Value,
        failures: &mut Vec<Failure>,
    ) -> bool {
        let (policy, binding) = (self.policy, Some(self.binding));
        let own = self.request.kind;
        let described = Value::Object(self.request.describe(self.matched.kind(self.request)));
        let old = equivalent::shown(own, self.matched, old.unwrap_or(NOTHING));
        let mut current = equivalent::shown(own, self.matched, object).into_owned();
        let target = &self.request.call.target;
        for at in 0..=policy.mutations.len() {
            let input = Input {
                object: &current,
                old: &old,
                request: &described,
                namespace,
                params,
                authorizer: input::authorizer(self.request),
                target: target.clone(),
            };
            // The conditions come first, and see the object before all changes.
            let Some(mutation) = at.checked_sub(1).and_then(|at| policy.mutations.get(at)) else {
                match conditions::met(&policy.conditions, &policy.variables, &input) {
                    Met::Yes => continue,
                    Met::No => return false,
                    Met::Unclear(why) => {
                        note(policy, binding, why, true, failures);
                        return false;
                    }
                }
            };
            let bindings = input.bindings(&policy.variables);
            let made = Purse::new(RUNTIME_BUDGET)
                .evaluate(&mutation.program, &mutation.expression, &bindings)
                .map_err(|trouble| match trouble {
                    Trouble::Failed(why) => why,
                    Trouble::Spent => SPENT.to_owned(),
                })
                .and_then(|value| {
                    patching::apply(self.matched.kind(self.request), &current, &value, mutation.json_patch)
                });
            drop(bindings);
            match made {
                Ok(made) => current = made,
                Err(why) => note(policy, binding, why, true, failures),
            }
        }
        let changed = equivalent::back(own, self.matched, current);
        if changed != *object {
            match codec::remade(own, changed) {
                Ok(remade) => *object = remade,
                Err(why) => note(policy, binding, why, true, failures),
            }
        }
        true
    }
}

fn refuse(request: &Request<'_>, failures: Vec<Failure>) -> Result<(), ApiError> {
    let Some(first) = failures.first() else { return Ok(()) };
    let invalid = first.invalid;
    let messages: Vec<String> = failures
        .iter()
        .map(|failure| match &failure.binding {
            Some(binding) => {
                format!("policy '{}' with binding '{binding}' denied request: {}", failure.policy, failure.message)
            }
            None => format!("policy {:?} denied request: {}", failure.policy, failure.message),
        })
        .collect();
    let mut error = request.forbidden("admission request denied by policy");
    if let Some(first) = messages.first() {
        error.message.clone_from(first);
    }
    if invalid {
        error.reason = "Invalid".to_owned();
    }
    if let Some(details) = &mut error.details {
        details.causes.extend(messages.into_iter().map(|message| Cause { message, ..Cause::default() }));
    }
    Err(error)
}
