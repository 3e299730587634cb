//! Semantic versions (semver.org 2.0.0).

use std::cmp::Ordering;

/// A version, its build left out: builds do not count when versions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'t> {
    core: [u64; 3],
    /// The parts of the pre-release; empty where there is none.
    pre: &'t str,
}

impl<'t> Version<'t> {
    /// Three numbers, parts of a pre-release, parts of a build.
    #[must_use]
    pub fn parse(text: &'t str) -> Option<Self> {
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = core.split('.').map(number);
        let core = [numbers.next()??, numbers.next()??, numbers.next()??];
        let pre_release = |part: &str| number(part).is_some() || (word(part) && !is_digits(part));
        let sound = numbers.next().is_none()
            && pre.is_none_or(|pre| pre.split('.').all(pre_release))
            && build.is_none_or(|build| build.split('.').all(word));
        sound.then_some(Self { core, pre: pre.unwrap_or_default() })
    }

    /// Whether it is `0.0.0`.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.core == [0; 3] && self.pre.is_empty()
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.core.cmp(&other.core).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => parts(self.pre).cmp(parts(other.pre)),
        })
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The parts of a pre-release as they are compared: numbers come before words.
fn parts(pre: &str) -> impl Iterator<Item = (bool, u64, &str)> {
    pre.split('.').map(|part| number(part).map_or((true, 0, part), |number| (false, number, "")))
}

fn is_digits(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(part: &str) -> Option<u64> {
    let plain = !part.is_empty() && is_digits(part) && (part == "0" || !part.starts_with('0'));
    plain.then(|| part.parse().ok()).flatten()
}

fn word(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for good in ["1.2.3", "0.0.0", "1.0.0-alpha.1", "1.0.0-0a.b+build.01"] {
            assert!(Version::parse(good).is_some(), "{good}");
        }
        for bad in ["1.2", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "v1.2.3", "", "1.2.99999999999999999999"] {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_pre_release_comes_before_its_release() {
        let order = ["1.0.0-1", "1.0.0-2", "1.0.0-11", "1.0.0-a", "1.0.0-a.1", "1.0.0", "1.2.0", "1.10.0"];
        let versions: Vec<Version<'_>> = order.iter().map(|text| Version::parse(text).unwrap()).collect();
        assert!(versions.is_sorted_by(|left, right| left < right));
        assert!(Version::parse("0.0.0+x").unwrap().is_zero());
    }
}
