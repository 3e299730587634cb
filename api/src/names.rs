//! What may be called what: the syntax of names, labels, ports, addresses, with upstream's wording of each objection.
//!
//! Each check returns its objections; none means that the name is fine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const LABEL_LIMIT: usize = 63;
const SUBDOMAIN_LIMIT: usize = 253;
const PORT_NAME_LIMIT: usize = 15;

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DOTS: &str = "must not contain dots";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SUBDOMAIN_UNDERSCORE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const WILDCARD_1123: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_KEY: &str = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn too_long(limit: usize, unit: &str) -> String {
    format!("must be no more than {limit} {unit}")
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Begins and ends with `edge`, and has nothing but `edge` and `inner` between.
fn edged(text: &str, edge: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| edge(*byte))
        && bytes.last().is_some_and(|byte| edge(*byte))
        && bytes.iter().all(|byte| edge(*byte) || inner.contains(byte))
}

fn is_label(text: &str) -> bool {
    edged(text, is_lower, b"-")
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn checked(text: &str, limit: usize, fits: bool, objection: &str) -> Vec<String> {
    let mut objections = Vec::new();
    if text.len() > limit {
        objections.push(too_long(limit, "characters"));
    }
    if !fits {
        objections.push(objection.to_owned());
    }
    objections
}

/// RFC 1123 label: names of namespaces, containers, Services' parts of DNS.
#[must_use]
pub fn dns1123_label(text: &str) -> Vec<String> {
    // What would be a subdomain has dots, and no other fault.
    let objection = if is_subdomain(text) { DOTS } else { LABEL_1123 };
    checked(text, LABEL_LIMIT, is_label(text), objection)
}

/// RFC 1123 subdomain: names of most objects.
#[must_use]
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    checked(text, SUBDOMAIN_LIMIT, is_subdomain(text), SUBDOMAIN_1123)
}

/// RFC 1123 subdomain in which `_` may stand: search domains.
#[must_use]
pub fn dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let fits = text.split('.').all(|part| edged(part.strip_prefix('_').unwrap_or(part), is_lower, b"-_"));
    checked(text, SUBDOMAIN_LIMIT, fits, SUBDOMAIN_UNDERSCORE)
}

/// A subdomain after `*.`: hosts of ingresses.
#[must_use]
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let fits = text.strip_prefix("*.").is_some_and(is_subdomain);
    checked(text, SUBDOMAIN_LIMIT, fits, WILDCARD_1123)
}

/// RFC 1035 label: names of Services.
#[must_use]
pub fn dns1035_label(text: &str) -> Vec<String> {
    let fits = is_label(text) && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    checked(text, LABEL_LIMIT, fits, LABEL_1035)
}

/// Keys of labels and annotations, names of resources and finalizers: `name` or `prefix/name`.
#[must_use]
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut objections = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                objections.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > SUBDOMAIN_LIMIT {
                    objections.push(format!("prefix part {}", too_long(SUBDOMAIN_LIMIT, "bytes")));
                }
                if !is_subdomain(prefix) {
                    objections.push(format!("prefix part {SUBDOMAIN_1123}"));
                }
            }
            *name
        }
        _ => return vec![LABEL_KEY.to_owned()],
    };
    if name.is_empty() {
        objections.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LIMIT {
        objections.push(format!("name part {}", too_long(LABEL_LIMIT, "bytes")));
    }
    if !edged(name, |byte| byte.is_ascii_alphanumeric(), b"-_.") {
        objections.push(NAME_PART.to_owned());
    }
    objections
}

/// Values of labels.
#[must_use]
pub fn label_value(text: &str) -> Vec<String> {
    let mut objections = Vec::new();
    if text.len() > LABEL_LIMIT {
        objections.push(too_long(LABEL_LIMIT, "bytes"));
    }
    if !text.is_empty() && !edged(text, |byte| byte.is_ascii_alphanumeric(), b"-_.") {
        objections.push(LABEL_VALUE.to_owned());
    }
    objections
}

/// Keys of ConfigMaps and Secrets.
#[must_use]
pub fn config_map_key(text: &str) -> Vec<String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let mut objections = checked(text, SUBDOMAIN_LIMIT, fits, CONFIG_KEY);
    objections.extend(not_a_path_step(text));
    objections
}

fn not_a_path_step(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// Names of environment variables.
#[must_use]
pub fn env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    let fits = text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=');
    if fits { Vec::new() } else { vec![ENV_NAME.to_owned()] }
}

/// C identifiers: prefixes of environment variables.
#[must_use]
pub fn c_identifier(text: &str) -> Vec<String> {
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if fits { Vec::new() } else { vec![C_IDENTIFIER.to_owned()] }
}

/// A name that may be a step of a URL path.
#[must_use]
pub fn path_segment(text: &str) -> Vec<String> {
    match text {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        _ => ["/", "%"]
            .into_iter()
            .filter(|illegal| text.contains(illegal))
            .map(|illegal| format!("may not contain '{illegal}'"))
            .collect(),
    }
}

/// Port numbers.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

