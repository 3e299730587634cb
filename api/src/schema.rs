//! What every kind is made of: one compact schema that decoding, defaults, patches, server-side apply and OpenAPI share.
//!
//! [`Schemas::builtin`] holds the types of Kubernetes 1.36; custom kinds build a [`Schema`] from their definition.

mod base64;
mod decode;
mod defaults;
mod descriptions;
mod json;
mod loose;
mod normalize;
mod protobuf;
mod same;
mod table;
mod time;
mod yaml;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use serde_json::Value;

use crate::resource::{GroupVersionKind, Text};

pub use base64::canonical as canonical_base64;
pub(crate) use decode::duplicates;
pub use decode::{
    DecodeError, Decoded, Document, FieldIssue, check_head, decode_json, decode_raw, decode_value, decode_yaml,
    unrecognized,
};
pub use defaults::apply_defaults;
pub use descriptions::Descriptions;
pub use json::{JsonError, MAX_DEPTH, MAX_VALUES, Raw, parse as parse_json, parse_up_to as parse_json_up_to};
pub use loose::prune;
pub use normalize::{normalize, zero};
pub use protobuf::{
    Envelope, ProtobufError, ProtobufList, decode_protobuf, encode_protobuf, has_protobuf, protobuf_event,
};
pub use same::{same, same_at, same_member};
pub use time::canonical as canonical_time;
pub use yaml::{Yaml, parse as parse_yaml};

/// A message: the fields of one object type.
#[derive(Debug, Default)]
pub struct Schema {
    /// As OpenAPI names it, for instance `io.k8s.api.core.v1.Pod`.
    pub name: Text,
    /// The kinds that it is the schema of; empty for types that are only part of others.
    pub kinds: Vec<GroupVersionKind>,
    /// Owned and replaced as a whole in server-side apply.
    pub atomic: bool,
    /// Unknown fields are kept.
    pub preserve_unknown: bool,
    /// Values are kept whatever their type, and validation judges them: custom kinds.
    pub loose: bool,
    /// Whole objects stand here: they keep kind, version and metadata.
    pub embedded: bool,
    /// `x-kubernetes-unions` as OpenAPI publishes it.
    pub unions: Option<Value>,
    /// Sorted by name.
    fields: Vec<Field>,
    /// The fields by their numbers; made when protobuf is first spoken.
    layout: OnceLock<protobuf::Layout>,
    /// Places of the few fields that have a default; found when they are first asked for.
    with_default: OnceLock<Vec<usize>>,
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// As in JSON.
    pub name: Text,
    /// Field number in protobuf; 0 where protobuf does not know it.
    pub number: u16,
    /// Numbers of the embedded messages that protobuf wraps this field in, the outermost first; 0 where there is none.
    pub outer: [u16; 2],
    /// What it holds.
    pub kind: Kind,
    /// What is written when nothing, or nothing but a zero, was given.
    pub presence: Presence,
    /// Whether OpenAPI lists it as required.
    pub required: bool,
    /// Filled in where nothing was given.
    pub default: Option<Value>,
    /// Whether a custom kind keeps null here.
    pub nullable: bool,
    /// Owned and replaced as a whole in server-side apply.
    pub atomic: bool,
    /// `x-kubernetes-map-type` as OpenAPI publishes it for this field.
    pub map_type: Option<Text>,
    /// How strategic merge patches treat it.
    pub patch: PatchStrategy,
    /// What Go calls its type, where that has a name of its own.
    pub go_type: Option<Text>,
    /// The Go structs that it is embedded with, as decoding errors name them on the way to it.
    pub go_embedded: Option<Text>,
}

/// What a field, list item or map value holds.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number.
    Double,
    /// Text.
    String,
    /// Base64 in JSON.
    Bytes,
    /// A quantity such as `100m`.
    Quantity,
    /// A port name or number, a percentage or count.
    IntOrString,
    /// A time of whole seconds.
    Time,
    /// A time of microseconds.
    MicroTime,
    /// Any JSON value, kept as it is.
    Any,
    /// Any JSON object, kept as it is.
    Raw,
    /// An object of this schema.
    Message(Link),
    /// A list.
    List(Arc<List>),
    /// A map from text.
    Map(Arc<Map>),
}

