//! Field selectors: `metadata.name=a,status.phase!=Running`.

use super::SelectorError;

/// A conjunction of requirements on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// A requirement on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// For instance `metadata.name`.
    pub field: String,
    /// The value that it must have, or must not.
    pub value: String,
    /// Whether it must have that value.
    pub equals: bool,
}

impl FieldSelector {
    /// Of the text form.
    ///
    /// # Errors
    /// A term without an operator, or a badly escaped value.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        let mut terms = terms(text);
        // The first fault is that of the first in order.
        terms.sort_unstable();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let (field, equals, value) =
                split(term).ok_or_else(|| SelectorError::Term { selector: text.into(), term: term.into() })?;
            requirements.push(FieldRequirement { field: field.into(), value: unescape(value)?, equals });
        }
        Ok(Self { requirements })
    }

    /// The requirements.
    #[must_use]
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether every object is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that `field` must have, if one is asked for: a selector by name needs no list.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|one| one.equals && one.field == field).map(|one| one.value.as_str())
    }

    /// Whether an object whose fields `lookup` tells (empty where absent) is selected.
    pub fn matches_by<'l>(&self, lookup: impl Fn(&str) -> &'l str) -> bool {
        self.requirements.iter().all(|one| (lookup(&one.field) == one.value) == one.equals)
    }
}

/// Parts between commas that no backslash escapes.
fn terms(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                found.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text.get(start..).unwrap_or_default());
    found
}

fn split(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.char_indices() {
        let rest = term.get(at..)?;
        for (operator, equals) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((term.get(..at)?, equals, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let (mut text, mut chars) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => text.push(c),
                Some(c) => return Err(SelectorError::Escape(format!("invalid escape sequence: \\{c}"))),
                None => return Err(SelectorError::Escape("invalid escape sequence: \\".into())),
            },
            // Upstream tells the character's number.
            ',' | '=' => {
                return Err(SelectorError::Escape(format!("unescaped character in value: {}", u32::from(c))));
            }
            _ => text.push(c),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_fault_in_order_is_told() {
        let fault = |text: &str| FieldSelector::parse(text).unwrap_err().to_string();
        assert_eq!(fault(",x,a"), "invalid selector: ',x,a'; can't understand 'a'");
        assert_eq!(fault("a==="), "invalid field selector: unescaped character in value: 61");
    }

    #[test]
    fn fields_are_compared_as_text() {
        let selector = FieldSelector::parse("metadata.name=a,status.phase!=Running,x==1\\,2").unwrap();
        let lookup = |field: &str| match field {
            "metadata.name" => "a",
            "x" => "1,2",
            _ => "",
        };
        assert!(selector.matches_by(lookup));
        assert_eq!(selector.exact("metadata.name"), Some("a"));
        assert!(FieldSelector::parse("").unwrap().is_everything());
    }

    #[test]
    fn errors_read_as_upstream_words_them() {
        assert_eq!(
            FieldSelector::parse("metadata.name").unwrap_err().to_string(),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
        assert!(FieldSelector::parse("a=b\\c").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _outcome = FieldSelector::parse(&text);
        }
    }
}
