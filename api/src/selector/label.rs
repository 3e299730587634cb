//! Label selectors: `a=b,c in (d,e),!f` and `LabelSelector` objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Map as JsonMap, Value};

use super::SelectorError;
use super::lexer::{Token, tokens};
use crate::go::quoted;
use crate::names;

/// A conjunction of requirements on labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// Selects no object at all: an absent `LabelSelector`.
    nothing: bool,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// Of what.
    pub values: BTreeSet<String>,
}

/// What must hold of a label's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there and its value is among these.
    In,
    /// The label is not there, or its value is not among these.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The value is a number above this one.
    GreaterThan,
    /// The value is a number below this one.
    LessThan,
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.iter().next().and_then(|text| number(text));
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::GreaterThan => value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => value.and_then(number).zip(bound()).is_some_and(|(value, bound)| value < bound),
        }
    }

    fn check(self) -> Result<Self, SelectorError> {
        check_key(&self.key)?;
        let (mut faults, key) = (Vec::new(), &self.key);
        if matches!(self.operator, Operator::GreaterThan | Operator::LessThan) {
            for (at, value) in self.values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                faults.push(format!("values[{at}]: Invalid value: {}: {why}", quoted(value)));
            }
        }
        for (at, value) in self.values.iter().enumerate() {
            let objections = names::label_value(value);
            if !objections.is_empty() {
                let shown = quoted(value);
                faults.push(format!("values[{at}][{key}]: Invalid value: {shown}: {}", objections.join("; ")));
            }
        }
        match faults.as_slice() {
            [] => Ok(self),
            [one] => Err(SelectorError::Requirement(one.clone())),
            many => Err(SelectorError::Requirement(format!("[{}]", many.join(", ")))),
        }
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let objections = names::qualified_name(key);
    if objections.is_empty() {
        return Ok(());
    }
    Err(SelectorError::Requirement(format!("<nil>: Invalid value: {}: {}", quoted(key), objections.join("; "))))
}

impl LabelSelector {
    /// Selects nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Of these requirements.
    #[must_use]
    pub fn of(requirements: Vec<Requirement>) -> Self {
        Self { requirements, nothing: false }
    }

