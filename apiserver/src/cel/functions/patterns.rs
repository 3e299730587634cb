//! Regular expressions, in time linear in the text.

use std::{collections::HashMap, sync::LazyLock};

use parking_lot::Mutex;
use regex::Regex;

use super::{Fault, Library, Outcome, fail, text};
use crate::{
    cel::{limits::MAX_ITEMS, value::Value},
    pattern,
};

pub(super) const LIBRARY: Library = &[
    ("matches", &["matches: (string, string) -> bool", "matches_string: string.(string) -> bool"], |args| match args {
        [Value::String(own), Value::String(pattern)] => Ok(Value::Bool(pattern_of(pattern)?.is_match(own))),
        _ => Err(Fault::NoOverload),
    }),
    ("find", &["string_find_string: string.(string) -> string"], |args| match args {
        [Value::String(own), Value::String(pattern)] => {
            Ok(text(sought(pattern)?.find(own).map_or("", |found| found.as_str())))
        }
        _ => Err(Fault::NoOverload),
    }),
    (
        "findAll",
        &[
            "string_find_all_string: string.(string) -> list(string)",
            "string_find_all_string_int: string.(string, int) -> list(string)",
        ],
        find_all,
    ),
];

/// A pattern as the functions know it that Kubernetes adds: they say more where it is none.
fn sought(pattern: &str) -> Result<Regex, Fault> {
    pattern_of(pattern).map_err(|fault| match fault {
        Fault::Message(why) => Fault::Message(format!("Illegal regex: {why}")),
        other => other,
    })
}

fn find_all<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (own, pattern, limit) = match args {
        [Value::String(own), Value::String(pattern)] => (own, pattern, -1),
        [Value::String(own), Value::String(pattern), Value::Int(limit)] => (own, pattern, *limit),
        _ => return Err(Fault::NoOverload),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found: Vec<Value<'a>> =
        sought(pattern)?.find_iter(own).take(limit.min(MAX_ITEMS)).map(|found| text(found.as_str())).collect();
    Ok(found.into())
}

/// Most memory for patterns that are kept compiled: enough for 170 usual ones. Patterns may come from users' data, so that
/// their number alone would not bound it.
const KEPT_BYTES: usize = 32 << 20;

/// Patterns that were compiled, and at most how much memory they take. Only clones of them search, so that none that is kept
/// holds a cache.
#[derive(Default)]
struct Kept {
    patterns: HashMap<String, Regex>,
    bytes: usize,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

/// A compiled pattern; compiling takes far longer than matching, so that patterns are kept.
fn pattern_of(pattern: &str) -> Result<Regex, Fault> {
    if let Some(known) = KEPT.lock().patterns.get(pattern) {
        return Ok(known.clone());
    }
    let (compiled, bytes) = pattern::compile_weighed(pattern).or_else(fail)?;
    let bytes = bytes.saturating_add(pattern.len());
    let mut kept = KEPT.lock();
    if kept.bytes.saturating_add(bytes) > KEPT_BYTES {
        *kept = Kept::default();
    }
    if kept.patterns.insert(pattern.to_owned(), compiled.clone()).is_none() {
        kept.bytes = kept.bytes.saturating_add(bytes);
    }
    Ok(compiled)
}
