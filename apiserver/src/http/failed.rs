//! Connections that failed, in the words of Go, which clients and people look for.

use martello_api::go;

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

/// Reason and message of an answer that did not say what is wrong, by its code, as upstream's client makes them; `said` is
/// what stood in it.
#[must_use]
pub fn generic(code: u16, said: &str) -> (&'static str, String) {
    let (reason, message) = match code {
        400 => ("BadRequest", "the server rejected our request for an unknown reason"),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials"),
        403 => ("Forbidden", said),
        404 => ("NotFound", "the server could not find the requested resource"),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
        406 if matches!(said, "" | "unknown") => {
            ("NotAcceptable", "the server was unable to respond with a content type that the client supports")
        }
        406 => ("NotAcceptable", said),
        409 => ("Conflict", "the server reported a conflict"),
        415 => ("UnsupportedMediaType", said),
        422 => ("Invalid", "the server rejected our request due to an error in our request"),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        500.. => {
            let said = go::quoted(said);
            let message = format!("an error on the server ({said}) has prevented the request from succeeding");
            return ("InternalError", message);
        }
        _ => {
            let message =
                format!("the server responded with the status code {code} but did not return more information");
            return ("", message);
        }
    };
    (reason, message.to_owned())
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
