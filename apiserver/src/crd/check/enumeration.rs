//! `enum`: whether a value is one of those that are listed.

use martello_api::go;
use serde_json::Value;

use super::{Checker, Fault, Found};
use crate::crd::{number::whole_part, shape::sorted};

impl Checker {
    pub(super) fn allowed(&self, values: &[Value], value: &Value, found: &mut Found) {
        found.matches += 1;
        if values.is_empty() || values.iter().any(|one| same(one, value)) {
            return;
        }
        if self.is_full() {
            found.untold = true;
            return;
        }
        let quoted = |one: &Value| match one {
            Value::String(text) => go::quoted(text),
            other => go::quoted(&go::json(&sorted(other))),
        };
        let listed: Vec<String> = values.iter().map(quoted).collect();
        let shown = go::shown(&sorted(value));
        let message = format!("Unsupported value: {shown}: supported values: {}", listed.join(", "));
        self.tell(Fault { path: Some(self.path.clone()), reason: "FieldValueNotSupported", message }, found);
    }
}

/// Whether a value is one of an `enum`. It is brought into the form of the other as Go does: a fraction is cut off, and a whole
/// number is the letter that it stands for. Nothing is null, not even null.
fn same(one: &Value, value: &Value) -> bool {
    match (one, value) {
        (_, Value::Null) => false,
        (Value::Number(one), Value::Number(own)) => match (one.as_i64(), own.as_i64()) {
            (Some(one), Some(own)) => one == own,
            (Some(one), None) => own.as_f64().is_some_and(|own| whole_part(own) == one),
            (None, _) => one.as_f64() == own.as_f64(),
        },
        (Value::String(text), Value::Number(own)) => own.as_i64().is_some_and(|code| {
            let letter = u32::try_from(code).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            text.chars().eq([letter])
        }),
        _ => one == value,
    }
}
