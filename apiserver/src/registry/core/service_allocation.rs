//! What Services are given: addresses, and ports on nodes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use martello_api::status::{ApiError, Cause};
use serde_json::{Value, json};

use super::{service_families, service_rules};
use crate::{
    registry::{
        kind::{Begun, Change},
        object,
    },
    server::{
        Core,
        services::{AllocationError, Allocator},
    },
};

/// The port before the first that is shown where nothing may be given; upstream shows the same.
const BEFORE_TRIED_PORTS: u16 = 32_768;

/// Gives a new or changed Service its address and its ports on nodes. The first that can't be given is told, alone, and
/// so is what is wrong with its families.
pub fn give(core: &Arc<Core>, change: Change<'_>) -> Result<Begun, ApiError> {
    let Change { object: service, old, dry_run } = change;
    let faults = service_families::check(service, old);
    if !faults.is_empty() {
        return Err(invalid(service, faults));
    }
    let mut giving = Giving::new(&core.services, owner(service), dry_run);
    let done = giving.all(service, old);
    let Giving { owner, addresses, ports, .. } = giving;
    let core = Arc::clone(core);
    // Just what this write was given: another one may have been given more meanwhile.
    let begun = Begun::undone_by(move || core.services.take_back(&owner, &addresses, &ports));
    done.map(|()| begun)
}

/// Takes back what a Service had and has no longer.
pub fn take_back(core: &Core, old: &Value, new: Option<&Value>) {
    let (addresses, ports) = new.map(|new| (addresses_of(new), ports_of(new))).unwrap_or_default();
    let lost_addresses: Vec<_> = addresses_of(old).into_iter().filter(|own| !addresses.contains(own)).collect();
    let kept: HashSet<u16> = ports.into_iter().collect();
    let lost_ports: Vec<_> = ports_of(old).into_iter().filter(|own| !kept.contains(own)).collect();
    core.services.take_back(&owner(old), &lost_addresses, &lost_ports);
}

/// Notes what a stored Service has.
pub fn learn(core: &Core, service: &Value) {
    let owner = owner(service);
    for address in addresses_of(service).into_iter().collect::<BTreeSet<_>>() {
        if let Err(error) = core.services.address(&owner, Some(address), true) {
            tracing::warn!(service = owner, %address, %error, "a stored Service has an address that can't be its own");
        }
    }
    for port in ports_of(service).into_iter().collect::<BTreeSet<_>>() {
        if let Err(error) = core.services.port(&owner, Some(port), true) {
            tracing::warn!(service = owner, port, %error, "a stored Service has a node port that can't be its own");
        }
    }
}

