//! The objects of one resource and what happened to them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::super::Page;
use super::super::key::Scope;
use super::super::object::Entry;
use super::counts::{Counts, Objects};
use super::ring::{Ring, Window};

/// The objects by path, as they are now, and the events that led there.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) objects: Objects,
    counts: Counts,
    pub(super) ring: Ring,
}

impl Collection {
    pub(super) fn new(window: Window, forgotten: u64) -> Self {
        Self { objects: Objects::new(), counts: Counts::new(), ring: Ring::new(window, forgotten) }
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
        let items: Vec<_> = if undone.is_empty() {
            present.filter_map(|(_, entry)| entry).take(limit).cloned().collect()
        } else {
            let undone = undone.iter().map(|(path, before)| (*path, *before)).peekable();
            Merge { present: present.peekable(), undone }.flatten().take(limit).cloned().collect()
        };
        if items.len() < limit {
            return (items, 0);
        }
        let gone = undone.values().flatten().count();
        let come = undone.keys().filter(|path| self.objects.contains_key(**path)).count();
        let present = self.counts.between(&self.objects, start, scope.end_path().as_deref());
        let remaining = (present + gone).saturating_sub(come + items.len());
        (items, remaining)
    }

    /// Puts an object where it belongs.
    pub(super) fn insert(&mut self, entry: Arc<Entry>) {
        let path = Arc::clone(entry.key.path());
        if self.objects.insert(Arc::clone(&path), entry).is_none() {
            self.counts.added(&path, &self.objects);
        }
    }

    /// Takes the object at `path` out.
    pub(super) fn remove(&mut self, path: &str) -> Option<Arc<Entry>> {
        let gone = self.objects.remove(path)?;
        self.counts.removed(path);
        Some(gone)
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
