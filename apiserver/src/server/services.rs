//! Addresses and node ports of Services: each is given once.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use martello_api::order::Order;
use parking_lot::Mutex;
use rand::Rng as _;

/// Gives addresses and ports, and takes them back. What is given is known from the stored Services at start.
pub struct Allocator {
    network: Ipv4Net,
    ports: (u16, u16),
    state: Mutex<State>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

/// How many addresses can be looked at at once.
const TURNS: usize = 64;

#[derive(Default)]
struct State {
    /// Address → `namespace/name/uid` of its Service.
    addresses: HashMap<Ipv4Addr, String>,
    /// Port → `namespace/name/uid` of its Service.
    ports: HashMap<u16, String>,
    /// Addresses of which an IPAddress tells that somebody else keeps: no Service gets them.
    reserved: HashSet<Ipv4Addr>,
    told: Order<Ipv4Addr>,
}

impl State {
    fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains_key(&address) || self.reserved.contains(&address)
    }
}

/// Why an address or port was not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// Outside the range.
    #[error("{what} is not in the valid range. The range of valid {kind} is {range}")]
    OutOfRange {
        /// `the provided IP (10.0.0.1)` or `provided port`.
        what: String,
        /// `IPs` or `ports`.
        kind: &'static str,
        /// The range.
        range: String,
    },
    /// Of no network that addresses come from.
    #[error("the provided network does not match the current range")]
    OtherNetwork,
    /// Another Service has it.
    #[error("provided {0} is already allocated")]
    Taken(&'static str),
    /// None is left.
    #[error("range is full")]
    Full,
}

/// Tries at random before the range is searched.
const RANDOM_TRIES: usize = 32;

impl Allocator {
    /// Of a network and a range of ports.
    #[must_use]
    pub fn new(network: Ipv4Net, ports: (u16, u16)) -> Self {
        Self { network, ports, state: Mutex::default(), turns: std::array::from_fn(|_| tokio::sync::Mutex::new(())) }
    }

    /// Where addresses come from.
    #[must_use]
    pub fn network(&self) -> Ipv4Net {
        self.network
    }

    /// The first address: that of the server itself (`kubernetes.default`).
    #[must_use]
    pub fn server_address(&self) -> Ipv4Addr {
        self.network.hosts().next().unwrap_or(Ipv4Addr::LOCALHOST)
    }

