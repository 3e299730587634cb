//! Addresses and ranges in the one form that new kinds take, and warnings about the forms that old kinds still take.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::registry::validation::text::{self, Faults};

const OTHER_FORM: &str = "must be in canonical form";
const LEADING_ZEROS_IP: &str = "must not have leading 0s";
const LEADING_ZEROS_RANGE: &str = "must not have leading 0s in IP or prefix length";

/// An address in its canonical form.
#[must_use]
pub fn canonical_ip(value: &str) -> Faults {
    let Ok(parsed) = value.parse::<IpAddr>() else {
        if without_leading_zeros(value).parse::<IpAddr>().is_ok() {
            return vec![LEADING_ZEROS_IP.to_owned()];
        }
        return text::ip(value);
    };
    if is_mapped(parsed) {
        return vec!["must not be an IPv4-mapped IPv6 address".to_owned()];
    }
    if parsed.to_string() == value {
        return Vec::new();
    }
    vec![format!("{OTHER_FORM} ({:?})", parsed.to_string())]
}

/// A range of addresses in its canonical form.
#[must_use]
pub fn canonical_range(value: &str) -> Faults {
    let Some(parsed) = any_range(value) else { return text::cidr(value) };
    if text::range(value).is_none() {
        return vec![LEADING_ZEROS_RANGE.to_owned()];
    }
    if is_mapped(parsed.addr()) {
        return vec!["must not have an IPv4-mapped IPv6 address".to_owned()];
    }
    if parsed.addr() != parsed.network() {
        return vec!["must not have bits set beyond the prefix length".to_owned()];
    }
    if parsed.to_string() == value {
        return Vec::new();
    }
    vec![format!("{OTHER_FORM} ({:?})", parsed.to_string())]
}

/// An address as older kinds take it: strictly written, though not in the canonical form.
#[must_use]
pub fn strict_ip(value: &str) -> Faults {
    canonical_ip(value).into_iter().filter(|fault| !fault.starts_with(OTHER_FORM)).collect()
}

/// A range as older kinds take it: strictly written, though not in the canonical form.
#[must_use]
pub fn strict_range(value: &str) -> Faults {
    canonical_range(value).into_iter().filter(|fault| !fault.starts_with(OTHER_FORM)).collect()
}

/// An address, in any form that was ever taken.
#[must_use]
pub fn any_ip(value: &str) -> Option<IpAddr> {
    value.parse().or_else(|_| without_leading_zeros(value).parse()).ok()
}

/// A range of addresses, in any form that was ever taken.
#[must_use]
pub fn any_range(value: &str) -> Option<IpNet> {
    text::range(value).or_else(|| text::range(&without_leading_zeros(value)))
}

/// What a client is told about a range that is taken although it is not in its canonical form.
#[must_use]
pub fn range_warnings(path: &str, value: &str) -> Vec<String> {
    let Some(range) = any_range(value) else { return Vec::new() };
    let mut warnings = Vec::new();
    if range.addr() != range.network() {
        let single = format!("{}/{}", range.addr().to_canonical(), range.max_prefix_len());
        warnings.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be {:?} or {single:?}?)",
            unmapped(range)
        ));
    }
    if text::range(value).is_none() || is_mapped(range.addr()) {
        warnings.push(format!("{path}: non-standard CIDR value {value:?} is invalid: use {:?}", unmapped(range)));
    }
    let canonical = range.to_string();
    if warnings.is_empty() && canonical != value {
        warnings
            .push(format!("{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({canonical:?})"));
    }
    warnings
}

fn unmapped(range: IpNet) -> String {
    match range.addr() {
        IpAddr::V6(ip) => match (ip.to_ipv4_mapped(), range.prefix_len().checked_sub(96)) {
            (Some(ip), Some(length)) => {
                ipnet::Ipv4Net::new(ip, length).map_or_else(|_| range.to_string(), |range| range.trunc().to_string())
            }
            _ => range.trunc().to_string(),
        },
        IpAddr::V4(_) => range.trunc().to_string(),
    }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// The text without zeros before other digits: what Kubernetes once took in IPv4 addresses and in lengths of prefixes.
fn without_leading_zeros(value: &str) -> String {
    let part = |part: &str| {
        let rest = part.trim_start_matches('0');
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            if rest.is_empty() { "0".to_owned() } else { rest.to_owned() }
        } else {
            part.to_owned()
        }
    };
    let (address, length) = value.split_once('/').map_or((value, None), |(address, length)| (address, Some(length)));
    // What stands before an IPv4 address at the end of an IPv6 address is not of it.
    let (groups, last) = match address.rfind(':') {
        Some(at) if address.contains('.') => address.split_at_checked(at + 1).unwrap_or(("", address)),
        _ => ("", address),
    };
    let last: Vec<String> = last.split('.').map(part).collect();
    let address = format!("{groups}{}", last.join("."));
    length.map_or_else(|| address.clone(), |length| format!("{address}/{}", part(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_in_front_are_found_behind_the_groups_of_an_ipv6_address() {
        assert_eq!(canonical_ip("::ffff:01.10.255.0"), [LEADING_ZEROS_IP]);
        assert_eq!(any_ip("::ffff:01.2.3.4").map(|ip| ip.to_canonical().to_string()).as_deref(), Some("1.2.3.4"));
        assert_eq!(canonical_range("::ffff:01.255.0.0/100"), [LEADING_ZEROS_RANGE]);
    }

    #[test]
    fn ranges_in_other_forms_are_told_of_as_upstream_tells_it() {
        assert_eq!(
            range_warnings("f", "1::abcd:0001/032"),
            [
                "f: CIDR value \"1::abcd:0001/032\" is ambiguous in this context (should be \"1::/32\" or \"1::abcd:1/128\"?)",
                "f: non-standard CIDR value \"1::abcd:0001/032\" is invalid: use \"1::/32\""
            ]
        );
        assert_eq!(
            range_warnings("f", "::ffff:10.01.255.0/8"),
            [
                "f: CIDR value \"::ffff:10.01.255.0/8\" is ambiguous in this context (should be \"::/8\" or \"10.1.255.0/128\"?)",
                "f: non-standard CIDR value \"::ffff:10.01.255.0/8\" is invalid: use \"::/8\""
            ]
        );
    }

    #[test]
    fn only_canonical_forms_are_taken() {
        let ip = |text: &str| canonical_ip(text).join(";");
        assert_eq!(ip("10.0.0.1"), "");
        assert_eq!(ip("2001:db8::1"), "");
        assert_eq!(ip("010.0.0.1"), "must not have leading 0s");
        assert_eq!(ip("::ffff:10.0.0.1"), "must not be an IPv4-mapped IPv6 address");
        assert_eq!(ip("2001:DB8::1"), "must be in canonical form (\"2001:db8::1\")");
        assert_eq!(ip("x"), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        let range = |text: &str| canonical_range(text).join(";");
        assert_eq!(range("10.0.0.0/8"), "");
        assert_eq!(range("10.0.0.1/8"), "must not have bits set beyond the prefix length");
        assert_eq!(range("10.0.0.0/08"), "must not have leading 0s in IP or prefix length");
        assert_eq!(range("2001:DB8::/64"), "must be in canonical form (\"2001:db8::/64\")");
    }

    #[test]
    fn old_forms_are_warned_of() {
        assert!(range_warnings("p", "10.0.0.0/8").is_empty());
        assert_eq!(
            range_warnings("p", "10.0.0.1/8"),
            [
                "p: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
        assert_eq!(
            range_warnings("p", "010.0.0.0/8"),
            ["p: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\""]
        );
    }
}
