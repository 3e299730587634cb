//! Numbers held against the limits of a schema, with Go's arithmetic: limits of whole numbers are whole, too.

use std::cmp::Ordering;

use martello_api::go;

/// Up to here a float tells whole numbers apart.
const EXACT: f64 = 9_007_199_254_740_991.0;

/// A number and the limit that it is held against.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pair {
    /// Both as whole numbers.
    Whole(i64, i64),
    /// Both as floats.
    Float(f64, f64),
}

impl Pair {
    /// How the number stands to the limit.
    pub(super) fn order(&self) -> Option<Ordering> {
        match self {
            Self::Whole(own, limit) => Some(own.cmp(limit)),
            Self::Float(own, limit) => own.partial_cmp(limit),
        }
    }

    /// Whether the limit is above zero.
    pub(super) fn is_positive(&self) -> bool {
        match self {
            Self::Whole(_, limit) => *limit > 0,
            Self::Float(_, limit) => *limit > 0.0,
        }
    }

    /// Whether the number is a multiple of the limit.
    pub(super) fn is_multiple(&self) -> bool {
        match self {
            Self::Whole(own, factor) => own.checked_rem(*factor) == Some(0),
            Self::Float(own, factor) if *factor < 1.0 => is_whole(1.0 / factor * own),
            Self::Float(own, factor) => is_whole(own / factor),
        }
    }

    /// The limit as messages show it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Whole(_, limit) => limit.to_string(),
            Self::Float(_, limit) => go::float(*limit),
        }
    }
}

/// Whether a float counts as a whole number: what is within a billionth of one does.
pub(super) fn is_whole(number: f64) -> bool {
    const NEAR: f64 = 1e-9;
    let rounded = number.round();
    number.abs() <= EXACT && (number == rounded || rounded != 0.0 && (number - rounded).abs() < NEAR * rounded.abs())
}

/// A float without its fraction, as processors do it: what is too large becomes the least number.
#[allow(clippy::cast_possible_truncation, reason = "what does not fit was sorted out")]
pub(super) fn whole_part(number: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&number) { number as i64 } else { i64::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_a_whole_number_counts_as_one() {
        assert!([0.0, 3.0, -7.0, 3.000_000_000_1, 1.0 / 0.1 * 0.7].into_iter().all(is_whole));
        assert!(![0.5, 1e-12, 3.000_1, 1e20, f64::NAN, f64::INFINITY].into_iter().any(is_whole));
        assert_eq!([1.9, -1.9, 1e20, -1e20, f64::NAN].map(whole_part), [1, -1, i64::MIN, i64::MIN, i64::MIN]);
    }

    #[test]
    fn a_limit_is_told_in_the_form_in_which_it_counted() {
        assert_eq!([Pair::Whole(7, 3), Pair::Float(7.0, 3e6)].map(|pair| pair.shown()), ["3", "3e+06"]);
        assert!(Pair::Whole(6, 3).is_multiple() && !Pair::Whole(i64::MAX, 3).is_multiple());
        assert!(!Pair::Whole(6, 0).is_positive() && !Pair::Float(6.0, 0.0).is_positive());
        assert_eq!(Pair::Float(f64::NAN, 1.0).order(), None);
    }
}
