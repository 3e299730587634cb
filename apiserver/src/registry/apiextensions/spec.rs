//! What is wrong with a `CustomResourceDefinition`, its schemas apart; paths are those of upstream's internal type, in
//! which what all versions share is said once.

use martello_api::{names, status::Cause};
use serde_json::{Value, json};

use super::schema;
use crate::{
    crd::{
        approval::{ANNOTATION, Approval, is_protected},
        definition::has_condition,
        field_path,
    },
    registry::{
        admissionregistration::webhook_rules,
        object,
        validation::{field::Field, text},
    },
};

mod versions;

use versions::{Shared, versions};

/// Fields of one version that selectors may name.
const MAX_SELECTABLE: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// Review versions that this server speaks.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Checks a new definition.
pub fn create(crd: &Value, causes: &mut Vec<Cause>) {
    name(crd, causes);
    check(crd, None, causes);
}

/// Checks a changed definition.
pub fn update(crd: &Value, old: &Value, causes: &mut Vec<Cause>) {
    check(crd, Some(old), causes);
}

/// Checks a changed status.
pub fn status(crd: &Value, causes: &mut Vec<Cause>) {
    form_of_names(&Field::new(crd, "").at("status").at("acceptedNames"), causes);
}

fn name(crd: &Value, causes: &mut Vec<Cause>) {
    let wanted =
        format!("{}.{}", object::text(crd, &["spec", "names", "plural"]), object::text(crd, &["spec", "group"]));
    for key in ["generateName", "name"] {
        let name = object::text(crd, &["metadata", key]);
        if !name.is_empty() && name != wanted {
            let why = "must be spec.names.plural+\".\"+spec.group";
            causes.push(Cause::invalid(format!("metadata.{key}"), &json!(name), why));
        }
    }
}

fn check(crd: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let whole = Field::new(crd, "");
    let spec = whole.at("spec");
    group(&spec.at("group"), causes);
    spec.at("scope").needs_one_of(&["Cluster", "Namespaced"], causes);
    let shared = Shared::of(&spec);
    for version in spec.items("versions") {
        if object::at(version.value, &["schema", "openAPIV3Schema"]).is_none_or(Value::is_null) {
            version.at("schema").at("openAPIV3Schema").required("", causes);
        }
    }
    if object::flag(spec.value, &["preserveUnknownFields"]) && schema::has_defaults(spec.value) {
        let why = "must be false in order to use defaults in the schema";
        spec.at("preserveUnknownFields").invalid(why, causes);
    }
    versions(&spec, &shared, causes);
    for key in ["plural", "singular", "kind", "listKind"] {
        if spec.at("names").str(key).is_empty() {
            spec.at("names").at(key).required("", causes);
        }
    }
    form_of_names(&spec.at("names"), causes);
    shared.check(&spec, causes);
    let converts = spec.get("conversion").is_some_and(|conversion| conversion.str("strategy") != "None");
    if object::flag(spec.value, &["preserveUnknownFields"]) && converts {
        spec.at("conversion").at("strategy").invalid("must be None if spec.preserveUnknownFields is true", causes);
    }
    conversion(&spec.at("conversion"), old.is_some_and(keeps_bundle), causes);
    if let Some(old) = old {
        immutable(crd, old, causes);
    }
    status(crd, causes);
    stored_versions(crd, causes);
    approval(crd, old, causes);
    if object::flag(crd, &["spec", "preserveUnknownFields"])
        && !old.is_some_and(|old| object::flag(old, &["spec", "preserveUnknownFields"]))
    {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        spec.at("preserveUnknownFields").invalid(why, causes);
    }
}

fn group(group: &Field<'_>, causes: &mut Vec<Cause>) {
    if !group.needs_text(causes) {
        return;
    }
    let faults = names::dns1123_subdomain(group.text());
    if !faults.is_empty() {
        group.invalid(&faults.join(","), causes);
    } else if !group.text().contains('.') {
        group.invalid("should be a domain with at least one dot", causes);
    }
}

