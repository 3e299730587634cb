//! Labels of nodes that have newer names.

use super::{field::Field, text};

/// Old names, since when they are old, and their successors.
const OLD: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// The old name of the role of nodes that run the control plane.
const OLD_ROLE: &str = "node-role.kubernetes.io/master";

/// What a client is told of the label `key` at `path`; nothing of one that is not old.
#[must_use]
pub fn warning(key: &str, path: &str) -> Option<String> {
    age(key).map(|age| format!("{path}: {age}"))
}

/// Since when the label `key` is old, and what to use instead; nothing of one that is not old.
#[must_use]
pub fn age(key: &str) -> Option<String> {
    if key == OLD_ROLE {
        return Some("use \"node-role.kubernetes.io/control-plane\" instead".to_owned());
    }
    let (_, since, successor) = OLD.iter().find(|(old, _, _)| *old == key)?;
    Some(format!("deprecated since {since}; use {successor:?} instead"))
}

/// What a client is told of the expressions of a term that selects nodes, and of their values where these were not checked.
#[must_use]
pub fn term_warnings(term: &Field<'_>, values_too: bool) -> Vec<String> {
    let mut said = Vec::new();
    for expression in term.items("matchExpressions") {
        let key = expression.at("key");
        said.extend(age(key.text()).map(|age| format!("{}: {} is {age}", key.path, key.text())));
        for value in expression.items("values").iter().filter(|_| values_too) {
            let faults = text::label_value(value.text());
            said.extend(faults.iter().map(|fault| format!("{}: {} is invalid, {fault}", value.path, value.text())));
        }
    }
    said
}

/// What a client is told of the labels that a selector of nodes names.
#[must_use]
pub fn selector_warnings(selector: &Field<'_>) -> Vec<String> {
    let labels = selector.entries("matchLabels");
    let told = labels.iter().filter_map(|(key, _)| warning(key, &format!("{}.matchLabels.{key}", selector.path)));
    term_warnings(selector, false).into_iter().chain(told).collect()
}

/// The newer name of the label `key`.
#[must_use]
pub fn successor(key: &str) -> Option<&'static str> {
    OLD.iter().find(|(old, _, _)| *old == key).map(|(_, _, successor)| *successor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terms_are_told_of_by_key_and_value() {
        let term = json!({"matchExpressions": [
            {"key": "beta.kubernetes.io/os", "values": ["a"]},
            {"key": "node-role.kubernetes.io/master", "values": ["-"]},
        ]});
        let said = term_warnings(&Field::new(&term, "t"), true);
        assert_eq!(
            said.iter().map(|one| one.split(", a valid").next().unwrap_or_default()).collect::<Vec<_>>(),
            [
                r#"t.matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead"#,
                r#"t.matchExpressions[1].key: node-role.kubernetes.io/master is use "node-role.kubernetes.io/control-plane" instead"#,
                "t.matchExpressions[1].values[0]: - is invalid",
            ]
        );
    }
}
