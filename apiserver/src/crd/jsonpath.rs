//! The JSON paths of printer columns: templates of kubectl's kind, of which one action is what everybody writes.
//!
//! What is understood, and which value a path has, is as upstream's package has it, oddities included.

mod find;
mod parse;

use std::borrow::Cow;

use serde_json::Value;

/// Longest path: they are short, and each is evaluated for every row.
const MAX_CHARS: usize = 1024;

/// A path that was understood: actions, and texts between them.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Vec<Node>>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// A text, a number or a truth value, whatever it is asked of.
    Known(Value),
    Field(String),
    Wildcard,
    Descend,
    /// One item, counted from the end where it is below zero.
    Index(i64),
    /// From, to and stride.
    Slice([Option<i64>; 3]),
    Union(Vec<Vec<Self>>),
    /// What is looked at, the comparison, and with what.
    Filter(Vec<Self>, String, Vec<Self>),
    /// What is there at all.
    Exists(Vec<Self>),
    /// A word: of loops, or none at all.
    Word,
}

/// Why a path was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// In upstream's words.
    #[error("{0}")]
    Syntax(String),
    /// Longer than anyone needs.
    #[error("a path may have {MAX_CHARS} characters at most")]
    TooLong,
}

impl JsonPath {
    /// Reads a path, as it stands within its braces.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_CHARS {
            return Err(PathError::TooLong);
        }
        parse::template(&format!("{{{text}}}")).map(Self).map_err(PathError::Syntax)
    }

    /// What it finds; nothing where a part of it does not fit the value.
    #[must_use]
    pub fn find<'v>(&self, value: &'v Value) -> Vec<Cow<'v, Value>> {
        let mut all = self.0.iter().map(|nodes| find::all(nodes, vec![Cow::Borrowed(value)]));
        let first = all.next();
        // What comes behind the first action is not shown, and must fit.
        match first {
            Some(Ok(first)) if all.all(|found| found.is_ok()) => first,
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(path: &str, value: &Value) -> Vec<Value> {
        JsonPath::parse(path).unwrap().find(value).into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn paths_find_what_kubectl_finds() {
        let value = json!({
            "metadata": {"labels": {"example.com/a": "x"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]},
            "spec": {"l": [1, 2, 3], "n": 3, "s": "hi", "none": null},
        });
        for (path, found) in [
            (".spec.n", json!([3])),
            ("spec.n", json!([])),
            ("$.spec.n", json!([3])),
            ("['spec']['n']", json!([3])),
            (".spec.l[*]", json!([1, 2, 3])),
            (".spec.l[]", json!([1])),
            (".spec.l[-1]", json!([3])),
            (".spec.l[0:2]", json!([1, 2])),
            (".spec.l[::2]", json!([1, 3])),
            (".spec.l[-2:]", json!([2, 3])),
            (".spec.l[0,2]", json!([1, 3])),
            (".spec.l[2:1]", json!([])),
            (".spec.l[9]", json!([])),
            (".spec.n[0]", json!([])),
            (".spec.none[0]", json!([])),
            (".spec.l[?(@>1)]", json!([2, 3])),
            (".spec.l[?(@==1.0)]", json!([])),
            (".spec['n','l']", json!([3, [1, 2, 3]])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (r#".status.conditions[?(@.type!='Ready')].status"#, json!(["False"])),
            (r#".status.conditions[?(@.type==5)].status"#, json!([])),
            (".status.conditions[?(@.type)].type", json!(["Ready", "Old"])),
            (r".metadata.labels.example\.com/a", json!(["x"])),
            (r".metadata.labels['example\.com/a']", json!(["x"])),
            (".metadata.labels['example.com/a']", json!([])),
            ("..type", json!(["Ready", "Old"])),
            (".none.at.all", json!([])),
            (".spec.n}{.spec.s", json!([3])),
            (".spec.n}, {.spec.l[9]", json!([])),
            (".spec.n}{end", json!([])),
            (r#".spec.n}{"\n"}{.spec.s"#, json!([3])),
            (r#""text""#, json!(["text"])),
            ("5", json!([5])),
            ("true", json!([true])),
            ("word", json!([])),
            (".", json!([])),
            (".spec.s.*", json!([104, 105])),
        ] {
            assert_eq!(json!(find(path, &value)), found, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused_in_upstreams_words() {
        for (path, why) in [
            (".spec[", "unterminated array"),
            (".spec[?(@.a", "unterminated filter"),
            (".spec[?(@.a)", "unclosed array expect ]"),
            (".spec.l[x]", "invalid array index x"),
            (".spec[\"s\"]", "invalid array index \"s\""),
            (".spec.l[1.5]", "invalid array index 1.5"),
            (".spec.l[-]", "array index - is not a number"),
            (".spec.s,.spec.n", "unrecognized character in action: U+002C ','"),
            (".spec]", "unrecognized character in action: U+005D ']'"),
            ("....", "invalid multiple recursive descent"),
            ("'open", "unterminated quoted string"),
            ("1.2.3", "cannot parse number 1.2.3"),
            (".spec.l[?(@.n in [\"a\"])]", "invalid array index \"a\""),
        ] {
            assert_eq!(JsonPath::parse(path).map_err(|error| error.to_string()), Err(why.to_owned()), "{path}");
        }
        assert_eq!(JsonPath::parse(&".a".repeat(600)), Err(PathError::TooLong));
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[.a\\[\\]?(@)=\"'*:0-9,{} \\\\-]{0,24}") {
            if let Ok(path) = JsonPath::parse(&path) {
                drop(path.find(&json!({"a": [{"a": 1}, [1, 2], "a", null]})));
            }
        }
    }
}
