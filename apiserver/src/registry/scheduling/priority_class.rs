//! PriorityClasses, and the two that every cluster has.

use jiff::Timestamp;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use crate::registry::{
    call::Call,
    kind::{Cell, Column, Strategy, resource},
    object, table,
    validation::field::Field,
};

/// Highest value of a class that is not the system's.
pub const MAX_USER_VALUE: i64 = 1_000_000_000;
const RESERVED: &str = "system-";

/// A class that every cluster has.
pub struct SystemClass {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: i64,
    /// For people.
    pub description: &'static str,
}

/// The classes that every cluster has.
pub const SYSTEM_CLASSES: [SystemClass; 2] = [
    SystemClass {
        name: "system-node-critical",
        value: 2 * MAX_USER_VALUE + 1000,
        description: "Used for system critical pods that must not be moved from their current node.",
    },
    SystemClass {
        name: "system-cluster-critical",
        value: 2 * MAX_USER_VALUE,
        description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    },
];

/// PriorityClasses.
pub struct PriorityClasses;

impl Strategy for PriorityClasses {
    fn resource(&self) -> Resource {
        resource("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses").cluster_scoped().short(&["pc"]).build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &[], "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &["metadata"], "generation", 1);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let class = Field::new(object, "");
        let (name, value) = (object::name(object), class.at("value").int().unwrap_or(0));
        if name.starts_with(RESERVED) {
            if let Err(why) = check_system(name, value, class.flag("globalDefault")) {
                let why = format!(
                    "priority class names with '{RESERVED}' prefix are reserved for system use only. error: {why}"
                );
                causes.push(Cause::forbidden("metadata.name", &why));
            }
        } else if value > MAX_USER_VALUE {
            let why = format!("maximum allowed value of a user defined priority is {MAX_USER_VALUE}");
            class.at("value").forbidden(&why, causes);
        }
        if let Some(policy) = class.get("preemptionPolicy") {
            policy.needs_one_of(&["PreemptLowerPriority", "Never"], causes);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let [new, old] = [object, old].map(|class| Field::new(class, ""));
        if new.at("value").int().unwrap_or(0) != old.at("value").int().unwrap_or(0) {
            new.at("value").forbidden("may not be changed in an update.", causes);
        }
        let policy = new.at("preemptionPolicy");
        if policy.value != old.at("preemptionPolicy").value {
            policy.invalid("field is immutable", causes);
        }
    }

    fn before_delete(&self, _call: &Call, object: &Value) -> Result<(), ApiError> {
        let name = object::name(object);
        if !SYSTEM_CLASSES.iter().any(|class| class.name == name) {
            return Ok(());
        }
        let why = "this is a system priority class and cannot be deleted";
        Err(ApiError::forbidden("scheduling.k8s.io", "priorityclasses", name, why))
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 5] = [
            Column::name(),
            Column::text("Value", "value").integer(),
            Column::text("Global-Default", "globalDefault").boolean(),
            Column::age(),
            Column::text("PreemptionPolicy", "preemptionPolicy"),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![
            object::name(object).into(),
            object::int(object, &["value"]).unwrap_or(0).into(),
            object::flag(object, &["globalDefault"]).into(),
            table::age(object),
            object::text(object, &["preemptionPolicy"]).into(),
        ]
    }
}

fn check_system(name: &str, value: i64, is_default: bool) -> Result<(), String> {
    let Some(class) = SYSTEM_CLASSES.iter().find(|class| class.name == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != class.value {
        return Err(format!("value of {name} PriorityClass must be {}", class.value));
    }
    if is_default {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

/// The object of a class that every cluster has.
#[must_use]
pub fn object_of(class: &SystemClass) -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": class.name},
        "value": class.value,
        "description": class.description,
        "preemptionPolicy": "PreemptLowerPriority",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_no_text_is_a_missing_one() {
        let said = |policy: &str| {
            let class = json!({"metadata": {"name": "c"}, "value": 1, "preemptionPolicy": policy});
            let mut causes = Vec::new();
            PriorityClasses.validate_create(&class, &mut causes);
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
        };
        assert!(said("Never").is_empty());
        assert_eq!(said(""), ["preemptionPolicy: Required value"]);
        assert_eq!(
            said("Odd"),
            ["preemptionPolicy: Unsupported value: \"Odd\": supported values: \"PreemptLowerPriority\", \"Never\""]
        );
    }
}
