//! Amounts of cpu and memory, as exactly as a kernel needs them.

/// An amount in thousandths of its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    milli: i128,
}

/// No quantity is longer; what is, is no quantity.
const LONGEST: usize = 64;

impl Amount {
    /// Reads a Kubernetes quantity such as `500m`, `1.5Gi`, `1e3`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(end)?;
        let (base, exponent) = suffix_factor(suffix)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let negative = whole.starts_with('-');
        let whole_digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
        let signs = |text: &str| text.contains(['-', '+']);
        if (whole_digits.is_empty() && fraction.is_empty()) || signs(whole_digits) || signs(fraction) {
            return None;
        }
        let digits: i128 = format!("{whole_digits}{fraction}").parse().ok()?;
        let places = u32::try_from(fraction.len()).ok()?;
        let (mut numerator, mut denominator) = (digits.checked_mul(1000)?, 10i128.checked_pow(places)?);
        let factor = i128::from(base).checked_pow(exponent.unsigned_abs())?;
        if exponent >= 0 {
            numerator = numerator.checked_mul(factor)?;
        } else {
            denominator = denominator.checked_mul(factor)?;
        }
        // Upstream rounds away from zero.
        let milli = numerator.checked_add(denominator - 1)? / denominator;
        Some(Self { milli: if negative { -milli } else { milli } })
    }

    /// This many whole units.
    #[must_use]
    pub fn of(units: u64) -> Self {
        Self { milli: i128::from(units) * 1000 }
    }

    /// This many thousandths of a unit.
    #[must_use]
    pub fn of_milli(milli: u64) -> Self {
        Self { milli: i128::from(milli) }
    }

    /// Whether it's nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.milli == 0
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { milli: self.milli.saturating_add(other.milli) }
    }

    /// In thousandths, for instance of a core.
    #[must_use]
    pub fn milli(self) -> u64 {
        u64::try_from(self.milli.max(0)).unwrap_or(u64::MAX)
    }

    /// In whole units, rounded up, for instance bytes.
    #[must_use]
    pub fn units(self) -> u64 {
        u64::try_from((self.milli.max(0) + 999) / 1000).unwrap_or(u64::MAX)
    }

    /// In units of `divisor`, rounded up: what a resource field in the environment shows.
    #[must_use]
    pub fn divided_by(self, divisor: Self) -> u64 {
        let divisor = divisor.milli.max(1);
        u64::try_from((self.milli.max(0) + divisor - 1) / divisor).unwrap_or(u64::MAX)
    }
}

fn suffix_factor(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            (10, (-18..=18).contains(&exponent).then_some(exponent)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly() {
        let milli = |text: &str| Amount::parse(text).map(Amount::milli);
        assert_eq!(milli("500m"), Some(500));
        assert_eq!(milli("1.5"), Some(1500));
        assert_eq!(milli("100u"), Some(1));
        assert_eq!(milli("2e3"), Some(2_000_000));
        assert_eq!(Amount::parse("128Mi").unwrap().units(), 128 << 20);
        assert_eq!(Amount::parse("0.5Gi").unwrap().units(), 512 << 20);
        assert_eq!(Amount::parse("1500m").unwrap().divided_by(Amount::of(1)), 2);
        for wrong in ["", "m", "1x", "1.2.3", "--1", "1e99", "."] {
            assert_eq!(Amount::parse(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = Amount::parse(&text).map(Amount::units);
        }
    }
}
