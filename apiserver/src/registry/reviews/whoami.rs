//! SelfSubjectReview: who the server takes the caller for.

use std::sync::Arc;

use martello_api::{clock::rfc3339_seconds, resource::Resource, status::ApiError};
use serde_json::{Value, json};

use crate::{
    registry::{
        call::Call,
        kind::resource,
        object,
        reviews::{Review, blank},
    },
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

    async fn review(&self, _: &Arc<Core>, call: &Call, review: Value) -> Result<Value, ApiError> {
        let mut answer = blank(&review);
        object::set(&mut answer, &["metadata"], "creationTimestamp", rfc3339_seconds(call.now));
        object::set(&mut answer, &[], "status", json!({"userInfo": &*call.user}));
        Ok(answer)
    }
}
