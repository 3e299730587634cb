//! Annotations of pods and templates that mean something to the cluster.

use martello_api::status::Cause;

use super::volumes::local_path;
use crate::registry::validation::field::Field;

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const POD_SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const CONTAINER_APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Checks annotations, which messages call `path`, of a pod of this spec.
pub(super) fn check(annotations: &Field<'_>, spec: &Field<'_>, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in annotations.value.as_object().into_iter().flatten() {
        let keyed = Field::new(value, format!("{path}[{key}]"));
        match key.as_str() {
            MIRROR if spec.str("nodeName").is_empty() => {
                keyed.invalid("must set spec.nodeName if mirror pod annotation is set", causes);
            }
            DELETION_COST if !is_cost(keyed.text()) => keyed.invalid("must be a 32bit integer", causes),
            _ => profile(key, &keyed, spec, path, causes),
        }
    }
}

/// A whole number without a plus or needless zeros in front.
fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let padded = text.starts_with('+') || digits.len() > 1 && digits.starts_with('0') || text == "-0";
    text.is_empty() || !padded && text.parse::<i32>().is_ok()
}

fn profile(key: &str, keyed: &Field<'_>, spec: &Field<'_>, path: &str, causes: &mut Vec<Cause>) {
    let value = keyed.text();
    if key == POD_SECCOMP || key.starts_with(CONTAINER_SECCOMP) {
        let field = Field::new(keyed.value, format!("{path}.{key}"));
        match value.strip_prefix("localhost/") {
            Some(rest) => {
                let rest = rest.into();
                local_path(&Field::new(&rest, field.path), false, causes);
            }
            None if matches!(value, "runtime/default" | "docker/default" | "unconfined") => {}
            None => field.invalid("must be a valid seccomp profile", causes),
        }
    } else if let Some(name) = key.strip_prefix(CONTAINER_APP_ARMOR) {
        let known = ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|list| spec.items(list))
            .any(|container| container.str("name") == name);
        if !known {
            causes.push(Cause::invalid(keyed.path.as_str(), &name.into(), "container not found"));
        }
        if !matches!(value, "" | "runtime/default" | "unconfined") && !value.starts_with("localhost/") {
            keyed.invalid(&format!("invalid AppArmor profile name: {value:?}"), causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_with_a_meaning_have_a_form() {
        let faults = |key: &str, value: &str| {
            let (annotations, spec) = (json!({ key: value }), json!({"containers": [{"name": "c"}]}));
            let mut causes = Vec::new();
            check(&Field::new(&annotations, ""), &Field::new(&spec, "spec"), "metadata.annotations", &mut causes);
            causes.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
        };
        assert_eq!(faults(DELETION_COST, "-7"), Vec::<String>::new());
        assert_eq!(faults(DELETION_COST, "many"), ["Invalid value: \"many\": must be a 32bit integer"]);
        assert_eq!(faults(POD_SECCOMP, "x"), ["Invalid value: \"x\": must be a valid seccomp profile"]);
        assert_eq!(
            faults("container.apparmor.security.beta.kubernetes.io/d", "unconfined"),
            ["Invalid value: \"d\": container not found"]
        );
    }
}
