//! What the claims of a provider's token mean: by name, or by expressions in CEL.

use martello_api::identity::{GROUP_AUTHENTICATED, User};
use martello_pki::oidc::Claims;
use serde_json::{Value, json};

use super::config::{ConfigError, Mapping, Provider};
use crate::cel::{self, Bindings, Budget, Environment, PER_CALL_LIMIT, Program, Type};

/// A provider's mappings, ready to be used.
pub struct Mapper {
    username: Source,
    groups: Option<Source>,
    uid: Option<Source>,
    extra: Vec<(String, Program)>,
    required: Vec<(String, String)>,
    claim_rules: Vec<(Program, String)>,
    user_rules: Vec<(Program, String)>,
}

enum Source {
    Claim { claim: String, prefix: String },
    Expression(Program),
}

impl Mapper {
    /// Of a provider's configuration; `index` is its place in the file.
    pub fn new(provider: &Provider, index: usize) -> Result<Self, ConfigError> {
        let claims = Environment::with(vec![("claims", Type::map(Type::String, Type::Dyn))]);
        let user = Environment::with(vec![("user", Type::Dyn)]);
        let compile = |environment: &Environment, path: &str, text: &str, wanted: &[Type]| {
            environment
                .compile_as(text, wanted)
                .map_err(|error| ConfigError::Invalid { path: format!("jwt[{index}].{path}"), why: error.to_string() })
        };
        let any = [Type::String, Type::list(Type::String), Type::Dyn, Type::list(Type::Dyn), Type::Null];
        let source = |path: &str, mapping: &Mapping, wanted: &[Type]| -> Result<Option<Source>, ConfigError> {
            if !mapping.expression.is_empty() {
                let path = format!("claimMappings.{path}.expression");
                return compile(&claims, &path, &mapping.expression, wanted)
                    .map(|program| Some(Source::Expression(program)));
            }
            let prefix = mapping.prefix.clone().unwrap_or_default();
            Ok((!mapping.claim.is_empty()).then(|| Source::Claim { claim: mapping.claim.clone(), prefix }))
        };
        let maps = &provider.claim_mappings;
        let text = [Type::String, Type::Dyn];
        let uid = Mapping { claim: maps.uid.claim.clone(), prefix: None, expression: maps.uid.expression.clone() };
        let username = source("username", &maps.username, &text)?.ok_or_else(|| ConfigError::Invalid {
            path: format!("jwt[{index}].claimMappings.username"),
            why: "claim or expression is required".to_owned(),
        })?;
        let mut mapper = Self {
            username,
            groups: source("groups", &maps.groups, &any)?,
            uid: source("uid", &uid, &text)?,
            extra: Vec::new(),
            required: Vec::new(),
            claim_rules: Vec::new(),
            user_rules: Vec::new(),
        };
        for extra in &maps.extra {
            let program = compile(&claims, "claimMappings.extra", &extra.value_expression, &any)?;
            mapper.extra.push((extra.key.clone(), program));
        }
        for rule in &provider.claim_validation_rules {
            if rule.expression.is_empty() {
                mapper.required.push((rule.claim.clone(), rule.required_value.clone()));
            } else {
                let program = compile(&claims, "claimValidationRules", &rule.expression, &[Type::Bool])?;
                mapper.claim_rules.push((program, rule.message.clone()));
            }
        }
        for rule in &provider.user_validation_rules {
            let program = compile(&user, "userValidationRules", &rule.expression, &[Type::Bool])?;
            mapper.user_rules.push((program, rule.message.clone()));
        }
        Ok(mapper)
    }

