//! The JSON paths of printer columns: fields, indices, slices, wildcards, filters and recursive descent.

use serde_json::Value;

/// Longest path: they are short, and each is evaluated for every row.
const MAX_CHARS: usize = 1024;
/// More values than this are not followed: descents multiply.
const MAX_FOUND: usize = 10_000;

/// A path that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Descend,
    /// From, to, stride.
    Slice(Option<i64>, Option<i64>, Option<i64>),
    Index(i64),
    Union(Vec<Step>),
    Filter(Operand, Option<(&'static str, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Value(Value),
}

/// Why a path was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// An unfinished bracket.
    #[error("unterminated array")]
    Unterminated,
    /// An unfinished filter.
    #[error("unterminated filter")]
    Filter,
    /// Anything else that does not belong there.
    #[error("unrecognized character in action: {0:?}")]
    Character(char),
    /// A part of a bracket that says nothing.
    #[error("invalid array index {0}")]
    Index(String),
    /// Longer than anyone needs.
    #[error("a path may have {MAX_CHARS} characters at most")]
    TooLong,
}

impl JsonPath {
    /// Reads a path that begins with a dot or a bracket.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_CHARS {
            return Err(PathError::TooLong);
        }
        let characters: Vec<char> = text.chars().collect();
        let mut parser = Parser { characters: &characters, at: 0 };
        let steps = parser.steps(false)?;
        match parser.peek() {
            None => Ok(Self(steps)),
            Some(other) => Err(PathError::Character(other)),
        }
    }

    /// What it finds.
    #[must_use]
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        evaluate(&self.0, vec![value])
    }
}

struct Parser<'c> {
    characters: &'c [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn spaces(&mut self) {
        while self.peek() == Some(' ') {
            self.at += 1;
        }
    }

    fn steps(&mut self, in_filter: bool) -> Result<Vec<Step>, PathError> {
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    if self.eat('.') {
                        steps.push(Step::Descend);
                        if self.peek() != Some('[') {
                            steps.extend(self.field());
                        }
                    } else if self.peek() != Some('[') {
                        steps.extend(self.field());
                    }
                }
                Some('[') => {
                    self.at += 1;
                    steps.push(self.bracket()?);
                }
                Some('@' | '$') if steps.is_empty() => self.at += 1,
                None => return Ok(steps),
                Some(_) if in_filter => return Ok(steps),
                Some(' ') => self.at += 1,
                Some(other) => return Err(PathError::Character(other)),
            }
        }
    }

    /// A name behind a dot; backslashes escape. A lone dot names nothing.
    fn field(&mut self) -> Option<Step> {
        let mut name = String::new();
        while let Some(character) = self.peek() {
            match character {
                '.' | '[' | ']' | ' ' | ')' | '=' | '!' | '<' | '>' | '|' | '&' | ',' | '{' | '}' | '\'' | '"' => break,
                '\\' => {
                    self.at += 1;
                    name.extend(self.peek());
                }
                other => name.push(other),
            }
            self.at += 1;
        }
        match name.as_str() {
            "" => None,
            "*" => Some(Step::Wildcard),
            _ => Some(Step::Field(name)),
        }
    }

    fn bracket(&mut self) -> Result<Step, PathError> {
        if self.eat('?') {
            return self.filter();
        }
        let mut parts = Vec::new();
        loop {
            self.spaces();
            parts.push(self.part()?);
            self.spaces();
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    break;
                }
                Some(',') => self.at += 1,
                None => return Err(PathError::Unterminated),
                Some(other) => return Err(PathError::Character(other)),
            }
        }
        match parts.len() {
            1 => parts.pop().ok_or(PathError::Unterminated),
            _ => Ok(Step::Union(parts)),
        }
    }

    fn part(&mut self) -> Result<Step, PathError> {
        if self.peek() == Some('\'') {
            return self.quoted('\'').map(Step::Field);
        }
        if self.eat('*') {
            return Ok(Step::Wildcard);
        }
        let mut text = String::new();
        while let Some(character) = self.peek().filter(|character| !matches!(character, ']' | ',' | ' ')) {
            text.push(character);
            self.at += 1;
        }
        if self.peek().is_none() {
            return Err(PathError::Unterminated);
        }
        let number = |text: &str| -> Result<Option<i64>, PathError> {
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().map(Some).map_err(|_| PathError::Index(text.to_owned()))
        };
        match text.split(':').collect::<Vec<_>>().as_slice() {
            [one] => number(one)?.map(Step::Index).ok_or_else(|| PathError::Index(text.clone())),
            [from, to] => Ok(Step::Slice(number(from)?, number(to)?, None)),
            [from, to, stride] => Ok(Step::Slice(number(from)?, number(to)?, number(stride)?)),
            _ => Err(PathError::Index(text)),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, PathError> {
        self.at += 1;
        let mut text = String::new();
        while let Some(character) = self.peek() {
            self.at += 1;
            match character {
                '\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                other if other == quote => return Ok(text),
                other => text.push(other),
            }
        }
        Err(PathError::Unterminated)
    }

    fn filter(&mut self) -> Result<Step, PathError> {
        if !self.eat('(') {
            return Err(self.peek().map_or(PathError::Filter, PathError::Character));
        }
        let left = self.operand()?;
        self.spaces();
        let operators = ["==", "!=", "<=", ">=", "<", ">"];
        let rest: String = self.characters.iter().skip(self.at).take(2).collect();
        let comparison = match operators.into_iter().find(|operator| rest.starts_with(operator)) {
            Some(operator) => {
                self.at += operator.len();
                Some((operator, self.operand()?))
            }
            None => None,
        };
        self.spaces();
        if self.eat(')') && self.eat(']') { Ok(Step::Filter(left, comparison)) } else { Err(PathError::Filter) }
    }

    fn operand(&mut self) -> Result<Operand, PathError> {
        self.spaces();
        match self.peek() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote).map(|text| Operand::Value(Value::String(text))),
            Some('@' | '$' | '.') => self.steps(true).map(Operand::Path),
            Some(_) => {
                let mut text = String::new();
                while let Some(character) = self.peek().filter(|c| !matches!(c, ' ' | ')' | '=' | '!' | '<' | '>')) {
                    text.push(character);
                    self.at += 1;
                }
                serde_json::from_str(&text).map(Operand::Value).map_err(|_| PathError::Index(text))
            }
            None => Err(PathError::Filter),
        }
    }
}

