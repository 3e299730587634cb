//! Policies that change what is to be written.

use std::collections::BTreeSet;

use martello_api::status::{ApiError, Cause};
use serde_json::Value;

use super::{
    binding::{Binding, NoParams, param_kind},
    conditions::{self, Met},
    equivalent,
    input::{self, Input, NOTHING, Purse, SPENT, Trouble},
    matching::Matched,
    patching::{self, Fault},
    policy::{Bound, Mutation, Policy},
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
    /// Whether a policy had its say, changed by it or not: then everything is asked again.
    pub(super) changed: bool,
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

    /// Those that were called before may see what was changed since.
    fn change(&mut self) {
        self.changed = true;
        self.again.append(&mut self.may_again);
    }
}

/// Why a policy could not do its work.
struct Failure {
    policy: String,
    binding: Option<String>,
    message: String,
    invalid: bool,
}

/// Lets all policies that are meant change the object, in the order of their names. Which are meant is told by the object as
/// it comes, and each sees what those before it made of it.
pub(super) async fn dispatch(
    request: &Request<'_>,
    hooks: &Snapshot,
    object: &mut Value,
    old: Option<&Value>,
    called: &mut Called,
    again: bool,
) -> Result<(), ApiError> {
    let mut failures = Vec::new();
    let mut work = Vec::new();
    for bound in &hooks.mutating {
        gather(request, bound, (&*object, old), &mut work, &mut failures).await?;
    }
    if !work.is_empty() {
        let namespace = request.namespace_object().await?;
        let (matched, value) = (Matched::Own, object.clone());
        let mut form = Form { request, namespace: &namespace, old, matched, value, made: false };
        for one in &work {
            form.run(one, called, again, &mut failures)?;
        }
        form.finish(object, called)?;
        called.last = Some(object.clone());
    }
    refuse(request, failures)
}

/// One policy by one binding with one set of parameters.
struct Work<'w> {
    policy: &'w Policy,
    binding: &'w Binding,
    matched: Matched,
    params: Value,
}

