//! ResourceClaimTemplates.

use std::sync::Arc;

use martello_api::{resource::Resource, status::Cause};
use serde_json::{Value, json};

use super::{GROUP, authority, claim_rules, defaults, go_form};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Column, Deleted, Judged, Strategy, resource},
        object, table,
        validation::{field::Field, pod::volumes::template_metadata},
    },
    server::Core,
};

/// ResourceClaimTemplates.
pub struct Templates;

impl Strategy for Templates {
    fn resource(&self) -> Resource {
        resource(GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates").build()
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &["spec"], "metadata", json!({}));
        if let Some(spec) = object::at_mut(object, &["spec", "spec"]) {
            defaults::claim(spec);
        }
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = Field::new(object, "").at("spec");
        template_metadata(&spec.at("metadata"), causes);
        claim_rules::check(&spec.at("spec"), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if !object::same_of("io.k8s.api.resource.v1.ResourceClaimTemplateSpec", object.get("spec"), old.get("spec")) {
            let shown = go_form::template(object.get("spec").unwrap_or(&Value::Null));
            causes.push(Cause::invalid("spec", &shown, "field is immutable"));
        }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        &table::NAME_AND_AGE
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        table::name_and_age(object)
    }

    fn judged<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        object: &'a Value,
        old: Option<&'a Value>,
    ) -> Judged<'a> {
        Box::pin(async move {
            if old.is_some() {
                return Ok(Vec::new());
            }
            authority::asked(core, call, object, &["spec", "spec"]).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gives_its_claims_labels_and_annotations_alone() {
        let template = json!({"spec": {"metadata": {"name": "n", "uid": "u", "labels": {"a b": "c"},
            "annotations": {"a b": "c"}}, "spec": {}}});
        let mut causes = Vec::new();
        Templates.validate_create(&template, &mut causes);
        let fields: Vec<_> = causes.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(
            fields,
            ["spec.metadata.annotations", "spec.metadata.labels", "spec.metadata.name", "spec.metadata.uID"]
        );
        assert_eq!(causes[2].message, "Forbidden: cannot be set");
    }
}
