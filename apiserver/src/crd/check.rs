//! Whether a value meets its [`Rules`], with upstream's words and order for what does not.

use std::{cmp::Ordering, fmt::Write as _};

use martello_api::{go, status::Cause};
use serde_json::{Map, Value, json};

use super::{
    correlate::{Former, unchanged},
    format::Format,
    number::{Pair, is_whole, whole_part},
    rules::{ListKind, ListRules, Number, ObjectRules, Rules, Text},
    shape::sorted,
};

/// Something that does not meet the rules.
#[derive(Debug)]
struct Fault {
    /// Path of the value below the root; none for what upstream tells without one.
    path: Option<String>,
    reason: &'static str,
    message: String,
}

/// What a check found.
#[derive(Debug, Default)]
struct Found {
    faults: Vec<Fault>,
    /// How much was checked: of alternatives that all fail, the faults of that with the most are told.
    matches: usize,
}

impl Found {
    fn merge(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.matches += other.matches;
    }
}

/// What is wrong with `value`; what was so in `old` already is tolerated. Messages call the root `at`, or nothing.
pub fn check(rules: &Rules, value: &Value, old: Option<&Value>, at: &str, causes: &mut Vec<Cause>) {
    let mut checker = Checker { path: String::new() };
    let found = checker.value(rules, value, old);
    causes.extend(found.faults.into_iter().map(|fault| {
        let field = match &fault.path {
            None if at.is_empty() => "<nil>".to_owned(),
            None => at.to_owned(),
            Some(path) => join(at, path.trim_start_matches('.')),
        };
        Cause::new(fault.reason, field, fault.message)
    }));
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
}

impl Checker {
    /// What is wrong with a value; nothing of a value that did not change.
    fn value(&mut self, rules: &Rules, value: &Value, old: Option<&Value>) -> Found {
        let mut found = self.judged(rules, value, old);
        if !found.faults.is_empty() && old.is_some_and(|old| unchanged(rules, old, value)) {
            found.faults.clear();
        }
        found
    }

