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
            [Value::Opaque(Opaque::Cidr(own)), Value::String(text)] => Ok(Value::Bool(own.contains(address(text)?))),
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
    let refuse = |why: &str| fail(format!("{why}: {own:?}"));
    match own.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            fail(format!("IPv4-mapped IPv6 address {own:?} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) if own.contains('%') => fail(format!("IP address {own:?} with zone value is not allowed")),
        Err(_) => refuse("IP Address parse error during conversion from string"),
    }
}

fn network(own: &str) -> Result<Cidr, Fault> {
    let parsed = own.split_once('/').and_then(|(address, bits)| {
        let address: IpAddr = address.parse().ok()?;
        let plain =
            !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
        let bits: u8 = bits.parse().ok().filter(|bits| plain && *bits <= if address.is_ipv4() { 32 } else { 128 })?;
        Some(Cidr { address, bits })
    });
    match parsed {
        Some(Cidr { address: IpAddr::V6(v6), .. }) if v6.to_ipv4_mapped().is_some() => {
            fail(format!("IPv4-mapped IPv6 address {own:?} is not allowed"))
        }
        Some(network) => Ok(network),
        None => fail(format!("network address parse error during conversion from string: {own:?}")),
    }
}
