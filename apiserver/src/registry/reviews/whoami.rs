//! SelfSubjectReview: who the server takes the caller for.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::{clock::rfc3339_seconds, resource::Resource, status::ApiError};
use serde_json::{Value, json};

use crate::{
    registry::{
        call::Call,
        kind::{Strategy, resource},
        object,
    },
    server::Core,
};

/// SelfSubjectReviews.
pub struct WhoAmI;

impl Strategy for WhoAmI {
    fn resource(&self) -> Resource {
        resource("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    fn answer<'a>(
        &'a self,
        _: &'a Arc<Core>,
        call: &'a Call,
        mut review: Value,
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        Some(Box::pin(async move {
            object::set(&mut review, &["metadata"], "creationTimestamp", rfc3339_seconds(call.now));
            object::set(&mut review, &[], "status", json!({"userInfo": &*call.user}));
            Ok(review)
        }))
    }
}
