//! SelfSubjectRulesReview: all that the caller may do in a namespace.

use std::sync::Arc;

use martello_api::{resource::Resource, status::ApiError};
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

/// SelfSubjectRulesReviews.
pub struct Rules;

impl Review for Rules {
    fn resource(&self) -> Resource {
        resource("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews")
            .cluster_scoped()
            .verbs(&["create"])
            .build()
    }

    fn check(&self, _: &Call, review: &Value) -> Result<(), ApiError> {
        if object::text(review, &["spec", "namespace"]).is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        Ok(())
    }

    async fn review(&self, core: &Arc<Core>, call: &Call, review: Value) -> Result<Value, ApiError> {
        let namespace = object::text(&review, &["spec", "namespace"]).to_owned();
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
        let is_node = call.user.node_name().is_some();
        let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": is_node});
        let unknown = unknown(is_node, core.authorizer.missing_roles(&call.user, &namespace));
        if !unknown.is_empty() {
            object::set(&mut status, &[], "evaluationError", unknown);
        }
        let mut answer = blank(&review);
        object::set(&mut answer, &[], "spec", json!({}));
        object::set(&mut answer, &[], "status", status);
        Ok(answer)
    }
}

/// What keeps the list from being complete, in upstream's words. What a node may do besides depends on its pods.
fn unknown(is_node: bool, missing: String) -> String {
    const NODE: &str = "node authorizer does not support user rule resolution";
    match (is_node, missing.as_str()) {
        (false, _) => missing,
        (true, "") => NODE.to_owned(),
        (true, several) => format!("[{NODE}, {}]", several.trim_start_matches('[').trim_end_matches(']')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_node_not_everything_is_known() {
        assert_eq!(unknown(false, String::new()), "");
        assert_eq!(unknown(false, "a".to_owned()), "a");
        assert_eq!(unknown(true, String::new()), "node authorizer does not support user rule resolution");
        assert_eq!(unknown(true, "[a, b]".to_owned()), "[node authorizer does not support user rule resolution, a, b]");
    }
}
