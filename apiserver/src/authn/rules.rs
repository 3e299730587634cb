//! What holds of an `AuthenticationConfiguration`, in upstream's order and words. All faults are told at once.

use std::{collections::HashSet, sync::Arc};

use martello_api::status::Cause;
use serde_json::{Value, json};

use super::config::{Anonymous, AuthenticationConfiguration, Expression};
use crate::{
    cel::{CompileError, Environment, Fields, Program, Type},
    registry::validation::field::Field,
};

mod claims;
mod issuer;
#[cfg(test)]
mod tests;

use claims::check_claims;
use issuer::check_issuer;

/// Most providers, as upstream's.
const MAX_PROVIDERS: usize = 64;

/// Everything that is wrong with a configuration.
#[must_use]
pub fn faults(config: &AuthenticationConfiguration) -> Vec<Cause> {
    let mut causes = Vec::new();
    if config.jwt.len() > MAX_PROVIDERS {
        Field::new(&Value::Null, "jwt").too_many(config.jwt.len(), MAX_PROVIDERS, &mut causes);
        return causes;
    }
    let claims = Environment::with(vec![("claims", Type::map(Type::String, Type::Dyn))]);
    let user = Environment::with(vec![("user", user_type())]);
    let (mut issuers, mut discoveries) = (HashSet::new(), HashSet::new());
    for (index, provider) in config.jwt.iter().enumerate() {
        let path = format!("jwt[{index}]");
        check_issuer(&provider.issuer, &format!("{path}.issuer"), &mut causes);
        check_claims(provider, &path, &claims, &mut causes);
        check_user_rules(&provider.user_validation_rules, &path, &user, &mut causes);
        let (url, discovery) = (provider.issuer.url.as_str(), provider.issuer.discovery_url.as_str());
        if !issuers.insert(url) {
            causes.push(Cause::duplicate(format!("{path}.issuer.url"), &json!(url)));
        }
        if !discovery.is_empty() && !discoveries.insert(discovery) {
            causes.push(Cause::duplicate(format!("{path}.issuer.discoveryURL"), &json!(discovery)));
        }
    }
    if let Some(anonymous) = &config.anonymous {
        check_anonymous(anonymous, &mut causes);
    }
    causes
}

/// Faults as one line tells them, each once.
#[must_use]
pub fn told(causes: &[Cause]) -> String {
    let mut seen = HashSet::new();
    let mut lines: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    lines.retain(|line| seen.insert(line.clone()));
    match lines.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}

/// What user validation rules see.
fn user_type() -> Type {
    let fields = vec![
        ("username".to_owned(), Type::String),
        ("uid".to_owned(), Type::String),
        ("groups".to_owned(), Type::list(Type::String)),
        ("extra".to_owned(), Type::map(Type::String, Type::list(Type::String))),
    ];
    Type::Object(Arc::new(Fields::typed("kubernetes.UserInfo", fields)))
}

fn check_anonymous(anonymous: &Anonymous, causes: &mut Vec<Cause>) {
    if !anonymous.enabled && !anonymous.conditions.is_empty() {
        let shown: Vec<Value> = anonymous.conditions.iter().map(|condition| json!({"Path": condition.path})).collect();
        let why = "enabled should be set to true when conditions are defined";
        causes.push(Cause::invalid("anonymous.conditions", &Value::Array(shown), why));
    }
}

fn check_user_rules(rules: &[Expression], path: &str, user: &Environment, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{path}.userValidationRules[{index}].expression");
        if rule.expression.is_empty() {
            causes.push(Cause::required(path, ""));
        } else if seen.insert(rule.expression.as_str()) {
            compiled(user, path, &rule.expression, &[Type::Bool], causes);
        } else {
            causes.push(Cause::duplicate(path, &json!(rule.expression)));
        }
    }
}

/// An expression, compiled, or complained of. Its result must be of one of these types, if any are given.
fn compiled(
    environment: &Environment,
    path: String,
    text: &str,
    wanted: &[Type],
    causes: &mut Vec<Cause>,
) -> Option<Program> {
    let outcome = if wanted.is_empty() { of_any_type(environment, text) } else { environment.compile_as(text, wanted) };
    let cause = match outcome {
        Ok(program) => return Some(program),
        Err(CompileError::Output { wanted, .. }) => {
            Cause::invalid(path, &json!(text), &format!("must evaluate to {wanted}"))
        }
        Err(error @ CompileError::Issues(_)) => Cause::invalid(path, &json!(text), &error.to_string()),
        Err(error @ CompileError::Instantiation(_)) => {
            Cause::new("InternalError", path, format!("Internal error: {error}"))
        }
    };
    causes.push(cause);
    None
}

fn of_any_type(environment: &Environment, text: &str) -> Result<Program, CompileError> {
    let program = environment.compile(text).map_err(CompileError::Issues)?;
    match program.unready() {
        None => Ok(program),
        Some(why) => Err(CompileError::Instantiation(why)),
    }
}
