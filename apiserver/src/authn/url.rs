//! URLs of those who are asked who somebody is: https, a host, a port, a path, a query.

/// A URL, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query; at least a slash.
    pub path: String,
}

impl Url {
    /// Reads a URL; none if it is not of this form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        if uri.scheme_str() != Some("https") || authority.as_str().contains('@') {
            return None;
        }
        Some(Self {
            host: uri.host()?.trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(443),
            path: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
        })
    }

    /// Host and port, as the `Host` header has them.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_with_a_host_is_taken() {
        let url = Url::parse("https://idp.example.com/a?b=c").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("idp.example.com", 443, "/a?b=c"));
        assert_eq!(Url::parse("https://[::1]:8443").unwrap().authority(), "[::1]:8443");
        for bad in ["http://a", "https://u@a", "ftp://a", "a", ""] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }
}
