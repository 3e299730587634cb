//! Labels of nodes that have newer names.

/// Old names, since when they are old, and their successors.
const OLD: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// What a client is told of the label `key` at `path`; nothing of one that is not old.
#[must_use]
pub fn warning(key: &str, path: &str) -> Option<String> {
    age(key).map(|age| format!("{path}: {age}"))
}

/// Since when the label `key` is old, and what to use instead; nothing of one that is not old.
#[must_use]
pub fn age(key: &str) -> Option<String> {
    let (_, since, successor) = OLD.iter().find(|(old, _, _)| *old == key)?;
    Some(format!("deprecated since {since}; use {successor:?} instead"))
}

/// The newer name of the label `key`.
#[must_use]
pub fn successor(key: &str) -> Option<&'static str> {
    OLD.iter().find(|(old, _, _)| *old == key).map(|(_, _, successor)| *successor)
}
