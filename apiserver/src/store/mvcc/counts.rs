//! How many objects follow a place, without a look at each: they are counted in stretches.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::super::object::Entry;

/// Most objects of a stretch, which is what counting looks at one by one. A hundred thousand objects are a few hundred
/// stretches.
const STRETCH: usize = 512;

/// Objects by path.
pub(super) type Objects = BTreeMap<Arc<str>, Arc<Entry>>;

/// How many objects there are in each stretch of paths, which goes from its own path to that of the next.
#[derive(Debug)]
pub(super) struct Counts(BTreeMap<Arc<str>, usize>);

impl Counts {
    /// Of no objects.
    pub(super) fn new() -> Self {
        Self(BTreeMap::from([("".into(), 0)]))
    }

    /// Notes that there is an object at `path` now, which is among `objects`.
    pub(super) fn added(&mut self, path: &str, objects: &Objects) {
        let Some((begin, count)) = self.0.range_mut::<str, _>((Bound::Unbounded, Bound::Included(path))).next_back()
        else {
            return;
        };
        *count += 1;
        if *count <= STRETCH {
            return;
        }
        let middle = objects
            .range::<str, _>((Bound::Included(&**begin), Bound::Unbounded))
            .nth(STRETCH / 2)
            .map(|(path, _)| Arc::clone(path));
        if let Some(middle) = middle {
            let behind = *count - STRETCH / 2;
            *count = STRETCH / 2;
            self.0.insert(middle, behind);
        }
    }

    /// Notes that there is no object at `path` any more.
    pub(super) fn removed(&mut self, path: &str) {
        let Some((begin, count)) = self.0.range_mut::<str, _>((Bound::Unbounded, Bound::Included(path))).next_back()
        else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 && !begin.is_empty() {
            let begin = Arc::clone(begin);
            self.0.remove(&begin);
        }
    }

    /// How many of `objects` there are from `start` on and before `end`, or to the last.
    pub(super) fn between(&self, objects: &Objects, start: Bound<&str>, end: Option<&str>) -> usize {
        let behind = end.map_or(0, |end| self.from(objects, Bound::Included(end)));
        self.from(objects, start).saturating_sub(behind)
    }

    fn from(&self, objects: &Objects, start: Bound<&str>) -> usize {
        let (Bound::Included(path) | Bound::Excluded(path)) = start else { return self.0.values().sum() };
        let mut later = self.0.range::<str, _>((Bound::Excluded(path), Bound::Unbounded));
        let Some((next, count)) = later.next() else {
            return objects.range::<str, _>((start, Bound::Unbounded)).count();
        };
        let here = objects.range::<str, _>((start, Bound::Excluded(&**next))).count();
        here + count + later.map(|(_, count)| count).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::key::{Key, Resource};
    use super::super::super::object::{Body, Object, Pairs};
    use super::*;

    fn entry(path: &str) -> Arc<Entry> {
        let body = Body::Sealed(bytes::Bytes::new());
        let object = Object { uid: "u".into(), labels: Pairs::default(), fields: Pairs::default(), body };
        Arc::new(Entry::new(Key::from_path(Resource::new("", "pods"), path.into()), &object, 1, 1))
    }

    proptest! {
        #[test]
        fn what_is_counted_in_stretches_is_what_is_there(
            steps in proptest::collection::vec((0_u16..3000, any::<bool>()), 0..6000), start in 0_u16..3100, end in 0_u16..3100,
        ) {
            let (mut objects, mut counts) = (Objects::new(), Counts::new());
            for (number, stays) in steps {
                let path = format!("{number:04}");
                if stays || number % 3 > 0 {
                    if objects.insert(path.as_str().into(), entry(&path)).is_none() {
                        counts.added(&path, &objects);
                    }
                } else if objects.remove(path.as_str()).is_some() {
                    counts.removed(&path);
                }
            }
            prop_assert!(counts.0.values().all(|count| *count <= STRETCH));
            let (start, end) = (format!("{start:04}"), format!("{end:04}"));
            for bound in [Bound::Included(start.as_str()), Bound::Excluded(start.as_str()), Bound::Unbounded] {
                for end in [Some(end.as_str()), None] {
                    let is_in = |path: &str| {
                        end.is_none_or(|end| path < end) && match bound {
                            Bound::Included(start) => path >= start,
                            Bound::Excluded(start) => path > start,
                            Bound::Unbounded => true,
                        }
                    };
                    let wanted = objects.keys().filter(|path| is_in(path)).count();
                    prop_assert_eq!(counts.between(&objects, bound, end), wanted);
                }
            }
        }
    }
}
