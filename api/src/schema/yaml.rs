//! Reads YAML into the same tree as JSON, and notes duplicate keys as upstream's YAML reader words them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::json::{MAX_DEPTH, Raw};

/// A parsed YAML document: its value, and a line for each key that was given twice.
#[derive(Debug)]
pub struct Yaml<'a> {
    /// The value.
    pub value: Raw<'a>,
    /// For instance `line 7: key "k" already set in map`.
    pub duplicates: Vec<String>,
}

/// Parses the first document of a YAML text, which is all that upstream looks at.
///
/// # Errors
/// Why the text is no YAML, in the words of upstream's reader.
pub fn parse(bytes: &[u8]) -> Result<Yaml<'_>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    match as_json(text) {
        Some(value) => Ok(Yaml { value, duplicates: Vec::new() }),
        None => as_yaml(text),
    }
}

fn as_yaml(text: &str) -> Result<Yaml<'static>, String> {
    let text = first_document(text);
    let duplicates = Rc::new(RefCell::new(Vec::new()));
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        legacy_octal_numbers: true,
    };
    let seed = Node { duplicates: Rc::clone(&duplicates), depth: 0 };
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| seed.deserialize(reader));
    let value = value.map_err(|error| fault(text, &error))?;
    let duplicates = duplicates.take();
    Ok(Yaml { value, duplicates })
}

/// The value of a text that is JSON and says the same as YAML, which most clients send. Of tabs and of escapes by number
/// YAML thinks otherwise, and it names the lines of duplicate keys.
fn as_json(text: &str) -> Option<Raw<'_>> {
    if !text.starts_with('{') || text.contains('\t') || text.contains("\\u") {
        return None;
    }
    let value = super::json::parse(text.as_bytes()).ok()?;
    let mut issues = Vec::new();
    super::decode::duplicates(&value, &mut String::new(), &mut issues);
    issues.is_empty().then_some(value)
}

