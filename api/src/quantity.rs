//! Amounts of resources such as `100m`, `1.5Gi` or `2e3`: parsed, compared, added and written as Kubernetes writes them.

use std::cmp::Ordering;
use std::fmt;

mod parse;

pub use parse::written;

/// Why a text is no quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// A suffix that does not exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// No digits before a suffix that needs them.
    #[error("unable to parse numeric part of quantity")]
    Number,
}

/// An amount, exact to a billionth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// How an amount was written, and will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
/// A thousandth, in billionths.
const MILLI: i128 = 1_000_000;

impl Quantity {
    /// Of this many whole units.
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, format: Format::Decimal }
    }

    /// Of this many thousandths.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * MILLI, format: Format::Decimal }
    }

    /// Of this many bytes, written with `Ki`, `Mi` and so on where it divides.
    #[must_use]
    pub fn from_bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, format: Format::Binary }
    }

    /// In whole units, rounded up (away from zero), as upstream's `Value()`.
    #[must_use]
    pub fn units(&self) -> i64 {
        divide_up(self.nanos, NANO)
    }

    /// In thousandths, rounded up, as upstream's `MilliValue()`.
    #[must_use]
    pub fn millis(&self) -> i64 {
        divide_up(self.nanos, MILLI)
    }

    /// Rounded up to thousandths, as lists of resources have it.
    #[must_use]
    pub fn in_millis(self) -> Self {
        let rest = self.nanos % MILLI;
        let more = if rest == 0 { 0 } else { MILLI * rest.signum() - rest };
        Self { nanos: self.nanos.saturating_add(more), format: self.format }
    }

    /// As a number that may be a little off: for ratios.
    #[must_use]
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }
}

fn divide_up(amount: i128, by: i128) -> i64 {
    let (whole, rest) = (amount / by, amount % by);
    let rounded = whole + rest.signum();
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}

impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |sum, one| sum + one)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that leaves none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // A binary amount that is no whole number is written in decimal form, which loses nothing.
        if self.format == Format::Binary && self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0 {
            let mut units = self.nanos / NANO;
            let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let mut suffix = "";
            for next in suffixes.iter().skip(1) {
                if units % 1024 != 0 {
                    break;
                }
                units /= 1024;
                suffix = next;
            }
            return write!(f, "{units}{suffix}");
        }
        let (mut amount, mut power) = (self.nanos, -9);
        while amount % 1000 == 0 && (power < 18 || self.format == Format::Exponent) {
            amount /= 1000;
            power += 3;
        }
        write!(f, "{amount}{}", suffix_of(self.format, power))
    }
}

/// The suffix of an amount in decimal form. Upstream has none beyond the largest, and writes nothing then.
fn suffix_of(format: Format, power: i64) -> String {
    if format == Format::Exponent && power != 0 {
        return format!("e{power}");
    }
    match power {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        written(text).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn quantities_are_written_as_upstream_writes_them() {
        for (given, expected) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100m", "100m"),
            ("0", "0"),
            ("1e3", "1e3"),
            ("1000e3", "1e6"),
            ("12000", "12k"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("440128836.914Ki", "450691928999936m"),
            ("0.1Gi", "107374182400m"),
            ("639.50244040032520112213Pi", "720015738072356850652720884n"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1e-12", "1e-9"),
            ("-1.5", "-1500m"),
            ("-1.5Gi", "-1536Mi"),
            ("100000000000000000000000000000000000000000e-38", "1e3"),
            ("0.00000000000000000000000000000000000000000025e42", "250e-3"),
            ("1E", "1E"),
            (".5", "500m"),
            ("1500Mi", "1500Mi"),
            ("1e-3", "1e-3"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("123Mi", "123Mi"),
            ("000", "0"),
            ("0e5", "0"),
            ("1e100", "10e99"),
        ] {
            assert_eq!(canonical(given), expected, "{given}");
        }
    }

    #[test]
    fn what_is_written_plainly_stays_as_it_is() {
        for plain in ["010", "+1", "1.500", "1.", "1.Gi", "010Ki", "2.100k", "1e+03", "1E3", "0500", "001.500", "1e0"] {
            assert_eq!(canonical(plain), plain);
        }
        for (given, expected) in [("0.500", "500m"), (".500", "500m"), ("-1.50000", "-1500m"), ("0100000", "100k")] {
            assert_eq!(canonical(given), expected, "{given}");
        }
    }

    #[test]
    fn only_binary_amounts_have_an_end() {
        assert_eq!(canonical("99999999999999999999"), "99999999999999999999");
        assert_eq!(canonical("1234567890123456789.5"), "1234567890123456789500m");
        assert_eq!(canonical("99999999999999999999Ki"), "9223372036854775807");
        assert_eq!(canonical("-9Ei"), "-9223372036854775807");
        assert_eq!((canonical("10E"), canonical("1000E")), ("10E".to_owned(), "1".to_owned()));
        let amount = |text: &str| text.parse::<Quantity>().unwrap();
        assert!(amount("1E") < amount("99999999999999999999"));
    }

    #[test]
    fn digits_may_be_missing_where_few_are_read() {
        for nothing in ["m", ".", "-", "k", "+.Ki"] {
            assert_eq!(canonical(nothing), "0", "{nothing}");
        }
        assert_eq!(canonical("Ei"), "unable to parse numeric part of quantity");
        assert_eq!(canonical(".Ei"), "unable to parse numeric part of quantity");
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_upstreams_words() {
        for bad in ["", "x", "1x", "1..2", "1 ", "0x1", "1.2.3"] {
            assert_eq!(bad.parse::<Quantity>(), Err(QuantityError::Format), "{bad}");
        }
        for bad in ["1km", "1mm", "1ki", "1e", "n2", "GE"] {
            assert_eq!(bad.parse::<Quantity>(), Err(QuantityError::Suffix), "{bad}");
        }
    }

    #[test]
    fn quantities_are_rounded_up_to_thousandths() {
        let rounded = |text: &str| text.parse::<Quantity>().unwrap().in_millis().to_string();
        assert_eq!(["1n", "500u", "1500u", "-1u", "2", "1e-6"].map(rounded), ["1m", "1m", "2m", "-1m", "2", "1e-3"]);
    }

    #[test]
    fn quantities_compare_add_and_round_up() {
        let parse = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(parse("1Gi"), parse("1073741824"));
        assert!(parse("100m") < parse("0.2"));
        assert_eq!((parse("100m") + parse("1900m")).to_string(), "2");
        assert_eq!((parse("100m").units(), parse("1500m").units(), parse("-1500m").units()), (1, 2, -2));
        assert_eq!(parse("2").millis(), 2000);
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same(
            whole in 0_u64..1_000_000_000, part in 0_u32..1000, suffix in "(|m|k|M|G|Ki|Mi|Gi|e3|e-3)"
        ) {
            let amount: Quantity = format!("{whole}.{part:03}{suffix}").parse().unwrap();
            let written = amount.to_string();
            let again: Quantity = written.parse().unwrap();
            prop_assert_eq!(again, amount, "{}", written);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _outcome = text.parse::<Quantity>();
        }
    }
}