/// A list's items and how they merge.
#[derive(Debug)]
pub struct List {
    /// What each item holds.
    pub item: Kind,
    /// How server-side apply treats the items.
    pub merge: ListMerge,
    /// Whether OpenAPI says so in words (`x-kubernetes-list-type`); an atomic list may be silent.
    pub declared: bool,
    /// What becomes of null items of a custom kind.
    pub nulls: Nulls,
}

/// What becomes of null in a list or a map of a custom kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nulls {
    /// It stays.
    pub allowed: bool,
    /// It becomes this, where it does not stay.
    pub default: Option<Value>,
}

/// How server-side apply tells the items of a list apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListMerge {
    /// Not at all: the list is replaced as a whole.
    Atomic,
    /// By their value.
    Set,
    /// By these fields.
    Keys(Vec<Text>),
}

/// A map's values.
#[derive(Debug)]
pub struct Map {
    /// What each value holds.
    pub value: Kind,
    /// Replaced as a whole.
    pub atomic: bool,
    /// What becomes of null values of a custom kind.
    pub nulls: Nulls,
}

/// What is written for a field that has no value, or the zero value of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The zero value is written.
    Always,
    /// Nothing is written for the zero value.
    OmitZero,
    /// Nothing is written where nothing was given; a zero that was given is kept.
    Optional,
    /// `null` is written.
    Null,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged rather than replaced.
    pub merge: bool,
    /// Fields that the patch does not retain are removed.
    pub retain_keys: bool,
    /// Replaced as a whole though it is an object.
    pub replace: bool,
    /// The field that tells items of a merged list apart; absent for lists of scalars.
    pub key: Option<Text>,
}

/// A reference to a schema that may be filled in later, so that schemas can hold themselves.
#[derive(Clone, Default)]
pub struct Link(Arc<OnceLock<Arc<Schema>>>);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.get().name)
    }
}

static OPEN: LazyLock<Schema> = LazyLock::new(|| Schema { preserve_unknown: true, ..Schema::default() });

impl Link {
    /// To `schema`.
    #[must_use]
    pub fn to(schema: Arc<Schema>) -> Self {
        Self(Arc::new(OnceLock::from(schema)))
    }

    /// The schema; one that keeps everything where the link was never filled.
    #[must_use]
    pub fn get(&self) -> &Schema {
        self.0.get().map_or(&*OPEN, |schema| &**schema)
    }

    fn fill(&self, schema: Arc<Schema>) {
        self.0.get_or_init(|| schema);
    }
}

impl Schema {
    /// Of these fields, in any order.
    #[must_use]
    pub fn of(name: impl Into<Text>, mut fields: Vec<Field>) -> Self {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Self { name: name.into(), fields, ..Self::default() }
    }

    /// The field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        let place = self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
        self.fields.get(place)
    }

    /// All fields, sorted by name.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The Go type's name: the last part of the full name.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The fields that have a default, sorted by name.
    fn with_default(&self) -> impl Iterator<Item = &Field> {
        let places = self.with_default.get_or_init(|| {
            let fields = self.fields.iter().enumerate();
            fields.filter(|(_, field)| field.default.is_some()).map(|(place, _)| place).collect()
        });
        places.iter().filter_map(|place| self.fields.get(*place))
    }

    fn layout(&self) -> &protobuf::Layout {
        self.layout.get_or_init(|| protobuf::Layout::of(self))
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()
    }
}

impl Field {
    /// An optional field of this kind that merges as its kind does.
    #[must_use]
    pub fn new(name: impl Into<Text>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            number: 0,
            outer: [0; 2],
            kind,
            presence: Presence::Optional,
            required: false,
            default: None,
            nullable: false,
            atomic: false,
            map_type: None,
            patch: PatchStrategy::default(),
            go_type: None,
            go_embedded: None,
        }
    }

    /// The name of the Go type that holds it, as decoding errors show it; of `kind`, which is `depth` lists and maps below.
    #[must_use]
    pub fn go_type_below(&self, kind: &Kind, depth: usize) -> String {
        let mut name = self.go_type.as_deref();
        for _ in 0..depth {
            name = name.and_then(|name| {
                name.strip_prefix("[]").or_else(|| Some(name.strip_prefix("map[")?.split_once(']')?.1))
            });
        }
        name.map_or_else(|| kind.go_type(), |name| name.trim_start_matches('*').to_owned())
    }
}

