//! SelfSubjectRulesReview: all that the caller may do in a namespace.

use std::sync::Arc;

use martello_api::{resource::Resource, status::ApiError};
use serde_json::{Value, json};

use crate::{
    registry::{call::Call, kind::resource, object, reviews::Review},
    server::Core,
};

/// SelfSubjectRulesReviews.
pub struct Rules;

impl Review for Rules {
    fn resource(&self) -> Resource {
        resource("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    async fn review(&self, core: &Arc<Core>, call: &Call, mut review: Value) -> Result<Value, ApiError> {
        let namespace = object::text(&review, &["spec", "namespace"]).to_owned();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for rule in core.authorizer.granted_rules(&call.user, &namespace) {
            if !rule.resources.is_empty() {
                let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
                if !rule.resource_names.is_empty() {
                    object::set(
                        &mut shown,
                        &[],
                        "resourceNames",
                        rule.resource_names.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    );
                }
                resources.push(shown);
            } else {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
            }
        }
        let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
        let missing = core.authorizer.missing_roles(&call.user, &namespace);
        if !missing.is_empty() {
            object::set(&mut status, &[], "evaluationError", missing);
        }
        object::set(&mut review, &[], "status", status);
        Ok(review)
    }
}