/// Names of ports (RFC 6335).
#[must_use]
pub fn port_name(text: &str) -> Vec<String> {
    let mut objections = Vec::new();
    if text.len() > PORT_NAME_LIMIT {
        objections.push(too_long(PORT_NAME_LIMIT, "characters"));
    }
    if text.is_empty() || !text.bytes().all(|byte| is_lower(byte) || byte == b'-') {
        objections.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        objections.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        objections.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        objections.push("must not begin or end with a hyphen".to_owned());
    }
    objections
}

/// IP addresses.
#[must_use]
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// IPv4 addresses.
#[must_use]
pub fn ipv4(text: &str) -> Vec<String> {
    match text.parse::<Ipv4Addr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IPv4 address".to_owned()],
    }
}

/// IPv6 addresses.
#[must_use]
pub fn ipv6(text: &str) -> Vec<String> {
    match text.parse::<Ipv6Addr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IPv6 address".to_owned()],
    }
}

/// Ranges of addresses.
#[must_use]
pub fn cidr(text: &str) -> Vec<String> {
    match range(text) {
        Some(_) => Vec::new(),
        None => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()],
    }
}

/// A range of addresses: an address, and a length without zeros in front.
#[must_use]
pub fn range(text: &str) -> Option<ipnet::IpNet> {
    let (address, length) = text.split_once('/')?;
    let is_plain = length == "0" || (!length.starts_with('0') && length.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_plain {
        return None;
    }
    ipnet::IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()
}

/// Percentages such as `25%`.
#[must_use]
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    let fits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Vec::new() } else { vec![PERCENT.to_owned()] }
}

/// The longest text before the random suffix of a generated name.
const GENERATED_PREFIX_LIMIT: usize = 58;

/// What a generated name starts with: `generateName`, cut so that the suffix still fits a label.
#[must_use]
pub fn generated_prefix(prefix: &str) -> &str {
    let mut end = prefix.len().min(GENERATED_PREFIX_LIMIT);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    prefix.get(..end).unwrap_or_default()
}

/// `generateName` as name checks see it: a dash or dot at its end is fine, since more follows.
#[must_use]
pub fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{}a", prefix.get(..prefix.len() - 2).unwrap_or_default()),
        _ => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_step_of_a_search_domain_may_begin_with_an_underscore() {
        assert_eq!(dns1123_subdomain_with_underscore("_sip._tcp.abc_d.example.com"), [""; 0]);
        for bad in ["__a", "a.", "a_", "_", "A"] {
            assert_eq!(dns1123_subdomain_with_underscore(bad), [SUBDOMAIN_UNDERSCORE], "{bad}");
        }
        assert_eq!(env_var_name(""), ["environment variable name must be non-empty"]);
    }

    #[test]
    fn a_range_has_no_more_groups_than_an_address() {
        assert!(cidr("2001:db8::/64").is_empty() && cidr("10.0.0.0/8").is_empty());
        for bad in ["::abcd:2001:db8:FE80:0:2001:fe80:abcd/96", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0", "10.0.0.0/33"]
        {
            assert_eq!(cidr(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn good_names_pass() {
        assert!(dns1123_label("my-name").is_empty());
        assert!(dns1123_subdomain("a.b-c.d1").is_empty());
        assert!(dns1035_label("web").is_empty());
        assert!(qualified_name("example.com/My_Name").is_empty());
        assert!(label_value("").is_empty());
        assert!(config_map_key(".dockerconfigjson").is_empty());
        assert!(port_name("http-1").is_empty());
        assert!(env_var_name("my.var-1").is_empty());
        assert!(path_segment("system:node:a").is_empty());
        assert!(percent("25%").is_empty());
    }

    #[test]
    fn objections_read_as_upstream_words_them() {
        assert_eq!(dns1123_label("Bad_"), [LABEL_1123]);
        assert_eq!(dns1123_label("Bad.name"), [LABEL_1123]);
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns1123_label(&"n".repeat(64)), ["must be no more than 63 characters"]);
        assert_eq!(label_value(&"v".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(qualified_name("a/b/c"), [LABEL_KEY]);
        assert_eq!(qualified_name(&format!("{}/b", "a".repeat(254))), ["prefix part must be no more than 253 bytes"]);
        assert_eq!(qualified_name("bad finalizer"), [NAME_PART]);
        assert_eq!(qualified_name(""), ["name part must be non-empty", NAME_PART]);
        assert_eq!(config_map_key("bad key"), [CONFIG_KEY]);
        assert_eq!(port_name("abcdefghijklmnopq"), ["must be no more than 15 characters"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(dns1035_label("1a"), [LABEL_1035]);
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
    }

    #[test]
    fn a_generated_name_leaves_room_for_its_suffix() {
        assert_eq!(generated_prefix(&"x".repeat(80)).len(), 58);
        assert!(dns1123_label(&mask_trailing_dash("web-")).is_empty());
    }

    proptest! {
        #[test]
        fn every_label_is_a_subdomain_and_no_text_panics(text in "\\PC{0,70}", label in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?") {
            let _all = (qualified_name(&text), port_name(&text), cidr(&text), mask_trailing_dash(&text));
            prop_assert!(generated_prefix(&text).len() <= 58);
            prop_assert!(dns1123_label(&label).is_empty() && dns1123_subdomain(&label).is_empty());
        }
    }
}
