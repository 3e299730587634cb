//! CustomResourceDefinitions.

use jiff::Timestamp;
use martello_api::{
    clock::rfc3339_seconds,
    resource::Resource,
    schema::{Schemas, decode_value},
    status::Cause,
};
use serde_json::{Value, json};

use super::spec;
use crate::{
    crd::{finalize::FINALIZER, format, naming::set_condition},
    registry::{
        kind::{Generation, Strategy, resource},
        object,
    },
};

/// The port of a conversion webhook's Service where none is given.
const WEBHOOK_PORT: i64 = 443;
const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// CustomResourceDefinitions.
pub struct CustomResourceDefinitions;

impl Strategy for CustomResourceDefinitions {
    fn resource(&self) -> Resource {
        resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
            .cluster_scoped()
            .short(&["crd", "crds"])
            .categories(&["api-extensions"])
            .status()
            .build()
    }

    fn default(&self, object: &mut Value) {
        let kind = object::text(object, &["spec", "names", "kind"]).to_owned();
        for (key, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
            if !kind.is_empty() && object::text(object, &["spec", "names", key]).is_empty() {
                object::set(object, &["spec", "names"], key, value);
            }
        }
        if object::at(object, &["spec", "conversion"]).is_none_or(Value::is_null) {
            object::set(object, &["spec"], "conversion", json!({"strategy": "None"}));
        }
        let service = ["spec", "conversion", "webhook", "clientConfig", "service"];
        if object::at(object, &service).is_some_and(Value::is_object) {
            object::set_default(object, &service, "port", WEBHOOK_PORT);
        }
        for version in object::list_mut(object, &["spec", "versions"]).into_iter().flatten() {
            if let Some(schema) = object::at_mut(version, &["schema", "openAPIV3Schema"]) {
                shape_below(schema);
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({}));
        store_version(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value, _now: Timestamp) {
        store_version(object);
    }

    fn prepare_status(&self, object: &mut Value, _old: &Value) {
        if object::list(object, &["status", "storedVersions"]).is_empty() {
            store_version(object);
        }
    }

    // The metadata that comes with a status is taken, and owned like it.
    fn reset_fields(&self, subresource: &str) -> Option<&'static [&'static [&'static str]]> {
        (subresource == "status").then_some(&[&["spec"]])
    }

    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        spec::create(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        spec::update(object, old, causes);
    }

    fn validate_status(&self, object: &Value, _old: &Value, causes: &mut Vec<Cause>) {
        spec::status(object, causes);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let known = old.map(format::unrecognized).unwrap_or_default();
        let found = format::unrecognized(object).into_iter().filter(|name| !known.contains(name));
        found.map(|name| format!("unrecognized format {name:?}")).collect()
    }

    fn begin_delete(&self, object: &mut Value, now: Timestamp) -> bool {
        object::set(object, &["metadata"], "deletionTimestamp", rfc3339_seconds(now));
        let mut finalizers: Vec<String> = object::finalizers(object).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|own| own == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        object::set(object, &["metadata"], "finalizers", finalizers);
        let mut status = object.get("status").cloned().unwrap_or_default();
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        set_condition(&mut status, "Terminating", true, "InstanceDeletionPending", message, now);
        object::set(object, &[], "status", status);
        true
    }
}

/// Notes the version in which objects are stored from now on.
fn store_version(object: &mut Value) {
    let versions = object::list(object, &["spec", "versions"]);
    let Some(storage) = versions.iter().find(|version| object::flag(version, &["storage"])) else { return };
    let storage = json!(object::text(storage, &["name"]));
    let mut stored = object::list(object, &["status", "storedVersions"]).to_vec();
    if !stored.contains(&storage) {
        stored.push(storage);
        object::set(object, &["status"], "storedVersions", stored);
    }
}

/// Where a schema stands in a place that may also hold something else, it is read there, too.
fn shape_below(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    // What is neither a schema nor schemas is read as nothing.
    map.retain(|key, value| match (key.as_str(), value) {
        ("items", Value::Array(schemas)) => !schemas.is_empty(),
        ("items", value) => value.is_object(),
        _ => true,
    });
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("items" | "additionalProperties" | "additionalItems", value @ Value::Object(_)) => {
                if let Some(Ok(decoded)) =
                    Schemas::builtin().named(SCHEMA).map(|schema| decode_value(schema, value.take()))
                {
                    *value = decoded.value;
                }
                shape_below(value);
            }
            ("not", value) => shape_below(value),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter_mut().for_each(shape_below),
            ("properties" | "patternProperties" | "definitions", Value::Object(schemas)) => {
                schemas.values_mut().for_each(shape_below);
            }
            _ => {}
        }
    }
}
