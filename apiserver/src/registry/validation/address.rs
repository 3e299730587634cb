//! Addresses that stand for endpoints and ways into a cluster.

use std::net::IpAddr;

use martello_api::status::Cause;

use super::field::Field;
use crate::registry::networking::cidr;

/// Checks an address at which something is served: a usable one, not special.
pub fn served(address: &Field<'_>, causes: &mut Vec<Cause>) {
    let before = causes.len();
    address.check(cidr::strict_ip, causes);
    if causes.len() == before {
        not_special(address, causes);
    }
}

/// What is told of an address that is taken although it is not written as it should be.
#[must_use]
pub fn warning(address: &Field<'_>) -> Option<String> {
    let (path, text) = (&address.path, address.text());
    let odd = |better: IpAddr| format!("{path}: non-standard IP address {text:?} is invalid: use \"{better}\"");
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(inner) => Some(odd(inner.into())),
            None if ip.to_string() != text => {
                Some(format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{ip}\")"))
            }
            None => None,
        },
        Ok(IpAddr::V4(_)) => None,
        Err(_) => cidr::any_ip(text).map(|ip| odd(ip.to_canonical())),
    }
}

/// Checks that an address is not one that only a single machine or link knows.
pub fn not_special(address: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(parsed) = cidr::any_ip(address.text()) else {
        return address.invalid("must be a valid IP address", causes);
    };
    let (local, multicast) = match parsed {
        IpAddr::V4(ip) => (ip.is_link_local(), matches!(ip.octets(), [224, 0, 0, _])),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), matches!(ip.segments(), [0xff02, ..])),
    };
    if parsed.is_unspecified() {
        address.invalid(&format!("may not be unspecified ({})", address.text()), causes);
    }
    if parsed.is_loopback() {
        address.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)", causes);
    }
    if local {
        address.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)", causes);
    }
    if multicast {
        address.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)", causes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_of_other_forms_are_told_of() {
        let said = |text: &str| {
            let value = json!(text);
            warning(&Field::new(&value, "ip")).unwrap_or_default()
        };
        assert!(said("05.06.07.08").ends_with(r#"use "5.6.7.8""#));
        assert!(said("::ffff:1.2.3.4").ends_with(r#"use "1.2.3.4""#));
        assert!(said("FE80::1").ends_with(r#"canonical format ("fe80::1")"#));
        assert!(said("1.2.3.4").is_empty() && said("x").is_empty());
    }

    #[test]
    fn special_addresses_are_refused() {
        let faults = |text: &str| {
            let (value, mut causes) = (json!(text), Vec::new());
            served(&Field::new(&value, "ip"), &mut causes);
            causes.len()
        };
        assert_eq!(
            ["192.0.2.1", "2001:db8::1", "127.0.0.1", "169.254.0.1", "fe80::1", "0.0.0.0", "224.0.0.5", "x"]
                .map(faults),
            [0, 0, 1, 1, 1, 1, 1, 1]
        );
    }
}
