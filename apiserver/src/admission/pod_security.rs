//! Pod security: the levels of a namespace, asked of every pod and of every template that is written there.

use std::{collections::BTreeMap, sync::Arc};

use martello_api::status::{ApiError, Cause};
use martello_policy::admission::{LABEL_PREFIX, Levels, Verdict, judge_change, judge_pod, judge_template};
use serde_json::Value;

use super::Operation;
use crate::{
    registry::{call::Call, kind::Kind, object},
    server::Core,
};

/// The labels that a namespace asks by, in the order in which upstream reads them.
const MODES: [&str; 6] = ["enforce", "enforce-version", "audit", "audit-version", "warn", "warn-version"];

/// Refuses a pod beyond the level of its namespace; warns of a template whose pods would be.
pub async fn check(
    core: &Arc<Core>,
    kind: &Kind,
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(object) = object else { return Ok(()) };
    if (kind.group(), kind.name()) == ("", "Namespace") {
        labels(kind, object, old)?;
        let Some(old) = old.filter(|_| call.target.subresource.is_empty()) else { return Ok(()) };
        return change(core, call, object, old).await;
    }
    let subject = match Subject::of(kind, call, object, old) {
        Some(subject) if operation != Operation::Delete => subject,
        _ => return Ok(()),
    };
    let (user, namespace) = (call.user.name.as_str(), call.namespace());
    let levels = levels(core, namespace).await?;
    let Verdict { refusal, warnings, annotations } = match subject {
        Subject::Pod => judge_pod(user, namespace, object, &levels),
        Subject::Template(template) => judge_template(user, namespace, template, &levels),
    };
    call.note(annotations);
    warnings.into_iter().for_each(|warning| call.warn(warning));
    match refusal {
        Some(why) => Err(kind.forbidden(object::name(object), &why)),
        None => Ok(()),
    }
}

/// Refuses labels that ask for a level that there is not; where nothing is wrong but what was before, all may stay.
fn labels(kind: &Kind, namespace: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let causes = label_faults(namespace);
    if causes.is_empty() || old.is_some_and(|old| label_faults(old) == causes) {
        return Ok(());
    }
    Err(kind.invalid(object::name(namespace), causes))
}

fn label_faults(namespace: &Value) -> Vec<Cause> {
    let Some(labels) = object::at(namespace, &["metadata", "labels"]) else { return Vec::new() };
    let faults = MODES.iter().filter_map(|mode| {
        let key = format!("{LABEL_PREFIX}{mode}");
        let value = labels.get(&key)?;
        let why = Levels::label_error(&key, value.as_str().unwrap_or_default())?;
        Some(Cause::invalid(format!("metadata.labels[{key}]"), value, why))
    });
    faults.collect()
}

/// Warns of the pods that are beyond the level that a namespace asks for anew.
async fn change(core: &Arc<Core>, call: &Call, namespace: &Value, old: &Value) -> Result<(), ApiError> {
    let (new, old) = (Levels::of_namespace(namespace).enforce, Levels::of_namespace(old).enforce);
    if new == old {
        return Ok(());
    }
    let name = object::name(namespace);
    let pods = core.registry.find("", "v1", "pods").ok_or_else(ApiError::no_such_route)?;
    let pods = core.all(pods, name).await?;
    judge_change(name, &pods, &new, &old).into_iter().for_each(|warning| call.warn(warning));
    Ok(())
}

/// What is judged.
enum Subject<'a> {
    Pod,
    Template(&'a Value),
}

impl<'a> Subject<'a> {
    fn of(kind: &Kind, call: &Call, object: &'a Value, old: Option<&Value>) -> Option<Self> {
        let part = call.target.subresource.as_str();
        let path: &[&str] = match (kind.group(), kind.name()) {
            ("", "Pod") => {
                let writes_spec = matches!(part, "" | "ephemeralcontainers");
                return (writes_spec && old.is_none_or(|old| differ(object, old))).then_some(Self::Pod);
            }
            ("apps", _) | ("batch", "Job") | ("", "ReplicationController") => &["spec", "template"],
            ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
            ("", "PodTemplate") => &["template"],
            _ => return None,
        };
        let template = object::at(object, path).filter(|template| template.get("spec").is_some())?;
        part.is_empty().then_some(Self::Template(template))
    }
}

/// Whether a pod was changed in what the level is about: another image, or a container more. All else that may be changed
/// of a pod makes it no stronger.
fn differ(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<(String, String)> {
        let text = |container: &Value, key: &str| object::text(container, &[key]).to_owned();
        let containers = object::list(pod, &["spec", list]).iter();
        containers.map(|container| (text(container, "name"), text(container, "image"))).collect()
    };
    let named = images(old, "ephemeralContainers");
    ["containers", "initContainers"].iter().any(|list| images(new, list) != images(old, list))
        || images(new, "ephemeralContainers").iter().any(|own| !named.contains(own))
}

async fn levels(core: &Arc<Core>, namespace: &str) -> Result<Levels, ApiError> {
    let namespaces = core.registry.find("", "v1", "namespaces").ok_or_else(ApiError::no_such_route)?;
    let entry = core.find(namespaces, "", namespace).await?;
    let labels = entry.iter().flat_map(|entry| entry.labels.iter());
    let labels = labels.filter(|(key, _)| key.starts_with(LABEL_PREFIX));
    let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Ok(Levels::of_labels(&labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_change_of_what_the_level_is_about_is_judged_again() {
        let old = json!({"metadata": {}, "spec": {"hostNetwork": true, "containers": [{"name": "a", "image": "x"}]}});
        let mut new = old.clone();
        new["metadata"] = json!({"labels": {"a": "b"}});
        new["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        new["spec"]["nodeSelector"] = json!({"a": "b"});
        assert!(!differ(&new, &old));
        let with = |container: Value| {
            let mut pod = new.clone();
            pod["spec"]["ephemeralContainers"] = json!([container]);
            pod
        };
        assert!(differ(&with(json!({"name": "b", "image": "x"})), &old));
        new["spec"]["containers"][0]["image"] = json!("y");
        assert!(differ(&new, &old));
    }

    #[test]
    fn labels_are_told_in_upstreams_order_and_all_together() {
        let labels = |enforce: &str, audit: &str| {
            json!({"metadata": {"labels": {
                "pod-security.kubernetes.io/audit": audit,
                "pod-security.kubernetes.io/enforce": enforce,
            }}})
        };
        let fields: Vec<String> = label_faults(&labels("a", "b")).into_iter().map(|cause| cause.field).collect();
        assert_eq!(
            fields,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]",
                "metadata.labels[pod-security.kubernetes.io/audit]"
            ]
        );
        assert!(label_faults(&labels("baseline", "restricted")).is_empty());
    }
}
