//! A set of field paths, in the form that `fieldsV1` has: a tree of path elements.

use std::collections::BTreeMap;

use serde_json::{Map as JsonMap, Value};

/// Bytes of paths after which no more are told: a long key stands in the path of each field below it.
const MAX_PATH_BYTES: usize = 4 << 20;

/// A set of paths. Each node is a path; its children are keyed by path elements as `fieldsV1` writes them
/// (`f:name`, `k:{…}`, `v:…`, `i:0`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    member: bool,
    children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// The set of the empty path alone.
    pub(super) fn leaf() -> Self {
        Self { member: true, children: BTreeMap::new() }
    }

    /// Of a `fieldsV1` object.
    #[must_use]
    pub fn decode(fields: &Value) -> Self {
        let Value::Object(map) = fields else { return Self::default() };
        Self {
            member: false,
            children: map
                .iter()
                .filter(|(key, _)| *key != ".")
                .map(|(key, value)| (key.clone(), Self::node(value)))
                .collect(),
        }
    }

    fn node(fields: &Value) -> Self {
        let Value::Object(map) = fields else { return Self::leaf() };
        if map.is_empty() {
            return Self::leaf();
        }
        Self { member: map.contains_key("."), ..Self::decode(fields) }
    }

    /// As a `fieldsV1` object.
    #[must_use]
    pub fn encode(&self) -> Value {
        let mut map = JsonMap::with_capacity(self.children.len() + 1);
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(JsonMap::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.clone(), child.encode());
        }
        Value::Object(map)
    }

    /// Whether it holds no path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(super) fn is_member(&self) -> bool {
        self.member
    }

    pub(super) fn set_member(&mut self, member: bool) {
        self.member = member;
    }

    /// Whether it holds every path of `other`.
    pub(super) fn holds(&self, other: &Self) -> bool {
        let below =
            |(element, theirs): (&String, &Self)| self.children.get(element).is_some_and(|own| own.holds(theirs));
        (self.member || !other.member) && other.children.iter().all(below)
    }

    pub(super) fn child(&self, element: &str) -> Option<&Self> {
        self.children.get(element)
    }

    pub(super) fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children.iter().map(|(element, child)| (element.as_str(), child))
    }

    /// Puts `child` below `element`, unless it is empty.
    pub(super) fn attach(&mut self, element: impl Into<String>, child: Self) {
        if !child.is_empty() {
            let place = self.children.entry(element.into()).or_default();
            *place = std::mem::take(place).union(child);
        }
    }

    pub(super) fn union(mut self, other: Self) -> Self {
        self.member |= other.member;
        for (element, child) in other.children {
            match self.children.get_mut(&element) {
                Some(place) => *place = std::mem::take(place).union(child),
                None => {
                    self.children.insert(element, child);
                }
            }
        }
        self
    }

    /// Takes the paths of `other` out.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (element, theirs) in &other.children {
            if let Some(ours) = self.children.get_mut(element) {
                ours.subtract(theirs);
                if ours.is_empty() {
                    self.children.remove(element);
                }
            }
        }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { member: self.member && other.member, children: BTreeMap::new() };
        for (element, ours) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                both.attach(element.clone(), ours.intersection(theirs));
            }
        }
        both
    }

    /// Takes out the field path and everything below it.
    pub(super) fn prune(&mut self, path: &[&str]) {
        if self.children.is_empty() {
            return;
        }
        let Some((first, rest)) = path.split_first() else { return };
        let element = format!("f:{first}");
        if rest.is_empty() {
            self.children.remove(&element);
        } else if let Some(child) = self.children.get_mut(&element) {
            child.prune(rest);
            if child.is_empty() {
                self.children.remove(&element);
            }
        }
    }

    /// Leaves the fields at these paths with all below them, and what leads to them. `*` is any element.
    pub(super) fn keep(&mut self, paths: &[&[&str]]) {
        self.children.retain(|element, child| {
            let leads = |(first, _): &(&&str, &[&str])| **first == "*" || element.strip_prefix("f:") == Some(**first);
            let below: Vec<&[&str]> =
                paths.iter().filter_map(|path| path.split_first()).filter(leads).map(|(_, rest)| rest).collect();
            if below.iter().all(|rest| !rest.is_empty()) {
                child.keep(&below);
            }
            !below.is_empty() && !child.is_empty()
        });
    }

    /// Takes out the path of these elements alone.
    pub(super) fn forget(&mut self, path: &[&str]) {
        let Some((element, rest)) = path.split_first() else {
            self.member = false;
            return;
        };
        if let Some(child) = self.children.get_mut(*element) {
            child.forget(rest);
            if child.is_empty() {
                self.children.remove(*element);
            }
        }
    }

    /// Every path, as upstream prints and orders them: the members of a node before what lies below its children. Of very many
    /// the first are told.
    pub(super) fn paths(&self) -> Vec<String> {
        let (mut found, mut left) = (Vec::new(), MAX_PATH_BYTES);
        self.collect("", &mut left, &mut found);
        found
    }

    fn collect(&self, prefix: &str, left: &mut usize, found: &mut Vec<String>) {
        let shown = |element: &str| format!("{prefix}{}", super::element::display(element));
        for (element, _) in self.children.iter().filter(|(_, child)| child.member) {
            if *left == 0 {
                return;
            }
            let path = shown(element);
            *left = left.saturating_sub(size_of::<String>() + path.len());
            found.push(path);
        }
        for (element, child) in self.children.iter().filter(|(_, child)| !child.children.is_empty()) {
            if *left == 0 {
                return;
            }
            child.collect(&shown(element), left, found);
        }
    }
}
