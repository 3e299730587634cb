//! What may be issued: each profile says by whom, for whom, for which use and for how long.

use std::net::IpAddr;

use jiff::SignedDuration;
use martello_api::identity::{
    ANONYMOUS, GROUP_AUTHENTICATED, GROUP_NODES, GROUP_SERVICE_ACCOUNTS, GROUP_UNAUTHENTICATED, NODE_USER_PREFIX,
    SERVICE_ACCOUNT_USER_PREFIX,
};
use rustls_pki_types::DnsName;

use crate::authority::AuthorityKind;

/// Longest user or group name. Kubernetes sets no limit; certificates are sent with every handshake.
const MAX_NAME_BYTES: usize = 512;
/// Most groups of one user.
const MAX_GROUPS: usize = 64;
/// Most names and addresses of one server.
const MAX_SERVER_NAMES: usize = 100;
/// Longest node name: a DNS subdomain (RFC 1123), as Kubernetes has it.
const MAX_NODE_NAME_BYTES: usize = 253;

/// A name or an address that a server answers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl From<IpAddr> for ServerName {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<&str> for ServerName {
    /// An address if it is one, else a DNS name.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_owned()), Self::Ip)
    }
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// An API server, under these names.
    Server {
        /// What clients call it by.
        names: Vec<ServerName>,
    },
    /// A user or component, in these groups.
    User {
        /// The user's name.
        name: String,
        /// The user's groups.
        groups: Vec<String>,
    },
    /// A node agent as a client of the API server.
    NodeClient {
        /// The node's name.
        node: String,
    },
    /// A node agent as a server (logs, exec, port-forward).
    NodeServing {
        /// The node's name.
        node: String,
        /// Its addresses and further names.
        names: Vec<ServerName>,
    },
}

