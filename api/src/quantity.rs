//! Amounts of resources such as `100m`, `1.5Gi` or `2e3`: parsed, compared, added and written as Kubernetes writes them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Why a text is no quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// A suffix that does not exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
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
/// Upstream caps amounts at what 64 bits hold.
const MAX_NANOS: i128 = i64::MAX as i128 * NANO;
/// Beyond this exponents make every amount that fits a body either nothing or too much.
const MAX_POWER: i32 = 10_000_000;

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at_checked(digits_end).ok_or(QuantityError::Format)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        check_suffix(suffix)?;
        let (format, scale) = scale_of(suffix)?;
        let nanos = scaled(whole, fraction, scale);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

fn check_suffix(suffix: &str) -> Result<(), QuantityError> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.chars().all(|c| c.is_ascii_digit()) { Ok(()) } else { Err(QuantityError::Format) }
}

fn scale_of(suffix: &str) -> Result<(Format, Scale), QuantityError> {
    let decimal = |power| Ok((Format::Decimal, Scale::Ten(power)));
    let binary = |power| Ok((Format::Binary, Scale::Two(power)));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let power: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((Format::Exponent, Scale::Ten(power.clamp(-MAX_POWER, MAX_POWER))))
        }
    }
}

/// The amount in billionths, rounded up, capped.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    match scale {
        Scale::Ten(power) => scaled_by_ten(whole, fraction, power),
        Scale::Two(power) => scaled_by_two(whole, fraction, 1 << power),
    }
}

fn number(digits: impl Iterator<Item = u8>) -> i128 {
    digits.fold(0, |amount: i128, digit| amount.saturating_mul(10).saturating_add(i128::from(digit - b'0')))
}

/// Moves the point before it counts, so that no digit is lost that matters, however many there are.
fn scaled_by_ten(whole: &str, fraction: &str, power: i32) -> i128 {
    let places = i64::from(power) + 9 - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let length = whole.len() + fraction.len();
    let dropped = usize::try_from(places.saturating_neg()).unwrap_or(0).min(length);
    let digits = || whole.bytes().chain(fraction.bytes());
    let mut amount = number(digits().take(length - dropped)).min(MAX_NANOS);
    let lost = digits().skip(length - dropped).any(|digit| digit != b'0');
    for _ in 0..places {
        if amount == 0 || amount == MAX_NANOS {
            break;
        }
        amount = amount.saturating_mul(10).min(MAX_NANOS);
    }
    (amount + i128::from(lost)).min(MAX_NANOS)
}

/// Multiplies the whole number first and the fraction by itself, so that nothing is lost early.
fn scaled_by_two(whole: &str, fraction: &str, factor: i128) -> i128 {
    /// Digits of a fraction that leave room for the factor; what follows is less than a billionth of the least suffix.
    const DIGITS: usize = 18;
    let fraction = fraction.get(..DIGITS).unwrap_or(fraction);
    let product = number(fraction.bytes()).saturating_mul(factor).checked_mul(NANO).unwrap_or(i128::MAX);
    let parts = fraction.bytes().fold(1_i128, |parts, _| parts * 10);
    let extra = product / parts + i128::from(product % parts != 0);
    number(whole.bytes()).saturating_mul(factor).saturating_mul(NANO).saturating_add(extra).min(MAX_NANOS)
}

impl Quantity {
    /// Of this many whole units.
    #[must_use]
    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, format: Format::Decimal }
    }

    /// Of this many thousandths.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * 1_000_000, format: Format::Decimal }
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
        divide_up(self.nanos, 1_000_000)
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
        while amount % 1000 == 0 && power < 18 {
            amount /= 1000;
            power += 3;
        }
        match (self.format, power) {
            (_, 0) => write!(f, "{amount}"),
            (Format::Exponent, _) => write!(f, "{amount}e{power}"),
            (_, _) => {
                let suffix = match power {
                    -9 => "n",
                    -6 => "u",
                    -3 => "m",
                    3 => "k",
                    6 => "M",
                    9 => "G",
                    12 => "T",
                    15 => "P",
                    _ => "E",
                };
                write!(f, "{amount}{suffix}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().map_or_else(|error| error.to_string(), |amount| amount.to_string())
    }

    #[test]
    fn quantities_are_written_as_upstream_writes_them() {
        for (given, written) in [
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
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-1.5", "-1500m"),
            ("+1", "1"),
            ("100000000000000000000000000000000000000000e-38", "1e3"),
            ("036854779223372036854775720368547758078075807.0", "9223372036854775807"),
            ("0.00000000000000000000000000000000000000000025e42", "250e-3"),
            ("1E", "1E"),
            ("99999999999999999999", "9223372036854775807"),
            (".5", "500m"),
            ("5.", "5"),
            ("010", "10"),
            ("1500Mi", "1500Mi"),
            ("1e-3", "1e-3"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("123Mi", "123Mi"),
        ] {
            assert_eq!(canonical(given), written, "{given}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_upstreams_words() {
        for bad in ["", "x", "1x", "1..2", "-", "1 ", "0x1", "1.2.3"] {
            assert_eq!(bad.parse::<Quantity>(), Err(QuantityError::Format), "{bad}");
        }
        for bad in ["1km", "1mm", "1ki", "1e"] {
            assert_eq!(bad.parse::<Quantity>(), Err(QuantityError::Suffix), "{bad}");
        }
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
