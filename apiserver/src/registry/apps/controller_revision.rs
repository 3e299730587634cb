//! ControllerRevisions: the templates that StatefulSets and DaemonSets had, each kept as it was.

use martello_api::{resource::Resource, status::Cause};
use serde_json::Value;

use crate::registry::{
    kind::{Cell, Column, Strategy, resource},
    object, table,
    validation::field::Field,
};

/// ControllerRevisions.
pub struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    fn resource(&self) -> Resource {
        resource("apps", "v1", "ControllerRevision", "controllerrevisions").build()
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        Field::new(object, "").at("revision").not_negative(causes);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let data = Field::new(object, "").at("data");
        match data.value {
            Value::Object(_) => {}
            Value::Null => data.required("data is mandatory", causes),
            _ => data.required("data must be a valid JSON object", causes),
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let data = Field::new(object, "").at("data");
        if data.value != old.get("data").unwrap_or(&Value::Null) {
            data.invalid("field is immutable", causes);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("Controller", "Controller of the object"),
            Column::text("Revision", "revision"),
            Column::age(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![
            object::name(object).into(),
            controller(object).into(),
            object::int(object, &["revision"]).unwrap_or(0).into(),
            table::age(object),
        ]
    }
}

/// The controlling owner as `statefulset.apps/web`.
fn controller(object: &Value) -> String {
    let owners = object::list(object, &["metadata", "ownerReferences"]);
    let Some(owner) = owners.iter().find(|owner| object::flag(owner, &["controller"])) else {
        return "<none>".to_owned();
    };
    let kind = object::text(owner, &["kind"]).to_lowercase();
    let group = object::text(owner, &["apiVersion"]).rsplit_once('/').map_or("", |(group, _)| group);
    let name = object::text(owner, &["name"]);
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}