/// Why a certificate is not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The user's name belongs to another kind of identity.
    #[error("no user certificate for {name:?}: {why}")]
    User {
        /// The name that was asked for.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The group belongs to another kind of identity.
    #[error("no user certificate with the group {group:?}: {why}")]
    Group {
        /// The group that was asked for.
        group: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The node's name is none.
    #[error("no certificate for the node {node:?}: a node's name is a lowercase DNS subdomain")]
    Node {
        /// The name that was asked for.
        node: String,
    },
    /// A server's name is none.
    #[error("no server certificate for {name:?}: {why}")]
    Server {
        /// The name that was asked for.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// There are too many names or groups.
    #[error("no certificate with {count} {what}; the limit is {limit}")]
    TooMany {
        /// Names or groups.
        what: &'static str,
        /// How many were asked for.
        count: usize,
        /// How many may be.
        limit: usize,
    },
}

impl Profile {
    /// Which authority signs it.
    #[must_use]
    pub fn authority(&self) -> AuthorityKind {
        match self {
            Self::Server { .. } => AuthorityKind::Servers,
            Self::User { .. } => AuthorityKind::Clients,
            // A node's serving certificate comes from the nodes' authority: a node can't pass for the API server.
            Self::NodeClient { .. } | Self::NodeServing { .. } => AuthorityKind::Nodes,
        }
    }

    /// The life of a certificate when nobody asks for another.
    #[must_use]
    pub fn default_lifetime(&self) -> SignedDuration {
        match self {
            Self::Server { .. } => SignedDuration::from_hours(24),
            Self::User { .. } => SignedDuration::from_hours(8),
            Self::NodeClient { .. } | Self::NodeServing { .. } => SignedDuration::from_hours(7 * 24),
        }
    }

    /// The longest life that is granted; who asks for more gets this.
    #[must_use]
    pub fn max_lifetime(&self) -> SignedDuration {
        match self {
            Self::Server { .. } => SignedDuration::from_hours(7 * 24),
            Self::User { .. } | Self::NodeClient { .. } | Self::NodeServing { .. } => LONGEST_LEAF,
        }
    }

    /// Whether the certificate is for servers (else for clients).
    pub(crate) fn is_for_server(&self) -> bool {
        matches!(self, Self::Server { .. } | Self::NodeServing { .. })
    }

    /// The subject's common name.
    pub(crate) fn common_name(&self) -> String {
        match self {
            Self::Server { .. } => "martello-apiserver".to_owned(),
            Self::User { name, .. } => name.clone(),
            Self::NodeClient { node } | Self::NodeServing { node, .. } => format!("{NODE_USER_PREFIX}{node}"),
        }
    }

    /// The subject's organizations.
    pub(crate) fn organizations(&self) -> impl Iterator<Item = &str> {
        let groups: &[String] = match self {
            Self::User { groups, .. } => groups,
            _ => &[],
        };
        let nodes = matches!(self, Self::NodeClient { .. } | Self::NodeServing { .. }).then_some(GROUP_NODES);
        groups.iter().map(String::as_str).chain(nodes)
    }

    /// The names that clients may find in a server's certificate.
    pub(crate) fn server_names(&self) -> Vec<ServerName> {
        match self {
            Self::Server { names } => names.clone(),
            Self::NodeServing { node, names } => {
                let own = ServerName::Dns(node.clone());
                let others = names.iter().filter(|name| **name != own).cloned();
                std::iter::once(own.clone()).chain(others).collect()
            }
            Self::User { .. } | Self::NodeClient { .. } => Vec::new(),
        }
    }

    /// Whether this may be issued at all.
    ///
    /// # Errors
    /// When a name or group is malformed, or belongs to another kind of identity.
    pub fn check(&self) -> Result<(), ProfileError> {
        match self {
            Self::Server { names } if names.is_empty() => {
                Err(ProfileError::Server { name: String::new(), why: "it has no name" })
            }
            Self::Server { names } => check_server_names(names),
            Self::User { name, groups } => check_user(name, groups),
            Self::NodeClient { node } => check_node(node),
            Self::NodeServing { node, names } => check_node(node).and_then(|()| check_server_names(names)),
        }
    }
}

/// The longest life of any leaf certificate: so long a retired authority has to stay trusted.
pub const LONGEST_LEAF: SignedDuration = SignedDuration::from_hours(30 * 24);

fn check_user(name: &str, groups: &[String]) -> Result<(), ProfileError> {
    let refuse = |why| Err(ProfileError::User { name: name.to_owned(), why });
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return refuse("a name has 1 to 512 bytes and no control characters");
    }
    if name.starts_with(NODE_USER_PREFIX) {
        return refuse("node identities come from the authority for nodes");
    }
    if name.starts_with(SERVICE_ACCOUNT_USER_PREFIX) {
        return refuse("service accounts identify themselves with tokens");
    }
    if name == ANONYMOUS {
        return refuse("that is the user of requests without credentials");
    }
    if groups.len() > MAX_GROUPS {
        return Err(ProfileError::TooMany { what: "groups", count: groups.len(), limit: MAX_GROUPS });
    }
    groups.iter().try_for_each(|group| check_group(group))
}

fn check_group(group: &str) -> Result<(), ProfileError> {
    let refuse = |why| Err(ProfileError::Group { group: group.to_owned(), why });
    if group.is_empty() || group.len() > MAX_NAME_BYTES || group.chars().any(char::is_control) {
        return refuse("a group has 1 to 512 bytes and no control characters");
    }
    if group == GROUP_NODES {
        return refuse("node identities come from the authority for nodes");
    }
    if is_service_account_group(group) {
        return refuse("service accounts identify themselves with tokens");
    }
    if group == GROUP_AUTHENTICATED || group == GROUP_UNAUTHENTICATED {
        return refuse("the server adds that group itself");
    }
    Ok(())
}

/// Whether only tokens of service accounts may give this group.
pub(crate) fn is_service_account_group(group: &str) -> bool {
    group.strip_prefix(GROUP_SERVICE_ACCOUNTS).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Whether `node` can be the name of a node.
///
/// # Errors
/// When it is not a lowercase DNS subdomain.
pub fn check_node(node: &str) -> Result<(), ProfileError> {
    let label = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        (1..=63).contains(&label.len())
            && edge(label.bytes().next())
            && edge(label.bytes().next_back())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if node.len() <= MAX_NODE_NAME_BYTES && node.split('.').all(label) {
        Ok(())
    } else {
        Err(ProfileError::Node { node: node.to_owned() })
    }
}

fn check_server_names(names: &[ServerName]) -> Result<(), ProfileError> {
    if names.len() > MAX_SERVER_NAMES {
        return Err(ProfileError::TooMany { what: "names", count: names.len(), limit: MAX_SERVER_NAMES });
    }
    let refuse = |name: String, why| Err(ProfileError::Server { name, why });
    for name in names {
        match name {
            ServerName::Dns(name) if DnsName::try_from(name.as_str()).is_err() => {
                return refuse(name.clone(), "it is not a DNS name");
            }
            ServerName::Ip(address) if address.is_unspecified() || address.is_multicast() => {
                return refuse(address.to_string(), "no server can be reached at that address");
            }
            ServerName::Dns(_) | ServerName::Ip(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(name: &str, groups: &[&str]) -> Profile {
        Profile::User { name: name.to_owned(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }

    #[test]
    fn users_and_components_get_certificates() {
        for profile in
            [user("jane", &["dev", "ops"]), user("system:kube-scheduler", &[]), user("root", &["system:masters"])]
        {
            assert_eq!(profile.check(), Ok(()));
        }
    }

    #[test]
    fn nobody_gets_a_node_or_service_account_as_a_user() {
        let refused = [
            user("system:node:n1", &[]),
            user("jane", &["system:nodes"]),
            user("system:serviceaccount:a:b", &[]),
            user("jane", &["system:serviceaccounts"]),
            user("jane", &["system:serviceaccounts:a"]),
            user("system:anonymous", &[]),
            user("jane", &["system:authenticated"]),
            user("", &[]),
            user("a\nb", &[]),
            user("jane", &[""]),
        ];
        for profile in refused {
            assert!(profile.check().is_err(), "{profile:?}");
        }
    }

    #[test]
    fn a_nodes_name_is_a_dns_subdomain() {
        assert_eq!(check_node("worker-1.example.internal"), Ok(()));
        for name in ["", ".", "a..b", "-a", "a-", "A", "a_b", "a/b", "a:b", &"a".repeat(64), &"a.".repeat(127)] {
            assert!(check_node(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_server_has_names_that_clients_can_use() {
        let server = |names: &[&str]| Profile::Server { names: names.iter().map(|&name| name.into()).collect() };
        assert_eq!(server(&["localhost", "10.0.0.1", "::1", "kubernetes.default.svc"]).check(), Ok(()));
        for names in [&[][..], &["0.0.0.0"], &["a b"], &[""], &["224.0.0.1"]] {
            assert!(server(names).check().is_err(), "{names:?}");
        }
    }

    #[test]
    fn a_servers_certificate_has_so_many_names_and_so_long_a_life() {
        let server =
            |count: usize| Profile::Server { names: (0..count).map(|at| format!("n{at}").as_str().into()).collect() };
        assert_eq!(server(MAX_SERVER_NAMES).check(), Ok(()));
        assert!(matches!(server(MAX_SERVER_NAMES + 1).check(), Err(ProfileError::TooMany { what: "names", .. })));
        let node = |count: usize| Profile::NodeServing { node: "n1".to_owned(), names: server(count).server_names() };
        assert!(node(MAX_SERVER_NAMES).check().is_ok() && node(MAX_SERVER_NAMES + 1).check().is_err());
        assert_eq!(server(1).max_lifetime(), SignedDuration::from_hours(7 * 24));
        assert_eq!(node(1).max_lifetime(), LONGEST_LEAF);
        let groups: Vec<String> = (0..=MAX_GROUPS).map(|at| format!("g{at}")).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        assert!(user("jane", &groups[1..]).check().is_ok() && user("jane", &groups).check().is_err());
    }

    proptest! {
        #[test]
        fn any_name_is_judged(name in "\\PC{0,300}") {
            drop(check_node(&name));
            drop(user(&name, &[&name]).check());
            drop(Profile::Server { names: vec![ServerName::from(name.as_str())] }.check());
        }
    }
}
