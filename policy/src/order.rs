//! The order of changes: who commits first may be the second to tell it.
//!
//! Whoever stores an object tells the authorizer afterwards. Between the two a watcher may have seen the object, changed it and
//! told that change: a pod that its creator tells late would be on no node again, and a right that was taken away would be back.

use std::collections::{HashMap, VecDeque};

use crate::{
    change::Change,
    rbac::{BindingKey, RoleKey},
};

/// So many objects that went are remembered, that late word of them changes nothing. It is late by milliseconds.
const MOST_GONE: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Role(RoleKey),
    Binding(BindingKey),
    Pod(String, String),
}

/// At which revision each object is known.
#[derive(Debug, Default)]
pub(crate) struct Order {
    told: HashMap<Place, u64>,
    gone: VecDeque<(Place, u64)>,
}

impl Order {
    /// Whether a change that was committed at this revision is news.
    pub(crate) fn admits(&mut self, change: &Change, revision: u64) -> bool {
        let (place, goes) = place(change);
        if self.told.get(&place).is_some_and(|told| *told >= revision) {
            return false;
        }
        self.told.insert(place.clone(), revision);
        if goes {
            self.gone.push_back((place, revision));
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

/// What a change is of, and whether that goes.
fn place(change: &Change) -> (Place, bool) {
    match change {
        Change::SetRole(key, _) => (Place::Role(key.clone()), false),
        Change::RemoveRole(key) => (Place::Role(key.clone()), true),
        Change::SetBinding(key, _) => (Place::Binding(key.clone()), false),
        Change::RemoveBinding(key) => (Place::Binding(key.clone()), true),
        Change::SetPod(pod) => {
            let (namespace, name) = pod.place();
            (Place::Pod(namespace.to_owned(), name.to_owned()), false)
        }
        Change::RemovePod { namespace, name } => (Place::Pod(namespace.clone(), name.clone()), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Change {
        Change::SetRole(RoleKey::Cluster(name.to_owned()), Vec::new())
    }

    fn remove(name: &str) -> Change {
        Change::RemoveRole(RoleKey::Cluster(name.to_owned()))
    }

    #[test]
    fn what_is_told_late_changes_nothing() {
        let mut order = Order::default();
        assert!(order.admits(&set("a"), 7));
        assert!(!order.admits(&set("a"), 5), "an earlier change");
        assert!(!order.admits(&remove("a"), 6), "the end of one of the same name before it");
        assert!(order.admits(&set("b"), 2), "another object");
        assert!(order.admits(&remove("a"), 12));
        assert!(!order.admits(&set("a"), 9), "it is gone");
        assert!(order.admits(&set("a"), 13), "a new one of the same name");
    }

    #[test]
    fn what_is_remembered_of_the_gone_is_bounded() {
        let mut order = Order::default();
        for number in 0..MOST_GONE as u64 + 10 {
            assert!(order.admits(&remove(&number.to_string()), number + 1));
        }
        assert_eq!((order.told.len(), order.gone.len()), (MOST_GONE, MOST_GONE));
    }
}
