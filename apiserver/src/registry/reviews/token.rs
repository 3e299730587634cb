//! TokenReview: whose token this is.

use std::sync::Arc;

use futures::future::BoxFuture;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use crate::{
    authn::credentials::token_user,
    registry::{
        call::Call,
        kind::{Strategy, resource},
        object,
    },
    server::Core,
};

/// TokenReviews.
pub struct Tokens;

impl Strategy for Tokens {
    fn resource(&self) -> Resource {
        resource("authentication.k8s.io", "v1", "TokenReview", "tokenreviews")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    fn answer<'a>(
        &'a self,
        core: &'a Arc<Core>,
        call: &'a Call,
        mut review: Value,
    ) -> Option<BoxFuture<'a, Result<Value, ApiError>>> {
        Some(Box::pin(async move {
            let token = object::text(&review, &["spec", "token"]).to_owned();
            if token.is_empty() {
                let cause = Cause::required("spec.token", "");
                let mut error = ApiError::bad_request("token is required for TokenReview in authentication");
                error.details = None;
                drop(cause);
                return Err(error);
            }
            let audiences: Vec<String> = object::list(&review, &["spec", "audiences"])
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            let status = match token_user(core, &token, &audiences, call.now).await {
                Ok(accepted) => {
                    let mut status = json!({"authenticated": true, "user": accepted.user});
                    if !audiences.is_empty() {
                        object::set(&mut status, &[], "audiences", accepted.audiences);
                    }
                    status
                }
                Err(why) => json!({"user": {}, "error": why}),
            };
            object::set(&mut review, &[], "status", status);
            Ok(review)
        }))
    }
}
