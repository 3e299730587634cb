//! Annotations of pods and templates that mean something to the cluster.

use std::collections::HashSet;

use martello_api::{
    go,
    schema::{Raw, parse_json},
    status::Cause,
};
use serde_json::{Value, json};

use super::{all_containers, scheduling, security::MAX_PROFILE, volumes::local_path};
use crate::registry::validation::field::Field;

/// Marks a pod that a node's own files describe.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const POD_SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const CONTAINER_APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Checks annotations, which messages call `path`, of a pod of this spec.
pub(super) fn check(annotations: &Field<'_>, spec: &Field<'_>, path: &str, causes: &mut Vec<Cause>) {
    let keyed = |key: &str| annotations.get(key).map(|found| Field::new(found.value, format!("{path}[{key}]")));
    if let Some(mirror) = keyed(MIRROR).filter(|_| spec.str("nodeName").is_empty()) {
        mirror.invalid("must set spec.nodeName if mirror pod annotation is set", causes);
    }
    if let Some(listed) = keyed(TOLERATIONS).filter(|listed| !listed.text().is_empty()) {
        tolerations(listed.text(), path, causes);
    }
    if let Some(cost) = keyed(DELETION_COST).filter(|cost| !is_cost(cost.text())) {
        cost.invalid("must be a 32bit integer", causes);
    }
    let mut entries: Vec<(&String, &Value)> = annotations.value.as_object().into_iter().flatten().collect();
    // The pod's own profile comes first, profiles of AppArmor last.
    entries.sort_by_key(|(key, _)| (*key != POD_SECCOMP, key.starts_with(CONTAINER_APP_ARMOR)));
    let containers = all_containers(spec);
    let names: HashSet<&str> = containers.iter().map(|container| container.str("name")).collect();
    for (key, value) in entries {
        profile(key, &Field::new(value, format!("{path}[{key}]")), &names, path, causes);
    }
}

/// Checks tolerations that are an annotation, as they once were.
fn tolerations(listed: &str, path: &str, causes: &mut Vec<Cause>) {
    let fault = match parse_json(listed.as_bytes()) {
        Err(error) => error.to_string(),
        Ok(Raw::Null) => return,
        Ok(all @ Raw::List(_)) => {
            let holder = json!({"tolerations": all.into_value()});
            let mut found = Vec::new();
            scheduling::tolerations(&Field::new(&holder, ""), &mut found);
            let moved = |mut cause: Cause| {
                let rest = cause.field.strip_prefix("tolerations").unwrap_or_default().to_owned();
                cause.field = format!("{path}.{TOLERATIONS}{rest}");
                cause
            };
            return causes.extend(found.into_iter().map(moved));
        }
        Ok(other) => go::not_of_type(other.go_kind(), "[]core.Toleration"),
    };
    causes.push(Cause::invalid(path, &json!(TOLERATIONS), &fault));
}

/// A whole number without a plus or needless zeros in front.
fn is_cost(text: &str) -> bool {
    let padded = text.starts_with('+') || text.len() > 1 && text.starts_with('0');
    !padded && text.parse::<i32>().is_ok()
}

fn profile(key: &str, keyed: &Field<'_>, containers: &HashSet<&str>, path: &str, causes: &mut Vec<Cause>) {
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
        if !containers.contains(name) {
            causes.push(Cause::invalid(keyed.path.as_str(), &name.into(), "container not found"));
        }
        if !matches!(value, "" | "runtime/default" | "unconfined") && !value.starts_with("localhost/") {
            keyed.invalid(&format!("invalid AppArmor profile name: {value:?}"), causes);
        }
    }
}

