//! Addresses and networks.

use std::{fmt, net::IpAddr};

use super::{Fault, Library, Outcome, fail};
use crate::cel::{opaque::Opaque, value::Value};

/// A network: an address and how many bits of it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

impl Cidr {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let keep = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                a.to_bits() & keep == b.to_bits() & keep
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let keep = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                a.to_bits() & keep == b.to_bits() & keep
            }
            _ => false,
        }
    }

    fn masked(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(own) => {
                let keep = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((own.to_bits() & keep).into())
            }
            IpAddr::V6(own) => {
                let keep = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((own.to_bits() & keep).into())
            }
        };
        Self { address, bits: self.bits }
    }
}

pub(super) const LIBRARY: Library = &[
    ("ip", &["string_to_ip: (string) -> IP", "cidr_ip: CIDR.() -> IP"], |args| match args {
        [Value::String(text)] => address(text).map(|own| Value::Opaque(Opaque::Ip(own))),
        [Value::Opaque(Opaque::Cidr(own))] => Ok(Value::Opaque(Opaque::Ip(own.address))),
        _ => Err(Fault::NoOverload),
    }),
    ("isIP", &["is_ip: (string) -> bool"], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(address(text).is_ok())),
        _ => Err(Fault::NoOverload),
    }),
    ("ip.isCanonical", &["ip_is_canonical: (string) -> bool"], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(address(text)?.to_string() == **text)),
        _ => Err(Fault::NoOverload),
    }),
    ("family", &["ip_family: IP.() -> int"], |args| Ok(Value::Int(if one(args)?.is_ipv4() { 4 } else { 6 }))),
    ("isUnspecified", &["ip_is_unspecified: IP.() -> bool"], |args| tested(args, IpAddr::is_unspecified)),
    ("isLoopback", &["ip_is_loopback: IP.() -> bool"], |args| tested(args, IpAddr::is_loopback)),
    ("isLinkLocalMulticast", &["ip_is_link_local_multicast: IP.() -> bool"], |args| {
        tested(args, |own| match own {
            IpAddr::V4(own) => matches!(own.octets(), [224, 0, 0, _]),
            IpAddr::V6(own) => matches!(own.octets(), [0xff, scope, ..] if scope & 0xf == 2),
        })
    }),
    ("isLinkLocalUnicast", &["ip_is_link_local_unicast: IP.() -> bool"], |args| {
        tested(args, |own| match own {
            IpAddr::V4(own) => own.is_link_local(),
            IpAddr::V6(own) => own.is_unicast_link_local(),
        })
    }),
    ("isGlobalUnicast", &["ip_is_global_unicast: IP.() -> bool"], |args| {
        tested(args, |own| match own {
            IpAddr::V4(v4) => {
                !(v4.is_broadcast()
                    || v4.is_unspecified()
                    || v4.is_loopback()
                    || v4.is_multicast()
                    || v4.is_link_local())
            }
            IpAddr::V6(v6) => {
                !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local())
            }
        })
    }),
    ("cidr", &["string_to_cidr: (string) -> CIDR"], |args| match args {
        [Value::String(text)] => network(text).map(|own| Value::Opaque(Opaque::Cidr(own))),
        _ => Err(Fault::NoOverload),
    }),
    ("isCIDR", &["is_cidr: (string) -> bool"], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(network(text).is_ok())),
        _ => Err(Fault::NoOverload),
    }),
    (
        "containsIP",
        &["cidr_contains_ip_string: CIDR.(string) -> bool", "cidr_contains_ip_ip: CIDR.(IP) -> bool"],
        |args| match args {
            // What is wrong with the text is lost upstream.
            [Value::Opaque(Opaque::Cidr(own)), Value::String(text)] => address(text)
                .map_or_else(|_| fail("no such overload"), |address| Ok(Value::Bool(own.contains(address)))),
            [Value::Opaque(Opaque::Cidr(own)), Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Bool(own.contains(*ip))),
            _ => Err(Fault::NoOverload),
        },
    ),
    (
        "containsCIDR",
        &["cidr_contains_cidr_string: CIDR.(string) -> bool", "cidr_contains_cidr: CIDR.(CIDR) -> bool"],
        |args| {
            let (own, other) = match args {
                [Value::Opaque(Opaque::Cidr(own)), Value::String(text)] => (*own, network(text)?),
                [Value::Opaque(Opaque::Cidr(own)), Value::Opaque(Opaque::Cidr(other))] => (*own, *other),
                _ => return Err(Fault::NoOverload),
            };
            Ok(Value::Bool(own.contains(other.masked().address) && own.bits <= other.bits))
        },
    ),
    ("masked", &["cidr_masked: CIDR.() -> CIDR"], |args| match args {
        [Value::Opaque(Opaque::Cidr(own))] => Ok(Value::Opaque(Opaque::Cidr(own.masked()))),
        _ => Err(Fault::NoOverload),
    }),
    ("prefixLength", &["cidr_prefix_length: CIDR.() -> int"], |args| match args {
        [Value::Opaque(Opaque::Cidr(own))] => Ok(Value::Int(i64::from(own.bits))),
        _ => Err(Fault::NoOverload),
    }),
];