    /// The user that the claims speak of.
    pub fn user(&self, claims: &Claims) -> Result<User, String> {
        for (claim, wanted) in &self.required {
            if claims.get(claim).and_then(Value::as_str) != Some(wanted.as_str()) {
                return Err(format!("claim {claim:?} has not the required value"));
            }
        }
        let all = Value::Object(claims.clone());
        holds(&self.claim_rules, "claims", &all)?;
        let unverified = claims.get("email_verified").is_some_and(|verified| verified != &Value::Bool(true));
        if matches!(&self.username, Source::Claim { claim, .. } if claim == "email") && unverified {
            return Err("email not verified".to_owned());
        }
        let name = texts(&self.username, &all)?.into_iter().next().filter(|name| !name.is_empty());
        let name = name.ok_or("the claims name no user")?;
        let groups = match &self.groups {
            Some(source) => texts(source, &all)?,
            None => Vec::new(),
        };
        // What only the server itself may say of somebody.
        if let Some(reserved) = std::iter::once(&name).chain(&groups).find(|text| text.starts_with("system:")) {
            return Err(format!("{reserved:?} must not begin with system:"));
        }
        let mut user = User::authenticated(name, groups);
        if let Some(source) = &self.uid {
            user.uid = texts(source, &all)?.into_iter().next();
        }
        for (key, program) in &self.extra {
            let values: Vec<String> = listed(&evaluate(program, "claims", &all)?);
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        let shown = json!({
            "username": user.name,
            "uid": user.uid,
            "groups": user.groups.iter().filter(|group| *group != GROUP_AUTHENTICATED).collect::<Vec<_>>(),
            "extra": user.extra,
        });
        holds(&self.user_rules, "user", &shown)?;
        Ok(user)
    }
}

fn texts(source: &Source, claims: &Value) -> Result<Vec<String>, String> {
    match source {
        Source::Claim { claim, prefix } => {
            let found = listed(claims.get(claim).unwrap_or(&Value::Null));
            Ok(found.iter().map(|text| format!("{prefix}{text}")).collect())
        }
        Source::Expression(program) => evaluate(program, "claims", claims).map(|value| listed(&value)),
    }
}

/// A text, or a list of texts; empty ones are none.
fn listed(value: &Value) -> Vec<String> {
    let all: Vec<&str> = match value {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    all.into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn evaluate(program: &Program, name: &'static str, value: &Value) -> Result<Value, String> {
    let mut bindings = Bindings::new();
    bindings.set(name, cel::Value::view(value, None));
    let budget = Budget::of(PER_CALL_LIMIT);
    let result = program.evaluate(&bindings, budget).result.map_err(|error| error.to_string())?;
    result.to_json()
}

fn holds(rules: &[(Program, String)], name: &'static str, value: &Value) -> Result<(), String> {
    for (program, message) in rules {
        if evaluate(program, name, value)? != Value::Bool(true) {
            let said =
                if message.is_empty() { format!("{:?} does not hold", program.source()) } else { message.clone() };
            return Err(format!("validation expression failed: {said}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::config::{AUTHORITY, AuthenticationConfiguration};

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: https://idp.example.com\n    audiences: [k]\n";

    fn map(rest: &str, claims: Value) -> Result<User, String> {
        let text = format!("{HEAD}    certificateAuthority: {AUTHORITY:?}\n{rest}");
        let config = AuthenticationConfiguration::read(&text).map_err(|error| error.to_string())?;
        let mapper = Mapper::new(&config.jwt[0], 0).map_err(|error| error.to_string())?;
        let Value::Object(claims) = claims else { panic!() };
        mapper.user(&claims)
    }

    const CLAIMS: &str = "  claimValidationRules: [{claim: hd, requiredValue: example.com}]\n  claimMappings:\n    username: {claim: email, prefix: 'idp:'}\n    groups: {claim: roles, prefix: 'idp:'}\n    uid: {claim: sub}\n";

    #[test]
    fn claims_become_a_user() {
        let claims = json!({"hd": "example.com", "email": "jane@example.com", "roles": ["devs"], "sub": "7"});
        let user = map(CLAIMS, claims).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_deref()), ("idp:jane@example.com", Some("7")));
        assert_eq!(user.groups, ["idp:devs", "system:authenticated"]);
    }

    #[test]
    fn claims_that_do_not_fit_make_nobody() {
        assert!(map(CLAIMS, json!({"hd": "other", "email": "a"})).unwrap_err().contains("hd"));
        assert!(map(CLAIMS, json!({"hd": "example.com"})).is_err());
        let unverified = json!({"hd": "example.com", "email": "a", "email_verified": false});
        assert_eq!(map(CLAIMS, unverified).unwrap_err(), "email not verified");
    }

    #[test]
    fn expressions_map_claims_and_judge_the_user() {
        let rest = "  claimValidationRules: [{expression: 'claims.exp - claims.nbf <= 86400', message: too long}]\n  claimMappings:\n    username: {expression: \"'idp:' + claims.sub\"}\n    groups: {expression: \"claims.roles.split(',')\"}\n    extra: [{key: example.com/tenant, valueExpression: claims.tenant}]\n  userValidationRules: [{expression: \"!user.username.startsWith('idp:root')\", message: not root}]\n";
        let claims = |sub: &str, exp: i64| json!({"sub": sub, "roles": "a,b", "tenant": "t", "exp": exp, "nbf": 0});
        let user = map(rest, claims("jane", 100)).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("idp:jane", 3));
        assert_eq!(user.extra["example.com/tenant"], ["t"]);
        assert_eq!(map(rest, claims("root", 100)).unwrap_err(), "validation expression failed: not root");
        assert_eq!(map(rest, claims("jane", 90_000)).unwrap_err(), "validation expression failed: too long");
        assert!(
            map("  claimMappings:\n    username: {expression: claims.}\n", json!({}))
                .unwrap_err()
                .contains("compilation failed")
        );
    }

    #[test]
    fn no_provider_makes_what_only_the_server_may_say() {
        let rest = "  claimMappings:\n    username: {expression: claims.sub}\n";
        assert!(map(rest, json!({"sub": "system:admin"})).is_err());
    }
}
