//! TokenReview: whose token this is.

use std::sync::Arc;

use martello_api::{resource::Resource, status::ApiError};
use serde_json::{Value, json};

use crate::{
    authn::credentials::token_user,
    registry::{call::Call, kind::resource, object, reviews::Review},
    server::Core,
};

/// TokenReviews.
pub struct Tokens;

impl Review for Tokens {
    fn resource(&self) -> Resource {
        resource("authentication.k8s.io", "v1", "TokenReview", "tokenreviews")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    fn check(&self, _: &Call, review: &Value) -> Result<(), ApiError> {
        if object::text(review, &["spec", "token"]).is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        Ok(())
    }

    async fn review(&self, core: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        let token = object::text(&review, &["spec", "token"]).to_owned();
        let audiences: Vec<String> =
            object::list(&review, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let status = match token_user(core, &token, &audiences, call.now).await {
            Ok(accepted) => {
                if let Some(used) = &accepted.secret {
                    call.notes.lock().extend(used.notes());
                    used.warning().into_iter().for_each(|warning| call.warn(warning));
                }
                json!({"authenticated": true, "user": accepted.user, "audiences": accepted.audiences})
            }
            Err(refused) => {
                call.notes.lock().extend(refused.notes());
                json!({"user": {}, "error": refused.upstream()})
            }
        };
        object::set(&mut review, &[], "status", status);
        Ok(review)
    }
}
