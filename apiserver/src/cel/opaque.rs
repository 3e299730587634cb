//! Things of Kubernetes' libraries: quantities, addresses, URLs, versions, formats and questions to the authorizer.

use std::{net::IpAddr, sync::Arc};

use martello_api::quantity::Quantity;

use super::functions::{authorizer, format::Format, net::Cidr, semver::Semver, url::Url};

/// Something of a library.
#[derive(Clone, Debug)]
pub enum Opaque {
    /// An amount.
    Quantity(Quantity),
    /// An address.
    Ip(IpAddr),
    /// A network.
    Cidr(Cidr),
    /// A URL.
    Url(Arc<Url>),
    /// A version.
    Semver(Arc<Semver>),
    /// A format of texts.
    Format(Format),
    /// Who may be asked what somebody may do.
    Authorizer(authorizer::Authorizer),
    /// A question about a path.
    PathCheck(Arc<authorizer::PathCheck>),
    /// A question about a group, unfinished.
    GroupCheck(Arc<authorizer::GroupCheck>),
    /// A question about a resource.
    ResourceCheck(Arc<authorizer::ResourceCheck>),
    /// An answer.
    Decision(Arc<authorizer::Decision>),
}

impl Opaque {
    /// Name of the type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(_) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(_) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Whether it can be held against another.
    #[must_use]
    pub fn is_comparable(&self) -> bool {
        !matches!(
            self,
            Self::Authorizer(_) | Self::PathCheck(_) | Self::GroupCheck(_) | Self::ResourceCheck(_) | Self::Decision(_)
        )
    }

    /// Whether two are the same.
    #[must_use]
    pub fn equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a.text() == b.text(),
            (Self::Semver(a), Self::Semver(b)) => a.precedence(b).is_eq(),
            (Self::Format(a), Self::Format(b)) => a == b,
            _ => false,
        }
    }
}
