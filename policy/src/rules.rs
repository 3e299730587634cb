//! What a user may do in a namespace, as `SelfSubjectRulesReview` answers it.

use martello_api::{
    identity::{GROUP_MASTERS, User},
    k8s_openapi::api::authorization::v1::{NonResourceRule, ResourceRule, SubjectRulesReviewStatus},
};

use crate::{Authorizer, escalation::full_authority, rbac::Rule};

impl Authorizer {
    /// The rules that RBAC grants `user` in `namespace`, those of the whole cluster included. For a node they are not all:
    /// what its pods need is not put into rules.
    #[must_use]
    pub fn rules_for(&self, user: &User, namespace: &str) -> SubjectRulesReviewStatus {
        let mut rules = if user.is_in(GROUP_MASTERS) { full_authority() } else { Vec::new() };
        for rule in self.granted_rules(user, namespace) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        let is_node = user.node_name().is_some();
        SubjectRulesReviewStatus {
            evaluation_error: is_node.then(|| "node authorizer does not support user rule resolution".to_owned()),
            incomplete: is_node,
            non_resource_rules: rules.iter().filter(|rule| !rule.non_resource_urls.is_empty()).map(path_rule).collect(),
            resource_rules: rules.iter().filter(|rule| !rule.resources.is_empty()).map(resource_rule).collect(),
        }
    }
}

fn resource_rule(rule: &Rule) -> ResourceRule {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    ResourceRule {
        api_groups: some(&rule.api_groups),
        resource_names: some(&rule.resource_names),
        resources: some(&rule.resources),
        verbs: rule.verbs.clone(),
    }
}

fn path_rule(rule: &Rule) -> NonResourceRule {
    NonResourceRule { non_resource_urls: Some(rule.non_resource_urls.clone()), verbs: rule.verbs.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, bootstrap};

    #[test]
    fn rules_of_the_cluster_come_first() {
        let role = |kind: &str, resource: &str| {
            serde_json::json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": "r", "namespace": if kind == "Role" { "shop" } else { "" }},
                "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]})
        };
        let binding = |kind: &str, role: &str, subject: serde_json::Value| {
            serde_json::json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                "metadata": {"name": "b", "namespace": if kind == "RoleBinding" { "shop" } else { "" }},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": "r"}, "subjects": [subject]})
        };
        let named = |kind: &str, name: &str| serde_json::json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"});
        let objects = [
            role("Role", "pods"),
            role("ClusterRole", "nodes"),
            binding("RoleBinding", "Role", named("User", "jane")),
            binding("ClusterRoleBinding", "ClusterRole", named("Group", "devs")),
        ];
        let authorizer = Authorizer::new();
        authorizer.replace_all(objects.iter().filter_map(|object| Change::written(object).unwrap()));
        let rules = authorizer.rules_for(&User::authenticated("jane", ["devs"]), "shop").resource_rules;
        let resources: Vec<Vec<String>> = rules.into_iter().filter_map(|rule| rule.resources).collect();
        assert_eq!(resources, [["nodes"], ["pods"]]);
    }

    #[test]
    fn everyone_may_discover_and_ask_about_themselves() {
        let authorizer = Authorizer::new();
        authorizer.replace_all(bootstrap::objects().iter().filter_map(|object| Change::written(object).unwrap()));
        let rules = authorizer.rules_for(&User::authenticated("jane", ["devs"]), "shop");
        assert!(
            !rules.incomplete
                && rules
                    .resource_rules
                    .iter()
                    .any(|rule| { rule.resources.as_ref().unwrap().contains(&"selfsubjectaccessreviews".to_owned()) })
        );
        assert!(
            rules
                .non_resource_rules
                .iter()
                .any(|rule| { rule.non_resource_urls.as_ref().unwrap().contains(&"/api/*".to_owned()) })
        );
        let all = authorizer.rules_for(&User::authenticated("root", ["system:masters"]), "shop");
        assert_eq!(all.resource_rules[0].verbs, ["*"]);
    }
}
