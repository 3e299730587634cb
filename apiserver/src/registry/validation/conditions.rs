//! Conditions of the common form (`metav1.Condition`).

use martello_api::status::Cause;
use serde_json::json;

use super::{field::Field, text};

/// Longest reason.
const MAX_REASON: usize = 1024;
/// Longest message.
const MAX_MESSAGE: usize = 32 * 1024;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Checks the conditions of a status.
pub fn check(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen: Vec<&str> = Vec::new();
    for condition in status.items("conditions") {
        let kind = condition.str("type");
        if seen.contains(&kind) {
            condition.at("type").duplicate(causes);
        }
        seen.push(kind);
        one(&condition, causes);
    }
}

fn one(condition: &Field<'_>, causes: &mut Vec<Cause>) {
    condition.at("type").check(text::qualified_name, causes);
    condition.at("status").one_of(&["False", "True", "Unknown"], causes);
    condition.at("observedGeneration").not_negative(causes);
    let time = condition.at("lastTransitionTime");
    if time.text().is_empty() {
        time.required("must be set", causes);
    }
    let reason = condition.at("reason");
    if reason.text().is_empty() {
        reason.required("must be set", causes);
    } else {
        if !is_reason(reason.text()) {
            causes.push(Cause::invalid(reason.path.as_str(), &json!(reason.text()), REASON));
        }
        if reason.text().len() > MAX_REASON {
            causes.push(Cause::too_long(reason.path.as_str(), MAX_REASON));
        }
    }
    if condition.str("message").len() > MAX_MESSAGE {
        causes.push(Cause::too_long(condition.at("message").path, MAX_MESSAGE));
    }
}

fn is_reason(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && text.bytes().next_back().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b',' | b':'))
}
