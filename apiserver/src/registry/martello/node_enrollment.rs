//! NodeEnrollments: how a machine becomes a node (with a join token), and how a node renews its certificates.

use std::sync::Arc;

use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use martello_pki::enroll::EnrollRequest;
use serde_json::{Value, json};

use crate::{
    registry::{call::Call, kind::resource, object, reviews::Review},
    server::Core,
};

/// NodeEnrollments.
pub struct NodeEnrollments;

impl Review for NodeEnrollments {
    fn resource(&self) -> Resource {
        resource("martello.dev", "v1alpha1", "NodeEnrollment", "nodeenrollments")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    async fn review(&self, core: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        let invalid = |cause| ApiError::invalid("martello.dev", "NodeEnrollment", "", vec![cause]);
        let request = review.pointer("/spec/request").cloned().unwrap_or_default();
        let request: EnrollRequest = serde_json::from_value(request).map_err(|error| {
            invalid(Cause::new("FieldValueInvalid", "spec.request", format!("Invalid value: {error}")))
        })?;
        let refused = |error: martello_pki::enroll::EnrollError| {
            let mut why = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                why = format!("{why}: {cause}");
                source = cause.source();
            }
            ApiError::forbidden("martello.dev", "nodeenrollments", &request.node, &why)
        };
        let token = object::text(&review, &["spec", "token"]).to_owned();
        let response = if token.is_empty() {
            core.pki.renew_node(&call.user, &request, call.now)
        } else {
            core.pki.enroll(&token, &request, call.now)
        };
        let response = response.map_err(refused)?;
        object::remove(&mut review, &[], "spec");
        object::set(&mut review, &[], "status", json!(response));
        Ok(review)
    }
}
