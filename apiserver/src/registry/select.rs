//! Which objects a list, a watch or a deletecollection is about.

use std::sync::Arc;

use martello_api::{selector::LabelSelector, status::ApiError};
use serde_json::Value;

use super::{
    kind::Kind,
    options::{Asked, ListOptions, Match},
    storage::entry_field,
};
use crate::{http::query::Query, store::Entry};

/// Label and field selectors of one call.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: Option<LabelSelector>,
    fields: Vec<Term>,
    reader: Option<FieldReader>,
}

/// Reads a field of an entry that the entry's own index may lack; none where the index has it.
#[derive(Clone)]
pub struct FieldReader(Arc<ReadField>);

type ReadField = dyn Fn(&Entry, &str) -> Option<String> + Send + Sync;

impl FieldReader {
    /// That reads so.
    #[must_use]
    pub fn new(read: impl Fn(&Entry, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl std::fmt::Debug for FieldReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FieldReader")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    path: String,
    value: String,
    equal: bool,
}

impl Term {
    /// Whether it is about what an entry is kept under.
    fn is_of_key(&self) -> bool {
        matches!(self.path.as_str(), "metadata.name" | "metadata.namespace")
    }
}

impl Selection {
    /// Reads the options and the selectors of a list or, if `watch`, of a watch. Of several faults the one is told that
    /// upstream tells.
    pub fn listed(kind: &Kind, query: &Query, watch: bool) -> Result<(ListOptions, Self), ApiError> {
        let asked = Asked::read(query, watch)?;
        let selection = Self::parse(query)?;
        asked.judge()?;
        let selection = selection.of(kind)?;
        let mut options = asked.settle()?;
        // Upstream's cache, which answers where any state will do, knows no pages. Of events there is none.
        if options.version == Match::Any && kind.name() != "Event" {
            options.limit = 0;
        }
        Ok((options, selection))
    }

    /// Reads the selectors of a query, whatever fields they name.
    fn parse(query: &Query) -> Result<Self, ApiError> {
        let labels = match query.get("labelSelector") {
            "" => None,
            text => Some(LabelSelector::parse(text).map_err(|error| ApiError::bad_request(error.to_string()))?),
        };
        Ok(Self { labels, fields: terms(query.get("fieldSelector"))?, reader: None })
    }

    /// The same, of fields that the kind can be selected by.
    fn of(mut self, kind: &Kind) -> Result<Self, ApiError> {
        // A term of nothing selects everything.
        self.fields.retain(|term| !(term.path.is_empty() && term.value.is_empty()));
        for term in &mut self.fields {
            if !kind.selects(&term.path) {
                return Err(ApiError::bad_request(kind.unknown_field(&term.path)));
            }
            if let Some(stored) = kind.stored_field(&term.path) {
                term.path = stored.to_owned();
            }
        }
        self.reader = kind.field_reader().filter(|_| !self.fields.is_empty());
        Ok(self)
    }

    /// Of these, only the object that the path names. What was authorized by name is selected by it.
    pub fn named(mut self, name: &str) -> Result<Self, ApiError> {
        if name.is_empty() || self.name() == Some(name) {
            return Ok(self);
        }
        if !self.fields.is_empty() {
            return Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        self.fields.push(Term { path: "metadata.name".to_owned(), value: name.to_owned(), equal: true });
        Ok(self)
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// Whether an entry is selected; its labels and fields were read when it was stored.
    #[must_use]
    pub fn selects(&self, entry: &Entry) -> bool {
        self.fields.iter().all(|term| self.has(entry, term) == term.equal) && self.selects_labels(entry)
    }

    /// Whether an entry is to be selected by fields that only what the kind shows of it has, and not ruled out without them.
    #[must_use]
    pub fn needs_shown(&self, kind: &Kind, entry: &Entry) -> bool {
        let holds = |term: &Term| !term.is_of_key() || self.has(entry, term) == term.equal;
        self.fields.iter().any(|term| !term.is_of_key())
            && kind.hides_fields(entry)
            && self.fields.iter().all(holds)
            && self.selects_labels(entry)
    }

    /// Whether an entry that [needs it](Self::needs_shown) is selected, by what the kind shows of it.
    #[must_use]
    pub fn selects_shown(&self, kind: &Kind, shown: &Value) -> bool {
        self.fields.iter().filter(|term| !term.is_of_key()).all(|term| {
            let found = kind.field(shown, &term.path).unwrap_or_default();
            (found == term.value) == term.equal
        })
    }

    fn selects_labels(&self, entry: &Entry) -> bool {
        self.labels.as_ref().is_none_or(|labels| labels.matches_by(|key| entry.labels.get(key)))
    }

    /// Whether the field of a term has the term's value.
    fn has(&self, entry: &Entry, term: &Term) -> bool {
        let read =
            self.reader.as_ref().filter(|_| !term.is_of_key()).and_then(|FieldReader(read)| read(entry, &term.path));
        read.map_or_else(|| entry_field(entry, &term.path) == term.value, |value| value == term.value)
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

/// The name that the options of a list or watch pin, so that rules on names hold for it; none where an option can't be read.
/// It is read by the parser that selects: another reading of the same text would authorize one thing and serve another.
#[must_use]
pub fn pinned_name(query: &Query) -> Option<String> {
    if Asked::read(query, false).is_err() || Selection::parse(query).is_err() {
        return None;
    }
    let named = |(path, name): (String, String)| (path == "metadata.name").then_some(name);
    let name = equalities(query.get("fieldSelector")).into_iter().find_map(named)?;
    let is_segment = !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '%']);
    is_segment.then_some(name)
}

/// What the field selector demands by equality, for authorization.
#[must_use]
pub fn equalities(text: &str) -> Vec<(String, String)> {
    terms(text).unwrap_or_default().into_iter().filter(|term| term.equal).map(|term| (term.path, term.value)).collect()
}

/// Parses `path=value`, `path==value`, `path!=value`, joined by commas; backslashes escape.
fn terms(text: &str) -> Result<Vec<Term>, ApiError> {
    let mut parts = split(text);
    parts.sort();
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| {
            let bad = || ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"));
            let at = part.find('=').ok_or_else(bad)?;
            let (left, right) = part.split_at(at);
            let right = right.get(1..).unwrap_or_default();
            let (path, equal) = match left.strip_suffix('!') {
                Some(path) => (path, false),
                None => (left, true),
            };
            let right = if equal { right.strip_prefix('=').unwrap_or(right) } else { right };
            Ok(Term { path: path.to_owned(), value: unescape(right)?, equal })
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

/// A value without its escapes; commas, equals signs and backslashes need them, and nothing else has any.
fn unescape(text: &str) -> Result<String, ApiError> {
    let refuse = |why: String| Err(ApiError::bad_request(format!("invalid field selector: {why}")));
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => return refuse(format!("invalid escape sequence: \\{other}")),
                None => return refuse("invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return refuse(format!("unescaped character in value: {}", u32::from(character))),
            other => out.push(other),
        }
    }
    Ok(out)
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
        for (text, message) in [
            ("b=1,metadata.name", "invalid selector: 'b=1,metadata.name'; can't understand 'metadata.name'"),
            (r"a=b\z", r"invalid field selector: invalid escape sequence: \z"),
            (r"a=b\", r"invalid field selector: invalid escape sequence: \"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(terms(text).unwrap_err().message, message);
        }
    }
}
