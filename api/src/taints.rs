//! Taints of nodes and what pods tolerate of them.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether `toleration` tolerates `taint`: one without effect tolerates every effect, one without key every key.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => key.is_empty() || key == taint.key,
        _ => key == taint.key && toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Toleration {
            key: some(key),
            operator: some(operator),
            value: some(value),
            effect: some(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn key_value_and_effect_must_match_unless_they_are_left_out() {
        let taint =
            Taint { key: "gpu".into(), value: Some("a".into()), effect: "NoSchedule".into(), ..Taint::default() };
        for (key, operator, value, effect, expected) in [
            ("gpu", "", "a", "NoSchedule", true),
            ("gpu", "Equal", "a", "", true),
            ("gpu", "Equal", "b", "", false),
            ("gpu", "Equal", "", "", false),
            ("gpu", "Exists", "", "NoSchedule", true),
            ("gpu", "Exists", "", "NoExecute", false),
            ("", "Exists", "", "", true),
            ("other", "Exists", "", "", false),
        ] {
            let asked = toleration(key, operator, value, effect);
            assert_eq!(tolerates(&asked, &taint), expected, "{asked:?}");
        }
    }
}
