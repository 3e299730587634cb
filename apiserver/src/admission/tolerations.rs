//! A pod stays five minutes on a node that does not answer, unless it says otherwise.

use serde_json::{Value, json};

use crate::registry::object;

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Adds the tolerations that are missing, to a pod that is changed too: who leaves them out does not take them away.
pub fn add(pod: &mut Value) {
    let tolerations = object::list(pod, &["spec", "tolerations"]);
    let tolerates = |taint: &str| {
        tolerations.iter().any(|toleration| {
            let key = object::text(toleration, &["key"]);
            let effect = object::text(toleration, &["effect"]);
            (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        })
    };
    let missing: Vec<&str> = TAINTS.into_iter().filter(|taint| !tolerates(taint)).collect();
    if missing.is_empty() {
        return;
    }
    let mut all = tolerations.to_vec();
    all.extend(
        missing.into_iter().map(
            |taint| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}),
        ),
    );
    object::set(pod, &["spec"], "tolerations", all);
}
