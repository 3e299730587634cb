//! ResourceClaimTemplates.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::{GROUP, authority, claim_rules, defaults, go_form};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Column, Deleted, Strategy, resource},
        object, table,
        validation::{field::Field, metadata},
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
        let meta = ["spec", "metadata"];
        metadata::labels(object::at(object, &meta).and_then(|meta| meta.get("labels")), "spec.metadata.labels", causes);
        metadata::annotations(
            object::at(object, &meta).and_then(|meta| meta.get("annotations")),
            "spec.metadata.annotations",
            causes,
        );
        claim_rules::check(&Field::new(object, "").at("spec").at("spec"), causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        if !object::semantically_equal(object.get("spec"), old.get("spec")) {
            let shown = go_form::template(object.get("spec").unwrap_or(&Value::Null));
            causes.push(Cause::invalid("spec", &shown, "field is immutable"));
        }
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 2] = [Column::name(), Column::age()];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        vec![object::name(object).into(), table::age(object)]
    }

    fn before_commit<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        change: Change<'a>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            if change.old.is_some() {
                return Ok(());
            }
            authority::asked(core, call, change.object, "ResourceClaimTemplate", &["spec", "spec"]).await
        })
    }
}
