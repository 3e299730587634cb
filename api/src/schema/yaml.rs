//! Reads YAML into the same tree as JSON, as upstream does: YAML 1.1, of which the first document counts, and keys that are
//! given twice are noted.

mod made;
mod nodes;
mod reader;
mod resolve;
mod scanner;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::json::Raw;
use resolve::Made;

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
    match std::str::from_utf8(bytes).ok().and_then(as_json) {
        Some(value) => Ok(Yaml { value, duplicates: Vec::new() }),
        None => as_yaml(bytes),
    }
}

fn as_yaml(bytes: &[u8]) -> Result<Yaml<'static>, String> {
    let tree = nodes::parse(bytes).map_err(|fault| fault.0)?;
    let (value, duplicates) = made::make(&tree)?;
    Ok(Yaml { value, duplicates })
}

/// Keys of JSON up to here are keys of YAML, too, whatever is escaped in them.
const MAX_KEY_BYTES: usize = 400;

/// The value of a text that is JSON and says the same as YAML, which most clients send. Of some escapes, of line ends that
/// only YAML knows, of tabs at the end and of colons on the next line YAML thinks otherwise, and it names the lines of duplicate keys.
fn as_json(text: &str) -> Option<Raw<'_>> {
    let is_odd =
        |letter: char| !reader::is_allowed(letter) || matches!(letter, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    if !text.starts_with('{')
        || text.contains("\\u")
        || text.contains("\\/")
        || text.contains(is_odd)
        || text.rsplit('}').next().is_some_and(|behind| behind.contains('\t'))
        || text.lines().any(|line| line.trim_start().starts_with(':'))
    {
        return None;
    }
    let mut value = super::json::parse(text.as_bytes()).ok()?;
    let mut issues = Vec::new();
    super::decode::duplicates(&value, &mut String::new(), &mut issues);
    (issues.is_empty() && as_yaml_has_it(&mut value)).then_some(value)
}

/// Writes numbers as they are when YAML has read them; whether YAML reads everything.
fn as_yaml_has_it(value: &mut Raw<'_>) -> bool {
    match value {
        Raw::Number(text) => {
            let read = match resolve::resolve("", text) {
                Ok(Made::Int(number)) => number.to_string(),
                Ok(Made::Uint(number)) => number.to_string(),
                Ok(Made::Float(float)) => match made::of_float(float) {
                    Ok(text) => text,
                    Err(_) => return false,
                },
                _ => return false,
            };
            if **text != *read {
                *text = Cow::Owned(read);
            }
            true
        }
        Raw::List(items) => items.iter_mut().all(as_yaml_has_it),
        Raw::Map(entries) => entries.iter_mut().all(|(key, value)| key.len() <= MAX_KEY_BYTES && as_yaml_has_it(value)),
        Raw::Null | Raw::Bool(_) | Raw::String(_) => true,
    }
}
