//! Connections that failed, in the words of Go, which clients and people look for.

/// A certificate that nobody vouches for.
pub const UNKNOWN_AUTHORITY: &str = "tls: failed to verify certificate: x509: certificate signed by unknown authority";

/// A failed connection as Go tells it.
#[must_use]
pub fn dialed(address: &str, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    let why = match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {why}")
}

/// A failed handshake as Go tells it.
#[must_use]
pub fn untrusted(error: &std::io::Error) -> String {
    use rustls::{CertificateError as Why, Error, InvalidMessage};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let x509 = match inner {
        Some(Error::InvalidCertificate(Why::UnknownIssuer | Why::BadSignature)) => return UNKNOWN_AUTHORITY.to_owned(),
        Some(Error::InvalidCertificate(Why::Expired | Why::ExpiredContext { .. })) => {
            "certificate has expired or is not yet valid".to_owned()
        }
        Some(Error::InvalidCertificate(Why::NotValidForNameContext { expected, presented })) => {
            misnamed(&expected.to_str(), presented)
        }
        Some(Error::InvalidCertificate(other)) => other.to_string(),
        // Nearly always it is HTTP that comes back where TLS was begun.
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            return "http: server gave HTTP response to HTTPS client".to_owned();
        }
        _ => return error.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {x509}")
}

/// A certificate of other names than the one that was asked for, as Go tells it.
fn misnamed(expected: &str, presented: &[String]) -> String {
    let is_address = expected.parse::<std::net::IpAddr>().is_ok();
    let form = if is_address { "IpAddress(" } else { "DnsName(" };
    let names: Vec<&str> = presented
        .iter()
        .filter_map(|name| name.strip_prefix(form)?.strip_suffix(')'))
        .map(|name| name.trim_matches('"'))
        .collect();
    match (names.as_slice(), is_address) {
        ([], true) => format!("cannot validate certificate for {expected} because it doesn't contain any IP SANs"),
        ([], false) => format!("certificate is not valid for any names, but wanted to match {expected}"),
        (names, _) => format!("certificate is valid for {}, not {expected}", names.join(", ")),
    }
}
