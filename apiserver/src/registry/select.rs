//! Which objects a list, a watch or a deletecollection is about.

use martello_api::{selector::LabelSelector, status::ApiError};

use super::{kind::Kind, storage::entry_field};
use crate::{http::query::Query, store::Entry};

/// Label and field selectors of one call.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: Option<LabelSelector>,
    fields: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    path: String,
    value: String,
    equal: bool,
}

impl Selection {
    /// Reads the selectors of a query.
    pub fn read(kind: &Kind, query: &Query) -> Result<Self, ApiError> {
        let labels = match query.get("labelSelector") {
            "" => None,
            text => Some(LabelSelector::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))?),
        };
        let mut fields = terms(query.get("fieldSelector"))?;
        for term in &mut fields {
            if term.path == "name" && !kind.selects("name") {
                term.path = "metadata.name".to_owned();
            }
            if !kind.selects(&term.path) {
                return Err(ApiError::bad_request(format!("field label not supported: {}", term.path)));
            }
            if let Some(stored) = kind.stored_field(&term.path) {
                term.path = stored.to_owned();
            }
        }
        Ok(Self { labels, fields })
    }

    /// Of these, only the object that the path names. What was authorized by name is selected by it.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        if !name.is_empty() && self.name() != Some(name) {
            self.fields.insert(0, Term { path: "metadata.name".to_owned(), value: name.to_owned(), equal: true });
        }
        self
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// Whether an entry is selected; its labels and fields were read when it was stored.
    #[must_use]
    pub fn selects(&self, entry: &Entry) -> bool {
        self.fields.iter().all(|term| (entry_field(entry, &term.path) == term.value) == term.equal)
            && self.labels.as_ref().is_none_or(|labels| labels.matches_by(|key| entry.labels.get(key)))
    }

    /// The one name that can be selected, if there is such.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.equal_to("metadata.name")
    }

    /// The one namespace that can be selected, if there is such.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.equal_to("metadata.namespace")
    }

    fn equal_to(&self, path: &str) -> Option<&str> {
        self.fields.iter().find(|term| term.equal && term.path == path).map(|term| term.value.as_str())
    }
}

/// What the field selector demands by equality, for authorization.
#[must_use]
pub fn equalities(text: &str) -> Vec<(String, String)> {
    terms(text).unwrap_or_default().into_iter().filter(|term| term.equal).map(|term| (term.path, term.value)).collect()
}

/// Parses `path=value`, `path==value`, `path!=value`, joined by commas; backslashes escape.
fn terms(text: &str) -> Result<Vec<Term>, ApiError> {
    split(text)
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| {
            let bad = || ApiError::bad_request(format!("invalid selector: '{part}'; can't understand '{part}'"));
            let at = unescaped_equals(&part).ok_or_else(bad)?;
            let (left, right) = part.split_at(at);
            let right = right.get(1..).unwrap_or_default();
            let (path, equal) = match left.strip_suffix('!') {
                Some(path) => (path, false),
                None => (left, true),
            };
            let right = if equal { right.strip_prefix('=').unwrap_or(right) } else { right };
            Ok(Term { path: path.to_owned(), value: unescape(right), equal })
        })
        .collect()
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        if character == ',' && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = character == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts
}

fn unescaped_equals(part: &str) -> Option<usize> {
    let mut escaped = false;
    part.char_indices().find_map(|(at, character)| {
        let found = character == '=' && !escaped;
        escaped = character == '\\' && !escaped;
        found.then_some(at)
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            out.extend(characters.next());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_terms_are_read_with_escapes() {
        let read = terms(r"a=1,b!=2,c==x\,y").unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!((read[1].path.as_str(), read[1].equal), ("b", false));
        assert_eq!(read[2].value, "x,y");
        assert_eq!(
            terms("metadata.name").unwrap_err().message,
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
    }
}
