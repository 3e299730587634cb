//! What a document comes to: aliases are followed, maps merged, and keys that are given twice noted.

use std::{borrow::Cow, collections::HashMap};

use super::{
    nodes::{Content, Node, Place, Tree},
    resolve::{Made, resolve},
};
use crate::{
    go,
    schema::json::{MAX_DEPTH, Raw},
};

/// So much text may come of aliases, which may name the same again and again; no body that is sent is so large.
const MAX_REPEATED_BYTES: usize = 4 << 20;
/// Up to so many nodes nearly all may come of aliases, as upstream has it.
const FEW_NODES: f64 = 400_000.0;
/// From so many on hardly any may.
const MANY_NODES: f64 = 4_000_000.0;

struct Maker<'t> {
    nodes: &'t [Node],
    /// Aliases that are being followed.
    followed: Vec<Place>,
    depth: usize,
    made: usize,
    made_of_aliases: usize,
    repeated_bytes: usize,
    duplicates: Vec<String>,
}

/// The value of a document, and a line for each key that is given twice.
///
/// # Errors
/// What can't be made of it, in upstream's words.
pub(super) fn make(tree: &Tree) -> Result<(Raw<'static>, Vec<String>), String> {
    let Some(root) = tree.root else { return Ok((Raw::Null, Vec::new())) };
    let mut maker = Maker {
        nodes: &tree.nodes,
        followed: Vec::new(),
        depth: 0,
        made: 1,
        made_of_aliases: 0,
        repeated_bytes: 0,
        duplicates: Vec::new(),
    };
    let made = maker.value(root).map_err(|why| format!("yaml: {why}"))?;
    Ok((raw(made)?, maker.duplicates))
}

