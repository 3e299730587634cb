//! SelfSubjectReview: who the server takes the caller for.

use std::sync::Arc;

use martello_api::{clock::rfc3339_seconds, resource::Resource, status::ApiError};
use serde_json::{Value, json};

use crate::{
    registry::{call::Call, kind::resource, object, reviews::Review},
    server::Core,
};

/// SelfSubjectReviews.
pub struct WhoAmI;

impl Review for WhoAmI {
    fn resource(&self) -> Resource {
        resource("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    async fn review(&self, _: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        object::set(&mut review, &["metadata"], "creationTimestamp", rfc3339_seconds(call.now));
        object::set(&mut review, &[], "status", json!({"userInfo": &*call.user}));
        Ok(review)
    }
}
