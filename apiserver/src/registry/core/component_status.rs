//! ComponentStatus: how the parts of the control plane are, asked when it is asked for and never stored. Deprecated
//! upstream since 1.19, and still what old tools look at.

use std::sync::{Arc, atomic::Ordering};

use martello_api::resource::Resource;
use serde_json::{Value, json};

use crate::{
    registry::{
        kind::{Cell, Column, Strategy, resource},
        object,
    },
    server::Core,
};

/// Statuses of components.
pub struct ComponentStatuses;

impl Strategy for ComponentStatuses {
    fn resource(&self) -> Resource {
        resource("", "v1", "ComponentStatus", "componentstatuses")
            .cluster_scoped()
            .short(&["cs"])
            .verbs(&["get", "list"])
            .build()
    }

    fn deprecation(&self) -> Option<&str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    /// Controllers and scheduler are parts of the process that answers; the store can fail by itself.
    fn computed(&self, core: &Arc<Core>) -> Option<Vec<Value>> {
        let ready = core.ready.load(Ordering::Acquire);
        let own = if ready { Ok(()) } else { Err("not started yet".to_owned()) };
        let store = core.store.status().failure.map_or(Ok(()), Err);
        Some(vec![status("controller-manager", &own), status("etcd-0", &store), status("scheduler", &own)])
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 4] = [
            Column::name(),
            Column::text("Status", "Status of the component conditions"),
            Column::text("Message", "Message of the component conditions"),
            Column::text("Error", "Error of the component conditions"),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let conditions = object::list(object, &["conditions"]);
        let healthy = conditions.iter().find(|condition| object::text(condition, &["type"]) == "Healthy");
        let text = |key: &str| healthy.map_or("", |condition| object::text(condition, &[key]));
        let state = match text("status") {
            "" => "Unknown",
            "True" => "Healthy",
            _ => "Unhealthy",
        };
        vec![object::name(object).into(), state.into(), text("message").into(), text("error").into()]
    }
}

fn status(name: &str, state: &Result<(), String>) -> Value {
    let condition = match state {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "error": why}),
    };
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [condition],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_that_fails_says_why() {
        let row = |state: &Result<(), String>| ComponentStatuses.row(&status("x", state));
        assert_eq!(row(&Ok(())), ["x", "Healthy", "ok", ""].map(Cell::from));
        assert_eq!(row(&Err("no disk".to_owned())), ["x", "Unhealthy", "", "no disk"].map(Cell::from));
    }
}
