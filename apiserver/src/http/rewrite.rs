//! Pages that are seen through a proxy: links to the root of the server behind it are made links through the proxy.

use http::{HeaderMap, HeaderValue, header};

/// Attributes that hold a link, by element, as HTML 4 has them.
const LINKS: [&str; 13] = [
    "href",
    "src",
    "action",
    "cite",
    "background",
    "codebase",
    "data",
    "formaction",
    "icon",
    "longdesc",
    "manifest",
    "poster",
    "usemap",
];
/// Largest page that is rewritten; others pass as they are.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Whether an answer is a page whose links are to be rewritten.
#[must_use]
pub fn is_page(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_owned();
    let length: usize = text(header::CONTENT_LENGTH).parse().unwrap_or(0);
    kind.eq_ignore_ascii_case("text/html") && text(header::CONTENT_ENCODING).is_empty() && length <= MAX_PAGE_BYTES
}

/// A link as it must be to lead through the proxy at `prefix`. Of `hosts` the first is the server behind as it is reached,
/// the others are what the client calls this server: a link to one of those stays one.
#[must_use]
pub fn link(link: &str, prefix: &str, hosts: &[&str]) -> String {
    let own = hosts.iter().enumerate().find_map(|(index, host)| {
        let rest = ["http://", "https://", "//"].iter().find_map(|scheme| link.strip_prefix(scheme))?;
        let rest = rest.strip_prefix(host)?;
        let origin = if index == 0 { "" } else { link.strip_suffix(rest)? };
        (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some((origin, rest))
    });
    let (origin, path) = own.unwrap_or(("", link));
    let absolute = path.starts_with('/') && !path.starts_with("//");
    if !(absolute || (own.is_some() && !path.starts_with("//"))) || path.starts_with(prefix) {
        return link.to_owned();
    }
    format!("{origin}{prefix}{}{path}", if absolute { "" } else { "/" })
}

/// Rewrites `Location`.
pub fn location(headers: &mut HeaderMap, prefix: &str, hosts: &[&str]) {
    let Some(found) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else { return };
    if let Ok(value) = HeaderValue::from_str(&link(found, prefix, hosts)) {
        headers.insert(header::LOCATION, value);
    }
}

/// Rewrites the links of a page.
#[must_use]
pub fn page(html: &str, prefix: &str, hosts: &[&str]) -> String {
    let mut out = String::with_capacity(html.len() + 256);
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        out.push_str(before);
        out.push('<');
        let end = end_of_tag(tag);
        let (inside, after) = tag.split_at_checked(end).unwrap_or((tag, ""));
        attributes(inside, prefix, hosts, &mut out);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where a tag ends: at the first `>` outside of quotes.
fn end_of_tag(tag: &str) -> usize {
    let mut quote = None;
    for (at, letter) in tag.char_indices() {
        match (quote, letter) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
    }
    tag.len()
}

fn attributes(tag: &str, prefix: &str, hosts: &[&str], out: &mut String) {
    let mut rest = tag;
    while let Some((name, after)) = rest.split_once('=') {
        out.push_str(name);
        out.push('=');
        let key = name.rsplit(|letter: char| letter.is_whitespace() || letter == '"' || letter == '\'').next();
        let wanted = key.is_some_and(|key| LINKS.iter().any(|link| key.eq_ignore_ascii_case(link)));
        let quote = after.chars().next().filter(|letter| matches!(letter, '"' | '\''));
        let (value, tail) = match quote {
            Some(quote) => {
                out.push(quote);
                let inner = after.get(1..).unwrap_or_default();
                inner.split_once(quote).map_or((inner, None), |(value, tail)| (value, Some((quote, tail))))
            }
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                let (value, tail) = after.split_at_checked(end).unwrap_or((after, ""));
                (value, Some(('\0', tail)))
            }
        };
        if wanted {
            out.push_str(&link(value, prefix, hosts))
        } else {
            out.push_str(value)
        }
        match tail {
            Some((quote, tail)) => {
                if quote != '\0' {
                    out.push(quote);
                }
                rest = tail;
            }
            None => return,
        }
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_root_lead_through_the_proxy() {
        let rewritten = |html: &str| page(html, "/proxy/p", &["10.0.0.1:80", "us:6443"]);
        assert_eq!(rewritten(r#"<a href="/rewriteme">test</a>"#), r#"<a href="/proxy/p/rewriteme">test</a>"#);
        assert_eq!(rewritten("<img src='/a>b' alt=\"/c\"><p>/d</p>"), "<img src='/proxy/p/a>b' alt=\"/c\"><p>/d</p>");
        assert_eq!(rewritten("<a href=/x class=y>"), "<a href=/proxy/p/x class=y>");
        assert_eq!(rewritten("<a href=\"http://10.0.0.1:80/x\">"), "<a href=\"/proxy/p/x\">");
        assert_eq!(rewritten("<a href=\"http://us:6443/x\">"), "<a href=\"http://us:6443/proxy/p/x\">");
        for same in
            ["<a href=\"x\">", "<a href=\"//cdn/x\">", "<a href=\"http://other/x\">", "<a href=\"/proxy/p/x\">", "<"]
        {
            assert_eq!(rewritten(same), same);
        }
    }
}
