//! Quantities as they are read, and as upstream writes what it read.

use std::str::FromStr;

use super::{Format, NANO, Quantity, QuantityError, suffix_of};

/// Upstream caps amounts with a binary suffix at what 64 bits hold.
const MAX_BINARY: i128 = i64::MAX as i128 * NANO;
/// Other amounts are as large as they are written; beyond this they are told apart no more.
const MAX_NANOS: i128 = i128::MAX / 1024;
/// Beyond this exponents make every amount that fits a body either nothing or too much.
const MAX_POWER: i64 = 10_000_000;
/// Digits that upstream reads without a large number: amounts that have no more may stay as they were written.
const SMALL_DIGITS: usize = 18;

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let parts = Parts::read(text)?;
        let nanos = match parts.scale {
            Scale::Ten(power) => scaled_by_ten(parts.whole, parts.fraction, power),
            Scale::Two(power) => scaled_by_two(parts.whole, parts.fraction, 1 << power),
        };
        Ok(Self { nanos: if parts.negative { -nanos } else { nanos }, format: parts.format })
    }
}

/// The text as upstream writes a quantity that was read from it: amounts that are written plainly stay as they are, with
/// their sign and zeros; others get the canonical form.
///
/// # Errors
/// Text that is no quantity.
pub fn written(text: &str) -> Result<String, QuantityError> {
    let parts = Parts::read(text)?;
    if parts.stays() {
        return Ok(text.to_owned());
    }
    match parts.scale {
        Scale::Ten(power) => Ok(parts.decimal(power)),
        Scale::Two(_) => Ok(text.parse::<Quantity>()?.to_string()),
    }
}

/// A quantity as it is written.
struct Parts<'t> {
    negative: bool,
    /// Digits before the point, without zeros in front.
    whole: &'t str,
    /// Digits behind the point.
    fraction: &'t str,
    format: Format,
    scale: Scale,
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

impl<'t> Parts<'t> {
    fn read(text: &'t str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (digits, rest) = leading_digits(unsigned);
        let whole = digits.trim_start_matches('0');
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), leading_digits);
        check_suffix(suffix)?;
        let (format, scale) = scale_of(suffix)?;
        let parts = Self { negative, whole, fraction, format, scale };
        if digits.is_empty() && fraction.is_empty() && !parts.is_small() {
            return Err(QuantityError::Number);
        }
        Ok(parts)
    }

    /// Digits as upstream counts them: a whole number has at least one.
    fn digits(&self) -> usize {
        self.whole.len().max(1) + self.fraction.len()
    }

    /// Whether upstream reads it without a large number.
    fn is_small(&self) -> bool {
        match self.scale {
            Scale::Ten(power) => {
                let places = i64::from(power) - i64::try_from(self.fraction.len()).unwrap_or(i64::MAX);
                self.digits() <= SMALL_DIGITS && places >= -9
            }
            Scale::Two(power) => {
                // A factor of 2^10 has about three digits.
                let room = 14_i64 - i64::from(power) * 3 / 10;
                self.fraction.is_empty() && i64::try_from(self.digits()).is_ok_and(|digits| digits <= room)
            }
        }
    }

    /// Whether upstream keeps it as it is written.
    fn stays(&self) -> bool {
        if !self.is_small() || self.whole.is_empty() {
            return false;
        }
        match self.scale {
            Scale::Two(_) => self.whole.parse::<u64>().is_ok_and(|units| units & 7 != 0),
            Scale::Ten(power) => {
                let places = i64::from(power) - i64::try_from(self.fraction.len()).unwrap_or(i64::MAX);
                places % 3 == 0 && !format!("{}{}", self.whole, self.fraction).ends_with("000")
            }
        }
    }

    /// The canonical form of a decimal amount, whatever its size.
    fn decimal(&self, power: i32) -> String {
        let mut power = i64::from(power) - i64::try_from(self.fraction.len()).unwrap_or(i64::MAX);
        let mut digits = format!("{}{}", self.whole, self.fraction).trim_start_matches('0').as_bytes().to_vec();
        if digits.is_empty() {
            return "0".to_owned();
        }
        if power < -9 {
            let dropped = usize::try_from(-9 - power).unwrap_or(usize::MAX).min(digits.len());
            let lost = digits.split_off(digits.len() - dropped).iter().any(|digit| *digit != b'0');
            power = -9;
            if lost {
                increment(&mut digits);
            }
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
            power += 1;
        }
        while power % 3 != 0 {
            digits.push(b'0');
            power -= 1;
        }
        let sign = if self.negative { "-" } else { "" };
        format!("{sign}{}{}", String::from_utf8_lossy(&digits), suffix_of(self.format, power))
    }
}

/// Adds one to a number of digits.
fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit == b'9' {
            *digit = b'0';
        } else {
            *digit += 1;
            return;
        }
    }
    digits.insert(0, b'1');
}

fn leading_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
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
            let power: i64 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            let power = i32::try_from(power.clamp(-MAX_POWER, MAX_POWER)).map_err(|_| QuantityError::Suffix)?;
            Ok((Format::Exponent, Scale::Ten(power)))
        }
    }
}

fn number(digits: impl Iterator<Item = u8>) -> i128 {
    digits.fold(0, |amount: i128, digit| amount.saturating_mul(10).saturating_add(i128::from(digit - b'0')))
}

/// In billionths, rounded up. Moves the point before it counts, so that no digit is lost that matters, however many there
/// are.
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

/// In billionths, rounded up. The fraction is multiplied digit by digit, so that none is lost, however many there are.
fn scaled_by_two(whole: &str, fraction: &str, factor: i128) -> i128 {
    let (mut extra, mut lost) = (0_i128, false);
    for digit in fraction.bytes().rev() {
        extra += i128::from(digit - b'0') * factor * NANO;
        lost |= extra % 10 != 0;
        extra /= 10;
    }
    let units = number(whole.bytes()).saturating_mul(factor).saturating_mul(NANO);
    units.saturating_add(extra + i128::from(lost)).min(MAX_BINARY)
}
