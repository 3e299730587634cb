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
    host: String,
    path: String,
    query: String,
}

pub(super) const LIBRARY: Library = &[
    ("url", &["string_to_url: (string) -> URL"], |args| match args {
        [Value::String(text)] => match Url::parse(text) {
            Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
            Err(why) => fail(format!("URL parse error during conversion from string: parse {:?}: {why}", &**text)),
        },
        _ => Err(Fault::NoOverload),
    }),
    ("isURL", &["is_url_string: (string) -> bool"], |args| match args {
        [Value::String(text)] => Ok(Value::Bool(Url::parse(text).is_ok())),
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

    fn parse(own: &str) -> Result<Self, &'static str> {
        if own.is_empty() {
            return Err("empty url");
        }
        if own.chars().any(|c| c.is_ascii_control()) {
            return Err("net/url: invalid control character in URL");
        }
        let mut url = Self { text: own.to_owned(), ..Self::default() };
        let (rest, query) = own.split_once('?').unwrap_or((own, ""));
        url.query = query.to_owned();
        let rest = match rest.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => {
                url.scheme = scheme.to_ascii_lowercase();
                rest
            }
            Some(("", _)) => return Err("missing protocol scheme"),
            _ => rest,
        };
        if !rest.starts_with('/') {
            return if url.scheme.is_empty() || rest.is_empty() { Err("invalid URI for request") } else { Ok(url) };
        }
        url.path = match rest.strip_prefix("//").filter(|_| !url.scheme.is_empty()) {
            Some(after) => {
                let end = after.find('/').unwrap_or(after.len());
                let (authority, path) = after.split_at_checked(end).ok_or("invalid URI for request")?;
                url.host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned();
                check_host(&url.host)?;
                path.to_owned()
            }
            None => rest.to_owned(),
        };
        check_escapes(&url.path)?;
        Ok(url)
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

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, after) = rest.split_once(']').ok_or("missing ']' in host")?;
            (name, after.strip_prefix(':').unwrap_or_default())
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("invalid port after host");
    }
    if name.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) {
        return Err("invalid character in host name");
    }
    Ok(())
}

fn check_escapes(path: &str) -> Result<(), &'static str> {
    let mut parts = path.split('%');
    parts.next();
    for part in parts {
        if !part.bytes().take(2).filter(u8::is_ascii_hexdigit).count().eq(&2) {
            return Err("invalid URL escape");
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
        let url = Url::parse("https://user@[::1]:80/a b?x=1&x=2").unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str(), url.split_host()), ("https", "[::1]:80", ("::1", "80")));
        assert_eq!(escaped(&url.path), "/a%20b");
        for bad in ["", "a", "https://a:b/", "/%zz", "//\n"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        assert!(Url::parse("/path").is_ok());
    }
}
