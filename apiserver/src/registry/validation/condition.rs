//! Conditions of the form that newer kinds share (`metav1.Condition`).

use std::collections::HashSet;

use martello_api::status::Cause;

use super::{
    field::Field,
    text::{self, Faults},
};

/// Longest reason and message.
const MAX_REASON_BYTES: usize = 1024;
const MAX_MESSAGE_BYTES: usize = 32_768;

/// Checks the conditions of a status.
pub fn check(status: &Field<'_>, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for condition in status.items("conditions") {
        let kind = condition.at("type");
        if seen.contains(&kind.text()) {
            kind.duplicate(causes);
        }
        seen.insert(kind.text());
        kind.check(text::qualified_name, causes);
        condition.at("status").one_of(&["False", "True", "Unknown"], causes);
        let generation = condition.at("observedGeneration");
        generation.not_negative(causes);
        let since = condition.at("lastTransitionTime");
        if since.is_empty() {
            since.required("must be set", causes);
        }
        let reason = condition.at("reason");
        if reason.text().is_empty() {
            reason.required("must be set", causes);
        } else {
            reason.check(reason_form, causes);
            if reason.text().len() > MAX_REASON_BYTES {
                causes.push(Cause::too_long(reason.path, MAX_REASON_BYTES));
            }
        }
        let message = condition.at("message");
        if message.text().len() > MAX_MESSAGE_BYTES {
            causes.push(Cause::too_long(message.path, MAX_MESSAGE_BYTES));
        }
    }
}

fn reason_form(reason: &str) -> Faults {
    const WHY: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
    let bytes = reason.as_bytes();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let fits = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(word)
        && bytes.iter().all(|byte| word(byte) || b",:".contains(byte));
    if fits { Vec::new() } else { vec![WHY.to_owned()] }
}
