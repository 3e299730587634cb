//! Lists with a limit, of which no two items have the same key; and names of devices, drivers and attributes.

use std::borrow::Cow;

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::validation::{
    field::Field,
    text::{self, Faults},
};
pub use crate::registry::volumes::csi_driver::driver_name as driver;

/// Longest name of a pool.
const MAX_POOL_BYTES: usize = 253;
/// Longest name of an attribute, its domain apart.
const MAX_ID_BYTES: usize = 32;

/// Checks each item; answers whether the list is short enough to be looked at.
pub fn each(
    owner: &Field<'_>,
    key: &str,
    limit: usize,
    causes: &mut Vec<Cause>,
    mut check: impl FnMut(&Field<'_>, &mut Vec<Cause>),
) -> bool {
    let items = owner.items(key);
    if items.len() > limit {
        owner.at(key).too_many(items.len(), limit, causes);
        return false;
    }
    items.iter().for_each(|item| check(item, causes));
    true
}

/// As [`each`]; and no two items have the same key.
pub fn set(
    owner: &Field<'_>,
    key: &str,
    limit: usize,
    causes: &mut Vec<Cause>,
    check: impl FnMut(&Field<'_>, &mut Vec<Cause>),
    name: impl Fn(&Field<'_>) -> Value,
) {
    if !each(owner, key, limit, causes, check) {
        return;
    }
    let mut seen: Vec<Value> = Vec::new();
    for item in owner.items(key) {
        let own = name(&item);
        if seen.contains(&own) {
            causes.push(Cause::duplicate(item.path.as_str(), &own));
        } else {
            seen.push(own);
        }
    }
}

/// The text under `key`, as a key of [`set`].
pub fn named(key: &'static str) -> impl Fn(&Field<'_>) -> Value {
    move |item| json!(item.str(key))
}

/// The entries of the map under `key`; names of more than `limit` bytes are cut in their middle where messages show them.
#[must_use]
pub fn entries<'a>(owner: &Field<'a>, key: &str, limit: usize) -> Vec<(&'a str, Field<'a>)> {
    let map = owner.at(key).path;
    let cut = |(name, entry): (&'a str, Field<'a>)| {
        (name, Field::new(entry.value, format!("{map}[{}]", shortened(name, limit))))
    };
    owner.entries(key).into_iter().map(cut).collect()
}

fn shortened(name: &str, limit: usize) -> Cow<'_, str> {
    const DOTS: &str = "...";
    let (bytes, left) = (name.as_bytes(), limit.saturating_sub(DOTS.len()));
    if bytes.len() <= limit {
        return Cow::Borrowed(name);
    }
    let head = bytes.get(..left.div_ceil(2)).unwrap_or_default();
    let tail = bytes.get(bytes.len() - left / 2..).unwrap_or_default();
    Cow::Owned(format!("{}{DOTS}{}", String::from_utf8_lossy(head), String::from_utf8_lossy(tail)))
}

/// Checks a name of a pool: subdomains, with slashes between.
pub fn pool(name: &Field<'_>, causes: &mut Vec<Cause>) {
    if !name.needs_text(causes) {
        return;
    }
    if name.text().len() > MAX_POOL_BYTES {
        causes.push(Cause::too_long(name.path.as_str(), MAX_POOL_BYTES));
    }
    for part in name.text().split('/') {
        for fault in text::dns1123_subdomain(part) {
            causes.push(Cause::invalid(name.path.as_str(), &json!(part), &fault));
        }
    }
}

/// Checks a name of a class.
pub fn class(name: &Field<'_>, causes: &mut Vec<Cause>) {
    name.check_required(text::dns1123_subdomain, causes);
}

/// Checks the name of an attribute or capacity, which messages call `path`.
pub fn qualified(name: &str, path: &str, causes: &mut Vec<Cause>) {
    let refuse =
        |value: &str, why: &str, causes: &mut Vec<Cause>| causes.push(Cause::invalid(path, &json!(value), why));
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(id, path, causes),
        [domain, id] => {
            if domain.is_empty() {
                refuse("", "the domain must not be empty", causes);
            } else {
                let value = json!(domain);
                driver(&Field::new(&value, path), causes);
            }
            if id.is_empty() {
                refuse("", "the name must not be empty", causes);
            } else {
                identifier(id, path, causes);
            }
        }
        // As upstream, which looks at names of one part and of two.
        _ => {}
    }
}

/// As [`qualified`], and there is a domain.
pub fn fully_qualified(name: &Field<'_>, causes: &mut Vec<Cause>) {
    qualified(name.text(), &name.path, causes);
    if !name.text().contains('/') {
        name.invalid("a fully qualified name must be a domain and a name separated by a slash", causes);
    }
}