/// What stands before the second document. A marker at the beginning of a line ends a document wherever it stands.
fn first_document(text: &str) -> &str {
    let (mut at, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let marker = |marker: &str| {
            line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if begun && (marker("---") || marker("...")) {
            return text.get(..at).unwrap_or(text);
        }
        let content = if marker("---") { line.get(3..).unwrap_or_default() } else { line };
        let content = content.trim();
        begun |= marker("---") || !(content.is_empty() || content.starts_with(['#', '%']));
        at += line.len();
    }
    text
}

/// A fault in the words of upstream's reader, which are those of libyaml: its scanner counts lines from 1 and its
/// parser from 0, and neither names the first.
fn fault(text: &str, error: &serde_saphyr::Error) -> String {
    let shown = error.to_string();
    let why = shown.rsplit_once(" at line ").map_or(shown.as_str(), |(why, _)| why);
    let location = error.location();
    let line = location.map_or(0, |location| usize::try_from(location.line()).unwrap_or(0).saturating_sub(1));
    let end = text.matches('\n').count();
    let scanner = |line: usize, what: &str| match line {
        0 => format!("yaml: {what}"),
        line => format!("yaml: line {}: {what}", line + 1),
    };
    let parser = |line: usize, what: &str| match line {
        0 => format!("yaml: {what}"),
        line => format!("yaml: line {line}: {what}"),
    };
    match why {
        "unclosed bracket '['" => parser(end, "did not find expected ',' or ']'"),
        "unclosed bracket '{'" => parser(end, "did not find expected ',' or '}'"),
        "unclosed quote" | "invalid indentation in multiline quoted scalar" => {
            scanner(end, "found unexpected end of stream")
        }
        "misplaced bracket" => parser(line, "did not find expected node content"),
        "mapping values are not allowed in this context" => scanner(line, why),
        "simple key expected ':'" | "simple key expect ':'" => {
            scanner((line + 1).min(end.max(line)), "could not find expected ':'")
        }
        "alias references unknown anchor" | "while parsing node, found unknown anchor" => {
            let column = location.map_or(0, |location| usize::try_from(location.column()).unwrap_or(0));
            let rest = text.lines().nth(line).and_then(|line| line.get(column..)).unwrap_or_default();
            let name = rest.split(|c: char| c.is_whitespace() || ",[]{}".contains(c)).next().unwrap_or_default();
            format!("yaml: unknown anchor '{name}' referenced")
        }
        _ if why.starts_with("tabs disallowed") || why.starts_with("unexpected character") => {
            scanner(line, "found character that cannot start any token")
        }
        _ if why.starts_with("invalid trailing content") => parser(line, "did not find expected key"),
        _ if why.starts_with("did not find expected") || why.contains("did not find expected") => parser(line, why),
        _ => scanner(line, why),
    }
}

#[derive(Clone)]
struct Node {
    duplicates: Rc<RefCell<Vec<String>>>,
    depth: usize,
}

impl Node {
    fn below<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom("exceeded max depth"));
        }
        Ok(Self { duplicates: Rc::clone(&self.duplicates), depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Raw<'static>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Raw<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Raw::Number(Cow::Owned(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Raw::Number(Cow::Owned(value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        let number = serde_json::Number::from_f64(value);
        Ok(number.map_or(Raw::Null, |number| Raw::Number(Cow::Owned(number.to_string()))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Raw::String(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Raw::String(Cow::Owned(value)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.below()?)? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        while let Some(key) = access.next_key::<Spanned<Key>>()? {
            let line = key.referenced.line();
            let Key(key) = key.value;
            let value = access.next_value_seed(self.below()?)?;
            if seen.insert(key.clone()) {
                entries.push((Cow::Owned(key), value));
            } else {
                self.duplicates.borrow_mut().push(format!("line {line}: key {key:?} already set in map"));
                entries.retain(|(other, _)| *other != key);
                entries.push((Cow::Owned(key), value));
            }
        }
        Ok(Raw::Map(entries))
    }
}

/// A key: text, or a scalar written as text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(KeyVisitor).map(Self)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read_like_json() {
        let yaml = parse(b"a: 1\nb: [x, \"1\", null, true, 1.5]\nc:\n  d: |\n    text\n1: z\n").unwrap();
        let value = yaml.value.into_value();
        assert_eq!(
            value,
            serde_json::json!({"a": 1, "b": ["x", "1", null, true, 1.5], "c": {"d": "text\n"}, "1": "z"})
        );
    }

    #[test]
    fn json_is_read_as_yaml_reads_it() {
        for text in [
            r#"{"a": 1, "b": ["x", "1", null, true, 1.5, -0, 1e3, 9007199254740993], "c": {}, "d": [], "1": "z\n\"\/"}"#,
            "{\"a\":\n {\"b\": \"é😀 # no comment: {}\"}}\n",
            r#"{"a": "", "b": " x ", "c": "yes", "d": "0644", "e": "<<", "f": "~"}"#,
        ] {
            let json = as_json(text).unwrap().into_value();
            assert_eq!(json, as_yaml(text).unwrap().value.into_value(), "{text}");
        }
        for text in
            ["{a: 1}", r#"{"a": 1, "a": 2}"#, "{\"a\":\t1}", r#"{"a": "\u0041"}"#, "{\"a\": 1}\n---\n{}", "a: 1"]
        {
            assert!(as_json(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_key_given_twice_is_noted_with_its_line_and_the_last_wins() {
        let yaml = parse(b"data:\n  k: \"1\"\n  k: \"2\"\n").unwrap();
        assert_eq!(yaml.duplicates, ["line 3: key \"k\" already set in map"]);
        assert_eq!(yaml.value.into_value(), serde_json::json!({"data": {"k": "2"}}));
    }

    #[test]
    fn malformed_yaml_is_refused_as_upstreams_reader_words_it() {
        for (text, why) in [
            ("apiVersion: v1\nkind: [ConfigMap\n", "yaml: line 2: did not find expected ',' or ']'"),
            ("a: [b", "yaml: did not find expected ',' or ']'"),
            ("{a: 1", "yaml: did not find expected ',' or '}'"),
            ("a: b: c", "yaml: mapping values are not allowed in this context"),
            ("key: value\n  other: x\n", "yaml: line 2: mapping values are not allowed in this context"),
            ("a:\n\t- b", "yaml: line 2: found character that cannot start any token"),
            ("a: @x", "yaml: found character that cannot start any token"),
            ("a: 1\nb: 'x\n", "yaml: line 3: found unexpected end of stream"),
            ("a: *x", "yaml: unknown anchor 'x' referenced"),
            ("a: 1\nb: ]", "yaml: line 1: did not find expected node content"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), why, "{text:?}");
        }
    }

    #[test]
    fn only_the_first_document_is_read() {
        let read = |text: &str| parse(text.as_bytes()).unwrap().value.into_value();
        for text in ["a: 1\n---\nb: 2\n", "---\na: 1\n--- x\n", "# c\n---\na: 1\n...\njunk: [", "a: 1"] {
            assert_eq!(read(text), serde_json::json!({"a": 1}), "{text:?}");
        }
        assert_eq!(read("---\n---\na: 1\n"), serde_json::Value::Null);
        assert_eq!(read("mode: 0644\ntext: a---\n"), serde_json::json!({"mode": 420, "text": "a---"}));
    }
}
