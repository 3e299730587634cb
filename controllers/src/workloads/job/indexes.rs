//! Indexes of an indexed Job, as its status keeps them: `0,2-4,7`.

use std::collections::BTreeSet;

/// Reads what was written by [`write`]; what can't be read or is not below `completions` is left out.
#[must_use]
pub(super) fn read(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            all.extend((first.max(0)..=last.min(completions.saturating_sub(1))).filter(|index| *index <= last));
        }
    }
    all
}

/// Writes indexes, intervals of three and more with a dash.
#[must_use]
pub(super) fn write(all: &BTreeSet<i32>) -> String {
    let mut intervals: Vec<(i32, i32)> = Vec::new();
    for index in all {
        match intervals.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => intervals.push((*index, *index)),
        }
    }
    let shown = intervals.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_are_written_short() {
        assert_eq!(write(&BTreeSet::from([0, 1, 3, 4, 5, 7])), "0,1,3-5,7");
        assert_eq!(read("0,1,3-5,7", 5), BTreeSet::from([0, 1, 3, 4]));
        assert_eq!(read("", 5), BTreeSet::new());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(all in proptest::collection::btree_set(0..200i32, 0..60)) {
            prop_assert_eq!(read(&write(&all), 200), all);
        }
    }
}
