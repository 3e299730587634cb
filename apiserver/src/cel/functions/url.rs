//! URLs: absolute ones, and paths.

use std::{collections::HashMap, sync::Arc};

use super::{Fault, Library, Outcome, fail, text};
use crate::cel::{
    opaque::Opaque,
    value::{Entries, Map, Value},
};

/// A URL in its parts.
#[derive(Debug, Default)]
pub struct Url {
    text: String,
    scheme: String,
    user: Option<String>,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

pub(super) const LIBRARY: Library = &[
    ("url", &["string_to_url: (string) -> URL"], |args| match args {
        // Upstream reads it twice: what stands in a request has no fragment.
        [Value::String(text)] => match Url::requested(text).and_then(|_| Url::parse(text)) {
            Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
            Err(why) => fail(format!("URL parse error during conversion from string: {why}")),
        },
        _ => Err(Fault::NoOverload),
    }),
    ("isURL", &["is_url_string: (string) -> bool"], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(Url::requested(text).is_ok())),
        _ => Err(Fault::NoOverload),
    }),
    ("getScheme", &["url_get_scheme: URL.() -> string"], |args| part(args, |url| url.scheme.clone())),
    ("getHost", &["url_get_host: URL.() -> string"], |args| part(args, |url| url.host.clone())),
    ("getHostname", &["url_get_hostname: URL.() -> string"], |args| part(args, |url| url.split_host().0.to_owned())),
    ("getPort", &["url_get_port: URL.() -> string"], |args| part(args, |url| url.split_host().1.to_owned())),
    ("getEscapedPath", &["url_get_escaped_path: URL.() -> string"], |args| part(args, |url| escaped(&url.path))),
    ("getQuery", &["url_get_query: URL.() -> map(string, list(string))"], query),
];

fn part<'a>(args: &[Value<'a>], of: impl Fn(&Url) -> String) -> Outcome<'a> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(text(of(url))),
        _ => Err(Fault::NoOverload),
    }
}

impl Url {
    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The scheme, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The host with its port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Who asks, and with which password.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What stands behind the question mark.
    #[must_use]
    pub fn query(&self) -> &str {
        &self.query
    }

    /// What stands behind the hash.
    #[must_use]
    pub fn fragment(&self) -> &str {
        &self.fragment
    }

    /// Reads any URL.
    pub fn parse(own: &str) -> Result<Self, String> {
        let (rest, fragment) = own.split_once('#').unwrap_or((own, ""));
        let mut url = Self::read(rest, false).map_err(|why| format!("parse {rest:?}: {why}"))?;
        check_escapes(fragment, false).map_err(|why| format!("parse {own:?}: {why}"))?;
        own.clone_into(&mut url.text);
        fragment.clone_into(&mut url.fragment);
        Ok(url)
    }

    /// Reads a URL as it stands in a request: absolute or a path, and without a fragment.
    pub fn requested(own: &str) -> Result<Self, String> {
        Self::read(own, true).map_err(|why| format!("parse {own:?}: {why}"))
    }

