//! Whether a value meets its [`Rules`], with upstream's words and order for what does not.

use std::{cell::Cell, fmt::Write as _};

use martello_api::{go, status::Cause};
use serde_json::{Map, Value, json};

use super::{
    correlate::{Former, unchanged},
    format::Format,
    number::is_whole,
    rules::{ListKind, ListRules, ObjectRules, Rules, Text},
};

mod alternatives;
mod enumeration;
mod numeric;
#[cfg(test)]
mod tests;

/// Most bytes of words about what is wrong with an object: a body of a few megabytes can hold a million faults, and each can
/// take as many words as its author of the rules likes (all values of an `enum`, all fields that are required). What lies
/// beyond counts, and is not told.
pub(crate) const MAX_TOLD_BYTES: usize = 4 * 1024 * 1024;

/// Something that does not meet the rules.
#[derive(Debug)]
struct Fault {
    /// Path of the value below the root; none for what upstream tells without one.
    path: Option<String>,
    reason: &'static str,
    message: String,
}

impl Fault {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.path.as_ref().map_or(0, String::len) + self.message.len()
    }
}

/// What a check found.
#[derive(Debug, Default)]
struct Found {
    faults: Vec<Fault>,
    /// Whether there are faults besides for which there was no room.
    untold: bool,
    /// How much was checked: of alternatives that all fail, the faults of that with the most are told.
    matches: usize,
}

impl Found {
    fn merge(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.untold |= other.untold;
        self.matches += other.matches;
    }

    /// Whether nothing is wrong.
    fn fits(&self) -> bool {
        self.faults.is_empty() && !self.untold
    }
}

/// What is wrong with `value`; what was so in `old` already is tolerated. Messages call the root `at`, or nothing.
pub fn check(rules: &Rules, value: &Value, old: Option<&Value>, at: &str, causes: &mut Vec<Cause>) {
    let mut checker = Checker { path: String::new(), held: Cell::new(0) };
    let found = checker.value(rules, value, old);
    let untold = found.untold;
    causes.extend(found.faults.into_iter().map(|fault| {
        let field = match &fault.path {
            None if at.is_empty() => "<nil>".to_owned(),
            None => at.to_owned(),
            Some(path) => join(at, path.trim_start_matches('.')),
        };
        Cause::new(fault.reason, field, fault.message)
    }));
    if untold {
        let why = "Invalid value: \"\": more is wrong than is told";
        causes.push(Cause::new("FieldValueInvalid", join(at, ""), why.to_owned()));
    }
}

fn join(at: &str, path: &str) -> String {
    match (at.is_empty(), path.is_empty()) {
        (true, true) => "<nil>".to_owned(),
        (true, false) => path.to_owned(),
        (false, true) => at.to_owned(),
        (false, false) => format!("{at}.{path}"),
    }
}

struct Checker {
    path: String,
    /// Weight of the faults that are held: that were found, and not dropped again.
    held: Cell<usize>,
}

impl Checker {
    fn tell(&self, fault: Fault, found: &mut Found) {
        if self.is_full() {
            found.untold = true;
            return;
        }
        self.held.set(self.held.get().saturating_add(fault.weight()));
        found.faults.push(fault);
    }

    /// Drops faults that do not count.
    fn forget(&self, found: &mut Found) {
        let weight: usize = found.faults.drain(..).map(|fault| fault.weight()).sum();
        self.held.set(self.held.get().saturating_sub(weight));
        found.untold = false;
    }

    /// Whether so much is told already that no more has room. All is looked at all the same: what does not fit decides which
    /// alternative holds.
    fn is_full(&self) -> bool {
        self.held.get() > MAX_TOLD_BYTES
    }

    /// What is wrong with a value; nothing of a value that did not change.
    fn value(&mut self, rules: &Rules, value: &Value, old: Option<&Value>) -> Found {
        let mut found = self.judged(rules, value, old);
        if !found.fits() && old.is_some_and(|old| unchanged(rules, old, value)) {
            self.forget(&mut found);
        }
        found
    }

    /// Upstream's validators one by one: each that applies to the value counts, and what it found fit counts besides.
    fn judged(&mut self, rules: &Rules, value: &Value, old: Option<&Value>) -> Found {
        let mut found = Found::default();
        if value.is_null() {
            found.merge(self.typed(rules, value));
            self.allowed(&rules.values, value, &mut found);
        } else {
            if !rules.types.is_empty() || rules.format.is_some() {
                found.merge(self.typed(rules, value));
                found.matches += 1;
            }
            found.merge(self.logic(rules, value, old));
            match value {
                Value::String(text) => {
                    self.text(&rules.text, text, &mut found);
                    self.format(rules, text, &mut found);
                }
                Value::Number(_) => self.number(rules, value, &mut found),
                Value::Array(items) => self.list(&rules.list, items, old, &mut found),
                _ => {}
            }
            self.allowed(&rules.values, value, &mut found);
            if let Value::Object(map) = value {
                self.object(&rules.object, map, old, &mut found);
            }
            found.matches += 1;
        }
        found
    }

    fn fault(&self, reason: &'static str, shown: &Value, why: &str, found: &mut Found) {
        if self.is_full() {
            found.untold = true;
            return;
        }
        let message = format!("Invalid value: {}: {} in body {why}", go::shown(shown), self.path);
        self.tell(Fault { path: Some(self.path.clone()), reason, message }, found);
    }

    fn invalid(&self, shown: &Value, why: &str, found: &mut Found) {
        self.fault("FieldValueInvalid", shown, why, found);
    }

    fn pathless(&self, why: String, found: &mut Found) {
        let message = format!("Invalid value: \"\": {why}");
        self.tell(Fault { path: None, reason: "FieldValueInvalid", message }, found);
    }

