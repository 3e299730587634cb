//! The class of service of a pod, by what it requests and limits.

use std::collections::BTreeMap;

use martello_api::quantity::Quantity;
use serde_json::Value;

use crate::registry::object;

/// What the class follows from.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`, by cpu and memory of the pod, or else of its containers.
#[must_use]
pub fn qos_class(pod: &Value) -> &'static str {
    let (mut requests, mut limits, mut bounded) = (Sums::new(), Sums::new(), true);
    match object::at(pod, &["spec", "resources"]).filter(|resources| !object::is_zero(resources)) {
        Some(whole) => {
            add(&mut requests, Some(whole), "requests");
            let found = add(&mut limits, Some(whole), "limits");
            bounded = found == COUNTED.len() || whole.get("limits").is_none_or(object::is_zero);
        }
        None => {
            for container in ["containers", "initContainers"].iter().flat_map(|list| object::list(pod, &["spec", list]))
            {
                add(&mut requests, container.get("resources"), "requests");
                bounded &= add(&mut limits, container.get("resources"), "limits") == COUNTED.len();
            }
        }
    }
    match (requests.is_empty() && limits.is_empty(), bounded && requests == limits) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

type Sums = BTreeMap<&'static str, Quantity>;

/// Adds amounts above zero; answers of how many resources there are some.
fn add(sums: &mut Sums, resources: Option<&Value>, part: &str) -> usize {
    let mut found = 0;
    for name in COUNTED {
        let amount = resources.map_or("", |resources| object::text(resources, &[part, name]));
        let Some(amount) = amount.parse::<Quantity>().ok().filter(|amount| !amount.is_zero() && !amount.is_negative())
        else {
            continue;
        };
        let sum = sums.remove(name).unwrap_or_default() + amount;
        sums.insert(name, sum);
        found += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_class_follows_from_the_sums_of_what_is_asked_and_limited() {
        let class = |resources: &[Value]| {
            let all: Vec<Value> = resources.iter().map(|own| json!({"resources": own})).collect();
            qos_class(&json!({"spec": {"containers": all}}))
        };
        let both = |cpu: &str| json!({"cpu": cpu, "memory": "1Gi"});
        let same = json!({"requests": both("1"), "limits": both("1000m")});
        assert_eq!(class(&[json!({})]), "BestEffort");
        assert_eq!(class(&[json!({"limits": {"cpu": "0"}})]), "BestEffort");
        assert_eq!(class(&[same.clone(), same.clone()]), "Guaranteed");
        assert_eq!(class(&[same.clone(), json!({})]), "Burstable");
        assert_eq!(class(&[json!({"requests": both("0"), "limits": both("1")})]), "Burstable");
    }
}
