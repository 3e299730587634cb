//! Forms of names, labels and keys, with upstream's words for what is wrong.

pub use martello_api::names::*;

/// What is wrong with a value, in upstream's words; nothing if it is fine.
pub type Faults = Vec<String>;

const LABEL_KEY: &str = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";

/// A key of a label or an annotation.
#[must_use]
pub fn label_key(text: &str) -> Faults {
    if text.matches('/').count() > 1 { vec![LABEL_KEY.to_owned()] } else { qualified_name(text) }
}
