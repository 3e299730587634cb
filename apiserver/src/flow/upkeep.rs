//! Upkeep of the flow schemas and priority levels that every cluster has: what is missing is made again, what somebody changed
//! is changed back as far as its annotation lets that be, and what no version makes any more goes.

use std::{sync::Arc, time::Duration};

use martello_api::status::ApiError;
use serde_json::Value;

use crate::{
    registry::{
        flowcontrol::bootstrap::{AUTO_UPDATE, MANDATORY, SUGGESTED},
        object,
    },
    server::{Core, bootstrap, followup},
};

/// How often that is done: as often as upstream does it.
const PERIOD: Duration = Duration::from_secs(60);
const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Whose the fields of these objects are.
const MANAGER: &str = "fieldManager=api-priority-and-fairness-config-producer-v1";

/// Looks after them until the server ends.
pub async fn look_after(core: Arc<Core>) {
    while core.drain.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        if let Err(error) = ensure(&core).await {
            tracing::warn!(%error, "the flow schemas and priority levels that every cluster has were not looked after");
        }
    }
}

/// Makes them what they should be.
pub async fn ensure(core: &Arc<Core>) -> Result<(), ApiError> {
    let client = core.own_client();
    for plural in ["prioritylevelconfigurations", "flowschemas"] {
        let Some(kind) = core.registry.find(GROUP, "v1", plural) else { continue };
        let path = format!("/apis/{GROUP}/v1/{plural}");
        for action in plan(kind.name(), &bootstrap::all(core, kind).await?) {
            let done = match action {
                Action::Create(object) => bootstrap::create(&client, &format!("{path}?{MANAGER}"), object).await,
                Action::Replace(object) => {
                    let path = format!("{path}/{}?{MANAGER}", object::name(&object));
                    bootstrap::send(&client, "PUT", &path, &object).await
                }
                Action::Delete(name) => followup::delete(&client, &format!("{path}/{name}")).await,
            };
            match done {
                // Somebody was faster; the next time tells.
                Err(error) if matches!(error.code, 404 | 409) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// What is to be done to one object.
#[derive(Debug, PartialEq)]
enum Action {
    Create(&'static Value),
    Replace(Value),
    Delete(String),
}

/// What is to be done to the objects of a kind, of which these are there.
fn plan(kind: &str, present: &[Value]) -> Vec<Action> {
    let of_kind = |one: &&'static Value| object::text(one, &["kind"]) == kind;
    let suggested = SUGGESTED.iter().filter(of_kind).map(|one| (one, false));
    let wanted: Vec<(&'static Value, bool)> =
        suggested.chain(MANDATORY.iter().filter(of_kind).map(|one| (one, true))).collect();
    let mut actions = Vec::new();
    for &(one, mandatory) in &wanted {
        match present.iter().find(|found| object::name(found) == object::name(one)) {
            None => actions.push(Action::Create(one)),
            Some(found) => actions.extend(repaired(found, one, mandatory).map(Action::Replace)),
        }
    }
    let obsolete = present.iter().filter(|one| {
        let known = wanted.iter().any(|(wanted, _)| object::name(wanted) == object::name(one));
        !known && annotated(one) == Some(true)
    });
    actions.extend(obsolete.map(|one| Action::Delete(object::name(one).to_owned())));
    actions
}

/// The object as it should be, if it is not so.
fn repaired(found: &Value, wanted: &Value, mandatory: bool) -> Option<Value> {
    // Who never changed it did not care to say so.
    let untouched = || object::int(found, &["metadata", "generation"]) == Some(1);
    let keeps_up = mandatory || annotated(found).unwrap_or_else(untouched);
    let spec_differs = keeps_up && !has_spec(found, wanted);
    if annotated(found) == Some(keeps_up) && !spec_differs {
        return None;
    }
    let mut repaired = found.clone();
    object::set(&mut repaired, &["metadata", "annotations"], AUTO_UPDATE, keeps_up.to_string());
    if spec_differs {
        object::copy_key(&mut repaired, wanted, "spec");
    }
    Some(repaired)
}

/// Whether an object has the spec that it should have. What the exempt level lends is everybody's own affair.
fn has_spec(found: &Value, wanted: &Value) -> bool {
    let schema = match object::text(wanted, &["kind"]) {
        "FlowSchema" => "io.k8s.api.flowcontrol.v1.FlowSchemaSpec",
        _ => "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec",
    };
    let mut spec = wanted.get("spec").cloned().unwrap_or_default();
    if let Some(exempt) = object::at(found, &["spec", "exempt"]).filter(|exempt| exempt.is_object())
        && spec.get("exempt").is_some()
    {
        object::set(&mut spec, &[], "exempt", exempt.clone());
    }
    object::same_of(schema, found.get("spec"), Some(&spec))
}

/// What the annotation says of whether the server keeps the spec; nothing where it says nothing that can be read.
fn annotated(object: &Value) -> Option<bool> {
    match object::text(object, &["metadata", "annotations", AUTO_UPDATE]) {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LEVELS: &str = "PriorityLevelConfiguration";

    fn all() -> Vec<Value> {
        SUGGESTED.iter().chain(MANDATORY.iter()).filter(|one| one["kind"] == LEVELS).cloned().collect()
    }

    /// What is done when the level of that name is as `change` leaves it.
    fn after(name: &str, change: impl Fn(&mut Value)) -> Vec<Action> {
        let mut present = all();
        present.iter_mut().filter(|one| object::name(one) == name).for_each(change);
        plan(LEVELS, &present)
    }

    fn say(level: &mut Value, annotation: &str) {
        level["metadata"]["annotations"][AUTO_UPDATE] = json!(annotation);
    }

    #[test]
    fn what_is_missing_is_made_and_what_nobody_makes_any_more_goes() {
        assert_eq!(plan(LEVELS, &all()), []);
        let mut present = all();
        present.retain(|one| object::name(one) != "system");
        for (name, annotation) in [("former", "true"), ("kept", "false"), ("own", "")] {
            let mut level = json!({"metadata": {"name": name, "annotations": {}}});
            say(&mut level, annotation);
            present.push(level);
        }
        let actions = plan(LEVELS, &present);
        assert_eq!(actions.len(), 2);
        assert!(matches!(&actions[0], Action::Create(level) if object::name(level) == "system"));
        assert_eq!(actions[1], Action::Delete("former".to_owned()));
    }

    #[test]
    fn a_changed_spec_is_changed_back_unless_its_annotation_forbids_that() {
        let other = |level: &mut Value| level["spec"]["limited"]["nominalConcurrencyShares"] = json!(7);
        let shares = |actions: &[Action]| match actions {
            [Action::Replace(level)] => level["spec"]["limited"]["nominalConcurrencyShares"].clone(),
            actions => panic!("{actions:?}"),
        };
        assert_eq!(shares(&after("system", other)), 30);
        let own = after("system", |level| {
            other(level);
            say(level, "false");
        });
        assert_eq!(own, []);
        let mandatory = after("catch-all", |level| {
            other(level);
            say(level, "false");
        });
        assert_eq!(shares(&mandatory), 5);
        let lent = after("exempt", |level| level["spec"]["exempt"]["lendablePercent"] = json!(50));
        assert_eq!(lent, []);
    }

    #[test]
    fn who_says_nothing_is_told_what_is_done() {
        let annotation = |generation: i64| {
            let actions = after("system", |level| {
                level["metadata"]["annotations"] = json!({});
                level["metadata"]["generation"] = json!(generation);
                level["spec"]["limited"]["nominalConcurrencyShares"] = json!(7);
            });
            match actions.as_slice() {
                [Action::Replace(level)] => (
                    level["metadata"]["annotations"][AUTO_UPDATE].clone(),
                    level["spec"]["limited"]["nominalConcurrencyShares"].clone(),
                ),
                actions => panic!("{actions:?}"),
            }
        };
        assert_eq!(annotation(1), (json!("true"), json!(30)));
        assert_eq!(annotation(2), (json!("false"), json!(7)));
    }
}
