//! What the server writes into a status by itself, past the handlers, is told of as upstream tells of what its components
//! write through theirs.

use martello_api::{
    clock,
    managed_fields::{self, Ignored, Writer},
    schema::Schemas,
};
use serde_json::Value;

use crate::registry::kind::Kind;

/// The component that charges and decides within a request.
pub const SERVER: &str = "kube-apiserver";
/// The component that counts afterwards.
pub const CONTROLLERS: &str = "kube-controller-manager";

/// Notes in the managed fields of `new` what `manager` changed in the status of `old`.
pub fn track(kind: &Kind, old: &Value, new: &mut Value, manager: &str) {
    let Some(schema) = Schemas::builtin().get(&kind.resource.gvk) else { return };
    let version = kind.resource.gvk.api_version();
    let (reset_fields, now) = (Ignored::NOTHING, clock::now());
    let writer = Writer { manager, api_version: &version, subresource: "status", reset_fields, now, versions: None };
    if let Err(error) = managed_fields::track_update(schema, Some(old), new, &writer) {
        tracing::warn!(%error, manager, "owners of a status could not be told");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::core::resource_quota::ResourceQuotas;

    #[test]
    fn what_a_component_wrote_is_its_own() {
        let kind = Kind::new(ResourceQuotas);
        let old = json!({"metadata": {"name": "q", "uid": "u", "managedFields": [{"manager": "m", "operation": "Update",
            "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:hard": {".": {}, "f:pods": {}}}}}]},
            "spec": {"hard": {"pods": "1"}}, "status": {}});
        let mut new = old.clone();
        new["status"] = json!({"used": {"pods": "0"}});
        track(&kind, &old, &mut new, CONTROLLERS);
        let entries = new["metadata"]["managedFields"].as_array().unwrap();
        let own = entries.iter().find(|entry| entry["manager"] == CONTROLLERS).unwrap();
        assert_eq!((&own["subresource"], &own["operation"]), (&json!("status"), &json!("Update")));
        assert_eq!(own["fieldsV1"], json!({"f:status": {"f:used": {".": {}, "f:pods": {}}}}));
    }
}
