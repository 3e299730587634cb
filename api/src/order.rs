//! The order of changes that are told beside the store: who commits first may be the second to tell it.
//!
//! Whoever stores an object tells those who work by it afterwards. Between the two a watcher may have seen the object, changed
//! it and told that change: what is told late must not take the place of what came after it.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// So many objects that went are remembered, that late word of them changes nothing. It is late by milliseconds.
const MOST_GONE: usize = 4096;

/// At which revision each object is known. It is asked under the lock under which the change is made.
#[derive(Debug)]
pub struct Order<K> {
    told: HashMap<K, u64>,
    gone: VecDeque<(K, u64)>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { told: HashMap::new(), gone: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash> Order<K> {
    /// Whether a change of this object, or its end, that was committed at this revision is news.
    pub fn admits(&mut self, object: K, ends: bool, revision: u64) -> bool {
        if self.told.get(&object).is_some_and(|told| *told >= revision) {
            return false;
        }
        self.told.insert(object.clone(), revision);
        if ends {
            self.gone.push_back((object, revision));
        }
        if self.gone.len() > MOST_GONE
            && let Some((oldest, revision)) = self.gone.pop_front()
            && self.told.get(&oldest) == Some(&revision)
        {
            self.told.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_late_changes_nothing() {
        let mut order = Order::default();
        assert!(order.admits("a", false, 7));
        assert!(!order.admits("a", false, 5), "an earlier change");
        assert!(!order.admits("a", true, 6), "the end of one of the same name before it");
        assert!(order.admits("b", false, 2), "another object");
        assert!(order.admits("a", true, 12));
        assert!(!order.admits("a", false, 9), "it is gone");
        assert!(order.admits("a", false, 13), "a new one of the same name");
    }

    #[test]
    fn an_object_that_came_again_is_remembered_whatever_became_of_the_one_before() {
        let mut order = Order::default();
        assert!(order.admits(0, true, 1) && order.admits(0, false, 20_000));
        for number in 1..=MOST_GONE as u64 {
            order.admits(number, true, number + 1);
        }
        assert!(!order.admits(0, false, 15_000), "older than what was told of the new one");
    }

    #[test]
    fn what_is_remembered_of_the_gone_is_bounded() {
        let mut order = Order::default();
        for number in 0..MOST_GONE as u64 + 10 {
            assert!(order.admits(number, true, number + 1));
        }
        assert_eq!((order.told.len(), order.gone.len()), (MOST_GONE, MOST_GONE));
    }
}