impl<'t> Maker<'t> {
    fn node(&self, place: Place) -> Result<&'t Node, String> {
        self.nodes.get(place).ok_or_else(|| "unknown problem parsing YAML content".to_owned())
    }

    /// Counts a node, and ends what only aliases make large.
    fn count(&mut self, text: &str) -> Result<(), String> {
        self.made += 1;
        if !self.followed.is_empty() {
            self.made_of_aliases += 1;
            self.repeated_bytes += text.len();
        }
        let (all, aliased) = (self.made as f64, self.made_of_aliases as f64);
        let share = 0.99 - 0.89 * ((all - FEW_NODES) / (MANY_NODES - FEW_NODES)).clamp(0.0, 1.0);
        let too_many = self.made_of_aliases > 100 && self.made > 1000 && aliased / all > share;
        if too_many || self.repeated_bytes > MAX_REPEATED_BYTES {
            return Err("document contains excessive aliasing".into());
        }
        Ok(())
    }

    fn value(&mut self, place: Place) -> Result<Made, String> {
        let node = self.node(place)?;
        match &node.content {
            Content::Scalar { text, implicit } => {
                self.count(text)?;
                if node.tag.is_empty() && !implicit { Ok(Made::Text(text.clone())) } else { resolve(&node.tag, text) }
            }
            Content::List(items) => {
                self.count("")?;
                let made = self.deeper(|maker| items.iter().map(|item| maker.value(*item)).collect::<Result<_, _>>());
                made.map(Made::List)
            }
            Content::Map(_) => {
                self.count("")?;
                let mut into = Entries::default();
                self.deeper(|maker| maker.fill(node, &mut into))?;
                Ok(Made::Map(into.entries))
            }
            Content::Alias { name, of } => {
                self.count("")?;
                self.follow(place, name, |maker| maker.value(*of))
            }
        }
    }

    /// Goes a level deeper. A text that is flat may come to something deep by aliases that name one another.
    fn deeper<T>(&mut self, make: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth >= MAX_DEPTH {
            return Err(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        self.depth += 1;
        let made = make(self)?;
        self.depth -= 1;
        Ok(made)
    }

    fn follow<T>(
        &mut self,
        alias: Place,
        name: &str,
        then: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.followed.contains(&alias) {
            return Err(format!("anchor '{name}' value contains itself"));
        }
        self.followed.push(alias);
        let made = then(self)?;
        self.followed.pop();
        Ok(made)
    }

    /// Puts the entries of a map into another.
    fn fill(&mut self, map: &Node, into: &mut Entries) -> Result<(), String> {
        let Content::Map(pairs) = &map.content else { return Err(NO_MAP.into()) };
        for (key, value) in pairs {
            if is_merge(self.node(*key)?) {
                self.merge(*value, into)?;
                continue;
            }
            let key = self.value(*key)?;
            if matches!(key, Made::List(_) | Made::Map(_)) {
                return Err(format!("invalid map key: {}", key.go_syntax()));
            }
            let line = self.node(*value)?.line + 1;
            let made = self.value(*value)?;
            if let Some(key) = into.put(key, made) {
                self.duplicates.push(format!("line {line}: key {key} already set in map"));
            }
        }
        Ok(())
    }

    /// Puts in what a merge key names: a map, or several of which the first counts most.
    fn merge(&mut self, place: Place, into: &mut Entries) -> Result<(), String> {
        let node = self.node(place)?;
        match &node.content {
            Content::List(items) => {
                self.count("")?;
                for item in items.iter().rev() {
                    if matches!(self.node(*item)?.content, Content::List(_)) {
                        return Err(NO_MAP.into());
                    }
                    self.merge(*item, into)?;
                }
                Ok(())
            }
            Content::Map(_) => {
                self.count("")?;
                self.deeper(|maker| maker.fill(node, into))
            }
            Content::Alias { name, of } => {
                let target = self.node(*of)?;
                if !matches!(target.content, Content::Map(_)) {
                    return Err(NO_MAP.into());
                }
                self.count("")?;
                self.follow(place, name, |maker| {
                    maker.count("")?;
                    maker.deeper(|maker| maker.fill(target, into))
                })
            }
            Content::Scalar { .. } => Err(NO_MAP.into()),
        }
    }
}

const NO_MAP: &str = "map merge requires map or sequence of maps as the value";

fn is_merge(node: &Node) -> bool {
    let is_tagged = node.tag.strip_prefix(super::resolve::COMMON) == Some("merge");
    matches!(&node.content, Content::Scalar { text, implicit } if text == "<<" && (*implicit || is_tagged))
}

/// A map that is being made.
#[derive(Default)]
struct Entries {
    entries: Vec<(Made, Made)>,
    places: HashMap<String, usize>,
}

impl Entries {
    /// Sets an entry, and tells the key where it was set before. Keys of different types are different.
    fn put(&mut self, key: Made, value: Made) -> Option<String> {
        let shown = key.go_syntax();
        // A whole float looks like a whole number, and is another key.
        let mark = if matches!(key, Made::Float(_)) { "float " } else { "" };
        let found = self.places.get(&format!("{mark}{shown}")).and_then(|place| self.entries.get_mut(*place));
        if let Some(entry) = found {
            entry.1 = value;
            return Some(shown);
        }
        self.places.insert(format!("{mark}{shown}"), self.entries.len());
        self.entries.push((key, value));
        None
    }
}

/// As JSON has it.
fn raw(made: Made) -> Result<Raw<'static>, String> {
    Ok(match made {
        Made::Null => Raw::Null,
        Made::Bool(flag) => Raw::Bool(flag),
        Made::Int(number) => Raw::Number(Cow::Owned(number.to_string())),
        Made::Uint(number) => Raw::Number(Cow::Owned(number.to_string())),
        Made::Float(float) => Raw::Number(Cow::Owned(of_float(float)?)),
        Made::Text(text) => Raw::String(Cow::Owned(text)),
        Made::List(items) => Raw::List(items.into_iter().map(raw).collect::<Result<_, _>>()?),
        Made::Map(entries) => {
            let mut found: Vec<(Cow<'static, str>, Raw<'static>)> = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let Some(name) = key.as_key() else {
                    let (kind, key, value) = (key.go_type(), key.go_syntax(), value.go_syntax());
                    return Err(format!("unsupported map key of type: {kind}, key: {key}, value: {value}"));
                };
                found.push((Cow::Owned(name), raw(value)?));
            }
            // Of keys that become the same text one counts.
            found.sort_by(|(one, _), (other, _)| one.cmp(other));
            found.dedup_by(|(one, _), (other, _)| one == other);
            Raw::Map(found)
        }
    })
}

/// A float as Go writes it as JSON, which has no place for some.
pub(super) fn of_float(float: f64) -> Result<String, String> {
    if float.is_nan() {
        return Err("json: unsupported value: NaN".into());
    }
    if float.is_infinite() {
        return Err(format!("json: unsupported value: {}Inf", if float > 0.0 { '+' } else { '-' }));
    }
    Ok(go::json(&float.into()))
}
