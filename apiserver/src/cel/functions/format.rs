//! Formats of texts that Kubernetes knows by name.

use martello_api::names;

use super::{Fault, Library, Outcome, text};
use crate::cel::{opaque::Opaque, read, value::Value};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(&'static str);

/// Most characters of a text that is checked.
const MAX_CHARS: usize = 4096;
/// The names in the order of the constructors below.
const NAMES: [&str; 12] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
];
const DATETIME: &str = "datetime";

pub(super) const LIBRARY: Library = &[
    ("format.named", &["format-named: (string) -> optional(NamedFormat)"], |args| match args {
        [Value::String(name)] => {
            let found = NAMES.into_iter().chain([DATETIME]).find(|own| *own == &**name);
            Ok(Value::optional(found.map(|name| Value::Opaque(Opaque::Format(Format(name))))))
        }
        _ => Err(Fault::NoOverload),
    }),
    ("format.dns1123Label", &["format-dns1123Label: () -> NamedFormat"], |_| named("dns1123Label")),
    ("format.dns1123Subdomain", &["format-dns1123Subdomain: () -> NamedFormat"], |_| named("dns1123Subdomain")),
    ("format.dns1035Label", &["format-dns1035Label: () -> NamedFormat"], |_| named("dns1035Label")),
    ("format.qualifiedName", &["format-qualifiedName: () -> NamedFormat"], |_| named("qualifiedName")),
    ("format.dns1123LabelPrefix", &["format-dns1123LabelPrefix: () -> NamedFormat"], |_| named("dns1123LabelPrefix")),
    ("format.dns1123SubdomainPrefix", &["format-dns1123SubdomainPrefix: () -> NamedFormat"], |_| {
        named("dns1123SubdomainPrefix")
    }),
    ("format.dns1035LabelPrefix", &["format-dns1035LabelPrefix: () -> NamedFormat"], |_| named("dns1035LabelPrefix")),
    ("format.labelValue", &["format-labelValue: () -> NamedFormat"], |_| named("labelValue")),
    ("format.uri", &["format-uri: () -> NamedFormat"], |_| named("uri")),
    ("format.uuid", &["format-uuid: () -> NamedFormat"], |_| named("uuid")),
    ("format.byte", &["format-byte: () -> NamedFormat"], |_| named("byte")),
    ("format.date", &["format-date: () -> NamedFormat"], |_| named("date")),
    ("format.datetime", &["format-datetime: () -> NamedFormat"], |_| named(DATETIME)),
    ("validate", &["format-validate: NamedFormat.(string) -> optional(list(string))"], |args| match args {
        [Value::Opaque(Opaque::Format(format)), Value::String(own)] => {
            let errors = format.check(own);
            let found = (!errors.is_empty()).then(|| errors.into_iter().map(text).collect::<Vec<_>>().into());
            Ok(Value::optional(found))
        }
        _ => Err(Fault::NoOverload),
    }),
];

fn named<'a>(name: &'static str) -> Outcome<'a> {
    Ok(Value::Opaque(Opaque::Format(Format(name))))
}

impl Format {
    /// How long the pattern is that upstream takes a text to be held against, when it counts the cost.
    pub(in crate::cel) fn pattern_size(self) -> u64 {
        match self.0 {
            "dns1123Label" | "dns1035Label" | "dns1123LabelPrefix" | "dns1035LabelPrefix" => 30,
            "dns1123Subdomain" | "qualifiedName" | "dns1123SubdomainPrefix" => 60,
            "labelValue" => 40,
            "uri" => 1103,
            "uuid" => 70,
            "byte" => 84,
            _ => 71,
        }
    }

    fn check(self, own: &str) -> Vec<String> {
        if own.len() > MAX_CHARS {
            return vec!["too long".to_owned()];
        }
        let prefix = || names::mask_trailing_dash(own);
        let wrong = |fine: bool, why: &str| if fine { Vec::new() } else { vec![why.to_owned()] };
        match self.0 {
            "dns1123Label" => names::dns1123_label(own),
            "dns1123Subdomain" => names::dns1123_subdomain(own),
            "dns1035Label" => names::dns1035_label(own),
            "qualifiedName" => names::qualified_name(own),
            "dns1123LabelPrefix" => names::dns1123_label(&prefix()),
            "dns1123SubdomainPrefix" => names::dns1123_subdomain(&prefix()),
            "dns1035LabelPrefix" => names::dns1035_label(&prefix()),
            "labelValue" => names::label_value(own),
            "uri" => {
                wrong(own.contains(':') || own.starts_with('/'), &format!("parse {own:?}: invalid URI for request"))
            }
            "uuid" => wrong(is_uuid(own), "does not match the UUID format"),
            "byte" => {
                use base64::Engine;
                wrong(base64::engine::general_purpose::STANDARD.decode(own).is_ok(), "invalid base64")
            }
            "date" => wrong(read::timestamp(&format!("{own}T00:00:00Z")).is_some(), "invalid date"),
            _ => wrong(read::timestamp(own).is_some(), "invalid datetime"),
        }
    }
}

fn is_uuid(own: &str) -> bool {
    let parts: Vec<&str> = own.split('-').collect();
    let hex = own.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    hex && (parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) || (parts.len() == 1 && own.len() == 32))
}