fn form_of_names(names: &Field<'_>, causes: &mut Vec<Cause>) {
    let label = |field: &Field<'_>, causes: &mut Vec<Cause>| {
        let faults = text::dns1035_label(field.text());
        if !faults.is_empty() {
            field.invalid(&faults.join(","), causes);
        }
    };
    for key in ["plural", "singular"] {
        if !names.str(key).is_empty() {
            label(&names.at(key), causes);
        }
    }
    for key in ["kind", "listKind"] {
        let faults = text::dns1035_label(&names.str(key).to_lowercase());
        if !names.str(key).is_empty() && !faults.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
            names.at(key).invalid(&why, causes);
        }
    }
    names.items("shortNames").iter().for_each(|name| label(name, causes));
    if !names.str("kind").is_empty() && names.str("kind") == names.str("listKind") {
        names.at("listKind").invalid("kind and listKind may not be the same", causes);
    }
    names.items("categories").iter().for_each(|name| label(name, causes));
}

fn subresources(subresources: &Field<'_>, causes: &mut Vec<Cause>) {
    let Some(scale) = subresources.get("scale") else { return };
    for (key, place) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = scale.at(key);
        if path.needs_text(causes) && simple_path(&path, causes) && !path.text().starts_with(place) {
            path.invalid(&format!("should be a json path under {}", place.trim_end_matches('.')), causes);
        }
    }
    let selector = scale.at("labelSelectorPath");
    let below = [".spec.", ".status."].iter().any(|place| selector.text().starts_with(place));
    if !selector.text().is_empty() && simple_path(&selector, causes) && !below {
        selector.invalid("should be a json path under either .spec or .status", causes);
    }
}

fn simple_path(path: &Field<'_>, causes: &mut Vec<Cause>) -> bool {
    let simple = path.text().starts_with('.');
    if !simple {
        path.invalid("must be a simple json path starting with .", causes);
    }
    simple
}

fn columns(holder: &Field<'_>, causes: &mut Vec<Cause>) {
    for column in holder.items("additionalPrinterColumns") {
        column.at("name").needs_text(causes);
        let kinds = format!("must be one of {}", COLUMN_TYPES.join(","));
        let kind = column.at("type");
        if kind.text().is_empty() {
            kind.required(&kinds, causes);
        } else if !COLUMN_TYPES.contains(&kind.text()) {
            kind.invalid(&kinds, causes);
        }
        let format = column.at("format");
        if !format.text().is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
            format.invalid(&format!("must be one of {}", COLUMN_FORMATS.join(",")), causes);
        }
        let path = Field::new(column.at("jsonPath").value, format!("{}.JSONPath", column.path));
        if path.needs_text(causes) {
            simple_path(&path, causes);
        }
    }
}

fn selectable(holder: &Field<'_>, schema: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut seen = Vec::new();
    for field in holder.items("selectableFields") {
        let path = field.at("jsonPath");
        if !path.needs_text(causes) {
            continue;
        }
        match field_path::find(schema.unwrap_or(&Value::Null), path.text(), false) {
            Err(why) => path.invalid(&format!("is an invalid path: {why}"), causes),
            Ok(target) => {
                if target.root == "metadata" {
                    path.invalid("must not point to fields in metadata", causes);
                }
                let kind = target.schema.map_or("", |schema| object::text(schema, &["type"]));
                if !matches!(kind, "string" | "boolean" | "integer") {
                    let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                    path.invalid(why, causes);
                }
                if seen.contains(&target.path) {
                    path.duplicate(causes);
                } else {
                    seen.push(target.path);
                }
            }
        }
    }
    if seen.len() > MAX_SELECTABLE {
        holder.at("selectableFields").too_many(seen.len(), MAX_SELECTABLE, causes);
    }
}

/// Whether the certificates of a definition's webhook must stay sound: once it is established, if they were.
fn keeps_bundle(old: &Value) -> bool {
    let bundle = object::text(old, &["spec", "conversion", "webhook", "clientConfig", "caBundle"]);
    has_condition(old, "Established") && webhook_rules::bundle_fault(bundle).is_none()
}