/// Finds what of a policy is for the request.
async fn gather<'w>(
    request: &Request<'_>,
    bound: &'w Bound,
    (object, old): (&Value, Option<&Value>),
    work: &mut Vec<Work<'w>>,
    failures: &mut Vec<Failure>,
) -> Result<(), ApiError> {
    let policy = &*bound.policy;
    let matched = match &policy.constraints {
        Ok(constraints) => constraints.kind(request, Some(object), old).await?,
        Err(why) => {
            misconfigured(policy, None, why, failures);
            return Ok(());
        }
    };
    let Some(matched) = matched else { return Ok(()) };
    let kind = match param_kind(request, policy) {
        Ok(kind) => kind,
        Err(why) => {
            misconfigured(policy, None, &why, failures);
            return Ok(());
        }
    };
    for binding in &bound.bindings {
        match &binding.resources {
            None => {}
            Some(Ok(resources)) if resources.kind(request, Some(object), old).await?.is_some() => {}
            Some(Ok(_)) => continue,
            Some(Err(why)) => {
                misconfigured(policy, Some(binding), why, failures);
                continue;
            }
        }
        match binding.params(request, kind.as_deref()).await {
            Ok(params) => {
                work.extend(params.into_iter().map(|params| Work {
                    policy,
                    binding,
                    matched: matched.clone(),
                    params,
                }));
            }
            Err(NoParams::Binding(why)) => misconfigured(policy, Some(binding), &why, failures),
            Err(NoParams::Failed(error)) => return Err(error),
        }
    }
    Ok(())
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

/// The object on its way through the policies, in the version by which the last of them is meant: each changes what those
/// before it made, in whatever version they saw it.
struct Form<'f, 'a> {
    request: &'f Request<'a>,
    namespace: &'f Value,
    old: Option<&'f Value>,
    matched: Matched,
    value: Value,
    /// A policy made it.
    made: bool,
}

impl Form<'_, '_> {
    /// Shows the object in the version that a policy sees.
    fn show(&mut self, matched: &Matched) -> Result<(), ApiError> {
        let gvk = |matched: &Matched| matched.kind(self.request).resource.gvk.clone();
        if gvk(matched) == gvk(&self.matched) {
            return Ok(());
        }
        let back = self.back()?;
        self.value = equivalent::shown(self.request.kind, matched, &back).into_owned();
        self.matched = matched.clone();
        Ok(())
    }

    /// Takes the object in the version of the request: what policies made of it in another one gets the defaults of its own,
    /// and loses what that does not know.
    fn back(&mut self) -> Result<Value, ApiError> {
        let own = self.request.kind;
        let back = equivalent::back(own, &self.matched, std::mem::take(&mut self.value));
        match &self.matched {
            Matched::Other(_) if self.made => {
                codec::remade(own, back).map_err(|why| ApiError::internal(format!("failed to convert object: {why}")))
            }
            _ => Ok(back),
        }
    }

    fn run(
        &mut self,
        work: &Work<'_>,
        called: &mut Called,
        again: bool,
        failures: &mut Vec<Failure>,
    ) -> Result<(), ApiError> {
        self.show(&work.matched)?;
        let (policy, binding) = (work.policy, Some(work.binding));
        let scene = Scene::of(self, work);
        match conditions::met(&policy.conditions, &policy.variables, &scene.input(&self.value)) {
            Met::Yes => {}
            Met::No => return Ok(()),
            Met::Unclear(why) => {
                note(policy, binding, why, true, failures);
                return Ok(());
            }
        }
        let about = format!("{}/{}", object::namespace(&work.params), object::name(&work.params));
        let key = (policy.name.clone(), work.binding.name.clone(), about);
        if again && !called.again.contains(&key) {
            return Ok(());
        }
        let mut value = self.value.clone();
        for mutation in &policy.mutations {
            match scene.mutate(mutation, &value) {
                Ok(mutated) => (value, self.made) = (mutated, true),
                Err(Fault::Policy(why)) => note(policy, binding, why, true, failures),
                Err(Fault::Request(error)) => return Err(error),
            }
        }
        if value != self.value {
            called.change();
        }
        if policy.reinvoked {
            called.may_again.insert(key);
        }
        self.value = value;
        Ok(())
    }

    /// Takes over what the policies made.
    fn finish(mut self, object: &mut Value, called: &mut Called) -> Result<(), ApiError> {
        if !self.made {
            return Ok(());
        }
        // All that may be called again see the result once more, the last of them too.
        called.change();
        *object = self.back()?;
        Ok(())
    }
}

/// What the expressions of a policy see besides the object.
struct Scene<'s, 'a> {
    request: &'s Request<'a>,
    work: &'s Work<'s>,
    namespace: &'s Value,
    described: Value,
    old: Value,
}

impl<'s, 'a> Scene<'s, 'a> {
    fn of(form: &Form<'s, 'a>, work: &'s Work<'s>) -> Self {
        let request = form.request;
        let described = Value::Object(request.describe(work.matched.kind(request)));
        let old = equivalent::shown(request.kind, &work.matched, form.old.unwrap_or(NOTHING)).into_owned();
        Self { request, work, namespace: form.namespace, described, old }
    }

    fn input<'i>(&'i self, object: &'i Value) -> Input<'i> {
        Input {
            object,
            old: &self.old,
            request: &self.described,
            namespace: self.namespace,
            params: &self.work.params,
            authorizer: input::authorizer(self.request),
            target: self.request.call.target.clone(),
        }
    }

    /// The object with one mutation, and its defaults.
    fn mutate(&self, mutation: &Mutation, object: &Value) -> Result<Value, Fault> {
        let input = self.input(object);
        let bindings = input.bindings(&self.work.policy.variables);
        let evaluated = Purse::new(RUNTIME_BUDGET).evaluate(&mutation.program, &mutation.expression, &bindings);
        let value = evaluated.map_err(|trouble| match trouble {
            Trouble::Failed(why) => Fault::Policy(why),
            Trouble::Spent => Fault::Policy(SPENT.to_owned()),
        })?;
        let kind = self.work.matched.kind(self.request);
        patching::apply(self.request, kind, object, &value, mutation.json_patch)
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
    let mut error = request.refused("admission request denied by policy");
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
