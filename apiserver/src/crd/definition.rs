//! A definition, compiled once per change: what its versions are called, how they are checked, shown and converted.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use martello_api::{
    resource::{GroupVersionKind, Resource, Subresource, Text},
    schema::Schema,
    status::qualified,
};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{columns::Columns, expressions::Expressions, jsonpath::JsonPath, rules::Rules, table::table};
use crate::{
    admission::dynamic::call_webhook::Caller,
    discovery::by_rank,
    registry::{
        kind::{CUSTOM_VERBS, STATUS_VERBS},
        object,
        verbs::scale::ScalePaths,
    },
};

/// A `CustomResourceDefinition` as objects of its kind need it.
pub struct Definition {
    /// `plural.group`.
    pub name: String,
    /// API group.
    pub group: String,
    /// Names that were accepted.
    pub names: Names,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The version in which objects are stored.
    pub storage: String,
    /// `spec.conversion`.
    pub conversion: Value,
    /// Objects are being removed: no new ones are made.
    pub terminating: bool,
    /// All versions, served or not.
    pub versions: Vec<Version>,
    /// Changes with whatever is served.
    pub identity: String,
    /// The way to what converts objects.
    pub(crate) webhook: Option<Caller>,
}

/// What objects and paths are called.
#[derive(Debug, Default)]
pub struct Names {
    /// In paths.
    pub plural: String,
    /// For people.
    pub singular: String,
    /// For people in a hurry.
    pub short: Vec<String>,
    /// Of objects.
    pub kind: String,
    /// Of lists.
    pub list_kind: String,
    /// Groups of kinds that clients ask for together.
    pub categories: Vec<String>,
}

/// One version.
#[derive(Debug)]
pub struct Version {
    /// For instance `v1`.
    pub name: String,
    /// Whether it has a path.
    pub served: bool,
    /// What clients are told of a deprecated one.
    pub deprecation: Option<String>,
    /// The schema as it was given.
    pub openapi: Arc<Value>,
    /// The schema for decoding, defaults and merging.
    pub table: Schema,
    /// The schema for validation.
    pub rules: Rules,
    /// Its rules in CEL.
    pub expressions: Option<Expressions>,
    /// Tells apart what was stored by this schema from what was stored by another.
    pub mark: String,
    /// Columns of tables.
    pub columns: Columns,
    /// Fields that selectors may name (`spec.color`), with their paths.
    pub selectable: Vec<(String, JsonPath)>,
    /// Whether it has a status of its own.
    pub has_status: bool,
    /// Where its scale is.
    pub scale: Option<ScalePaths>,
}

impl Definition {
    /// Compiles an object that passed validation, with the names that were accepted.
    #[must_use]
    pub fn compile(crd: &Value) -> Self {
        let spec = crd.get("spec").unwrap_or(&Value::Null);
        let group = object::text(spec, &["group"]).to_owned();
        let names = Names::of(crd);
        let versions = object::list(spec, &["versions"]);
        let storage = versions.iter().find(|version| object::flag(version, &["storage"]));
        Self {
            name: object::name(crd).to_owned(),
            namespaced: object::text(spec, &["scope"]) == "Namespaced",
            storage: storage.map_or("", |version| object::text(version, &["name"])).to_owned(),
            conversion: spec.get("conversion").cloned().unwrap_or(Value::Null),
            terminating: has_condition(crd, "Terminating"),
            versions: versions.iter().map(|version| Version::compile(version, versions, &group, &names)).collect(),
            group,
            names,
            identity: identity(crd),
            webhook: object::at(spec, &["conversion", "webhook", "clientConfig"]).map(Caller::new),
        }
    }

    /// The version of this name.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Under what its objects are stored.
    #[must_use]
    pub fn stored_as(&self) -> String {
        qualified(&self.group, &self.names.plural)
    }

