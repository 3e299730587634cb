//! What a pod takes of its node and of quotas: the sum of what its containers ask for.

use std::collections::BTreeMap;

use martello_api::quantity::Quantity;
use serde_json::Value;

use crate::registry::object;

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// `requests` or `limits` of a pod, without what its runtime takes.
#[must_use]
pub fn of_containers(pod: &Value, part: &str) -> Amounts {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut all = summed(spec, part);
    all.extend(read(object::at(spec, &["resources", part])));
    all
}

/// `requests` or `limits` of the containers of a pod spec, whatever the pod says as a whole.
#[must_use]
pub fn summed(spec: &Value, part: &str) -> Amounts {
    let mut all = Amounts::new();
    for container in object::list(spec, &["containers"]) {
        add(&mut all, &read(object::at(container, &["resources", part])));
    }
    // Init containers run one after the other, beside those of them that stay.
    let (mut staying, mut start) = (Amounts::new(), Amounts::new());
    for container in object::list(spec, &["initContainers"]) {
        let own = read(object::at(container, &["resources", part]));
        if object::text(container, &["restartPolicy"]) == "Always" {
            add(&mut all, &own);
            add(&mut staying, &own);
            raise(&mut start, &staying);
        } else {
            let mut now = own;
            add(&mut now, &staying);
            raise(&mut start, &now);
        }
    }
    raise(&mut all, &start);
    all
}

/// `requests` or `limits` of a pod with what its runtime takes.
#[must_use]
pub fn of_pod(pod: &Value, part: &str) -> Amounts {
    let mut all = of_containers(pod, part);
    for (name, amount) in read(object::at(pod, &["spec", "overhead"])) {
        // A limit that is not there stays so.
        if part == "requests" || all.get(&name).is_some_and(|limit| !limit.is_zero()) {
            let sum = all.remove(&name).unwrap_or_default() + amount;
            all.insert(name, sum);
        }
    }
    all
}

/// Amounts as they are written.
#[must_use]
pub fn read(map: Option<&Value>) -> Amounts {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

/// Adds amounts to others.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.remove(name).unwrap_or_default() + *amount;
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        if to.get(name).is_none_or(|own| own < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn init_containers_count_where_they_need_more() {
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod = json!({"spec": {
            "containers": [{"resources": asks("1")}, {"resources": asks("500m")}],
            "initContainers": [{"restartPolicy": "Always", "resources": asks("200m")}, {"resources": asks("3")}],
            "overhead": {"cpu": "100m"},
        }});
        assert_eq!(of_containers(&pod, "requests")["cpu"].to_string(), "3200m");
        assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), "3300m");
        assert!(of_pod(&pod, "limits").is_empty());
    }
}
