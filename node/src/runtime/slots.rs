//! Which id range and which address a new pod gets: pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The next free number of 1 to `count` after `last`, in a circle, so that a number rests before it is used again.
pub(super) fn next_slot(count: u32, used: &BTreeSet<u32>, last: u32) -> Option<u32> {
    (0..count).map(|step| (last + step) % count + 1).find(|slot| !used.contains(slot))
}

/// The next free address after `last`; the first one of the network is the gateway.
pub(super) fn next_ip(network: Ipv4Net, used: &BTreeSet<Ipv4Addr>, last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let after = last.unwrap_or(network.network());
    let free = |ip: &Ipv4Addr| !used.contains(ip);
    let hosts = || network.hosts().skip(1);
    hosts().find(|ip| *ip > after && free(ip)).or_else(|| hosts().find(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rest_before_they_are_used_again() {
        let used = BTreeSet::from([1, 3]);
        assert_eq!(next_slot(3, &used, 3), Some(2));
        assert_eq!(next_slot(4, &used, 3), Some(4));
        assert_eq!(next_slot(2, &BTreeSet::from([1, 2]), 1), None);
        assert_eq!(next_slot(0, &BTreeSet::new(), 0), None);
    }

    #[test]
    fn the_gateway_is_nobodys_address() {
        let network: Ipv4Net = "10.244.0.0/29".parse().unwrap();
        let mut used = BTreeSet::new();
        let mut last = None;
        for _ in 0..5 {
            let ip = next_ip(network, &used, last).unwrap();
            used.insert(ip);
            last = Some(ip);
        }
        assert!(!used.contains(&Ipv4Addr::new(10, 244, 0, 1)));
        assert_eq!(next_ip(network, &used, last), None);
        used.remove(&Ipv4Addr::new(10, 244, 0, 3));
        assert_eq!(next_ip(network, &used, last), Some(Ipv4Addr::new(10, 244, 0, 3)));
    }
}
