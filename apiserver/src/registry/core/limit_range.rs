//! LimitRanges.

use std::collections::HashSet;

use jiff::Timestamp;
use martello_api::{quantity::Quantity, resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::pod_defaults::whole_millis_of;
use crate::registry::{
    kind::{Strategy, resource},
    object,
    validation::{field::Field, resource_name, text},
};

/// LimitRanges.
pub struct LimitRanges;

impl Strategy for LimitRanges {
    fn resource(&self) -> Resource {
        resource("", "v1", "LimitRange", "limitranges").short(&["limits"]).build()
    }

    fn default(&self, object: &mut Value) {
        for limit in object::list_mut(object, &["spec", "limits"]).into_iter().flatten() {
            BOUNDS.iter().for_each(|part| whole_millis_of(limit.get_mut(*part)));
            if object::text(limit, &["type"]) == "Container" {
                fill(limit, "max", "default");
                fill(limit, "default", "defaultRequest");
                fill(limit, "min", "defaultRequest");
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        if object::name(object).is_empty() {
            object::set(object, &["metadata"], "name", uuid::Uuid::new_v4().to_string());
        }
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let mut seen: HashSet<&str> = HashSet::new();
        for limit in Field::new(object, "").at("spec").items("limits") {
            let kind = limit.at("type");
            type_name(&kind, causes);
            if seen.contains(&kind.text()) {
                kind.duplicate(causes);
            }
            seen.insert(kind.text());
            names(&limit, causes);
            let mut keys: Vec<&str> =
                BOUNDS.iter().flat_map(|part| limit.entries(part)).map(|(name, _)| name).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.iter().for_each(|name| Bounds::of(&limit, name).check(causes));
        }
    }
}

const BOUNDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// Copies what `from` has and `to` has not.
fn fill(limit: &mut Value, from: &str, to: &str) {
    let given = limit.get(from).and_then(Value::as_object).cloned();
    for (name, amount) in given.into_iter().flatten() {
        object::set_default(limit, &[to], &name, amount);
    }
}

fn type_name(kind: &Field<'_>, causes: &mut Vec<Cause>) {
    let faults = text::qualified_name(kind.text());
    if !faults.is_empty() {
        return kind.check(|_| faults.clone(), causes);
    }
    if !kind.text().contains('/') && !matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim") {
        kind.check(|_| vec!["must be a standard limit type or fully qualified".to_owned()], causes);
    }
}

fn names(limit: &Field<'_>, causes: &mut Vec<Cause>) {
    let kind = limit.str("type");
    for part in BOUNDS {
        if part == "maxLimitRequestRatio" && kind == "PersistentVolumeClaim" {
            let has = |part: &str| limit.at(part).get("storage").is_some();
            if !has("min") && !has("max") {
                let why = "either minimum or maximum storage value is required, but neither was provided";
                limit.at("limits").required(why, causes);
            }
        }
        if kind == "Pod" && part.starts_with("default") {
            if !limit.at(part).is_empty() {
                limit.at(part).forbidden("may not be specified when `type` is 'Pod'", causes);
            }
            continue;
        }
        for (name, amount) in limit.entries(part) {
            match kind {
                "Pod" | "Container" => resource_name::check_of_containers(name, &amount, causes),
                _ => resource_name::check(name, &amount, causes),
            }
        }
    }
}

/// An amount as it was written, and where.
struct Amount<'a> {
    field: Field<'a>,
    quantity: Quantity,
}

/// What a limit says of one resource.
struct Bounds<'a> {
    name: &'a str,
    max: Option<Amount<'a>>,
    min: Option<Amount<'a>>,
    limit: Option<Amount<'a>>,
    request: Option<Amount<'a>>,
    ratio: Option<Amount<'a>>,
}

