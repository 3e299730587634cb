//! Whom a request over HTTP/1.1 says it is for: one host, well written. Whoever stands between client and server may believe
//! another of two than this server does (RFC 9112, 3.2).

use http::{HeaderValue, Method, Request, Version, header};

use super::reply::{self, Reply};

/// Bytes of a host besides letters and digits, as Go's server has them.
const OTHERS: &[u8] = b"!$%&'()*+,-.:;=[]_~";

/// The answer to a request whose head nobody should have sent so, in the words of Go's server; none where it is in order. The
/// connection ends with it.
#[must_use]
pub fn refusal<B>(request: &Request<B>) -> Option<Reply> {
    let why = fault(request)?;
    let mut refusal = reply::bare_text(400, format!("400 Bad Request{why}"));
    refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(refusal)
}

fn fault<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some(""),
        (Some(host), None) => (!is_valid(host)).then_some(": malformed Host header"),
        (None, _) => {
            let must = request.version() >= Version::HTTP_11 && *request.method() != Method::CONNECT;
            must.then_some(": missing required Host header")
        }
    }
}

fn is_valid(host: &HeaderValue) -> bool {
    host.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || OTHERS.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_host() {
        let told = |version: Version, hosts: &[&str]| {
            let mut request = Request::builder().version(version);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            fault(&request.body(()).unwrap())
        };
        for host in ["", "martello.example", "[::1]:6443", "10.0.0.1:6443", "a_b"] {
            assert_eq!(told(Version::HTTP_11, &[host]), None, "{host}");
        }
        assert_eq!(told(Version::HTTP_11, &["a", "b"]), Some(""));
        assert_eq!(told(Version::HTTP_11, &["a", "a"]), Some(""));
        assert_eq!(told(Version::HTTP_11, &[]), Some(": missing required Host header"));
        assert_eq!(told(Version::HTTP_10, &[]), None);
        for host in ["a/b", "user@a", "a b", "a\tb", "a?b", "a#b", "a\\b"] {
            assert_eq!(told(Version::HTTP_11, &[host]), Some(": malformed Host header"), "{host}");
        }
    }
}