/// Checks that profiles which are told twice, as annotations and as fields, are the same; `path` is of the spec.
pub(super) fn agree(annotations: &Field<'_>, spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (own, containers) = (spec.at("securityContext"), all_containers(spec));
    let tell = |key: &str, context: &Field<'_>, field: &str, words: &Words, causes: &mut Vec<Cause>| {
        let (Some(annotation), Some(profile)) = (annotations.get(key), context.get(field)) else { return };
        differs(annotation.text(), &profile, &context.at(words.field).path, words, causes);
    };
    tell(POD_SECCOMP, &own, "seccompProfile", &SECCOMP, causes);
    for container in &containers {
        let key = format!("{CONTAINER_SECCOMP}{}", container.str("name"));
        tell(&key, &container.at("securityContext"), "seccompProfile", &SECCOMP, causes);
    }
    if spec.at("os").str("name") == "windows" {
        return;
    }
    for container in &containers {
        let context = container.at("securityContext");
        let key = format!("{CONTAINER_APP_ARMOR}{}", container.str("name"));
        let Some(annotation) = annotations.get(&key) else { continue };
        let Some(profile) = context.get("appArmorProfile").or(own.get("appArmorProfile")) else { continue };
        differs(annotation.text(), &profile, &context.at("appArmorProfile").path, &APP_ARMOR, causes);
    }
}

/// How a kind of profile is told of.
struct Words {
    field: &'static str,
    shown: &'static str,
    default: &'static [&'static str],
}

const SECCOMP: Words =
    Words { field: "seccompProfile", shown: "seccomp", default: &["runtime/default", "docker/default"] };
const APP_ARMOR: Words = Words { field: "appArmorProfile", shown: "apparmor", default: &["runtime/default"] };

fn differs(annotation: &str, profile: &Field<'_>, path: &str, words: &Words, causes: &mut Vec<Cause>) {
    let local = annotation.strip_prefix("localhost/");
    let what = match profile.str("type") {
        "Unconfined" if annotation != "unconfined" => "type",
        "RuntimeDefault" if !words.default.contains(&annotation) => "type",
        "Localhost" if local.is_none() => "type",
        "Localhost" if local != profile.at("localhostProfile").value.as_str() => "localhostProfile",
        _ => return,
    };
    let word = if what == "type" { "type" } else { "profile" };
    let why = format!("{} {word} in annotation and field must match", words.shown);
    causes.push(Cause::forbidden(format!("{path}.{what}"), &why));
}

/// The profile that an annotation means.
#[must_use]
pub fn profile_of(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let fits = |name: &&str| !name.is_empty() && name.trim() == *name && name.len() <= MAX_PROFILE;
            let name = annotation.strip_prefix("localhost/").filter(fits)?;
            Some(json!({"type": "Localhost", "localhostProfile": name}))
        }
    }
}

/// Checks annotations that stay as they were when the pod was made.
pub(super) fn check_update(new: &Field<'_>, old: &Field<'_>, causes: &mut Vec<Cause>) {
    let what = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ if key.starts_with(CONTAINER_APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    let path = |key: &str| format!("metadata.annotations[{key}]");
    for (key, before) in old.entries("annotations") {
        let kept = new.at("annotations").get(key).is_some_and(|now| now.value == before.value);
        if let Some(what) = what(key).filter(|_| !kept) {
            causes.push(Cause::forbidden(path(key), &format!("may not remove or update {what}")));
        }
    }
    for (key, _) in new.entries("annotations") {
        if let Some(what) = what(key).filter(|_| old.at("annotations").get(key).is_none()) {
            causes.push(Cause::forbidden(path(key), &format!("may not add {what}")));
        }
    }
}

#[cfg(test)]
mod tests {
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
        for wrong in ["many", "", "+1", "007"] {
            let why = format!("Invalid value: {wrong:?}: must be a 32bit integer");
            assert_eq!(faults(DELETION_COST, wrong), [why]);
        }
        assert_eq!(faults(TOLERATIONS, r#"[{"operator": "Exists"}]"#), Vec::<String>::new());
        assert_eq!(
            faults(TOLERATIONS, "["),
            ["Invalid value: \"scheduler.alpha.kubernetes.io/tolerations\": unexpected end of JSON input"]
        );
        assert_eq!(faults(POD_SECCOMP, "x"), ["Invalid value: \"x\": must be a valid seccomp profile"]);
        assert_eq!(
            faults("container.apparmor.security.beta.kubernetes.io/d", "unconfined"),
            ["Invalid value: \"d\": container not found"]
        );
    }
}
