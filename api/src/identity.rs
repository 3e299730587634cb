//! Who asks: the authenticated user of a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name of a request's user when no credential was presented.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of every user that was not authenticated.
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group of every user that was authenticated.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Group that may do anything, as upstream's; bound by the default ClusterRoleBinding `cluster-admin`.
pub const GROUP_MASTERS: &str = "system:masters";
/// Group of node agents.
pub const GROUP_NODES: &str = "system:nodes";
/// Group of machines that hold a bootstrap (join) token.
pub const GROUP_BOOTSTRAPPERS: &str = "system:bootstrappers";
/// Group of all service accounts.
pub const GROUP_SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// Prefix of a node agent's user name.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// Prefix of a service account's user name.
pub const SERVICE_ACCOUNT_USER_PREFIX: &str = "system:serviceaccount:";
/// User name of the scheduler.
pub const SCHEDULER: &str = "system:kube-scheduler";
/// User name of the controllers.
pub const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
/// User name of the API server's own calls (to itself and to nodes).
pub const API_SERVER: &str = "system:apiserver";

/// An identity, as Kubernetes' `authentication.k8s.io/v1 UserInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// The unique name, for instance `jane` or `system:node:worker-1`. On the wire `username`.
    #[serde(rename = "username")]
    pub name: String,
    /// Distinguishes users of one name over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Groups, in the order the authenticator gave them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further facts, by name, for instance the pod of a service account token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of this name, authenticated, in these groups (and in `system:authenticated`).
    #[must_use]
    pub fn authenticated(name: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|group| group == GROUP_AUTHENTICATED) {
            groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// The user of a request without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![GROUP_UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// Whether it is a part of the system itself: what runs the cluster, or a node.
    #[must_use]
    pub fn is_part_of_system(&self) -> bool {
        [API_SERVER, CONTROLLER_MANAGER, SCHEDULER].contains(&self.name.as_str())
            || self.groups.iter().any(|group| group == GROUP_NODES)
    }

    /// The user of a service account.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::authenticated(
            format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}"),
            [GROUP_SERVICE_ACCOUNTS.to_owned(), format!("{GROUP_SERVICE_ACCOUNTS}:{namespace}")],
        )
    }

    /// The user of a node agent.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self::authenticated(format!("{NODE_USER_PREFIX}{name}"), [GROUP_NODES])
    }

    /// Whether the user is in `group`.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The node's name, if this is a node agent: the prefix and the group are both needed, as upstream's node authorizer asks.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_USER_PREFIX)?;
        (!name.is_empty() && self.is_in(GROUP_NODES)).then_some(name)
    }

    /// Namespace and name, if this is a service account.
    #[must_use]
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_USER_PREFIX)?.split_once(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_needs_both_name_and_group() {
        assert_eq!(User::node("n1").node_name(), Some("n1"));
        assert_eq!(User::authenticated("system:node:n1", ["other"]).node_name(), None);
        assert_eq!(User::authenticated("system:node:", [GROUP_NODES]).node_name(), None);
    }

    #[test]
    fn a_service_account_is_in_its_groups() {
        let user = User::service_account("shop", "web");
        assert_eq!(user.as_service_account(), Some(("shop", "web")));
        assert!(user.is_in("system:serviceaccounts:shop") && user.is_in(GROUP_AUTHENTICATED));
    }

    #[test]
    fn nodes_and_what_runs_the_cluster_are_parts_of_the_system() {
        for (name, groups, expected) in [
            (API_SERVER, &[][..], true),
            (SCHEDULER, &[], true),
            ("system:node:n1", &[GROUP_NODES], true),
            ("system:node:n1", &["system:masters"], false),
            ("admin", &["system:masters"], false),
        ] {
            assert_eq!(User::authenticated(name, groups.iter().copied()).is_part_of_system(), expected, "{name}");
        }
    }
}