fn one(args: &[Value<'_>]) -> Result<IpAddr, Fault> {
    match args {
        [Value::Opaque(Opaque::Ip(own))] => Ok(*own),
        _ => Err(Fault::NoOverload),
    }
}

fn tested<'a>(args: &[Value<'a>], test: fn(&IpAddr) -> bool) -> Outcome<'a> {
    Ok(Value::Bool(test(&one(args)?)))
}

fn address(own: &str) -> Result<IpAddr, Fault> {
    let (plain, zone) = own.split_once('%').map_or((own, None), |(plain, zone)| (plain, Some(zone)));
    match (plain.parse::<IpAddr>(), zone) {
        (Ok(IpAddr::V6(_)), Some(zone)) if !zone.is_empty() => {
            fail(format!("IP address {own:?} with zone value is not allowed"))
        }
        (Ok(IpAddr::V6(v6)), None) if v6.to_ipv4_mapped().is_some() => {
            fail(format!("IPv4-mapped IPv6 address {own:?} is not allowed"))
        }
        (Ok(address), None) => Ok(address),
        _ => {
            let why = address_fault(own);
            fail(format!("IP Address {own:?} parse error during conversion from string: {why}"))
        }
    }
}

/// Why a text is no address, as Go's `netip` tells it.
fn address_fault(own: &str) -> String {
    let (why, at) = match own.chars().find(|letter| ".:%".contains(*letter)) {
        Some('.') => v4_fault(own),
        Some(':') => v6_fault(own),
        Some(_) => ("missing IPv6 address", ""),
        None => ("unable to parse IP", ""),
    };
    let at = if at.is_empty() { String::new() } else { format!(" (at {at:?})") };
    format!("ParseAddr({own:?}): {why}{at}")
}

fn v4_fault(own: &str) -> (&'static str, &str) {
    let (mut value, mut digits, mut dots) = (0_u32, 0, 0);
    for (at, letter) in own.char_indices() {
        let here = own.get(at..).unwrap_or_default();
        match letter.to_digit(10) {
            Some(_) if digits == 1 && value == 0 => return ("IPv4 field has octet with leading zero", ""),
            Some(digit) => {
                value = value * 10 + digit;
                digits += 1;
                if value > 255 {
                    return ("IPv4 field has value >255", "");
                }
            }
            None if letter == '.' => {
                if digits == 0 || here.len() == 1 {
                    return ("IPv4 field must have at least one digit", here);
                }
                if dots == 3 {
                    return ("IPv4 address too long", "");
                }
                (value, digits, dots) = (0, 0, dots + 1);
            }
            None => return ("unexpected character", here),
        }
    }
    ("IPv4 address too short", "")
}

