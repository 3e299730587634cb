//! A number of pods, or a percentage of them.

use martello_api::status::Cause;
use serde_json::{Value, json};

use crate::registry::{
    object,
    validation::{
        field::{Field, go_form},
        text,
    },
};

/// Checks that it is a number that is not negative, or a percentage.
pub fn check(share: &Field<'_>, causes: &mut Vec<Cause>) {
    match share.value {
        Value::String(_) => share.check(text::percent, causes),
        _ => share.not_negative(causes),
    }
}

/// A rolling update by two bounds as upstream's internal type shows it: a bound that is not given is zero.
#[must_use]
pub fn go_rolling(strategy: &Value) -> Value {
    let zero = |key: &'static str, name: &'static str| (key, name, json!(0));
    let mut shown = go_form(strategy, &[("type", "Type", json!(""))]);
    let rolling = strategy.get("rollingUpdate").filter(|rolling| !rolling.is_null());
    let bounds = [zero("maxUnavailable", "MaxUnavailable"), zero("maxSurge", "MaxSurge")];
    let rolling = rolling.map_or(Value::Null, |rolling| go_form(rolling, &bounds));
    object::set(&mut shown, &[], "RollingUpdate", rolling);
    shown
}

/// Checks that it is at most the whole.
pub fn check_whole(share: &Field<'_>, causes: &mut Vec<Cause>) {
    if percent(share).is_some_and(|percent| percent > 100) {
        share.invalid("must not be greater than 100%", causes);
    }
}

/// The number, of pods or of hundredths.
#[must_use]
pub fn amount(share: &Field<'_>) -> i64 {
    share.int().or_else(|| percent(share)).unwrap_or_else(|| share.text().parse().unwrap_or(0))
}

fn percent(share: &Field<'_>) -> Option<i64> {
    let digits = share.text().strip_suffix('%')?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}
