//! Objects and what selects and measures them.

use std::{collections::BTreeMap, hint::black_box};

use martello_api::{
    names,
    quantity::Quantity,
    resource::GroupVersionKind,
    schema::{
        Decoded, Schema, Schemas, apply_defaults, decode_json, decode_protobuf, decode_value, decode_yaml,
        encode_protobuf, parse_json,
    },
    selector::{FieldSelector, LabelSelector},
};

use super::text;

/// Kinds with every sort of field: lists, maps, quantities, times, bytes, int-or-string, raw.
const KINDS: [(&str, &str, &str); 8] = [
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "Event"),
    ("apps", "v1", "Deployment"),
    ("coordination.k8s.io", "v1", "Lease"),
    ("apps", "v1", "ControllerRevision"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
];

pub(super) fn schema(group: &'static str, version: &'static str, kind: &'static str) -> &'static Schema {
    static EMPTY: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(Schema::default);
    Schemas::builtin().get(&GroupVersionKind::new(group, version, kind)).unwrap_or(&EMPTY)
}

/// What decoding brought forth is normal: it decodes to itself, without complaint, and defaults apply to it.
fn is_normal(schema: &Schema, decoded: &Decoded) {
    let again = decode_value(schema, decoded.value.clone());
    assert!(again.as_ref().is_ok_and(|again| again.issues.is_empty()), "{again:?} of {}", decoded.value);
    assert_eq!(again.ok().map(|again| again.value).as_ref(), Some(&decoded.value));
    let mut defaulted = decoded.value.clone();
    apply_defaults(schema, &mut defaulted);
}

/// Objects in JSON.
pub fn manifest_json(bytes: &[u8]) {
    if let Ok(raw) = parse_json(bytes) {
        drop(raw.into_value());
    }
    for (group, version, kind) in KINDS {
        let schema = schema(group, version, kind);
        match decode_json(schema, bytes) {
            Ok(decoded) => is_normal(schema, &decoded),
            Err(error) => drop(error.to_api_error(&GroupVersionKind::new(group, version, kind), bytes)),
        }
    }
}

/// Objects in YAML.
pub fn manifest_yaml(bytes: &[u8]) {
    for (group, version, kind) in [("", "v1", "Pod"), ("apps", "v1", "Deployment")] {
        let schema = schema(group, version, kind);
        match decode_yaml(schema, bytes) {
            Ok(decoded) => is_normal(schema, &decoded),
            Err(error) => drop(error.to_api_error(&GroupVersionKind::new(group, version, kind), bytes)),
        }
    }
}

/// Objects in protobuf.
pub fn manifest_protobuf(bytes: &[u8]) {
    let Ok((gvk, value)) = decode_protobuf(bytes) else { return };
    let Some(encoded) = encode_protobuf(&value) else { return };
    let again = decode_protobuf(&encoded);
    assert_eq!(again.ok(), Some((gvk, value)), "what was decoded must survive being encoded");
}

/// Label selectors.
pub fn label_selector(bytes: &[u8]) {
    let Ok(selector) = LabelSelector::parse(&text(bytes)) else { return };
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), String::new())]);
    black_box(selector.matches(&labels));
    let shown = selector.to_string();
    let again = LabelSelector::parse(&shown);
    assert!(again.is_ok(), "{shown:?} is shown and not read");
    assert_eq!(again.ok().map(|again| again.to_string()), Some(shown));
}

/// Field selectors.
pub fn field_selector(bytes: &[u8]) {
    let Ok(selector) = FieldSelector::parse(&text(bytes)) else { return };
    black_box(selector.matches_by(|_| "web"));
    black_box(selector.exact("metadata.name"));
}

/// Quantities.
pub fn quantity(bytes: &[u8]) {
    let Ok(amount) = text(bytes).parse::<Quantity>() else { return };
    black_box((amount.units(), amount.millis(), amount.is_zero(), amount.is_negative()));
    let shown = amount.to_string();
    let again = shown.parse::<Quantity>();
    assert_eq!(again.as_ref().map(ToString::to_string).ok().as_ref(), Some(&shown), "{:?}", text(bytes));
}

/// Names of all sorts.
pub fn names(bytes: &[u8]) {
    let text = text(bytes);
    for check in [
        names::dns1123_label,
        names::dns1123_subdomain,
        names::wildcard_dns1123_subdomain,
        names::dns1035_label,
        names::qualified_name,
        names::label_value,
        names::config_map_key,
        names::env_var_name,
        names::path_segment,
        names::port_name,
        names::ip,
        names::cidr,
        names::percent,
    ] {
        check(&text);
    }
    black_box(names::generated_prefix(&text));
    black_box(names::mask_trailing_dash(&text));
}
