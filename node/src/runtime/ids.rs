//! Which ids the pods of this node use: the agent's share of `/etc/subuid` and `/etc/subgid`, cut into slots. Pure.

/// Ids of one slot, and so of one pod: the range that images use.
pub(crate) const SLOT_IDS: u32 = 65_536;

/// Slots that the node asks for when it may: more than the 110 pods that Kubernetes puts on a node by default, so
/// that a range rests before it is used again.
pub(crate) const WANTED_SLOTS: u32 = 256;

/// Lowest id that is given to the node: above those of people, services and the usual other engines.
const FIRST: u32 = 0x1000_0000;

/// A range of subordinate ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Range {
    /// First id on the node.
    pub(crate) start: u32,
    /// Count of ids.
    pub(crate) count: u32,
}

/// The largest range of `user` (by name or number) in the text of `/etc/subuid` or `/etc/subgid`.
pub(crate) fn largest(text: &str, user: &str, uid: u32) -> Option<Range> {
    let number = uid.to_string();
    lines(text)
        .filter(|(owner, _)| *owner == user || *owner == number)
        .map(|(_, range)| range)
        .max_by_key(|range| range.count)
}

/// A range that overlaps none in `texts`, for as many slots as [`WANTED_SLOTS`] and one for images.
pub(crate) fn free(texts: &[&str]) -> Option<Range> {
    let count = (WANTED_SLOTS + 1) * SLOT_IDS;
    let mut start = FIRST;
    loop {
        let end = start.checked_add(count).filter(|end| *end < 0x7fff_0000)?;
        let taken = texts.iter().flat_map(|text| lines(text)).map(|(_, range)| range);
        let clash = taken
            .filter(|range| range.start < end && start < range.start.saturating_add(range.count))
            .max_by_key(|range| range.start.saturating_add(range.count));
        match clash {
            None => return Some(Range { start, count }),
            Some(range) => start = range.start.saturating_add(range.count),
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = (&str, Range)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().splitn(3, ':');
        let (owner, start, count) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((owner, Range { start, count }))
    })
}

/// How a count of subordinate ids is used. In the node's user namespace the agent's user is 0 and the range follows
/// at 1; the first slot there belongs to the files of images, the others to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    slots: u32,
    ids: u32,
}

impl Layout {
    /// Cuts `count` ids. With fewer than two full slots, images and all pods share one range.
    pub(crate) fn new(count: u32) -> Layout {
        let slots = count / SLOT_IDS;
        Layout { slots: slots.max(1), ids: if slots == 0 { count } else { SLOT_IDS } }
    }

    /// Slots that pods can have: 1, 2, …; none if all share slot 0.
    pub(crate) fn pod_slots(self) -> u32 {
        self.slots - 1
    }

    /// First id of a slot in the node's user namespace.
    pub(crate) fn first(self, slot: u32) -> u32 {
        1 + slot * SLOT_IDS
    }

    /// Count of ids of each slot.
    pub(crate) fn ids(self) -> u32 {
        self.ids
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_range_of_a_user_is_taken() {
        let text = "alice:100000:65536\nmartello:300000:100\n993:400000:65536\n# note\n";
        assert_eq!(largest(text, "martello", 993), Some(Range { start: 400_000, count: 65_536 }));
        assert_eq!(largest(text, "bob", 5), None);
    }

    #[test]
    fn few_ids_are_shared() {
        assert_eq!(Layout::new(65_536).pod_slots(), 0);
        assert_eq!((Layout::new(1_000).pod_slots(), Layout::new(1_000).ids()), (0, 1_000));
        assert_eq!(Layout::new(3 * 65_536).pod_slots(), 2);
        assert_eq!(Layout::new(3 * 65_536).first(2), 131_073);
    }

    proptest! {
        #[test]
        fn a_free_range_overlaps_no_other(ranges in proptest::collection::vec((0_u32..0x4000_0000, 1_u32..0x0200_0000), 0..20)) {
            let text: String = ranges.iter().map(|(start, count)| format!("x:{start}:{count}\n")).collect();
            if let Some(found) = free(&[&text]) {
                for (start, count) in ranges {
                    prop_assert!(found.start >= start + count || start >= found.start + found.count);
                }
            }
        }
    }
}
