//! The objects of one resource and what happened to them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::super::Page;
use super::super::key::Scope;
use super::super::object::Entry;
use super::ring::{Ring, Window};

/// The objects by path, as they are now, and the events that led there.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) objects: BTreeMap<Arc<str>, Arc<Entry>>,
    pub(super) ring: Ring,
}

impl Collection {
    pub(super) fn new(window: Window, forgotten: u64) -> Self {
        Self { objects: BTreeMap::new(), ring: Ring::new(window, forgotten) }
    }

    /// The objects of `scope` on `page` as they were at `revision`, and how many follow.
    pub(super) fn list(&self, scope: &Scope, revision: u64, page: &Page) -> (Vec<Arc<Entry>>, usize) {
        let start = match &page.after {
            Some(after) if &**after >= scope.first_path() => Bound::Excluded(&**after),
            _ => Bound::Included(scope.first_path()),
        };
        let limit = page.limit.filter(|&limit| limit > 0).unwrap_or(usize::MAX);
        let undone = self.undone(scope, revision, start);
        let present = self
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(path, _)| scope.holds(path))
            .map(|(path, entry)| (&**path, Some(entry)));
        if undone.is_empty() {
            let mut present = present.filter_map(|(_, entry)| entry);
            let items: Vec<_> = present.by_ref().take(limit).cloned().collect();
            let whole = scope.is_all() && page.after.is_none();
            let remaining = if whole { self.objects.len() - items.len() } else { present.count() };
            return (items, remaining);
        }
        let mut merged = Merge { present: present.peekable(), undone: undone.into_iter().peekable() }.flatten();
        let items: Vec<_> = merged.by_ref().take(limit).cloned().collect();
        (items, merged.count())
    }

    /// How the objects that changed after `revision` were at `revision`: what the first event on each says.
    fn undone(&self, scope: &Scope, revision: u64, start: Bound<&str>) -> BTreeMap<&str, Option<&Arc<Entry>>> {
        let mut undone = BTreeMap::new();
        for event in self.ring.after(revision) {
            let path = &**event.entry.key.path();
            let after_start = match start {
                Bound::Excluded(start) => path > start,
                Bound::Included(start) => path >= start,
                Bound::Unbounded => true,
            };
            if after_start && scope.holds(path) {
                undone.entry(path).or_insert(event.previous.as_ref());
            }
        }
        undone
    }
}

/// Two sequences in the order of paths; where both have a path, the second counts.
struct Merge<P: Iterator, U: Iterator> {
    present: std::iter::Peekable<P>,
    undone: std::iter::Peekable<U>,
}

impl<'a, P, U> Iterator for Merge<P, U>
where
    P: Iterator<Item = (&'a str, Option<&'a Arc<Entry>>)>,
    U: Iterator<Item = (&'a str, Option<&'a Arc<Entry>>)>,
{
    type Item = Option<&'a Arc<Entry>>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.present.peek(), self.undone.peek()) {
            (Some((present, _)), Some((undone, _))) => present.cmp(undone),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        if order.is_le() {
            let (_, present) = self.present.next()?;
            if order.is_lt() {
                return Some(present);
            }
        }
        self.undone.next().map(|(_, before)| before)
    }
}
