//! AccessExplanations: what is decided about a request, which rule decides, and every policy that was asked.

use std::sync::Arc;

use martello_api::{resource::Resource, status::ApiError};
use serde_json::{Value, json};

use crate::{
    registry::{
        call::Call,
        kind::resource,
        object,
        reviews::{Review, access},
    },
    server::Core,
};

/// AccessExplanations. Their spec is that of a SubjectAccessReview.
pub struct AccessExplanations;

impl Review for AccessExplanations {
    fn resource(&self) -> Resource {
        resource("martello.dev", "v1alpha1", "AccessExplanation", "accessexplanations")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    fn check(&self, call: &Call, review: &Value) -> Result<(), ApiError> {
        access::Reviews::Any.refuse(call, review)
    }

    async fn review(&self, core: &Arc<Core>, _: &Call, mut review: Value) -> Result<Value, ApiError> {
        let attributes = access::attributes(Arc::new(access::subject(&review)), &review);
        object::set(&mut review, &[], "status", json!(core.authorizer.explain(&attributes)));
        Ok(review)
    }
}
