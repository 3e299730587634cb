//! ResourceQuotas.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::{quantity::Quantity, resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::pod_defaults::whole_millis_of;
use crate::registry::{
    kind::{Cell, Column, Deleted, Strategy, resource},
    object, table,
    validation::{field::Field, internal, resource_name},
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const EXCLUSIVE: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
/// How often all scopes are shown.
const MAX_TOLD: usize = 64;
const MISPLACED: &str = "unsupported scope applied to resource";
const MUST_EXIST: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

/// ResourceQuotas.
pub struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    fn resource(&self) -> Resource {
        resource("", "v1", "ResourceQuota", "resourcequotas").short(&["quota"]).status().build()
    }

    fn default(&self, object: &mut Value) {
        for path in [["spec", "hard"], ["status", "hard"], ["status", "used"]] {
            whole_millis_of(object::at_mut(object, &path));
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        amounts(&spec, "hard", causes);
        scopes(&spec, causes);
        if let Some(selector) = spec.get("scopeSelector") {
            scope_selector(&spec, &selector, causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let set = |quota: &Value| {
            let mut scopes = object::list(quota, &["spec", "scopes"]).to_vec();
            scopes.sort_by_key(ToString::to_string);
            scopes.dedup();
            scopes
        };
        if set(object) != set(old) {
            Field::new(object, "").at("spec").at("scopes").invalid("field is immutable", causes);
        }
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        let status = Field::new(object, "").at("status");
        amounts(&status, "hard", causes);
        amounts(&status, "used", causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() { Vec::new() } else { crossed(object) }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
            Column::text(
                "Limit",
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
            ),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let hard = object::at(object, &["status", "hard"]).and_then(Value::as_object);
        let mut names: Vec<&String> = hard.into_iter().flatten().map(|(name, _)| name).collect();
        names.sort_unstable();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for name in names {
            let amount = |part: &str| {
                let text = object::text(object, &["status", part, name]);
                if text.is_empty() { "0" } else { text }
            };
            let shown = format!("{name}: {}/{}", amount("used"), amount("hard"));
            if name.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
        }
        vec![object::name(object).into(), requests.join(", ").into(), limits.join(", ").into(), table::age(object)]
    }
}

/// What is told of a quota that bounds requests higher than limits.
fn crossed(quota: &Value) -> Vec<String> {
    let hard = |name: &str| object::at(quota, &["spec", "hard", name]).and_then(Value::as_str);
    let quantity = |amount: &str| amount.parse::<Quantity>().unwrap_or_default();
    let mut told = Vec::new();
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (limit_name, asked_name) = (format!("limits.{name}"), format!("requests.{name}"));
        // Only these two have a short name that means what is requested.
        let short = Some(name.to_owned()).filter(|name| matches!(name.as_str(), "cpu" | "memory"));
        let asked = [Some(asked_name), short].into_iter().flatten().find_map(|own| Some((hard(&own)?, own.clone())));
        if let (Some((asked, asked_name)), Some(limit)) = (asked, hard(&limit_name))
            && quantity(asked) > quantity(limit)
        {
            told.push(format!("ResourceQuota {asked_name} ({asked}) should be less than {limit_name} ({limit})"));
        }
    }
    told
}

fn amounts(holder: &Field<'_>, key: &str, causes: &mut Vec<Cause>) {
    for (name, amount) in holder.entries(key) {
        resource_name::check_of_quotas(name, &amount, causes);
        resource_name::check_amount(name, &amount, causes);
    }
}

/// Names that are bounded and that scopes matter for, in order.
fn bounded<'a>(spec: &Field<'a>) -> Vec<&'a str> {
    let mut names: Vec<&str> = spec.entries("hard").iter().map(|(name, _)| *name).collect();
    names.retain(|name| resource_name::is_of_quotas(name));
    names.sort_unstable();
    names
}

fn fits(scope: &str, name: &str) -> bool {
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || COMPUTE.contains(&name)
        }
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn scopes(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let field = spec.at("scopes");
    let scopes: Vec<&str> = spec.items("scopes").iter().map(Field::text).collect();
    let (names, before) = (bounded(spec), causes.len());
    for scope in &scopes {
        // Each shows all of them.
        if causes.len() - before > MAX_TOLD {
            break;
        }
        if !SCOPES.contains(scope) {
            field.invalid("unsupported scope", causes);
        }
        names.iter().filter(|name| !fits(scope, name)).for_each(|_| field.invalid(MISPLACED, causes));
    }
    for _ in EXCLUSIVE.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))) {
        field.invalid("conflicting scopes", causes);
    }
}

fn scope_selector(spec: &Field<'_>, selector: &Field<'_>, causes: &mut Vec<Cause>) {
    let list = selector.at("matchExpressions");
    let shown = internal::of("io.k8s.api.core.v1.ScopeSelector", selector.value);
    let mut seen: HashSet<&str> = HashSet::new();
    let (names, before) = (bounded(spec), causes.len());
    let complain = |key: &str, value: &Value, why: &str, causes: &mut Vec<Cause>| {
        causes.push(Cause::invalid(list.at(key).path, value, why));
    };
    for requirement in selector.items("matchExpressions") {
        let (scope, operator) = (requirement.str("scopeName"), requirement.str("operator"));
        if !SCOPES.contains(&scope) {
            complain("scopeName", &json!(scope), "unsupported scope", causes);
        }
        // Each shows all of them.
        if causes.len() - before <= MAX_TOLD {
            for _ in names.iter().filter(|name| !fits(scope, name)) {
                causes.push(Cause::invalid(list.path.as_str(), &shown, MISPLACED));
            }
        }
        let exists = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope);
        if exists && operator != "Exists" {
            complain("operator", &json!(operator), MUST_EXIST, causes);
        }
        let values = requirement.at("values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                list.at("values").required(why, causes);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                complain("values", values.value, why, causes);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => complain("operator", &json!(other), "not a valid selector operator", causes),
        }
        seen.insert(scope);
    }
    let pairs = EXCLUSIVE.iter().filter(|pair| pair.iter().all(|scope| seen.contains(scope)));
    // Upstream shows the other list here.
    let scopes = spec.at("scopes");
    pairs.for_each(|_| causes.push(Cause::invalid(list.path.as_str(), scopes.value, "conflicting scopes")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_bounded_higher_than_limits_are_told_of_once() {
        let hard =
            json!({"cpu": "2", "limits.cpu": "1", "requests.memory": "1Gi", "limits.memory": "1Mi", "memory": "1"});
        let quota = json!({"spec": {"hard": hard}});
        assert_eq!(
            ResourceQuotas.warnings(&quota, None),
            [
                "ResourceQuota cpu (2) should be less than limits.cpu (1)",
                "ResourceQuota requests.memory (1Gi) should be less than limits.memory (1Mi)",
            ]
        );
        assert_eq!(ResourceQuotas.warnings(&quota, Some(&quota)).len(), 0);
    }
}