    fn read(own: &str, as_request: bool) -> Result<Self, String> {
        if own.chars().any(|c| c.is_ascii_control()) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if own.is_empty() && as_request {
            return Err("empty url".to_owned());
        }
        let mut url = Self { text: own.to_owned(), ..Self::default() };
        if own == "*" {
            own.clone_into(&mut url.path);
            return Ok(url);
        }
        let rest = match own.split_once(':') {
            Some(("", _)) => return Err("missing protocol scheme".to_owned()),
            Some((scheme, rest)) if is_scheme(scheme) => {
                url.scheme = scheme.to_ascii_lowercase();
                rest
            }
            _ => own,
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        query.clone_into(&mut url.query);
        if !rest.starts_with('/') {
            let is_named = rest.split('/').next().is_some_and(|segment| segment.contains(':'));
            return match (url.scheme.is_empty(), as_request) {
                // What follows the scheme means what the scheme says.
                (false, _) => Ok(url),
                (true, true) => Err("invalid URI for request".to_owned()),
                (true, false) if is_named => Err("first path segment in URL cannot contain colon".to_owned()),
                (true, false) => url.at(rest),
            };
        }
        let has_host = !url.scheme.is_empty() || !as_request && !rest.starts_with("///");
        let Some(after) = rest.strip_prefix("//").filter(|_| has_host) else { return url.at(rest) };
        let (authority, path) = after.find('/').and_then(|end| after.split_at_checked(end)).unwrap_or((after, ""));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        check_host(host)?;
        if let Some(user) = user {
            check_user(user)?;
        }
        host.clone_into(&mut url.host);
        url.user = user.map(str::to_owned);
        url.at(path)
    }

    fn at(mut self, path: &str) -> Result<Self, String> {
        check_escapes(path, false)?;
        path.clone_into(&mut self.path);
        Ok(self)
    }

    /// Name and port; brackets of addresses are dropped.
    fn split_host(&self) -> (&str, &str) {
        if let Some(rest) = self.host.strip_prefix('[') {
            let (name, after) = rest.split_once(']').unwrap_or((rest, ""));
            return (name, after.strip_prefix(':').unwrap_or_default());
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        host.get(end + 1..)
    } else {
        host.rfind(':').and_then(|at| host.get(at..))
    };
    let port = port.unwrap_or_default();
    let digits = port.strip_prefix(':').filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    if !port.is_empty() && digits.is_none() {
        return Err(format!("invalid port {port:?} after host"));
    }
    check_escapes(host, true)?;
    match host.chars().find(|letter| " \\^`{|}".contains(*letter)) {
        Some(letter) => Err(format!("invalid character {:?} in host name", letter.to_string())),
        None => Ok(()),
    }
}

fn check_user(user: &str) -> Result<(), String> {
    if !user.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(letter)) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    check_escapes(user, false)
}

/// Escapes are two digits; in names of hosts they stand for what is no ASCII, or for the percent sign.
fn check_escapes(part: &str, in_host: bool) -> Result<(), String> {
    let escapes = part.match_indices('%').filter_map(|(at, _)| part.get(at..));
    for escape in escapes {
        let own: String = escape.chars().take(3).collect();
        let digits = own.get(1..).filter(|own| own.len() == 2 && own.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let is_ascii = digits.is_some_and(|own| own.starts_with(|digit: char| digit.is_digit(8)));
        if digits.is_none() || in_host && is_ascii && own != "%25" {
            return Err(format!("invalid URL escape {own:?}"));
        }
    }
    Ok(())
}

fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unescaped(part: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

fn query<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Opaque(Opaque::Url(url))] = args else { return Err(Fault::NoOverload) };
    let mut found: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (unescaped(name), unescaped(value)) else { continue };
        match places.get(&name).and_then(|at| found.get_mut(*at)) {
            Some((_, values)) => values.push(text(value)),
            None => {
                places.insert(name.clone(), found.len());
                found.push((name, vec![text(value)]));
            }
        }
    }
    let mut entries = Entries::default();
    for (name, values) in found {
        entries.insert(text(name), values.into());
    }
    Ok(Value::Map(Map::Made(Arc::new(entries))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_urls_are_found() {
        let url = Url::requested("https://user@[::1]:80/a b?x=1&x=2").unwrap();
        assert_eq!((url.scheme(), url.host(), url.split_host()), ("https", "[::1]:80", ("::1", "80")));
        assert_eq!((escaped(&url.path).as_str(), url.user(), url.query()), ("/a%20b", Some("user"), "x=1&x=2"));
        for bad in ["", "a", "https://a:b/", "/%zz", "//\n"] {
            assert!(Url::requested(bad).is_err(), "{bad}");
        }
        assert_eq!(Url::parse("/p?x=1#f").unwrap().path, "/p");
        assert!(Url::requested("/path").is_ok() && Url::requested("mailto:").is_ok());
        let url = Url::parse("HTTPS://h/p#f").unwrap();
        assert_eq!((url.scheme(), url.fragment(), url.text()), ("https", "f", "HTTPS://h/p#f"));
        assert_eq!(Url::parse("//h/p").unwrap().host(), "h");
        assert_eq!(Url::requested("//h/p").unwrap().host(), "");
    }

    #[test]
    fn what_is_no_url_is_told_as_go_tells_it() {
        let told = |own: &str| Url::parse(own).unwrap_err();
        let cases = [
            ("https://h:x/", r#"parse "https://h:x/": invalid port ":x" after host"#),
            ("https://[::1", r#"parse "https://[::1": missing ']' in host"#),
            ("https://[::1]x", r#"parse "https://[::1]x": invalid port "x" after host"#),
            ("https://a b/", r#"parse "https://a b/": invalid character " " in host name"#),
            ("https://%41/", r#"parse "https://%41/": invalid URL escape "%41""#),
            ("/%z", r#"parse "/%z": invalid URL escape "%z""#),
            ("a:b:c", ""),
            ("1a:b", r#"parse "1a:b": first path segment in URL cannot contain colon"#),
            (":a", r#"parse ":a": missing protocol scheme"#),
            ("/a\n", r#"parse "/a\n": net/url: invalid control character in URL"#),
            ("https://a^b@h/", r#"parse "https://a^b@h/": net/url: invalid userinfo"#),
            ("/a#%zz", r#"parse "/a#%zz": invalid URL escape "%zz""#),
        ];
        for (own, expected) in cases {
            if expected.is_empty() {
                assert!(Url::parse(own).is_ok(), "{own}");
            } else {
                assert_eq!(told(own), expected);
            }
        }
        assert_eq!(Url::requested("a").unwrap_err(), r#"parse "a": invalid URI for request"#);
    }
}