    /// Of labels that must all be there with these values.
    #[must_use]
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let one = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: BTreeSet::from([value.clone()]),
        };
        Self::of(labels.iter().map(one).collect())
    }

    /// Of the text form, for instance a `labelSelector` parameter.
    ///
    /// # Errors
    /// What was found where something else was expected.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let mut requirements = parser.selector()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self::of(requirements))
    }

    /// Of an object; an absent one selects nothing, an empty one everything.
    ///
    /// # Errors
    /// An operator that does not exist.
    pub fn of_object(selector: Option<&meta::LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::nothing()) };
        let mut found = selector.match_labels.as_ref().map(Self::of_labels).unwrap_or_default();
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            let values = expression.values.iter().flatten().cloned().collect();
            found.requirements.push(Requirement { key: expression.key.clone(), operator, values });
        }
        Ok(found)
    }

    /// Whether every object is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The requirements.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object with these labels, as JSON holds them, is selected.
    #[must_use]
    pub fn matches_json(&self, labels: Option<&JsonMap<String, Value>>) -> bool {
        self.matches_by(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
    }

    /// Whether an object whose labels `lookup` tells is selected.
    pub fn matches_by<'l>(&self, lookup: impl Fn(&str) -> Option<&'l str>) -> bool {
        !self.nothing && self.requirements.iter().all(|one| one.holds(lookup(&one.key)))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let values = one.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            match one.operator {
                Operator::In if one.values.len() == 1 => write!(f, "{}={values}", one.key),
                Operator::In => write!(f, "{} in ({values})", one.key),
                Operator::NotIn if one.values.len() == 1 => write!(f, "{}!={values}", one.key),
                Operator::NotIn => write!(f, "{} notin ({values})", one.key),
                Operator::Exists => f.write_str(&one.key),
                Operator::DoesNotExist => write!(f, "!{}", one.key),
                Operator::GreaterThan => write!(f, "{}>{values}", one.key),
                Operator::LessThan => write!(f, "{}<{values}", one.key),
            }?;
        }
        Ok(())
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        let syntax = |found: &Token, expected: &str| {
            Err(SelectorError::Syntax(format!("found '{}', expected: {expected}", found.text())))
        };
        loop {
            match self.peek() {
                Token::End => return Ok(requirements),
                Token::Word(_) | Token::Not => requirements.push(self.requirement()?),
                other => return syntax(other, "!, identifier, or 'end of string'"),
            }
            match self.take() {
                Token::End => return Ok(requirements),
                Token::Comma if matches!(self.peek(), Token::Word(_) | Token::Not) => {}
                Token::Comma => return syntax(self.peek(), "identifier after ','"),
                other => return syntax(&other, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let wrong = |found: &Token, expected: &str| {
            Err(SelectorError::Requirement(format!("found '{}', expected: {expected}", found.text())))
        };
        let mut token = self.take();
        let negated = token == Token::Not;
        if negated {
            token = self.take();
        }
        let Token::Word(key) = token else { return wrong(&token, "identifier") };
        check_key(&key)?;
        let ends = matches!(self.peek(), Token::End | Token::Comma);
        if negated || ends {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement { key, operator, values: BTreeSet::new() }.check();
        }
        let token = self.take();
        let (operator, listed) = match &token {
            Token::Equals | Token::DoubleEquals => (Operator::In, false),
            Token::NotEquals => (Operator::NotIn, false),
            Token::Greater => (Operator::GreaterThan, false),
            Token::Less => (Operator::LessThan, false),
            Token::Word(word) if word == "in" => (Operator::In, true),
            Token::Word(word) if word == "notin" => (Operator::NotIn, true),
            other => return wrong(other, "in, notin, =, ==, !=, gt, lt"),
        };
        let values = if listed { self.values()? } else { self.value()? };
        Requirement { key, operator, values }.check()
    }

    fn value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.take() {
            Token::Word(value) => Ok(BTreeSet::from([value])),
            other => Err(SelectorError::Requirement(format!("found '{}', expected: identifier", other.text()))),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let wrong = |found: &Token, expected: &str| {
            Err(SelectorError::Requirement(format!("found '{}', expected: {expected}", found.text())))
        };
        let open = self.take();
        if open != Token::Open {
            return Err(SelectorError::Requirement(format!("found '{}' expected: '('", open.text())));
        }
        if !matches!(self.peek(), Token::Word(_) | Token::Comma | Token::Close) {
            return wrong(self.peek(), "',', ')' or identifier");
        }
        let (mut values, mut expects_value) = (BTreeSet::new(), true);
        loop {
            match self.take() {
                Token::Word(value) if expects_value => {
                    values.insert(value);
                    expects_value = false;
                }
                Token::Comma => {
                    if expects_value {
                        values.insert(String::new());
                    }
                    expects_value = true;
                }
                Token::Close => {
                    if expects_value {
                        values.insert(String::new());
                    }
                    return Ok(values);
                }
                other if expects_value => return wrong(&other, "',', or identifier"),
                other => return wrong(&other, "',' or ')'"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selects(text: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        LabelSelector::parse(text).unwrap().matches(&labels)
    }

    #[test]
    fn all_that_is_wrong_with_values_is_told() {
        let fault = LabelSelector::parse("a>x/y").unwrap_err().to_string();
        assert!(
            fault.starts_with(
                "unable to parse requirement: [values[0]: Invalid value: \"x/y\": for 'Gt', 'Lt' operators, the value must be an integer, values[0][a]: Invalid value: \"x/y\": a valid label must be"
            ),
            "{fault}"
        );
        assert!(fault.ends_with(")?')]"), "{fault}");
    }

    #[test]
    fn every_operator_selects_what_it_says() {
        let labels = [("app", "web"), ("n", "5")];
        for text in [
            "",
            "app",
            "app=web",
            "app==web",
            "app in (web, api)",
            "app!=api",
            "x!=y",
            "x notin (a)",
            "!x",
            "n>4",
            "n<6",
            "app=web,n=5",
        ] {
            assert!(selects(text, &labels), "{text}");
        }
        for text in [
            "x",
            "app=api",
            "app in (api)",
            "app notin (web,api)",
            "!app",
            "n>5",
            "n<5",
            "app>1",
            "app=web,x",
            "app=",
            "x in ()",
        ] {
            assert!(!selects(text, &labels), "{text}");
        }
    }

    #[test]
    fn errors_read_as_upstream_words_them() {
        let error = |text: &str| LabelSelector::parse(text).unwrap_err().to_string();
        assert_eq!(error("a b"), "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
        assert_eq!(error(","), "found ',', expected: !, identifier, or 'end of string'");
        assert_eq!(error("a,"), "found '', expected: identifier after ','");
        assert_eq!(error("a in b"), "unable to parse requirement: found 'b' expected: '('");
        assert_eq!(error("a=(b)"), "unable to parse requirement: found '(', expected: identifier");
        assert!(error("a=b!c").starts_with("found '!', expected: ',' or 'end of string'"));
        assert!(
            error("a/b/c")
                .starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key")
        );
    }

    #[test]
    fn an_absent_object_selects_nothing_and_an_empty_one_everything() {
        let labels = BTreeMap::new();
        assert!(!LabelSelector::of_object(None).unwrap().matches(&labels));
        assert!(LabelSelector::of_object(Some(&meta::LabelSelector::default())).unwrap().matches(&labels));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(text in "[ab](|=[ab]|!=[ab]| in \\([ab],[cd]\\)| notin \\([ab]\\)|>[0-9])(,[cd])?") {
            let selector = LabelSelector::parse(&text).unwrap();
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn no_text_panics(text in "[ab=!(),<> in\\PC]{0,24}") {
            let _outcome = LabelSelector::parse(&text);
        }
    }
}