    /// How a version of it is served.
    #[must_use]
    pub fn resource(&self, version: &Version) -> Resource {
        let text = |list: &[String]| list.iter().map(|one| Text::from(one.clone())).collect();
        let verbs = |verbs: &[&'static str]| verbs.iter().map(|verb| Text::from(*verb)).collect::<Vec<_>>();
        let gvk = self.kind_of(version);
        let mut subresources = Vec::new();
        if version.has_status {
            subresources.push(Subresource { name: "status".into(), gvk: gvk.clone(), verbs: verbs(STATUS_VERBS) });
        }
        if version.scale.is_some() {
            let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
            subresources.push(Subresource { name: "scale".into(), gvk, verbs: verbs(STATUS_VERBS) });
        }
        Resource {
            gvk,
            plural: self.names.plural.clone().into(),
            singular: self.names.singular.clone().into(),
            short_names: text(&self.names.short),
            categories: text(&self.names.categories),
            namespaced: self.namespaced,
            verbs: verbs(CUSTOM_VERBS),
            subresources,
        }
    }

    /// Group, version and kind of a version's objects.
    #[must_use]
    pub fn kind_of(&self, version: &Version) -> GroupVersionKind {
        GroupVersionKind {
            group: self.group.clone().into(),
            version: version.name.clone().into(),
            kind: self.names.kind.clone().into(),
        }
    }
}

/// Whether a condition of a definition is true.
#[must_use]
pub fn has_condition(crd: &Value, wanted: &str) -> bool {
    object::list(crd, &["status", "conditions"])
        .iter()
        .any(|condition| object::text(condition, &["type"]) == wanted && object::text(condition, &["status"]) == "True")
}

impl Names {
    fn of(crd: &Value) -> Self {
        let names = object::at(crd, &["status", "acceptedNames"]).unwrap_or(&Value::Null);
        let text = |key: &str| object::text(names, &[key]).to_owned();
        let list = |key: &str| {
            let items = object::list(names, &[key]).iter().filter_map(Value::as_str);
            items.map(str::to_owned).collect::<Vec<_>>()
        };
        Self {
            plural: text("plural"),
            singular: text("singular"),
            short: list("shortNames"),
            kind: text("kind"),
            list_kind: text("listKind"),
            categories: list("categories"),
        }
    }
}

impl Version {
    fn compile(version: &Value, all: &[Value], group: &str, names: &Names) -> Self {
        static OPEN: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| json!({"type": "object"}));
        let schema = object::at(version, &["schema", "openAPIV3Schema"]).unwrap_or(&OPEN);
        let name = object::text(version, &["name"]);
        let paths =
            |key: &str| object::at(version, &["subresources", "scale", key]).and_then(Value::as_str).map(segments);
        let scale =
            paths("specReplicasPath").zip(paths("statusReplicasPath")).map(|(spec_replicas, status_replicas)| {
                ScalePaths { spec_replicas, status_replicas, selector: paths("labelSelectorPath") }
            });
        let selectable = object::list(version, &["selectableFields"]).iter().filter_map(|field| {
            let path = object::text(field, &["jsonPath"]);
            Some((path.trim_start_matches('.').to_owned(), JsonPath::parse(path).ok()?))
        });
        Self {
            served: object::flag(version, &["served"]),
            deprecation: deprecation(version, all, group, names),
            table: table(schema, definition_name(group, name, &names.kind)),
            rules: Rules::of(schema),
            expressions: Expressions::of(schema),
            mark: mark(name, schema, version.get("selectableFields")),
            columns: Columns::of(version),
            selectable: selectable.collect(),
            has_status: object::at(version, &["subresources", "status"]).is_some_and(|status| !status.is_null()),
            scale,
            openapi: Arc::new(schema.clone()),
            name: name.to_owned(),
        }
    }
}

/// The segments of a path that only has fields.
fn segments(path: &str) -> Vec<String> {
    path.split('.').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// `com.example.v1.Widget`: as OpenAPI calls the definition.
#[must_use]
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}

fn identity(crd: &Value) -> String {
    let (spec, names) = (crd.get("spec"), object::at(crd, &["status", "acceptedNames"]));
    hash(&json!([object::uid(crd), spec, names]).to_string())
}

fn hash(text: &str) -> String {
    STANDARD_NO_PAD.encode(digest(&SHA256, text.as_bytes()).as_ref().get(..12).unwrap_or_default())
}

fn mark(version: &str, schema: &Value, selectable: Option<&Value>) -> String {
    hash(&format!("{version}\n{schema}\n{}", selectable.unwrap_or(&Value::Null)))
}

fn deprecation(version: &Value, all: &[Value], group: &str, names: &Names) -> Option<String> {
    if !object::flag(version, &["deprecated"]) {
        return None;
    }
    if let Some(own) = version.get("deprecationWarning").and_then(Value::as_str) {
        return Some(own.to_owned());
    }
    let name = object::text(version, &["name"]);
    let mut message = format!("{group}/{name} {} is deprecated", names.kind);
    let mut better: Vec<&str> = all
        .iter()
        .filter(|other| object::flag(other, &["served"]) && !object::flag(other, &["deprecated"]))
        .map(|other| object::text(other, &["name"]))
        .filter(|other| by_rank(other, name).is_lt())
        .collect();
    better.sort_by(|one, other| by_rank(one, other));
    if let Some(best) = better.first() {
        message.push_str(&format!("; use {group}/{best} {}", names.kind));
    }
    Some(message)
}