fn conversion(conversion: &Field<'_>, sound_bundle: bool, causes: &mut Vec<Cause>) {
    if conversion.value.is_null() {
        return;
    }
    conversion.at("strategy").needs_one_of(&["None", "Webhook"], causes);
    let config = object::at(conversion.value, &["webhook", "clientConfig"]).filter(|config| !config.is_null());
    let config_at = format!("{}.webhookClientConfig", conversion.path);
    let reviews = Field::new(
        object::at(conversion.value, &["webhook", "conversionReviewVersions"]).unwrap_or(&Value::Null),
        format!("{}.conversionReviewVersions", conversion.path),
    );
    if conversion.str("strategy") == "Webhook" {
        match config {
            None => causes.push(Cause::required(config_at, "required when strategy is set to Webhook")),
            Some(config) => {
                let config = Field::new(config, config_at);
                client(&config, causes);
                let bundle = config.at("caBundle");
                if let (true, Some(why)) = (sound_bundle, webhook_rules::bundle_fault(bundle.text())) {
                    bundle.invalid(&why, causes);
                }
            }
        }
        review_versions(&reviews, causes);
        return;
    }
    const UNUSED: &str = "should not be set when strategy is not set to Webhook";
    if config.is_some() {
        causes.push(Cause::forbidden(config_at, UNUSED));
    }
    if !reviews.is_empty() {
        reviews.forbidden(UNUSED, causes);
    }
}

/// Where the webhook is called: an URL or a Service.
fn client(config: &Field<'_>, causes: &mut Vec<Cause>) {
    match (config.get("url"), config.get("service")) {
        (Some(url), None) => webhook_rules::check_url(&url, causes),
        (None, Some(service)) => webhook_rules::check_service(&service, causes),
        _ => config.required("exactly one of url or service is required", causes),
    }
}

fn review_versions(versions: &Field<'_>, causes: &mut Vec<Cause>) {
    let items = versions.value.as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        return versions.required("", causes);
    }
    let mut seen = Vec::new();
    for (at, version) in items.iter().enumerate() {
        let field = Field::new(version, format!("{}[{at}]", versions.path));
        if seen.contains(&version) {
            field.invalid("duplicate version", causes);
            continue;
        }
        seen.push(version);
        field.check(text::dns1035_label, causes);
    }
    if !items.iter().filter_map(Value::as_str).any(|version| REVIEWS.contains(&version)) {
        versions.invalid(&format!("must include at least one of {}", REVIEWS.join(", ")), causes);
    }
}

fn immutable(crd: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let mut fields: Vec<&[&str]> = Vec::new();
    if has_condition(old, "Established") {
        fields.extend([&["spec", "scope"][..], &["spec", "names", "kind"]]);
    }
    fields.extend([&["spec", "group"][..], &["spec", "names", "plural"]]);
    for path in fields {
        let (new, old) = (object::text(crd, path), object::text(old, path));
        if new != old {
            causes.push(Cause::invalid(path.join("."), &json!(new), "field is immutable"));
        }
    }
}

fn stored_versions(crd: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "status.storedVersions";
    let stored = object::list(crd, &["status", "storedVersions"]);
    if stored.is_empty() {
        causes.push(Cause::invalid(PATH, &Value::Null, "must have at least one stored version"));
        return;
    }
    let versions = object::list(crd, &["spec", "versions"]);
    let name = |version: &Value| json!(object::text(version, &["name"]));
    for version in versions.iter().filter(|version| object::flag(version, &["storage"])) {
        let name = name(version);
        if !stored.contains(&name) {
            let why = format!("must have the storage version {}", name.as_str().unwrap_or_default());
            causes.push(Cause::invalid(PATH, &json!(stored), &why));
        }
    }
    for (at, version) in
        stored.iter().enumerate().filter(|(_, stored)| !versions.iter().any(|own| name(own) == **stored))
    {
        let own = version.as_str().unwrap_or_default();
        let why = format!(
            "missing from spec.versions; {own} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {own} and removes {own} from status.storedVersions"
        );
        causes.push(Cause::invalid(format!("{PATH}[{at}]"), version, &why));
    }
}

fn approval(crd: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if !is_protected(object::text(crd, &["spec", "group"])) {
        return;
    }
    let approval = Approval::of(crd);
    // What was refused before may stay: only what is new is judged.
    if !approval.is_refused() || old.is_some_and(|old| Approval::of(old) == approval) {
        return;
    }
    let path = format!("metadata.annotations[{ANNOTATION}]");
    if approval == Approval::Missing {
        causes.push(Cause::required(path, &approval.message()));
    } else {
        let given = object::text(crd, &["metadata", "annotations", ANNOTATION]);
        causes.push(Cause::invalid(path, &json!(given), &approval.message()));
    }
}
