//! Kinds of the core group.

use super::kind::Kind;

pub mod binding;
mod budget;
pub mod claim;
pub mod claim_rules;
pub mod component_status;
pub mod configmap;
pub mod connect_options;
pub mod endpoints;
pub mod eviction;
pub mod limit_range;
mod log_options;
pub mod namespace;
pub mod node;
pub mod node_proxy;
pub mod own_status;
pub mod persistent_volume;
pub mod persistent_volume_rules;
pub mod pod;
pub mod pod_columns;
pub mod pod_defaults;
mod pod_devices;
pub mod pod_features;
pub mod pod_new;
pub mod pod_parts;
pub mod pod_resize;
pub mod pod_status_rules;
pub mod pod_template;
pub mod pod_update;
pub mod pod_usage;
pub mod proxied;
pub mod replication_controller;
pub mod resource_quota;
pub mod secret;
mod secret_pair;
pub mod service;
pub mod service_account;
pub mod service_allocation;
pub mod service_families;
mod service_kept;
pub mod service_ports;
pub mod service_rules;
pub mod token;
pub mod token_secrets;
pub mod volume_sources;

/// All of them.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::new(component_status::ComponentStatuses),
        Kind::new(binding::Bindings),
        Kind::new(configmap::ConfigMaps),
        Kind::new(endpoints::Endpoints),
        Kind::new(super::events::core::Events),
        Kind::new(limit_range::LimitRanges),
        Kind::new(namespace::Namespaces),
        Kind::new(node::Nodes),
        Kind::new(claim::PersistentVolumeClaims),
        Kind::new(persistent_volume::PersistentVolumes),
        Kind::new(pod::Pods),
        Kind::new(pod_template::PodTemplates),
        Kind::new(resource_quota::ResourceQuotas),
        Kind::new(replication_controller::ReplicationControllers),
        Kind::new(secret::Secrets),
        Kind::new(service_account::ServiceAccounts),
        Kind::new(service::Services),
    ]
}

#[cfg(test)]
mod tests {
    use super::kinds;

    #[test]
    fn a_put_makes_events_endpoints_limits_and_services_where_they_are_missing() {
        let kinds = kinds();
        let made = kinds.iter().filter(|kind| kind.creates_on_update());
        let names: Vec<&str> = made.map(|kind| &*kind.resource.plural).collect();
        assert_eq!(names, ["endpoints", "events", "limitranges", "services"]);
    }
}
