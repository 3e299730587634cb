//! Options of writes.

use martello_api::{
    go,
    status::{ApiError, Cause},
};
use serde_json::json;

use super::{check_dry_run, invalid};
use crate::http::query::Query;

/// How unknown and duplicate fields are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped, and the client is told.
    Warn,
    /// Refused.
    Strict,
}

/// Longest name of a field manager.
pub const MAX_MANAGER_BYTES: usize = 128;

/// Options that creates, updates and patches share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Nothing may be kept.
    pub dry_run: bool,
    /// How unknown and duplicate fields are met; `Warn` where nothing is said.
    pub strictness: FieldValidation,
}

impl WriteOptions {
    /// Reads them; `kind` names the options of the verb in messages.
    pub fn read(query: &Query, kind: &str) -> Result<Self, ApiError> {
        Self::read_after(query, kind, Vec::new())
    }

    /// Reads those of a patch, which has rules of its own for an apply.
    pub fn read_patch(query: &Query, apply: bool) -> Result<Self, ApiError> {
        let mut causes = Vec::new();
        if apply && query.get("fieldManager").is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
        if !apply && query.has("force") {
            causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
        }
        Self::read_after(query, "PatchOptions", causes)
    }

    fn read_after(query: &Query, kind: &str, mut causes: Vec<Cause>) -> Result<Self, ApiError> {
        check_manager(query.get("fieldManager"), "fieldManager", &mut causes);
        let dry_run = check_dry_run(&query.all("dryRun").collect::<Vec<_>>(), &mut causes);
        let strictness = match query.get("fieldValidation") {
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            "" | "Warn" => FieldValidation::Warn,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                causes.push(Cause::not_supported("fieldValidation", &json!(other), &supported));
                FieldValidation::Warn
            }
        };
        if causes.is_empty() { Ok(Self { dry_run, strictness }) } else { Err(invalid(kind, causes)) }
    }
}

/// Checks the name of a field manager that stands at `path`.
pub fn check_manager(manager: &str, path: &str, causes: &mut Vec<Cause>) {
    if manager.len() > MAX_MANAGER_BYTES {
        causes.push(Cause::too_long(path, MAX_MANAGER_BYTES));
    }
    for (at, character) in manager.char_indices().filter(|(_, character)| !is_printable(*character)) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        causes.push(Cause::invalid(path, &json!(manager), &why));
    }
}

/// What Go prints: letters, marks, numbers, signs and the plain blank.
#[must_use]
pub fn is_printable(character: char) -> bool {
    !character.is_ascii_control() && go::is_printed(character)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::causes, *};

    #[test]
    fn every_fault_of_write_options_is_told() {
        let read = |query: &str, apply| WriteOptions::read_patch(&Query::parse(query), apply);
        assert_eq!(
            causes(read("force=1&dryRun=x&fieldValidation=y&fieldManager=a%0A", false)),
            [
                "Forbidden: may not be specified for non-apply patch",
                "Invalid value: \"a\\n\": invalid character U+000A (at position 1)",
                "Unsupported value: [\"x\"]: supported values: \"All\"",
                "Unsupported value: \"y\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ]
        );
        let long = format!("fieldManager={}", "x".repeat(MAX_MANAGER_BYTES + 1));
        assert_eq!(causes(read(&long, true)), ["Too long: may not be more than 128 bytes"]);
        for unprinted in ["%7F", "%C2%AD", "%E2%80%8B", "%EE%80%80", "%F3%A0%80%81", "%D8%80", "%C2%A0"] {
            assert_eq!(causes(read(&format!("fieldManager=a{unprinted}"), true)).len(), 1, "{unprinted}");
        }
        for printed in ["%C3%A9", "%E2%98%83", "a%CC%81", "%F0%9F%98%80", "%EF%BF%BD", "a%20b"] {
            assert!(read(&format!("fieldManager={printed}"), true).is_ok(), "{printed}");
        }
        assert_eq!(causes(read("", true)), ["Required value: is required for apply patch"]);
        let read = read("dryRun=All&dryRun=All&fieldValidation=Strict", false).unwrap();
        assert_eq!(read, WriteOptions { dry_run: true, strictness: FieldValidation::Strict });
    }
}