    /// Upstream's validators one by one: each that applies to the value counts, and what it found fit counts besides.
    fn judged(&mut self, rules: &Rules, value: &Value, old: Option<&Value>) -> Found {
        let mut found = Found::default();
        let typed = self.typed(rules, value);
        if value.is_null() {
            found.merge(typed);
            self.allowed(&rules.values, value, &mut found);
        } else {
            if !rules.types.is_empty() || rules.format.is_some() {
                found.merge(typed);
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
        let message = format!("Invalid value: {}: {} in body {why}", go::shown(shown), self.path);
        found.faults.push(Fault { path: Some(self.path.clone()), reason, message });
    }

    fn invalid(&self, shown: &Value, why: &str, found: &mut Found) {
        self.fault("FieldValueInvalid", shown, why, found);
    }

    fn pathless(&self, why: String, found: &mut Found) {
        let message = format!("Invalid value: \"\": {why}");
        found.faults.push(Fault { path: None, reason: "FieldValueInvalid", message });
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

    /// An alternative is judged as a whole; what is below it may stay as it was.
    fn logic(&mut self, rules: &Rules, value: &Value, old: Option<&Value>) -> Found {
        let mut main = Found::default();
        self.any_of(&rules.any_of, value, old, &mut main);
        self.one_of(&rules.one_of, value, old, &mut main);
        if !rules.all_of.is_empty() {
            let mut validated = 0;
            for rules in &rules.all_of {
                let found = self.judged(rules, value, old);
                validated += usize::from(found.faults.is_empty());
                main.merge(found);
            }
            if validated != rules.all_of.len() {
                let none = if validated == 0 { ". None validated" } else { "" };
                self.pathless(format!("{:?} must validate all the schemas (allOf){none}", self.path), &mut main);
            }
        }
        if let Some(not) = &rules.not
            && self.judged(not, value, old).faults.is_empty()
        {
            self.pathless(format!("{:?} must not validate the schema (not)", self.path), &mut main);
        }
        main.matches += 1;
        main
    }

    fn any_of(&mut self, alternatives: &[Rules], value: &Value, old: Option<&Value>, main: &mut Found) {
        let mut best: Option<Found> = None;
        for rules in alternatives {
            let found = self.judged(rules, value, old);
            if found.faults.is_empty() {
                main.merge(found);
                return;
            }
            if best.as_ref().is_none_or(|best| found.matches > best.matches) {
                best = Some(found);
            }
        }
        if let Some(best) = best {
            self.pathless(format!("{:?} must validate at least one schema (anyOf)", self.path), main);
            main.merge(best);
        }
    }

    fn one_of(&mut self, alternatives: &[Rules], value: &Value, old: Option<&Value>, main: &mut Found) {
        if alternatives.is_empty() {
            return;
        }
        let (mut best, mut first, mut validated): (Option<Found>, Option<Found>, usize) = (None, None, 0);
        for rules in alternatives {
            let found = self.judged(rules, value, old);
            if found.faults.is_empty() {
                validated += 1;
                first.get_or_insert(found);
            } else if best.as_ref().is_none_or(|best| found.matches > best.matches) {
                best = Some(found);
            }
        }
        if validated == 1 {
            first.into_iter().for_each(|found| main.merge(found));
            return;
        }
        let what = if validated == 0 {
            "Found none valid".to_owned()
        } else {
            format!("Found {validated} valid alternatives")
        };
        self.pathless(format!("{:?} must validate one and only one schema (oneOf). {what}", self.path), main);
        if validated == 0 {
            best.into_iter().for_each(|found| main.merge(found));
        }
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
            found.faults.push(Fault { path: Some(self.path.clone()), reason: "FieldValueTooLong", message });
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

    /// Limits count as whole numbers for whole numbers, whatever is cut off, unless they are none of the declared type.
    fn number(&self, rules: &Rules, value: &Value, found: &mut Found) {
        self.range(rules, value, "Checked", found);
        let Number { min, max, multiple_of } = &rules.number;
        let limit = |limit: f64, name: &str, found: &mut Found| {
            if !self.range(rules, &json!(limit), name, found) {
                return Pair::Float(value.as_f64().unwrap_or_default(), limit);
            }
            value.as_i64().map_or(Pair::Float(value.as_f64().unwrap_or_default(), limit), |own| {
                Pair::Whole(own, whole_part(limit))
            })
        };
        if let Some(divisor) = *multiple_of {
            let pair = limit(divisor, "MultipleOf", found);
            if !pair.is_positive() {
                let message = format!(
                    "Invalid value: {0}: factor MultipleOf declared for {1} must be positive: {0}",
                    pair.shown(),
                    self.path
                );
                found.faults.push(Fault { path: Some(self.path.clone()), reason: "FieldValueInvalid", message });
            } else if !pair.is_multiple() {
                self.beyond(value, &pair, "a multiple of", found);
            }
        }
        if let Some((min, excluded)) = *min {
            let pair = limit(min, "Minimum boundary", found);
            let order = pair.order();
            if order == Some(Ordering::Less) || excluded && order == Some(Ordering::Equal) {
                let than = if excluded { "greater than" } else { "greater than or equal to" };
                self.beyond(value, &pair, than, found);
            }
        }
        if let Some((max, excluded)) = *max {
            let pair = limit(max, "Maximum boundary", found);
            let order = pair.order();
            if order == Some(Ordering::Greater) || excluded && order == Some(Ordering::Equal) {
                let than = if excluded { "less than" } else { "less than or equal to" };
                self.beyond(value, &pair, than, found);
            }
        }
        found.matches += 2;
    }

    /// Complains that a number is not what a limit says.
    fn beyond(&self, value: &Value, pair: &Pair, than: &str, found: &mut Found) {
        let shown = match pair {
            Pair::Whole(..) => value.clone(),
            Pair::Float(own, _) => json!(own),
        };
        self.invalid(&shown, &format!("should be {than} {}", pair.shown()), found);
    }

    /// Whether the number fits the one type that is declared, in its format; complains where it does not.
    fn range(&self, rules: &Rules, value: &Value, what: &str, found: &mut Found) -> bool {
        let [of] = rules.types.as_slice() else { return true };
        let format = rules.format.as_ref().map_or("", Format::name);
        let whole =
            value.as_i64().map_or_else(|| value.as_f64().unwrap_or_default().to_string(), |own| own.to_string());
        let fits = match (*of, format) {
            ("integer", "int32") => whole.parse::<i32>().is_ok(),
            ("integer", _) => whole.parse::<i64>().is_ok(),
            ("number", "float") => value.as_f64().is_some_and(|number| number.abs() <= f64::from(f32::MAX)),
            _ => true,
        };
        if !fits {
            let form = if format.is_empty() { "(default format)".to_owned() } else { format!("with format {format}") };
            self.pathless(format!("{what} value must be of type {of} {form} in {}", self.path), found);
        }
        fits
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
        found.faults.push(Fault { path: Some(self.path.clone()), reason: "FieldValueTooMany", message });
    }

    fn allowed(&self, values: &[Value], value: &Value, found: &mut Found) {
        found.matches += 1;
        if values.is_empty() || values.iter().any(|one| same(one, value)) {
            return;
        }
        let quoted = |one: &Value| match one {
            Value::String(text) => go::quoted(text),
            other => go::quoted(&go::json(&sorted(other))),
        };
        let listed: Vec<String> = values.iter().map(quoted).collect();
        let shown = go::shown(&sorted(value));
        let message = format!("Unsupported value: {shown}: supported values: {}", listed.join(", "));
        found.faults.push(Fault { path: Some(self.path.clone()), reason: "FieldValueNotSupported", message });
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
            found.faults.push(Fault { path, reason: "FieldValueRequired", message: "Required value".into() });
        }
        found.matches += 1;
    }
}

/// What was found to fit counts as a match.
fn counted(mut found: Found) -> Found {
    found.matches += usize::from(found.faults.is_empty());
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

/// Whether a value is one of an `enum`. It is brought into the form of the other as Go does: a fraction is cut off, and a whole
/// number is the letter that it stands for. Nothing is null, not even null.
fn same(one: &Value, value: &Value) -> bool {
    match (one, value) {
        (_, Value::Null) => false,
        (Value::Number(one), Value::Number(own)) => match (one.as_i64(), own.as_i64()) {
            (Some(one), Some(own)) => one == own,
            (Some(one), None) => own.as_f64().is_some_and(|own| whole_part(own) == one),
            (None, _) => one.as_f64() == own.as_f64(),
        },
        (Value::String(text), Value::Number(own)) => own.as_i64().is_some_and(|code| {
            let letter = u32::try_from(code).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            text.chars().eq([letter])
        }),
        _ => one == value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
        let mut causes = Vec::new();
        check(&Rules::of(schema), value, old, "", &mut causes);
        causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    fn in_spec(schema: Value) -> Value {
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": schema}}}})
    }

    #[test]
    fn faults_are_told_in_upstreams_words() {
        let cases = [
            (
                json!({"type": "string"}),
                json!(1),
                r#"spec.a: Invalid value: "integer": spec.a in body must be of type string: "integer""#,
            ),
            (
                json!({"type": "integer"}),
                json!(true),
                r#"spec.a: Invalid value: "boolean": spec.a in body must be of type integer: "boolean""#,
            ),
            (json!({"type": "string", "maxLength": 2}), json!("abc"), "spec.a: Too long: may not be more than 2 bytes"),
            (
                json!({"type": "string", "minLength": 2}),
                json!("a"),
                r#"spec.a: Invalid value: "a": spec.a in body should be at least 2 chars long"#,
            ),
            (
                json!({"type": "string", "pattern": "^b"}),
                json!("a"),
                r#"spec.a: Invalid value: "a": spec.a in body should match '^b'"#,
            ),
            (
                json!({"type": "integer", "maximum": 2}),
                json!(3),
                "spec.a: Invalid value: 3: spec.a in body should be less than or equal to 2",
            ),
            (
                json!({"type": "integer", "minimum": 2, "exclusiveMinimum": true}),
                json!(2),
                "spec.a: Invalid value: 2: spec.a in body should be greater than 2",
            ),
            (json!({"type": "array", "maxItems": 1}), json!([1, 2]), "spec.a: Too many: 2: must have at most 1 item"),
            (
                json!({"type": "object", "minProperties": 1}),
                json!({}),
                "spec.a: Invalid value: 0: spec.a in body should have at least 1 properties",
            ),
            (
                json!({"type": "string", "format": "date"}),
                json!("x"),
                r#"spec.a: Invalid value: "x": spec.a in body must be of type date: "x""#,
            ),
            (
                json!({"type": "integer", "enum": [1, 2]}),
                json!(3),
                r#"spec.a: Unsupported value: 3: supported values: "1", "2""#,
            ),
            (json!({"type": "object", "required": ["c"]}), json!({}), "spec.a.c: Required value"),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                r#"spec.a: Invalid value: "boolean": spec.a in body must be of type integer,string: "boolean""#,
            ),
        ];
        for (schema, value, expected) in cases {
            assert_eq!(faults(&in_spec(schema), &json!({"spec": {"a": value}}), None), [expected]);
        }
        assert_eq!(
            faults(&in_spec(json!({"type": "integer"})), &json!({"spec": {"a": 1.5}}), None),
            [
                r#"spec.a: Invalid value: "number": spec.a in body must be of type integer: "number""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.a"#
            ]
        );
    }

    #[test]
    fn alternatives_tell_of_the_one_that_came_closest() {
        let one_of = json!({"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]});
        assert_eq!(
            faults(&in_spec(one_of), &json!({"spec": {"a": {"x": 1, "y": 1}}}), None),
            [
                r#"<nil>: Invalid value: "": "spec.a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#
            ]
        );
        let any_of = json!({"type": "object", "anyOf": [{"required": ["x"]}]});
        assert_eq!(
            faults(&in_spec(any_of), &json!({"spec": {"a": {}}}), None),
            [
                r#"<nil>: Invalid value: "": "spec.a" must validate at least one schema (anyOf)"#,
                "spec.a.x: Required value"
            ]
        );
    }

    #[test]
    fn what_was_wrong_before_is_tolerated_as_long_as_it_stays() {
        let schema = in_spec(json!({"type": "string", "maxLength": 2}));
        let old = json!({"spec": {"a": "bad"}});
        assert!(faults(&schema, &json!({"spec": {"a": "bad", "b": 1}}), Some(&old)).is_empty());
        assert_eq!(faults(&schema, &json!({"spec": {"a": "worse"}}), Some(&old)).len(), 1);
    }

    #[test]
    fn numbers_are_compared_as_go_compares_them() {
        let cases: [(Value, Value, &[&str]); 8] = [
            (json!({"type": "number", "minimum": 1.5}), json!(1), &[]),
            (
                json!({"type": "number", "minimum": 1.5}),
                json!(1.25),
                &["spec.a: Invalid value: 1.25: spec.a in body should be greater than or equal to 1.5"],
            ),
            (
                json!({"type": "number", "minimum": 1e20, "maximum": 1e21}),
                json!(0),
                &["spec.a: Invalid value: 0: spec.a in body should be less than or equal to -9223372036854775808"],
            ),
            (
                json!({"type": "integer", "multipleOf": 3}),
                json!(i64::MAX),
                &["spec.a: Invalid value: 9223372036854775807: spec.a in body should be a multiple of 3"],
            ),
            (
                json!({"type": "integer", "minimum": 1.5}),
                json!(1),
                &[
                    "<nil>: Invalid value: \"\": Minimum boundary value must be of type integer (default format) in spec.a",
                    "spec.a: Invalid value: 1: spec.a in body should be greater than or equal to 1.5",
                ],
            ),
            (
                json!({"type": "number", "maximum": 2e6}),
                json!(2_000_000.5),
                &["spec.a: Invalid value: 2.0000005e+06: spec.a in body should be less than or equal to 2e+06"],
            ),
            (json!({"type": "number", "enum": [1, 2.5]}), json!(1.5), &[]),
            (json!({"type": "number", "multipleOf": 0.1}), json!(0.7), &[]),
        ];
        for (schema, value, expected) in cases {
            assert_eq!(faults(&in_spec(schema), &json!({"spec": {"a": value}}), None), expected);
        }
    }

    #[test]
    fn too_many_properties_do_not_hide_what_is_wrong_with_them() {
        let schema = json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}});
        assert_eq!(
            faults(&in_spec(schema), &json!({"spec": {"a": {"x": 1, "y": "<"}}}), None),
            [
                "spec.a: Too many: 2: must have at most 1 item",
                r#"spec.a.x: Invalid value: "integer": spec.a.x in body must be of type string: "integer""#
            ]
        );
    }
}
