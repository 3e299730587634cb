//! Kinds of the group `networking.k8s.io`.

use super::kind::{Kind, Lifecycle};

pub mod cidr;
pub mod ingress;
pub mod ingress_class;
pub mod ingress_rules;
pub mod ip_address;
pub mod network_policy;
pub mod service_addresses;
pub mod service_cidr;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(ingress::Ingresses),
        Kind::new(ingress_class::IngressClasses),
        Kind::new(ip_address::IpAddresses),
        Kind::new(network_policy::NetworkPolicies),
        Kind::new(service_cidr::ServiceCidrs),
        Kind::in_version(ip_address::IpAddresses, "v1beta1", Lifecycle::Beta(31)),
        Kind::in_version(service_cidr::ServiceCidrs, "v1beta1", Lifecycle::Beta(31)),
    ]
}
