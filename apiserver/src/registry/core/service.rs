//! Services.

use std::sync::Arc;

use jiff::Timestamp;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::{proxied::Proxied, service_allocation, service_families, service_kept, service_rules};
use crate::{
    registry::{
        call::Call,
        kind::{Begun, Cell, Change, Checked, Column, Connect, Deleted, NameRule, Strategy, resource},
        networking::service_addresses,
        object, table,
    },
    server::Core,
};

/// Services.
pub struct Services;

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
/// Seconds that a client stays with one endpoint, where that is asked for: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

impl Strategy for Services {
    fn resource(&self) -> Resource {
        let proxy = martello_api::resource::GroupVersionKind::new("", "v1", "ServiceProxyOptions");
        resource("", "v1", "Service", "services")
            .short(&["svc"])
            .categories(&["all"])
            .status()
            .subresource_of("proxy", proxy, PROXY_VERBS)
            .build()
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn default(&self, object: &mut Value) {
        object::set_default(object, &["spec"], "sessionAffinity", "None");
        object::set_default(object, &["spec"], "type", "ClusterIP");
        match object::text(object, &["spec", "sessionAffinity"]) {
            "None" => drop(object::remove(object, &["spec"], "sessionAffinityConfig")),
            "ClientIP" => object::set_default(
                object,
                &["spec", "sessionAffinityConfig", "clientIP"],
                "timeoutSeconds",
                AFFINITY_SECONDS,
            ),
            _ => {}
        }
        for port in object::list_mut(object, &["spec", "ports"]).into_iter().flatten() {
            object::set_default(port, &[], "protocol", "TCP");
            let target = port.get("targetPort");
            if target.is_none_or(object::is_zero) {
                let number = object::int(port, &["port"]).unwrap_or(0);
                object::set(port, &[], "targetPort", number);
            }
        }
        for ingress in object::list_mut(object, &["status", "loadBalancer", "ingress"]).into_iter().flatten() {
            if !object::text(ingress, &["ip"]).is_empty() {
                object::set_default(ingress, &[], "ipMode", "VIP");
            }
        }
        let kind = object::text(object, &["spec", "type"]).to_owned();
        if object.get("spec").is_some_and(service_rules::is_external) {
            object::set_default(object, &["spec"], "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            object::set_default(object, &["spec"], "allocateLoadBalancerNodePorts", true);
        }
        if kind != "ExternalName" {
            object::set_default(object, &["spec"], "internalTrafficPolicy", "Cluster");
        }
    }

    fn prepare_create(&self, object: &mut Value, _now: Timestamp) {
        object::set(object, &[], "status", json!({"loadBalancer": {}}));
        service_families::settle(object, None);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        service_kept::carry_over(object, old);
    }

    fn validate_create(&self, object: &Value, causes: &mut Vec<Cause>) {
        service_rules::check(object, causes);
    }

    fn validate_update(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        service_rules::check_update(object, old, causes);
    }

    fn validate_status(&self, object: &Value, old: &Value, causes: &mut Vec<Cause>) {
        service_rules::check_status(object, old, causes);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        service_rules::warnings(object)
    }

    fn status_warnings(&self, object: &Value) -> Vec<String> {
        service_rules::status_warnings(object)
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn deleted(&self) -> Deleted {
        Deleted::Object
    }

    fn selectable(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: [Column; 7] = [
            Column::name(),
            Column::text("Type", "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer. \"ClusterIP\" allocates a cluster-internal IP address for load-balancing to endpoints. Endpoints are determined by the selector or if that is not specified, by manual construction of an Endpoints object or EndpointSlice objects. If clusterIP is \"None\", no virtual IP is allocated and the endpoints are published as a set of endpoints rather than a virtual IP. \"NodePort\" builds on ClusterIP and allocates a port on every node which routes to the same endpoints as the clusterIP. \"LoadBalancer\" builds on NodePort and creates an external load-balancer (if supported in the current cloud) which routes to the same endpoints as the clusterIP. \"ExternalName\" aliases this service to the specified externalName. Several other fields do not apply to ExternalName services. More info: https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types"),
            Column::text("Cluster-IP", "clusterIP is the IP address of the service and is usually assigned randomly. If an address is specified manually, is in-range (as per system configuration), and is not in use, it will be allocated to the service; otherwise creation of the service will fail. This field may not be changed through updates unless the type field is also being changed to ExternalName (which requires this field to be blank) or the type field is being changed from ExternalName (in which case this field may optionally be specified, as describe above).  Valid values are \"None\", empty string (\"\"), or a valid IP address. Setting this to \"None\" makes a \"headless service\" (no virtual IP), which is useful when direct endpoint connections are preferred and proxying is not required.  Only applies to types ClusterIP, NodePort, and LoadBalancer. If this field is specified when creating a Service of type ExternalName, creation will fail. This field will be wiped when updating a Service to type ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies"),
            Column::text("External-IP", "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.  These IPs are not managed by Kubernetes.  The user is responsible for ensuring that traffic arrives at a node with this IP.  A common example is external load-balancers that are not part of the Kubernetes system."),
            Column::text("Port(s)", "The list of ports that are exposed by this service. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies"),
            Column::age(),
            Column::text("Selector", "Route service traffic to pods with label keys and values matching this selector. If empty or not present, the service is assumed to have an external process managing its endpoints, which Kubernetes will not modify. Only applies to types ClusterIP, NodePort, and LoadBalancer. Ignored if type is ExternalName. More info: https://kubernetes.io/docs/concepts/services-networking/service/").wide(),
        ];
        &COLUMNS
    }

    fn row(&self, object: &Value) -> Vec<Cell> {
        let or_none = |text: &str| Cell::from(if text.is_empty() { "<none>" } else { text });
        vec![
            object::name(object).into(),
            object::text(object, &["spec", "type"]).into(),
            or_none(object::text(object, &["spec", "clusterIP"])),
            service_rules::external(object).into(),
            service_rules::ports(object).into(),
            table::age(object),
            table::labels_text(object::at(object, &["spec", "selector"])).into(),
        ]
    }

    fn begin(&self, core: &Arc<Core>, change: Change<'_>) -> Result<Begun, ApiError> {
        service_allocation::give(core, change)
    }

    fn before_commit<'a>(&'a self, _: &'a Arc<Core>, _: &'a Call, change: Change<'a>) -> Checked<'a> {
        // It once was a default of all types, and is not shown where it means nothing.
        if object::text(change.object, &["spec", "type"]) == "ExternalName" {
            object::remove(change.object, &["spec"], "internalTrafficPolicy");
        }
        Box::pin(async { Ok(()) })
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, _revision: u64) {
        if let Some(told) = object.or(old) {
            core.extensions.service_changed(object::namespace(told), object::name(told));
        }
        if let Some(old) = old {
            service_allocation::take_back(core, old, object);
        }
        service_addresses::follow(core, object, old);
    }

    fn subresource(&self, name: &str) -> Option<&'static dyn Connect> {
        (name == "proxy").then_some(&Proxied::Service as &dyn Connect)
    }
}
