//! What a schema demands of values, compiled once per change of its definition.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::format::Format;
use crate::pattern;

/// What is demanded of a value.
#[derive(Debug, Default)]
pub struct Rules {
    /// Names of JSON types, of which the value must have one; none demands nothing.
    pub types: Vec<&'static str>,
    /// Null is fine.
    pub nullable: bool,
    /// The name of a known format.
    pub format: Option<Format>,
    /// The values that are allowed.
    pub values: Vec<Value>,
    /// Of text.
    pub text: Text,
    /// Of numbers.
    pub number: Number,
    /// Of lists.
    pub list: ListRules,
    /// Of objects.
    pub object: ObjectRules,
    /// Each must hold.
    pub all_of: Vec<Self>,
    /// One at least must hold.
    pub any_of: Vec<Self>,
    /// Exactly one must hold.
    pub one_of: Vec<Self>,
    /// Must not hold.
    pub not: Option<Box<Self>>,
}

/// What is demanded of text.
#[derive(Debug, Default)]
pub struct Text {
    /// Fewest characters.
    pub min: Option<i64>,
    /// Most characters.
    pub max: Option<i64>,
    /// As it was written, and compiled; one that can't be compiled matches nothing.
    pub pattern: Option<(String, Option<Regex>)>,
}

/// What is demanded of numbers.
#[derive(Debug, Default)]
pub struct Number {
    /// Smallest value, and whether that is excluded.
    pub min: Option<(f64, bool)>,
    /// Largest value, and whether that is excluded.
    pub max: Option<(f64, bool)>,
    /// Of what it is a multiple.
    pub multiple_of: Option<f64>,
}

/// What is demanded of lists.
#[derive(Debug, Default)]
pub struct ListRules {
    /// Of each item.
    pub items: Option<Box<Rules>>,
    /// Fewest items.
    pub min: Option<i64>,
    /// Most items.
    pub max: Option<i64>,
    /// No item twice.
    pub unique: bool,
    /// How items are told apart.
    pub kind: ListKind,
}

/// How the items of a list are told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Not at all.
    #[default]
    Atomic,
    /// By their value.
    Set,
    /// By these fields.
    Map(Vec<String>),
}

/// What is demanded of objects.
#[derive(Debug, Default)]
pub struct ObjectRules {
    /// Of the values of these fields.
    pub fields: BTreeMap<String, Rules>,
    /// Of the values of all others.
    pub others: Option<Box<Rules>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Fewest fields.
    pub min: Option<i64>,
    /// Most fields.
    pub max: Option<i64>,
    /// A whole object stands here.
    pub embedded: bool,
}

impl Rules {
    /// Those of an `openAPIV3Schema`.
    #[must_use]
    pub fn of(schema: &Value) -> Self {
        let int_or_string = schema.get("x-kubernetes-int-or-string").and_then(Value::as_bool) == Some(true);
        let types = if int_or_string { vec!["integer", "string"] } else { json_type(schema).into_iter().collect() };
        Self {
            types,
            nullable: flag(schema, "nullable"),
            format: schema.get("format").and_then(Value::as_str).and_then(|name| {
                let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
                Format::named(kind, name)
            }),
            values: list(schema, "enum").to_vec(),
            text: Text {
                min: count(schema, "minLength"),
                max: count(schema, "maxLength"),
                pattern: schema.get("pattern").and_then(Value::as_str).filter(|text| !text.is_empty()).map(pattern),
            },
            number: Number {
                min: schema.get("minimum").and_then(Value::as_f64).map(|min| (min, flag(schema, "exclusiveMinimum"))),
                max: schema.get("maximum").and_then(Value::as_f64).map(|max| (max, flag(schema, "exclusiveMaximum"))),
                multiple_of: schema.get("multipleOf").and_then(Value::as_f64),
            },
            list: list_rules(schema),
            object: object_rules(schema),
            all_of: list(schema, "allOf").iter().map(Self::of).collect(),
            any_of: list(schema, "anyOf").iter().map(Self::of).collect(),
            one_of: list(schema, "oneOf").iter().map(Self::of).collect(),
            not: schema.get("not").map(|not| Box::new(Self::of(not))),
        }
    }
}

impl Rules {
    /// The same, where a choice of two types demands none: so upstream checks defaults.
    #[must_use]
    pub fn of_default(mut self) -> Self {
        if self.types.len() > 1 {
            self.types.clear();
        }
        let all = |rules: Vec<Self>| -> Vec<Self> { rules.into_iter().map(Self::of_default).collect() };
        let one = |rules: Option<Box<Self>>| -> Option<Box<Self>> { rules.map(|rules| Box::new(rules.of_default())) };
        self.all_of = all(self.all_of);
        self.any_of = all(self.any_of);
        self.one_of = all(self.one_of);
        self.not = one(self.not);
        self.list.items = one(self.list.items);
        self.object.others = one(self.object.others);
        self.object.fields = self.object.fields.into_iter().map(|(name, rules)| (name, rules.of_default())).collect();
        self
    }
}

fn pattern(text: &str) -> (String, Option<Regex>) {
    (text.to_owned(), pattern::compile(text).ok())
}

fn json_type(schema: &Value) -> Option<&'static str> {
    let named = schema.get("type").and_then(Value::as_str)?;
    ["string", "integer", "number", "boolean", "object", "array", "null"].into_iter().find(|known| *known == named)
}

fn list_rules(schema: &Value) -> ListRules {
    let kind = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = list(schema, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
            ListKind::Map(keys.map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    };
    ListRules {
        items: schema.get("items").filter(|items| items.is_object()).map(|items| Box::new(Rules::of(items))),
        min: count(schema, "minItems"),
        max: count(schema, "maxItems"),
        unique: flag(schema, "uniqueItems"),
        kind,
    }
}

fn object_rules(schema: &Value) -> ObjectRules {
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let others = schema.get("additionalProperties").filter(|others| others.is_object());
    ObjectRules {
        fields: fields.map(|(name, schema)| (name.clone(), Rules::of(schema))).collect(),
        others: others.map(|others| Box::new(Rules::of(others))),
        required: list(schema, "required").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        min: count(schema, "minProperties"),
        max: count(schema, "maxProperties"),
        embedded: flag(schema, "x-kubernetes-embedded-resource"),
    }
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn count(schema: &Value, key: &str) -> Option<i64> {
    schema.get(key).and_then(Value::as_i64)
}

fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
