//! Limits of numbers: `minimum`, `maximum`, `multipleOf`, and the range of the declared type.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{Checker, Fault, Found};
use crate::crd::{
    format::Format,
    number::{Pair, whole_part},
    rules::{Number, Rules},
};

impl Checker {
    /// Limits count as whole numbers for whole numbers, whatever is cut off, unless they are none of the declared type.
    pub(super) fn number(&self, rules: &Rules, value: &Value, found: &mut Found) {
        self.range(rules, value, "Checked", found);
        let Number { min, max, multiple_of } = &rules.number;
        let limit = |limit: f64, name: &str, found: &mut Found| {
            if !self.range(rules, &json!(limit), name, found) {
                return Pair::Float(value.as_f64().unwrap_or_default(), limit);
            }
            value.as_i64().map_or(Pair::Float(value.as_f64().unwrap_or_default(), limit), |own| {
                Pair::Whole(own, whole_part(limit))
            })
        };
        if let Some(divisor) = *multiple_of {
            let pair = limit(divisor, "MultipleOf", found);
            if !pair.is_positive() {
                let message = format!(
                    "Invalid value: {0}: factor MultipleOf declared for {1} must be positive: {0}",
                    pair.shown(),
                    self.path
                );
                self.tell(Fault { path: Some(self.path.clone()), reason: "FieldValueInvalid", message }, found);
            } else if !pair.is_multiple() {
                self.beyond(value, &pair, "a multiple of", found);
            }
        }
        if let Some((min, excluded)) = *min {
            let pair = limit(min, "Minimum boundary", found);
            let order = pair.order();
            if order == Some(Ordering::Less) || excluded && order == Some(Ordering::Equal) {
                let than = if excluded { "greater than" } else { "greater than or equal to" };
                self.beyond(value, &pair, than, found);
            }
        }
        if let Some((max, excluded)) = *max {
            let pair = limit(max, "Maximum boundary", found);
            let order = pair.order();
            if order == Some(Ordering::Greater) || excluded && order == Some(Ordering::Equal) {
                let than = if excluded { "less than" } else { "less than or equal to" };
                self.beyond(value, &pair, than, found);
            }
        }
        found.matches += 2;
    }

    /// Complains that a number is not what a limit says.
    fn beyond(&self, value: &Value, pair: &Pair, than: &str, found: &mut Found) {
        let shown = match pair {
            Pair::Whole(..) => value.clone(),
            Pair::Float(own, _) => json!(own),
        };
        self.invalid(&shown, &format!("should be {than} {}", pair.shown()), found);
    }

    /// Whether the number fits the one type that is declared, in its format; complains where it does not.
    fn range(&self, rules: &Rules, value: &Value, what: &str, found: &mut Found) -> bool {
        let [of] = rules.types.as_slice() else { return true };
        let format = rules.format.as_ref().map_or("", Format::name);
        let whole =
            value.as_i64().map_or_else(|| value.as_f64().unwrap_or_default().to_string(), |own| own.to_string());
        let fits = match (*of, format) {
            ("integer", "int32") => whole.parse::<i32>().is_ok(),
            ("integer", _) => whole.parse::<i64>().is_ok(),
            ("number", "float") => value.as_f64().is_some_and(|number| number.abs() <= f64::from(f32::MAX)),
            _ => true,
        };
        if !fits {
            let form = if format.is_empty() { "(default format)".to_owned() } else { format!("with format {format}") };
            self.pathless(format!("{what} value must be of type {of} {form} in {}", self.path), found);
        }
        fits
    }
}