impl<'a> Bounds<'a> {
    fn of(limit: &Field<'a>, name: &'a str) -> Self {
        let pod = limit.str("type") == "Pod";
        let get = |part: &str| {
            let value = limit.at(part).get(name)?.value;
            let field = Field::new(value, format!("{}[{name}]", limit.at(part).path));
            let quantity = field.text().parse().ok()?;
            Some(Amount { field, quantity })
        };
        Self {
            name,
            max: get("max"),
            min: get("min"),
            limit: get("default").filter(|_| !pod),
            request: get("defaultRequest").filter(|_| !pod),
            ratio: get("maxLimitRequestRatio"),
        }
    }

    fn check(&self, causes: &mut Vec<Cause>) {
        let Self { max, min, limit, request, .. } = self;
        ordered(min, max, ("min value", "max value"), Blame::Low, causes);
        ordered(min, request, ("min value", "default request value"), Blame::High, causes);
        ordered(request, max, ("default request value", "max value"), Blame::Low, causes);
        ordered(request, limit, ("default request value", "default limit value"), Blame::Low, causes);
        ordered(min, limit, ("min value", "default value"), Blame::Crossed, causes);
        ordered(limit, max, ("default value", "max value"), Blame::Crossed, causes);
        self.check_ratio(causes);
        if let (Some(limit), Some(request)) = (limit, request)
            && !resource_name::overcommits(self.name)
            && limit.quantity != request.quantity
        {
            let (limit, own) = (limit.field.text(), request.field.text());
            let why = format!("default value {limit} must equal to defaultRequest value {own} in {}", self.name);
            request.field.invalid(&why, causes);
        }
    }

    fn check_ratio(&self, causes: &mut Vec<Cause>) {
        let Some(ratio) = &self.ratio else { return };
        let shown = ratio.field.text();
        if ratio.quantity < Quantity::from_units(1) {
            ratio.field.invalid(&format!("ratio {shown} is less than 1"), causes);
        }
        if let (Some(min), Some(max)) = (&self.min, &self.max) {
            let all = [&ratio.quantity, &max.quantity, &min.quantity];
            // In thousandths, where these can be counted: then the division has no more digits than upstream's.
            let fine = all.iter().all(|one| one.units() < i64::MAX / 1000);
            let number = |of: &Quantity| if fine { of.millis() as f64 } else { of.units() as f64 };
            let own = if fine { number(&ratio.quantity) / 1000.0 } else { number(&ratio.quantity) };
            let bound = number(&max.quantity) / number(&min.quantity);
            if own > bound {
                ratio.field.invalid(&format!("ratio {shown} is greater than max/min = {bound:.6}"), causes);
            }
        }
    }
}

/// Which of two amounts in the wrong order a message names.
#[derive(Clone, Copy)]
enum Blame {
    Low,
    High,
    /// The path of the default, and the amount that it is compared with.
    Crossed,
}

fn ordered(
    low: &Option<Amount<'_>>,
    high: &Option<Amount<'_>>,
    (low_name, high_name): (&str, &str),
    blame: Blame,
    causes: &mut Vec<Cause>,
) {
    let (Some(low), Some(high)) = (low, high) else { return };
    if low.quantity <= high.quantity {
        return;
    }
    let why = format!("{low_name} {} is greater than {high_name} {}", low.field.text(), high.field.text());
    let (path, value) = match blame {
        Blame::Low => (&low.field.path, low.field.text()),
        Blame::High => (&high.field.path, high.field.text()),
        Blame::Crossed if low_name == "min value" => (&high.field.path, low.field.text()),
        Blame::Crossed => (&low.field.path, high.field.text()),
    };
    causes.push(Cause::invalid(path.as_str(), &json!(value), &why));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_that_is_just_reached_is_fine() {
        let told = |ratio: &str| {
            let limit = json!({"type": "Container", "max": {"cpu": "300m"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": ratio}});
            let mut causes = Vec::new();
            LimitRanges.validate(&json!({"spec": {"limits": [limit]}}), &mut causes);
            causes.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
        };
        assert_eq!(told("3"), Vec::<String>::new());
        assert_eq!(told("3001m"), ["Invalid value: \"3001m\": ratio 3001m is greater than max/min = 3.000000"]);
    }
}
