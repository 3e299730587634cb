//! How objects of a kind may be named.

use crate::registry::{apiserverinternal, networking, validation::text};

/// How names of objects are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// DNS subdomain: most kinds.
    Subdomain,
    /// DNS label: Namespaces and Services.
    Label,
    /// Anything without slash and percent: RBAC.
    PathSegment,
    /// An IP address in its canonical form: IPAddresses.
    Address,
    /// A key of a ConfigMap: LeaseCandidates.
    ConfigMapKey,
    /// `group.resource`: StorageVersions.
    GroupResource,
    /// Anything at all: CertificateSigningRequests; and what depends on the rest of the object: ClusterTrustBundles.
    Any,
}

impl NameRule {
    /// What is wrong with `name`.
    #[must_use]
    pub fn faults(self, name: &str) -> text::Faults {
        match self {
            Self::Subdomain => text::dns1123_subdomain(name),
            Self::Label => text::dns1123_label(name),
            Self::PathSegment => text::path_segment(name),
            Self::ConfigMapKey => text::config_map_key(name),
            Self::GroupResource => apiserverinternal::storage_version::name_faults(name),
            Self::Any => Vec::new(),
            Self::Address => networking::cidr::canonical_ip(name),
        }
    }
}