    /// Waits until nobody else looks at what is told of an address.
    pub async fn turn(&self, address: Ipv4Addr) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        Some(self.turns.get(u32::from(address) as usize % TURNS)?.lock().await)
    }

    /// Who has an address.
    #[must_use]
    pub fn owner(&self, address: Ipv4Addr) -> Option<String> {
        self.state.lock().addresses.get(&address).cloned()
    }

    /// All addresses that somebody has.
    #[must_use]
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.state.lock().addresses.keys().copied().collect()
    }

    /// Notes whether somebody else keeps an address for themselves, as of this revision. A Service that has it keeps it.
    pub fn reserve(&self, address: Ipv4Addr, is_kept: bool, revision: u64) {
        let mut state = self.state.lock();
        if !state.told.admits(address, !is_kept, revision) {
            return;
        }
        if is_kept {
            state.reserved.insert(address);
        } else {
            state.reserved.remove(&address);
        }
    }

    /// Gives `wanted` to `owner`, or any free address.
    pub fn address(&self, owner: &str, wanted: Option<Ipv4Addr>, keep: bool) -> Result<Ipv4Addr, AllocationError> {
        let mut state = self.state.lock();
        if let Some(address) = wanted {
            if !self.network.contains(&address) {
                return Err(AllocationError::OtherNetwork);
            }
            if address == self.network.network() || address == self.network.broadcast() {
                return Err(AllocationError::OutOfRange {
                    what: format!("the provided IP ({address})"),
                    kind: "IPs",
                    range: self.network.to_string(),
                });
            }
            if state.is_taken(address) {
                return Err(AllocationError::Taken("IP"));
            }
            if keep {
                state.addresses.insert(address, owner.to_owned());
            }
            return Ok(address);
        }
        let address = self.free_address(&state).ok_or(AllocationError::Full)?;
        if keep {
            state.addresses.insert(address, owner.to_owned());
        }
        Ok(address)
    }

    fn free_address(&self, state: &State) -> Option<Ipv4Addr> {
        let base = u32::from(self.network.network());
        let last = u32::from(self.network.broadcast());
        // The first address is the server's own.
        let (low, high) = (base.checked_add(2)?, last.checked_sub(1)?);
        if low > high {
            return None;
        }
        let mut random = rand::rng();
        let lucky = (0..RANDOM_TRIES)
            .map(|_| Ipv4Addr::from(random.random_range(low..=high)))
            .find(|address| !state.is_taken(*address));
        lucky.or_else(|| (low..=high).map(Ipv4Addr::from).find(|address| !state.is_taken(*address)))
    }

    /// Gives port `wanted` to `owner`, or any free port.
    pub fn port(&self, owner: &str, wanted: Option<u16>, keep: bool) -> Result<u16, AllocationError> {
        let mut state = self.state.lock();
        let (low, high) = self.ports;
        if let Some(port) = wanted {
            if !(low..=high).contains(&port) {
                return Err(AllocationError::OutOfRange {
                    what: "provided port".to_owned(),
                    kind: "ports",
                    range: format!("{low}-{high}"),
                });
            }
            if state.ports.contains_key(&port) {
                return Err(AllocationError::Taken("port"));
            }
            if keep {
                state.ports.insert(port, owner.to_owned());
            }
            return Ok(port);
        }
        let mut random = rand::rng();
        let lucky =
            (0..RANDOM_TRIES).map(|_| random.random_range(low..=high)).find(|port| !state.ports.contains_key(port));
        let port =
            lucky.or_else(|| (low..=high).find(|port| !state.ports.contains_key(port))).ok_or(AllocationError::Full)?;
        if keep {
            state.ports.insert(port, owner.to_owned());
        }
        Ok(port)
    }

    /// Takes these back, as far as `owner` has them.
    pub fn take_back(&self, owner: &str, addresses: &[Ipv4Addr], ports: &[u16]) {
        let mut state = self.state.lock();
        for address in addresses {
            if state.addresses.get(address).is_some_and(|other| other == owner) {
                state.addresses.remove(address);
            }
        }
        for port in ports {
            if state.ports.get(port).is_some_and(|other| other == owner) {
                state.ports.remove(port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_once_and_taken_back() {
        let allocator = Allocator::new("10.0.0.0/29".parse().unwrap(), (30000, 30001));
        let given: Vec<_> = (0..5).map(|at| allocator.address(&format!("ns/{at}"), None, true).unwrap()).collect();
        assert_eq!(allocator.address("ns/x", None, true), Err(AllocationError::Full));
        assert_eq!(allocator.address("ns/x", Some(given[0]), true), Err(AllocationError::Taken("IP")));
        assert_eq!(allocator.address("ns/0", Some(given[0]), true), Err(AllocationError::Taken("IP")));
        assert_eq!((allocator.owner(given[0]).as_deref(), allocator.addresses().len()), (Some("ns/0"), 5));
        allocator.take_back("ns/1", &given[..1], &[]);
        assert_eq!(allocator.address("ns/x", None, true), Err(AllocationError::Full));
        allocator.take_back("ns/0", &given[..1], &[]);
        assert_eq!(allocator.address("ns/x", None, true), Ok(given[0]));
        let error = allocator.address("ns/y", Some("10.1.0.1".parse().unwrap()), true).unwrap_err();
        assert_eq!(error.to_string(), "the provided network does not match the current range");
        let error = allocator.address("ns/y", Some("10.0.0.0".parse().unwrap()), true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the provided IP (10.0.0.0) is not in the valid range. The range of valid IPs is 10.0.0.0/29"
        );
    }

    #[test]
    fn an_address_that_somebody_else_keeps_is_given_to_no_service() {
        let allocator = Allocator::new("10.0.0.0/30".parse().unwrap(), (30000, 30001));
        let last: Ipv4Addr = "10.0.0.2".parse().unwrap();
        allocator.reserve(last, true, 3);
        assert_eq!(allocator.address("ns/x", Some(last), true), Err(AllocationError::Taken("IP")));
        assert_eq!(allocator.address("ns/x", None, true), Err(AllocationError::Full));
        allocator.reserve(last, false, 2);
        assert_eq!(allocator.address("ns/x", None, true), Err(AllocationError::Full), "that is late word");
        allocator.reserve(last, false, 4);
        assert_eq!(allocator.address("ns/x", None, true), Ok(last));
        // One that has it keeps it, and gives it back to whoever keeps it.
        allocator.reserve(last, true, 5);
        assert_eq!(allocator.owner(last).as_deref(), Some("ns/x"));
        allocator.take_back("ns/x", &[last], &[]);
        assert_eq!(allocator.address("ns/x", None, true), Err(AllocationError::Full));
    }

    #[test]
    fn a_port_outside_the_range_is_refused_in_upstreams_words() {
        let allocator = Allocator::new("10.0.0.0/29".parse().unwrap(), (30000, 30001));
        let error = allocator.port("ns/x", Some(80), true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "provided port is not in the valid range. The range of valid ports is 30000-30001"
        );
    }
}