fn identifier(id: &str, path: &str, causes: &mut Vec<Cause>) {
    if id.len() > MAX_ID_BYTES {
        causes.push(Cause::too_long(path, MAX_ID_BYTES));
    }
    for fault in text::c_identifier(id) {
        causes.push(Cause::invalid(path, &json!(id), &fault));
    }
}

/// Checks a value of a label.
pub fn label_value(value: &Field<'_>, causes: &mut Vec<Cause>) {
    for fault in text::label_value(value.text()) {
        causes.push(Cause::invalid(value.path.as_str(), &json!(value.text()), &fault));
    }
}

/// Checks data of any form: an object in JSON, bounded.
pub fn raw(data: &Field<'_>, limit: usize, causes: &mut Vec<Cause>) {
    match data.value {
        Value::Null => data.required("", causes),
        some if some.to_string().len() > limit => causes.push(Cause::too_long(data.path.as_str(), limit)),
        Value::Object(_) => {}
        _ => {
            let why = "must be a valid JSON object";
            causes.push(Cause::invalid(data.path.as_str(), &json!("<value omitted>"), why));
        }
    }
}

/// What is wrong with a UID, in the words of the library that upstream reads it with.
#[must_use]
pub fn uid(text: &str) -> Faults {
    const NORMAL: &str = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
    if let Some(fault) = uuid_fault(text) {
        return vec![format!("error validating uid: {fault}")];
    }
    let normal = text.len() == UUID_BYTES && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if normal { Vec::new() } else { vec![NORMAL.to_owned()] }
}

/// Length of a UUID with hyphens, and without.
const UUID_BYTES: usize = 36;
const BARE_UUID_BYTES: usize = 32;
const URN: &str = "urn:uuid:";

fn uuid_fault(text: &str) -> Option<String> {
    let hyphenated = match text.len() {
        UUID_BYTES => text,
        length if length == UUID_BYTES + URN.len() => match text.split_at_checked(URN.len()) {
            Some((urn, rest)) if urn.eq_ignore_ascii_case(URN) => rest,
            Some((urn, _)) => return Some(format!("invalid urn prefix: {urn:?}")),
            None => return Some("invalid UUID format".to_owned()),
        },
        length if length == UUID_BYTES + 2 => match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inner) => inner,
            None => return Some("invalid bracketed UUID format".to_owned()),
        },
        BARE_UUID_BYTES => {
            let sound = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            return (!sound).then(|| "invalid UUID format".to_owned());
        }
        length => return Some(format!("invalid UUID length: {length}")),
    };
    let sound = hyphenated.bytes().enumerate().all(|(place, byte)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (!sound).then(|| "invalid UUID format".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_in_normal_form() {
        const NORMAL: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        assert_eq!(uid(NORMAL), Faults::new());
        assert_eq!(uid("x"), ["error validating uid: invalid UUID length: 1"]);
        assert_eq!(uid(""), ["error validating uid: invalid UUID length: 0"]);
        assert_eq!(uid(&NORMAL.replace('-', "x")), ["error validating uid: invalid UUID format"]);
        assert_eq!(uid(&format!("[{NORMAL}]")), ["error validating uid: invalid bracketed UUID format"]);
        for other in
            [NORMAL.to_uppercase(), NORMAL.replace('-', ""), format!("{{{NORMAL}}}"), format!("urn:uuid:{NORMAL}")]
        {
            assert!(uid(&other).iter().all(|fault| fault.starts_with("uid must be in RFC 4122")), "{other}");
            assert_eq!(uid(&other).len(), 1, "{other}");
        }
    }

    #[test]
    fn long_names_are_cut_in_their_middle() {
        let map = json!({"m": {"a".repeat(20): 1, "b": 2}});
        let paths: Vec<_> = entries(&Field::new(&map, "p"), "m", 16).into_iter().map(|(_, entry)| entry.path).collect();
        assert_eq!(paths, ["p.m[aaaaaaa...aaaaaa]", "p.m[b]"]);
    }

    #[test]
    fn of_a_driver_without_a_name_nothing_more_is_said() {
        let mut causes = Vec::new();
        driver(&Field::new(&json!(""), "p"), &mut causes);
        let said: Vec<_> = causes.into_iter().map(|cause| cause.message).collect();
        assert_eq!(said, ["Required value"]);
    }

    #[test]
    fn names_of_more_parts_are_let_be() {
        let faults = |name: &str| {
            let mut causes = Vec::new();
            qualified(name, "p", &mut causes);
            causes.len()
        };
        assert_eq!(["a", "d.example.com/a", "a/b/c", "a b", "/a", "a/"].map(faults), [0, 0, 0, 1, 1, 1]);
    }
}
