//! Services.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use futures::future::BoxFuture;
use jiff::Timestamp;
use martello_api::{
    resource::Resource,
    status::{ApiError, Cause},
};
use serde_json::{Value, json};

use super::{proxied::Proxied, service_families, service_rules};
use crate::{
    registry::{
        call::Call,
        kind::{Cell, Change, Column, Connect, Deleted, NameRule, Strategy, resource},
        networking::ip_address,
        object, table,
    },
    server::{Core, services::AllocationError},
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
        service_rules::carry_over(object, old);
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

    fn before_commit<'a>(
        &'a self,
        core: &'a Arc<Core>,
        _: &'a Call,
        change: Change<'a>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let done = allocate(core, change);
        Box::pin(async move { done })
    }

    fn after_commit(&self, core: &Arc<Core>, object: Option<&Value>, old: Option<&Value>, _revision: u64) {
        ip_address::follow(core, object, old);
        if let Some(any) = object.or(old) {
            release_but(core, any, object);
        }
    }

    fn abandon(&self, core: &Arc<Core>, object: &Value, old: Option<&Value>) {
        release_but(core, object, old);
    }

    fn subresource(&self, name: &str) -> Option<&'static dyn Connect> {
        (name == "proxy").then_some(&Proxied::Service as &dyn Connect)
    }
}

fn owner(service: &Value) -> String {
    format!("{}/{}", object::namespace(service), object::name(service))
}

/// Takes back what the Service has beyond what `kept` says.
fn release_but(core: &Arc<Core>, service: &Value, kept: Option<&Value>) {
    let (addresses, ports) = kept.map(|kept| (addresses_of(kept), ports_of(kept))).unwrap_or_default();
    core.services.keep_only(&owner(service), &addresses, &ports);
}

/// Notes what a stored Service has.
pub fn learn(core: &Arc<Core>, service: &Value) {
    let owner = owner(service);
    for address in addresses_of(service) {
        if let Err(error) = core.services.address(&owner, Some(address), true) {
            tracing::warn!(service = owner, %address, %error, "a stored Service has an address that can't be its own");
        }
    }
    for port in ports_of(service) {
        if let Err(error) = core.services.port(&owner, Some(port), true) {
            tracing::warn!(service = owner, port, %error, "a stored Service has a node port that can't be its own");
        }
    }
}

fn addresses_of(service: &Value) -> Vec<Ipv4Addr> {
    object::text(service, &["spec", "clusterIP"]).parse().into_iter().collect()
}

fn ports_of(service: &Value) -> Vec<u16> {
    object::list(service, &["spec", "ports"])
        .iter()
        .filter_map(|port| object::int(port, &["nodePort"]))
        .chain(object::int(service, &["spec", "healthCheckNodePort"]))
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .collect()
}

/// Gives the Service its address and node ports.
fn allocate(core: &Arc<Core>, change: Change<'_>) -> Result<(), ApiError> {
    let Change { object, old, dry_run } = change;
    let owner = owner(object);
    let keep = !dry_run;
    let mut causes = Vec::new();
    let kind = object::text(object, &["spec", "type"]).to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    let asked = object::text(object, &["spec", "clusterIP"]).to_owned();
    if asked != "None" {
        match core.services.address(&owner, asked.parse().ok(), keep) {
            Ok(address) => {
                object::set(object, &["spec"], "clusterIP", address.to_string());
                object::set(object, &["spec"], "clusterIPs", vec![address.to_string()]);
            }
            Err(error) => causes.push(failed("spec.clusterIPs", json!([asked]), &error)),
        }
    } else {
        object::set(object, &["spec"], "clusterIPs", vec!["None"]);
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        node_ports(core, object, &owner, keep, &mut causes);
    }
    if service_rules::needs_health_check(object) {
        let asked = object::int(object, &["spec", "healthCheckNodePort"])
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        match (core.services.port(&owner, asked, keep), asked) {
            (Ok(given), _) => object::set(object, &["spec"], "healthCheckNodePort", given),
            (Err(error), Some(asked)) => {
                release_but(core, object, old);
                let why = format!("failed to allocate requested HealthCheck NodePort {asked}: {error}");
                return Err(ApiError::internal(why));
            }
            (Err(error), None) => {
                release_but(core, object, old);
                return Err(ApiError::internal(format!("failed to allocate a HealthCheck NodePort 0: {error}")));
            }
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    release_but(core, object, old);
    Err(ApiError::invalid("", "Service", object::name(object), causes))
}

/// Gives node ports. Ports of one number, of different protocols, share theirs.
fn node_ports(core: &Arc<Core>, service: &mut Value, owner: &str, keep: bool, causes: &mut Vec<Cause>) {
    let all = object::text(service, &["spec", "type"]) == "NodePort"
        || object::flag(service, &["spec", "allocateLoadBalancerNodePorts"]);
    let number = |port: &Value, key: &str| object::int(port, &[key]).filter(|port| *port != 0);
    // The first that each number has, of those that were asked for and of those that were given.
    let mut before: HashMap<Option<i64>, i64> = HashMap::new();
    for port in object::list(service, &["spec", "ports"]) {
        if let Some(asked) = number(port, "nodePort") {
            before.entry(number(port, "port")).or_insert(asked);
        }
    }
    let mut given: HashMap<Option<i64>, u16> = HashMap::new();
    let ports = object::list_mut(service, &["spec", "ports"]);
    for (index, port) in ports.into_iter().flatten().enumerate() {
        let (own, of) = (number(port, "nodePort"), number(port, "port"));
        if own.is_none() && !all {
            continue;
        }
        let shared = given.get(&of).map(|port| i64::from(*port));
        let asked = own.or(shared).or_else(|| before.get(&of).copied());
        let wanted = asked.map(|asked| u16::try_from(asked).unwrap_or_default());
        match core.services.port(owner, wanted, keep) {
            Ok(found) => {
                object::set(port, &[], "nodePort", found);
                given.entry(of).or_insert(found);
            }
            Err(error) => causes.push(failed(&format!("spec.ports[{index}].nodePort"), json!(asked), &error)),
        }
    }
}

fn failed(path: &str, value: Value, error: &AllocationError) -> Cause {
    let why = match error {
        AllocationError::OutOfRange { .. } | AllocationError::OtherNetwork if path.starts_with("spec.clusterIP") => {
            format!("failed to allocate IP {}: {error}", value.get(0).and_then(Value::as_str).unwrap_or_default())
        }
        AllocationError::Taken("IP") => {
            format!(
                "failed to allocate IP {}: provided IP is already allocated",
                value.get(0).and_then(Value::as_str).unwrap_or_default()
            )
        }
        other => other.to_string(),
    };
    Cause::invalid(path, &value, &why)
}