impl Kind {
    /// A list of `item`.
    #[must_use]
    pub fn list(item: Self, merge: ListMerge) -> Self {
        Self::List(Arc::new(List { item, merge, declared: true, nulls: Nulls::default() }))
    }

    /// A map of `value`.
    #[must_use]
    pub fn map(value: Self) -> Self {
        Self::Map(Arc::new(Map { value, atomic: false, nulls: Nulls::default() }))
    }

    /// The name of the Go type that holds it, as decoding errors show it.
    #[must_use]
    pub fn go_type(&self) -> String {
        match self {
            Self::Bool => "bool".into(),
            Self::Int32 => "int32".into(),
            Self::Int64 => "int64".into(),
            Self::Double => "float64".into(),
            Self::String => "string".into(),
            Self::Bytes => "[]uint8".into(),
            Self::Quantity => "resource.Quantity".into(),
            Self::IntOrString => "intstr.IntOrString".into(),
            Self::Time => "v1.Time".into(),
            Self::MicroTime => "v1.MicroTime".into(),
            Self::Any => "interface {}".into(),
            Self::Raw => "map[string]interface {}".into(),
            Self::Message(link) => {
                let mut parts = link.get().name.rsplit('.');
                let (kind, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!("{version}.{kind}")
            }
            Self::List(list) => format!("[]{}", list.item.go_type()),
            Self::Map(map) => format!("map[string]{}", map.value.go_type()),
        }
    }
}

/// A set of schemas, found by kind or by name.
#[derive(Debug, Default)]
pub struct Schemas {
    all: Vec<Arc<Schema>>,
    by_kind: HashMap<GroupVersionKind, usize>,
    by_name: HashMap<Text, usize>,
}

impl Schemas {
    /// Those of the kinds that are built in; parsed once, on first use.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| table::parse(include_str!("schema/builtin.txt")));
        &BUILTIN
    }

    /// The schema of a kind.
    #[must_use]
    pub fn get(&self, gvk: &GroupVersionKind) -> Option<&Schema> {
        self.by_kind.get(gvk).and_then(|at| self.all.get(*at)).map(|schema| &**schema)
    }

    /// The schema of this full name, for instance `io.k8s.api.core.v1.Pod`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Schema> {
        self.by_name.get(name).and_then(|at| self.all.get(*at)).map(|schema| &**schema)
    }

    /// A reference to the schema of this full name, for schemas that are built at run time.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<Link> {
        self.by_name.get(name).and_then(|at| self.all.get(*at)).map(|schema| Link::to(Arc::clone(schema)))
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Schema> {
        self.all.iter().map(|schema| &**schema)
    }

    fn new(all: Vec<Arc<Schema>>) -> Self {
        let mut found = Self::default();
        for (at, schema) in all.iter().enumerate() {
            found.by_name.insert(schema.name.clone(), at);
            for kind in &schema.kinds {
                found.by_kind.insert(kind.clone(), at);
            }
        }
        found.all = all;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(group: &'static str, version: &'static str, kind: &'static str) -> &'static Schema {
        Schemas::builtin().get(&GroupVersionKind::new(group, version, kind)).unwrap()
    }

    #[test]
    fn every_line_of_the_table_is_understood() {
        let text = include_str!("schema/builtin.txt");
        let fields: usize = Schemas::builtin().iter().map(|schema| schema.fields().len()).sum();
        assert_eq!(fields + Schemas::builtin().iter().count(), text.lines().count());
    }

    #[test]
    fn the_table_knows_types_numbers_and_merge_semantics() {
        let Kind::Message(spec) = &schema("", "v1", "Pod").field("spec").unwrap().kind else { panic!("a message") };
        let containers = spec.get().field("containers").unwrap();
        assert_eq!((containers.number, containers.required), (2, true));
        assert_eq!(containers.patch.key.as_deref(), Some("name"));
        let Kind::List(list) = &containers.kind else { panic!("a list") };
        assert_eq!(list.merge, ListMerge::Keys(vec!["name".into()]));
        let volume = Schemas::builtin().named("io.k8s.api.core.v1.Volume").unwrap().field("secret").unwrap();
        assert_eq!((volume.outer, volume.number), ([2, 0], 6));
        assert!(Schemas::builtin().named("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").unwrap().atomic);
    }
}