    fn typed(&self, rules: &Rules, value: &Value) -> Found {
        let mut found = Found::default();
        let (own, own_format) = type_of(value);
        let wrong = |wanted: &str, own: &str, found: &mut Found| {
            let shown = json!(own);
            self.fault("FieldValueTypeInvalid", &shown, &format!("must be of type {wanted}: {shown}"), found);
        };
        let names = rules.types.join(",");
        if value.is_null() {
            if !rules.types.is_empty() && !rules.types.contains(&"null") && !rules.nullable {
                wrong(&names, own, &mut found);
            }
            return counted(found);
        }
        let format = rules.format.as_ref().map_or("", Format::name);
        let whole_float = own == "number" && value.as_f64().is_some_and(is_whole) && rules.types.contains(&"integer");
        let fits = rules.types.contains(&own) || whole_float || own == "integer" && rules.types.contains(&"number");
        let numeric = rules.types.iter().any(|name| matches!(*name, "number" | "integer"));
        let countless = matches!(value, Value::String(_) | Value::Array(_));
        if !format.is_empty() && !countless && !fits && own_format != format {
            wrong(format, own_format, &mut found);
        } else if !format.is_empty() && !numeric && countless {
            // What the format demands is asked elsewhere.
        } else if !fits {
            wrong(&names, own, &mut found);
        }
        counted(found)
    }

    fn text(&self, rules: &Text, text: &str, found: &mut Found) {
        let count = length(text.chars().count());
        found.matches += 1;
        if let Some(max) = rules.max.filter(|max| count > *max) {
            let message = match max {
                _ if max < 0 => "Too long: value is too long".to_owned(),
                1 => "Too long: may not be more than 1 byte".to_owned(),
                _ => format!("Too long: may not be more than {max} bytes"),
            };
            self.tell(Fault { path: Some(self.path.clone()), reason: "FieldValueTooLong", message }, found);
        } else if let Some(min) = rules.min.filter(|min| count < *min) {
            self.invalid(&json!(text), &format!("should be at least {min} chars long"), found);
        } else if let Some((pattern, compiled)) = &rules.pattern
            && !compiled.as_ref().is_some_and(|pattern| pattern.is_match(text))
        {
            self.invalid(&json!(text), &format!("should match '{pattern}'"), found);
        }
    }

    fn format(&self, rules: &Rules, text: &str, found: &mut Found) {
        let Some(format) = &rules.format else { return };
        found.matches += 1;
        if !format.accepts(text) {
            let shown = json!(text);
            let why = format!("must be of type {}: {}", format.name(), go::shown(&shown));
            self.fault("FieldValueTypeInvalid", &shown, &why, found);
        }
    }

    fn list(&mut self, rules: &ListRules, items: &[Value], old: Option<&Value>, found: &mut Found) {
        if let Some(of) = &rules.items {
            let here = self.path.len();
            let known = match &rules.kind {
                ListKind::Map(keys) => Former::of(keys, old),
                _ => None,
            };
            for (at, item) in items.iter().enumerate() {
                let before = known.as_ref().and_then(|known| known.of_item(item));
                let _infallible = write!(self.path, "[{at}]");
                let below = self.value(of, item, before);
                self.path.truncate(here);
                found.merge(below);
            }
        }
        let count = length(items.len());
        if let Some(min) = rules.min.filter(|min| count < *min) {
            self.invalid(&json!(count), &format!("should have at least {min} items"), found);
        }
        if let Some(max) = rules.max.filter(|max| count > *max) {
            self.too_many(count, max, found);
        }
        if rules.unique && items.iter().enumerate().any(|(at, item)| items.iter().skip(at + 1).any(|it| it == item)) {
            self.invalid(&json!(""), "shouldn't contain duplicates", found);
        }
        found.matches += 2;
    }

    fn too_many(&self, count: i64, max: i64, found: &mut Found) {
        let message = match max {
            _ if max < 0 => format!("Too many: {count}: has too many items"),
            1 => format!("Too many: {count}: must have at most 1 item"),
            _ => format!("Too many: {count}: must have at most {max} items"),
        };
        self.tell(Fault { path: Some(self.path.clone()), reason: "FieldValueTooMany", message }, found);
    }

    fn object(&mut self, rules: &ObjectRules, map: &Map<String, Value>, old: Option<&Value>, found: &mut Found) {
        let count = length(map.len());
        if let Some(min) = rules.min.filter(|min| count < *min) {
            self.invalid(&json!(count), &format!("should have at least {min} properties"), found);
        }
        if let Some(max) = rules.max.filter(|max| count > *max) {
            self.too_many(count, max, found);
        }
        let here = self.path.len();
        for (name, value) in map {
            let of = match (rules.fields.get(name), &rules.others) {
                (Some(of), _) => of,
                (None, Some(others)) => others,
                (None, None) => continue,
            };
            if here > 0 || rules.others.is_some() && !rules.fields.contains_key(name) {
                self.path.push('.');
            }
            self.path.push_str(name);
            let below = self.value(of, value, old.and_then(|old| old.get(name)));
            self.path.truncate(here);
            found.merge(below);
        }
        for name in rules.required.iter().filter(|name| !map.contains_key(*name)) {
            let path = Some(format!("{}.{name}", self.path));
            self.tell(Fault { path, reason: "FieldValueRequired", message: "Required value".into() }, found);
        }
        found.matches += 1;
    }
}

/// What was found to fit counts as a match.
fn counted(mut found: Found) -> Found {
    found.matches += usize::from(found.fits());
    found
}

/// The type of a value, and the format that Go's decoding gives it.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_f64() => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// How many there are of something.
fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
