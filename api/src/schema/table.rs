//! Reads the table of facts about built-in types.
//!
//! One line per type: `=NAME`, its kinds (`group/version/kind`, with commas between), flags.
//! One line per field: name, protobuf number (`outer.inner` inside an embedded message, which may itself be in one), type, presence, flags.
//! Columns are parted by tabs.
//!
//! Types: `b` bool, `i` int32, `l` int64, `d` double, `s` string, `y` bytes, `q` quantity, `o` int or string, `t` time,
//! `u` micro time, `j` any JSON, `x` any JSON object, `@N` the N-th type of the table, `[T` list of T, `{T` map of T.
//! Presence: `v` always, `o` omit zero, `p` optional, `n` null; `!` after it: required.
//! Flags: `d=` default, `l=` list type and keys, `m=` map type, `p=` patch strategy, `k=` merge key, `u=` unions,
//! `g=` name of the Go type, `e=` Go structs that the field is embedded with.

use std::sync::Arc;

use super::{Field, Kind, Link, List, ListMerge, Map, Nulls, PatchStrategy, Presence, Schema, Schemas};
use crate::resource::{GroupVersionKind, Text};

/// The schemas of `text`. What it can't read it leaves out; a test holds that nothing is left out.
pub(super) fn parse(text: &'static str) -> Schemas {
    let count = text.lines().filter(|line| line.starts_with('=')).count();
    let links: Vec<Link> = (0..count).map(|_| Link::default()).collect();
    let mut all: Vec<Schema> = Vec::with_capacity(count);
    for line in text.lines() {
        if let Some(head) = line.strip_prefix('=') {
            all.push(message(head));
        } else if let (Some(schema), Some(field)) = (all.last_mut(), field(line, &links)) {
            schema.fields.push(field);
        }
    }
    let all: Vec<Arc<Schema>> = all.into_iter().map(Arc::new).collect();
    for (link, schema) in links.iter().zip(&all) {
        link.fill(Arc::clone(schema));
    }
    Schemas::new(all)
}

fn message(head: &'static str) -> Schema {
    let mut columns = head.split('\t');
    let mut schema = Schema { name: Text::Borrowed(columns.next().unwrap_or_default()), ..Schema::default() };
    for kind in columns.next().unwrap_or_default().split(',').filter(|kind| !kind.is_empty()) {
        let mut parts = kind.split('/');
        if let (Some(group), Some(version), Some(kind)) = (parts.next(), parts.next(), parts.next()) {
            schema.kinds.push(GroupVersionKind::new(group, version, kind));
        }
    }
    for flag in columns {
        match flag.split_once('=') {
            Some(("m", kind)) => schema.atomic = kind == "atomic",
            Some(("u", unions)) => schema.unions = serde_json::from_str(unions).ok(),
            _ => {}
        }
    }
    schema
}

fn field(line: &'static str, links: &[Link]) -> Option<Field> {
    let mut columns = line.split('\t');
    let (name, number, code, presence) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let (outer, number) = number.rsplit_once('.').unwrap_or(("0", number));
    let (first, second) = outer.split_once('.').unwrap_or((outer, "0"));
    let (mut default, mut merge, mut map_type, mut patch) = (None, None, None, PatchStrategy::default());
    let (mut go_type, mut go_embedded) = (None, None);
    for flag in columns {
        match flag.split_once('=')? {
            ("d", json) => default = Some(serde_json::from_str(json).ok()?),
            ("l", list) => merge = Some(list_merge(list)),
            ("m", kind) => map_type = Some(Text::Borrowed(kind)),
            ("p", strategies) => {
                patch.merge = strategies.split(',').any(|one| one == "merge");
                patch.retain_keys = strategies.split(',').any(|one| one == "retainKeys");
                patch.replace = strategies.split(',').any(|one| one == "replace");
            }
            ("k", key) => patch.key = Some(Text::Borrowed(key)),
            ("g", name) => go_type = Some(Text::Borrowed(name)),
            ("e", names) => go_embedded = Some(Text::Borrowed(names)),
            _ => return None,
        }
    }
    // What upstream's types keep as raw bytes is owned as one.
    let atomic = map_type.as_deref() == Some("atomic") || code == "x";
    Some(Field {
        name: Text::Borrowed(name),
        number: number.parse().ok()?,
        outer: [first.parse().ok()?, second.parse().ok()?],
        kind: kind(code, links, merge, atomic)?,
        presence: match presence.as_bytes().first()? {
            b'v' => Presence::Always,
            b'o' => Presence::OmitZero,
            b'n' => Presence::Null,
            _ => Presence::Optional,
        },
        required: presence.ends_with('!'),
        default,
        nullable: false,
        atomic,
        map_type,
        patch,
        go_type,
        go_embedded,
    })
}

fn list_merge(text: &'static str) -> ListMerge {
    match text.split_once(':') {
        Some((_, keys)) => ListMerge::Keys(keys.split(',').map(Text::Borrowed).collect()),
        None if text == "set" => ListMerge::Set,
        None => ListMerge::Atomic,
    }
}

fn kind(code: &str, links: &[Link], merge: Option<ListMerge>, atomic: bool) -> Option<Kind> {
    Some(match code.split_at_checked(1)? {
        ("b", _) => Kind::Bool,
        ("i", _) => Kind::Int32,
        ("l", _) => Kind::Int64,
        ("d", _) => Kind::Double,
        ("s", _) => Kind::String,
        ("y", _) => Kind::Bytes,
        ("q", _) => Kind::Quantity,
        ("o", _) => Kind::IntOrString,
        ("t", _) => Kind::Time,
        ("u", _) => Kind::MicroTime,
        ("j", _) => Kind::Any,
        ("x", _) => Kind::Raw,
        ("@", id) => Kind::Message(links.get(id.parse::<usize>().ok()?)?.clone()),
        ("[", item) => Kind::List(Arc::new(List {
            item: kind(item, links, None, false)?,
            declared: merge.is_some(),
            merge: merge.unwrap_or(ListMerge::Atomic),
            nulls: Nulls::default(),
        })),
        ("{", value) => {
            Kind::Map(Arc::new(Map { value: kind(value, links, None, false)?, atomic, nulls: Nulls::default() }))
        }
        _ => return None,
    })
}
