//! The versions of a definition: each by itself, and what they have in common.

use martello_api::{names, status::Cause};
use serde_json::{Value, json};

use super::{columns, selectable, subresources};
use crate::registry::{
    apiextensions::{schema, shown},
    object,
    validation::{field::Field, text::Faults},
};

/// Longest warning of a deprecated version.
const MAX_WARNING_CHARS: usize = 256;

/// What all versions say alike; none where they differ.
pub(super) struct Shared<'v> {
    schema: Option<Option<&'v Value>>,
    subresources: Option<Option<&'v Value>>,
    columns: Option<Option<&'v Value>>,
    selectable: Option<Option<&'v Value>>,
}

impl<'v> Shared<'v> {
    pub(super) fn of(spec: &Field<'v>) -> Self {
        let versions = object::list(spec.value, &["versions"]);
        let alike = |key: &str| {
            let of = |version: &'v Value| version.get(key).filter(|value| !value.is_null());
            let first = versions.first().map(of)?;
            versions.iter().all(|version| of(version) == first).then_some(first)
        };
        Self {
            schema: alike("schema"),
            subresources: alike("subresources"),
            columns: alike("additionalPrinterColumns"),
            // Upstream shares these with the schema or not at all.
            selectable: alike("schema").and_then(|_| alike("selectableFields")),
        }
    }

    /// Checks what is said once.
    pub(super) fn check(&self, spec: &Field<'_>, causes: &mut Vec<Cause>) {
        let status = object::list(spec.value, &["versions"])
            .iter()
            .any(|version| object::at(version, &["subresources", "status"]).is_some_and(|own| !own.is_null()));
        if let Some(Some(given)) = self.schema {
            schema::check(&Field::new(given, "spec.validation"), status, causes);
        }
        if let Some(Some(given)) = self.subresources {
            subresources(&Field::new(given, "spec.subresources"), causes);
        }
        if let Some(Some(given)) = self.columns {
            columns(&Field::new(&json!({"additionalPrinterColumns": given}), spec.path.clone()), causes);
        }
        if let Some(Some(given)) = self.selectable {
            let holder = json!({"selectableFields": given});
            match self.schema.flatten() {
                _ if object::list(&holder, &["selectableFields"]).is_empty() => {}
                Some(schema) => {
                    selectable(&Field::new(&holder, spec.path.clone()), schema.get("openAPIV3Schema"), causes);
                }
                None => {
                    let why = "may only be set when validations.schema is included";
                    causes.push(Cause::invalid("spec.selectableFields", &json!(""), why));
                }
            }
        }
    }

    /// A version as upstream's messages show it.
    fn shown(&self, version: &Value) -> Value {
        let own = |shared: bool, key: &str, of: fn(&Value) -> Value| {
            version.get(key).filter(|value| !shared && !object::is_zero(value)).map(of)
        };
        json!({
            "Name": object::text(version, &["name"]),
            "Served": object::flag(version, &["served"]),
            "Storage": object::flag(version, &["storage"]),
            "Deprecated": object::flag(version, &["deprecated"]),
            "DeprecationWarning": own(false, "deprecationWarning", Value::clone),
            "Schema": own(self.schema.is_some(), "schema", shown::validation),
            "Subresources": own(self.subresources.is_some(), "subresources", shown::subresources),
            "AdditionalPrinterColumns": own(self.columns.is_some(), "additionalPrinterColumns", shown::columns),
            "SelectableFields": own(self.selectable.is_some(), "selectableFields", shown::selectable),
        })
    }
}

pub(super) fn versions(spec: &Field<'_>, shared: &Shared<'_>, causes: &mut Vec<Cause>) {
    let items = spec.items("versions");
    let mut seen = Vec::with_capacity(items.len());
    let (mut unique, mut storage) = (true, 0);
    for version in &items {
        storage += usize::from(version.flag("storage"));
        let name = version.str("name");
        unique &= !seen.contains(&name);
        seen.push(name);
        let faults = names::dns1035_label(name);
        if !faults.is_empty() {
            version.at("name").invalid(&faults.join(","), causes);
        }
        for fault in deprecation_warning(version) {
            version.at("deprecationWarning").invalid(&fault, causes);
        }
        let status = object::at(version.value, &["subresources", "status"]).is_some_and(|status| !status.is_null());
        let own = version.value.get("schema").filter(|schema| !schema.is_null());
        if let (None, Some(own)) = (shared.schema, own) {
            schema::check(&Field::new(own, version.at("schema").path), status, causes);
        }
        if shared.subresources.is_none() {
            subresources(&version.at("subresources"), causes);
        }
        if shared.columns.is_none() {
            columns(version, causes);
        }
        if shared.selectable.is_none() && version.count("selectableFields") > 0 {
            let schema = own.filter(|_| shared.schema.is_none()).and_then(|own| own.get("openAPIV3Schema"));
            match schema {
                Some(schema) => selectable(version, Some(schema), causes),
                // As upstream says it; a schema that all versions share does not count.
                None => causes.push(Cause::invalid(
                    version.at("selectableFields").path,
                    &json!(""),
                    "may only be set when `version.schema.openAPIV3Schema` is not included",
                )),
            }
        }
    }
    let shown = || match spec.at("versions").value {
        Value::Null => Value::Null,
        _ => items.iter().map(|version| shared.shown(version.value)).collect(),
    };
    if !unique {
        causes.push(Cause::invalid("spec.versions", &shown(), "must contain unique version names"));
    }
    if storage != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &shown(), why));
    }
    // The first version is also what upstream's internal type calls the version.
    if let Some(first) = items.first().filter(|first| !first.str("name").is_empty()) {
        let faults = names::dns1035_label(first.str("name"));
        if !faults.is_empty() {
            causes.push(Cause::invalid("spec.version", &json!(first.str("name")), &faults.join(",")));
        }
    }
}

fn deprecation_warning(version: &Field<'_>) -> Faults {
    let Some(warning) = version.value.get("deprecationWarning").and_then(Value::as_str) else { return Vec::new() };
    if !version.flag("deprecated") {
        return vec!["can only be set for deprecated versions".to_owned()];
    }
    let mut faults = Vec::new();
    if warning.len() > MAX_WARNING_CHARS {
        faults.push(format!("must be <= {MAX_WARNING_CHARS} characters long"));
    }
    if warning.is_empty() {
        faults.push("must not be an empty string".to_owned());
    }
    let hidden = |letter: &char| letter.is_control() || letter.is_whitespace() && *letter != ' ';
    if let Some((at, _)) = warning.char_indices().find(|(_, letter)| hidden(letter)) {
        faults
            .push(format!("must only contain printable UTF-8 characters; non-printable character found at index {at}"));
    }
    faults
}