/// Who has an address or a port. The uid is in it: a second Service of the same name, which will be refused for that,
/// neither shares nor takes back what the first one has.
fn owner(service: &Value) -> String {
    format!("{}/{}/{}", object::namespace(service), object::name(service), object::uid(service))
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

fn invalid(service: &Value, causes: Vec<Cause>) -> ApiError {
    ApiError::invalid("", "Service", object::name(service), causes)
}

fn kind(service: &Value) -> &str {
    object::text(service, &["spec", "type"])
}

fn is_on_nodes(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// Whether ports are given that nobody asked for.
fn gives_all(service: &Value) -> bool {
    kind(service) == "NodePort" || object::flag(service, &["spec", "allocateLoadBalancerNodePorts"])
}

/// What one call gives.
struct Giving<'a> {
    services: &'a Allocator,
    owner: String,
    dry_run: bool,
    /// Ports that were given or, in a dry run, would be.
    given: HashSet<u16>,
    highest: Option<u16>,
    /// What is to be taken back if the Service is not stored.
    addresses: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

impl<'a> Giving<'a> {
    fn new(services: &'a Allocator, owner: String, dry_run: bool) -> Self {
        let (given, highest) = (HashSet::new(), None);
        Self { services, owner, dry_run, given, highest, addresses: Vec::new(), ports: Vec::new() }
    }

    fn all(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        if old.is_none_or(|old| kind(old) == "ExternalName") {
            self.address(service)?;
        }
        match old {
            _ if !is_on_nodes(service) => {}
            None => self.new_ports(service)?,
            Some(old) => self.changed_ports(service, old)?,
        }
        if service_rules::needs_health_check(service) && !old.is_some_and(service_rules::needs_health_check) {
            self.health_check(service)?;
        }
        Ok(())
    }

    fn address(&mut self, service: &mut Value) -> Result<(), ApiError> {
        let asked = object::text(service, &["spec", "clusterIP"]).to_owned();
        if kind(service) == "ExternalName" || asked == "None" {
            return Ok(());
        }
        let given = self.one_address(asked.parse().ok()).map_err(|error| {
            if asked.is_empty() {
                return ApiError::internal(format!("failed to allocate a serviceIP: {error}"));
            }
            let why = format!("failed to allocate IP {asked}: {error}");
            invalid(service, vec![Cause::invalid("spec.clusterIPs", &json!([asked]), &why)])
        })?;
        object::set(service, &["spec"], "clusterIP", given.to_string());
        object::set(service, &["spec"], "clusterIPs", vec![given.to_string()]);
        Ok(())
    }

    /// What is only tried is asked no more than whether it is of the network.
    fn one_address(&mut self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, AllocationError> {
        let services = self.services;
        if !self.dry_run {
            let given = services.address(&self.owner, wanted, true)?;
            self.addresses.push(given);
            return Ok(given);
        }
        let Some(wanted) = wanted else { return Ok(services.network().network()) };
        match services.address(&self.owner, Some(wanted), false) {
            Err(AllocationError::OtherNetwork) => Err(AllocationError::OutOfRange {
                what: format!("the provided IP ({wanted})"),
                kind: "IPs",
                range: services.network().to_string(),
            }),
            Ok(_) | Err(AllocationError::Taken(_)) => Ok(wanted),
            Err(other) => Err(other),
        }
    }

    /// Gives the port that is asked for, or any. No port is given twice, not to the same Service either.
    fn port(&mut self, asked: i64) -> Result<u16, AllocationError> {
        let services = self.services;
        let wanted = (asked != 0).then(|| u16::try_from(asked).unwrap_or_default());
        if wanted.is_some_and(|wanted| self.given.contains(&wanted)) {
            return Err(AllocationError::Taken("port"));
        }
        let given = match (self.dry_run, wanted) {
            (false, _) => {
                let given = services.port(&self.owner, wanted, true)?;
                self.ports.push(given);
                given
            }
            (true, None) => self.highest.unwrap_or(BEFORE_TRIED_PORTS).saturating_add(1),
            (true, Some(wanted)) => match services.port(&self.owner, Some(wanted), false) {
                Err(error @ AllocationError::Taken(_)) => return Err(error),
                _ => wanted,
            },
        };
        self.given.insert(given);
        self.highest = self.highest.max(Some(given));
        Ok(given)
    }

    fn node_port(&mut self, name: &str, at: usize, asked: i64) -> Result<i64, ApiError> {
        let given = self.port(asked).map_err(|error| {
            if asked == 0 {
                return ApiError::internal(format!("failed to allocate a nodePort: {error}"));
            }
            let cause = Cause::invalid(format!("spec.ports[{at}].nodePort"), &json!(asked), &error.to_string());
            ApiError::invalid("", "Service", name, vec![cause])
        })?;
        // What is only tried may be outside of the range, and is shown as it was asked for.
        Ok(if asked == 0 { i64::from(given) } else { asked })
    }

    /// Ports of one number, of different protocols, share theirs.
    fn new_ports(&mut self, service: &mut Value) -> Result<(), ApiError> {
        let (all, name) = (gives_all(service), object::name(service).to_owned());
        let number = |port: &Value, key: &str| object::int(port, &[key]).unwrap_or(0);
        let mut asked_for: HashMap<i64, i64> = HashMap::new();
        for port in object::list(service, &["spec", "ports"]) {
            if number(port, "nodePort") != 0 {
                asked_for.entry(number(port, "port")).or_insert(number(port, "nodePort"));
            }
        }
        let mut given: HashMap<i64, i64> = HashMap::new();
        let ports = object::list_mut(service, &["spec", "ports"]);
        for (at, port) in ports.into_iter().flatten().enumerate() {
            let (own, of) = (number(port, "nodePort"), number(port, "port"));
            if own == 0 && !all {
                continue;
            }
            let found = match given.get(&of).copied() {
                Some(shared) if own == 0 || own == shared => shared,
                Some(_) => self.node_port(&name, at, own)?,
                None => {
                    let found = self.node_port(&name, at, asked_for.get(&of).copied().unwrap_or(0))?;
                    given.insert(of, found);
                    found
                }
            };
            object::set(port, &[], "nodePort", found);
        }
        Ok(())
    }

    fn changed_ports(&mut self, service: &mut Value, old: &Value) -> Result<(), ApiError> {
        let (all, name) = (gives_all(service), object::name(service).to_owned());
        let number = |port: &Value| object::int(port, &["nodePort"]).unwrap_or(0);
        let before: HashSet<i64> = object::list(old, &["spec", "ports"]).iter().map(number).collect();
        let mut seen: HashSet<(String, i64)> = HashSet::new();
        let ports = object::list_mut(service, &["spec", "ports"]);
        for (at, port) in ports.into_iter().flatten().enumerate() {
            let mut own = number(port);
            if own == 0 && !all {
                continue;
            }
            let shared = u16::try_from(own).is_ok_and(|own| self.given.contains(&own));
            if own == 0 || !(before.contains(&own) || shared) {
                own = self.node_port(&name, at, own)?;
                object::set(port, &[], "nodePort", own);
            }
            let known = (object::text(port, &["protocol"]).to_owned(), own);
            if let Some((protocol, port)) = seen.replace(known) {
                return Err(ApiError::new(500, "", format!("duplicate nodePort: {{{protocol} {port}}}")));
            }
        }
        Ok(())
    }

    fn health_check(&mut self, service: &mut Value) -> Result<(), ApiError> {
        let asked = object::int(service, &["spec", "healthCheckNodePort"]).unwrap_or(0);
        let given = self.port(asked).map_err(|error| {
            let what = if asked == 0 {
                "a HealthCheck NodePort 0".to_owned()
            } else {
                format!("requested HealthCheck NodePort {asked}")
            };
            ApiError::internal(format!("failed to allocate {what}: {error}"))
        })?;
        if asked == 0 {
            object::set(service, &["spec"], "healthCheckNodePort", given);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call gives to a Service of this spec: the spec, or what is told.
    fn given(services: &Allocator, spec: Value, old: Option<Value>, dry_run: bool) -> Result<Value, String> {
        let mut service = json!({"metadata": {"namespace": "n", "name": "s", "uid": "u"}, "spec": spec});
        let old = old.map(|spec| json!({"metadata": {"namespace": "n", "name": "s", "uid": "u"}, "spec": spec}));
        let mut giving = Giving::new(services, owner(&service), dry_run);
        giving.all(&mut service, old.as_ref()).map_err(|error| error.message)?;
        Ok(service["spec"].take())
    }

    fn services() -> Allocator {
        Allocator::new("10.0.0.0/29".parse().unwrap(), (30000, 30001))
    }

    #[test]
    fn what_is_only_tried_is_given_what_upstream_shows() {
        let services = services();
        let spec = json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81}, {"port": 82, "nodePort": 80}]});
        let tried = given(&services, spec, None, true).unwrap();
        assert_eq!(tried["clusterIP"], "10.0.0.0");
        let ports: Vec<&Value> = tried["ports"].as_array().unwrap().iter().map(|port| &port["nodePort"]).collect();
        assert_eq!(ports, [32769, 32770, 80]);
        let told = given(&services, json!({"type": "ClusterIP", "clusterIP": "192.0.2.1"}), None, true).unwrap_err();
        assert!(
            told.ends_with(
                "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.0.0.0/29"
            )
        );
    }

    #[test]
    fn no_port_is_given_twice_and_ports_of_one_number_share_theirs() {
        let services = services();
        let shared = json!({"type": "NodePort", "ports": [
            {"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP", "nodePort": 30000}]});
        let ports = given(&services, shared, None, false).unwrap();
        assert_eq!((&ports["ports"][0]["nodePort"], &ports["ports"][1]["nodePort"]), (&json!(30000), &json!(30000)));
        services.take_back("n/s/u", &[], &[30000]);
        let twice = json!({"type": "NodePort", "ports": [
            {"port": 80, "protocol": "TCP", "nodePort": 30000}, {"port": 81, "protocol": "UDP", "nodePort": 30000}]});
        assert_eq!(
            given(&services, twice, None, false).unwrap_err(),
            "Service \"s\" is invalid: spec.ports[1].nodePort: Invalid value: 30000: provided port is already allocated"
        );
    }

    #[test]
    fn a_change_shares_no_port_and_is_refused_one_twice() {
        let services = services();
        let old = json!({"type": "NodePort", "clusterIP": "10.0.0.3", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]});
        services.port("n/s/u", Some(30000), true).unwrap();
        let mut new = old.clone();
        new["ports"] = json!([{"port": 80, "protocol": "TCP", "nodePort": 30000}, {"port": 80, "protocol": "UDP"}]);
        let spec = given(&services, new.clone(), Some(old.clone()), false).unwrap();
        assert_eq!(spec["ports"][1]["nodePort"], 30001);
        new["ports"] = json!([{"port": 80, "protocol": "TCP", "nodePort": 30000}, {"port": 81, "protocol": "TCP", "nodePort": 30000}]);
        assert_eq!(
            given(&services, new.clone(), Some(old.clone()), false).unwrap_err(),
            "duplicate nodePort: {TCP 30000}"
        );
        new["ports"] = json!([{"port": 80, "protocol": "TCP"}]);
        assert_eq!(
            given(&services, new, Some(old), false).unwrap_err(),
            "Internal error occurred: failed to allocate a nodePort: range is full"
        );
    }

    #[test]
    fn a_second_service_of_the_name_takes_nothing_from_the_first() {
        let services = services();
        let first = given(&services, json!({"type": "ClusterIP", "clusterIP": "10.0.0.3"}), None, false).unwrap();
        let mut second = json!({"metadata": {"namespace": "n", "name": "s", "uid": "other"}, "spec": first});
        let mut giving = Giving::new(&services, owner(&second), false);
        let told = giving.all(&mut second, None).unwrap_err().message;
        assert!(told.ends_with("failed to allocate IP 10.0.0.3: provided IP is already allocated"), "{told}");
        services.take_back(&giving.owner, &giving.addresses, &giving.ports);
        assert!(services.address("n/t/x", Some("10.0.0.3".parse().unwrap()), true).is_err());
    }

    #[test]
    fn a_write_that_fails_takes_back_only_what_it_was_given_itself() {
        let services = services();
        let old = json!({"type": "ClusterIP", "clusterIP": "10.0.0.3", "ports": [{"port": 80}]});
        let new = json!({"type": "NodePort", "clusterIP": "10.0.0.3", "ports": [{"port": 80, "nodePort": 30000}]});
        given(&services, new.clone(), Some(old.clone()), false).unwrap();
        // Another write that has not seen the first one.
        let mut service = json!({"metadata": {"namespace": "n", "name": "s", "uid": "u"}, "spec": new});
        let before = json!({"metadata": {"namespace": "n", "name": "s", "uid": "u"}, "spec": old});
        let mut giving = Giving::new(&services, owner(&service), false);
        assert!(giving.all(&mut service, Some(&before)).unwrap_err().message.contains("already allocated"));
        services.take_back(&giving.owner, &giving.addresses, &giving.ports);
        assert_eq!(services.port("other", Some(30000), true), Err(AllocationError::Taken("port")));
    }
}
