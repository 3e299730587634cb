//! What flow schemas say of themselves: whether the level that they name exists.

use std::sync::Arc;

use martello_api::{clock, clock::rfc3339_seconds};
use serde_json::{Value, json};

use crate::{
    registry::object,
    server::{Core, followup},
};

const DANGLING: &str = "Dangling";
/// Whose the condition is.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
const VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";

/// Writes down which schemas lead nowhere, where that is not what they say.
pub fn follow_all(core: &Arc<Core>) {
    core.flow.dangling(None).into_iter().for_each(|(schema, dangling)| follow(core, &schema, dangling));
}

/// As [`follow_all`], for one schema.
pub fn follow_one(core: &Arc<Core>, name: &str) {
    core.flow.dangling(Some(name)).into_iter().for_each(|(schema, dangling)| follow(core, &schema, dangling));
}

fn follow(core: &Arc<Core>, schema: &Value, dangling: bool) {
    // While a cluster begins, schemas come before their levels.
    if !core.ready.load(std::sync::atomic::Ordering::Acquire) {
        return;
    }
    let Some(condition) = due(schema, dangling) else { return };
    let (core, name) = (Arc::clone(core), object::name(schema).to_owned());
    followup::spawn("tell whether a flow schema's level exists", &name.clone(), async move {
        let path = format!("/apis/{VERSION}/flowschemas/{name}/status");
        let told = json!({
            "apiVersion": VERSION, "kind": "FlowSchema", "metadata": {"name": name}, "status": {"conditions": [condition]},
        });
        followup::apply(&core.own_client(), &path, MANAGER, &told).await
    });
}

/// The condition that is to be written, if another is there.
fn due(schema: &Value, dangling: bool) -> Option<Value> {
    let level = object::text(schema, &["spec", "priorityLevelConfiguration", "name"]);
    let (status, reason, end) = if dangling {
        ("True", "NotFound", "but there is no such object")
    } else {
        ("False", "Found", "and it exists")
    };
    let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}");
    let conditions = object::list(schema, &["status", "conditions"]);
    let old = conditions.iter().find(|one| object::text(one, &["type"]) == DANGLING);
    let same = old.is_some_and(|old| {
        (object::text(old, &["status"]), object::text(old, &["message"])) == (status, message.as_str())
    });
    (!same).then(|| {
        json!({
            "type": DANGLING, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": rfc3339_seconds(clock::now()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_whether_its_level_exists() {
        let schema = json!({"spec": {"priorityLevelConfiguration": {"name": "x"}}});
        let condition = due(&schema, true).unwrap();
        assert_eq!(
            condition["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"x\" but there is no such object"
        );
        let told =
            json!({"spec": {"priorityLevelConfiguration": {"name": "x"}}, "status": {"conditions": [condition]}});
        assert_eq!(due(&told, true), None);
        assert_eq!(due(&told, false).unwrap()["status"], "False");
    }
}