fn v6_fault(own: &str) -> (&'static str, &str) {
    let mut rest = own.split('%').next().unwrap_or_default();
    if own.ends_with('%') && own.matches('%').count() == 1 {
        return ("zone must be a non-empty string", "");
    }
    let mut ellipsis = rest.starts_with("::");
    if ellipsis {
        rest = rest.get(2..).unwrap_or_default();
    }
    let mut groups = 0;
    while groups < 8 {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 4 {
            return ("each group must have 4 or less digits", rest);
        }
        if digits == 0 {
            return ("each colon-separated field must have at least one digit", rest);
        }
        let after = rest.get(digits..).unwrap_or_default();
        if after.starts_with('.') {
            return match groups {
                groups if !ellipsis && groups != 6 => {
                    ("embedded IPv4 address must replace the final 2 fields of the address", rest)
                }
                7 => ("too many hex fields to fit an embedded IPv4 at the end of the address", rest),
                _ => v4_fault(rest),
            };
        }
        groups += 1;
        if after.is_empty() {
            rest = after;
            break;
        }
        if !after.starts_with(':') {
            return ("unexpected character, want colon", after);
        }
        if after.len() == 1 {
            return ("colon must be followed by more characters", after);
        }
        rest = after.get(1..).unwrap_or_default();
        if rest.starts_with(':') {
            if ellipsis {
                return ("multiple :: in address", rest);
            }
            ellipsis = true;
            rest = rest.get(1..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
        }
    }
    match (rest.is_empty(), ellipsis) {
        (false, _) => ("trailing garbage after address", rest),
        (true, false) => ("address string too short", ""),
        (true, true) => ("the :: must expand to at least one field of zeros", ""),
    }
}

fn network(own: &str) -> Result<Cidr, Fault> {
    const TOLD: &str = "network address parse error during conversion from string: ";
    match prefix(own) {
        Ok(Cidr { address: IpAddr::V6(v6), .. }) if v6.to_ipv4_mapped().is_some() => {
            fail(format!("{TOLD}IPv4-mapped IPv6 address {own:?} is not allowed"))
        }
        Ok(network) => Ok(network),
        // Upstream says it twice.
        Err(why) => fail(format!("{TOLD}{TOLD}netip.ParsePrefix({own:?}): {why}")),
    }
}

/// Reads a network, or says what is wrong as Go's `netip` does.
fn prefix(own: &str) -> Result<Cidr, String> {
    let (address, bits) = own.rsplit_once('/').ok_or("no '/'")?;
    let address = match (address.parse::<IpAddr>(), address.split_once('%')) {
        (Ok(address), _) => address,
        (Err(_), Some((plain, zone))) if !zone.is_empty() && plain.parse::<std::net::Ipv6Addr>().is_ok() => {
            return Err("IPv6 zones cannot be present in a prefix".to_owned());
        }
        (Err(_), _) => return Err(address_fault(address)),
    };
    let plain = bits.len() <= 1 || !bits.starts_with('0');
    let number = bits.parse::<u64>().ok().filter(|_| plain && bits.bytes().all(|digit| digit.is_ascii_digit()));
    let most = if address.is_ipv4() { 32 } else { 128 };
    let number = number.ok_or_else(|| format!("bad bits after slash: {bits:?}"))?;
    match u8::try_from(number).ok().filter(|bits| *bits <= most) {
        Some(bits) => Ok(Cidr { address, bits }),
        None => Err("prefix length out of range".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<T>(read: Result<T, Fault>) -> String {
        match read {
            Err(Fault::Message(why)) => why,
            _ => String::new(),
        }
    }

    #[test]
    fn what_is_no_address_is_told_as_go_tells_it() {
        let cases = [
            ("web", "unable to parse IP"),
            ("1.2.3", "IPv4 address too short"),
            ("1.2.3.4.5", "IPv4 address too long"),
            ("1.2.3.", "IPv4 field must have at least one digit (at \".\")"),
            ("1.2.3.256", "IPv4 field has value >255"),
            ("1.2.3.04", "IPv4 field has octet with leading zero"),
            ("1.2.3.x", "unexpected character (at \"x\")"),
            ("1:2", "address string too short"),
            ("1:::2", "each colon-separated field must have at least one digit (at \":2\")"),
            ("1::2::3", "multiple :: in address (at \":3\")"),
            ("12345::", "each group must have 4 or less digits (at \"12345::\")"),
            ("1:2:3:4:5:6:7:8:9", "trailing garbage after address (at \"9\")"),
            ("g::", "each colon-separated field must have at least one digit (at \"g::\")"),
            ("%x", "missing IPv6 address"),
        ];
        for (own, why) in cases {
            let expected =
                format!("IP Address {own:?} parse error during conversion from string: ParseAddr({own:?}): {why}");
            assert_eq!(told(address(own)), expected);
        }
        assert_eq!(told(address("fe80::1%en0")), "IP address \"fe80::1%en0\" with zone value is not allowed");
        assert_eq!(told(address("::ffff:1.2.3.4")), "IPv4-mapped IPv6 address \"::ffff:1.2.3.4\" is not allowed");
        assert!(address("::1").is_ok() && address("1.2.3.4").is_ok());
    }

    #[test]
    fn what_is_no_network_is_told_as_go_tells_it() {
        let cases = [
            ("x", "no '/'"),
            ("1.2.3/8", "ParseAddr(\"1.2.3\"): IPv4 address too short"),
            ("1.2.3.4/33", "prefix length out of range"),
            ("1.2.3.4/x", "bad bits after slash: \"x\""),
            ("1.2.3.4/08", "bad bits after slash: \"08\""),
            ("fe80::1%en0/8", "IPv6 zones cannot be present in a prefix"),
        ];
        for (own, why) in cases {
            assert!(told(network(own)).ends_with(&format!("netip.ParsePrefix({own:?}): {why}")), "{own}");
        }
        assert!(network("10.0.0.0/8").is_ok());
    }
}