fn evaluate<'v>(steps: &[Step], mut found: Vec<&'v Value>) -> Vec<&'v Value> {
    for step in steps {
        found = found.into_iter().flat_map(|value| apply(step, value)).take(MAX_FOUND).collect();
    }
    found
}

fn apply<'v>(step: &Step, value: &'v Value) -> Vec<&'v Value> {
    match step {
        Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
        Step::Wildcard => children(value),
        Step::Descend => {
            let mut all = vec![value];
            let mut next = 0;
            while let Some(value) = all.get(next).copied() {
                all.extend(children(value));
                next += 1;
            }
            all
        }
        Step::Index(at) => value.as_array().and_then(|items| items.get(place(*at, items.len())?)).into_iter().collect(),
        Step::Slice(from, to, stride) => {
            let Some(items) = value.as_array() else { return Vec::new() };
            let count = items.len();
            let bound = |at: i64| if at < 0 { place(at, count).unwrap_or(0) } else { (at as usize).min(count) };
            let (from, to) = (bound(from.unwrap_or(0)), to.map_or(count, bound));
            let stride = usize::try_from(stride.unwrap_or(1)).unwrap_or(1).max(1);
            items.get(from..to).unwrap_or_default().iter().step_by(stride).collect()
        }
        Step::Union(parts) => parts.iter().flat_map(|part| apply(part, value)).collect(),
        Step::Filter(left, comparison) => {
            let Some(items) = value.as_array() else { return Vec::new() };
            items.iter().filter(|item| holds(left, comparison.as_ref(), item)).collect()
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn place(at: i64, count: usize) -> Option<usize> {
    if at >= 0 { usize::try_from(at).ok() } else { count.checked_sub(usize::try_from(at.unsigned_abs()).ok()?) }
}

fn holds(left: &Operand, comparison: Option<&(&'static str, Operand)>, item: &Value) -> bool {
    let of = |operand: &Operand| match operand {
        Operand::Path(steps) => evaluate(steps, vec![item]).first().map(|value| (*value).clone()),
        Operand::Value(value) => Some(value.clone()),
    };
    let left = of(left);
    let Some((operator, right)) = comparison else { return left.is_some() };
    let (Some(left), Some(right)) = (left, of(right)) else { return false };
    let ordering = match (&left, &right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right)),
    };
    match *operator {
        "==" => left == right,
        "!=" => left != right,
        "<" => ordering.is_some_and(std::cmp::Ordering::is_lt),
        ">" => ordering.is_some_and(std::cmp::Ordering::is_gt),
        "<=" => ordering.is_some_and(std::cmp::Ordering::is_le),
        _ => ordering.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn find(path: &str, value: &Value) -> Vec<Value> {
        JsonPath::parse(path).unwrap().find(value).into_iter().cloned().collect()
    }

    #[test]
    fn paths_find_what_kubectl_finds() {
        let value = json!({
            "metadata": {"labels": {"example.com/a": "x"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]},
            "spec": {"l": [1, 2, 3], "n": 3},
        });
        assert_eq!(find(".spec.n", &value), [json!(3)]);
        assert_eq!(find(".spec.l[*]", &value), [json!(1), json!(2), json!(3)]);
        assert_eq!(find(".spec.l[-1]", &value), [json!(3)]);
        assert_eq!(find(".spec.l[0:2]", &value), [json!(1), json!(2)]);
        assert_eq!(find(r#".status.conditions[?(@.type=="Ready")].status"#, &value), [json!("True")]);
        assert_eq!(find(r".metadata.labels.example\.com/a", &value), [json!("x")]);
        assert_eq!(find(".metadata.labels['example.com/a']", &value), [json!("x")]);
        assert_eq!(find("..type", &value), [json!("Ready"), json!("Old")]);
        assert!(find(".none.at.all", &value).is_empty());
    }

    #[test]
    fn unfinished_paths_are_refused() {
        for path in [".spec[", ".spec[?(@.a", ".spec.l[x]", ".spec}"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "[.a\\[\\]?(@)=\"'*:0-9, \\\\-]{0,24}") {
            if let Ok(path) = JsonPath::parse(&path) {
                drop(path.find(&json!({"a": [{"a": 1}, [1, 2]]})));
            }
        }
    }
}
