//! A change on its way into the store, and what was begun for it.

use serde_json::Value;

/// What a change is made of, for hooks that keep something beside the object.
pub struct Change<'a> {
    /// The object as it is about to be stored; hooks may fill it in.
    pub object: &'a mut Value,
    /// The object as it was; none when it is made.
    pub old: Option<&'a Value>,
    /// Nothing may be kept.
    pub dry_run: bool,
}

/// What [`begin`](super::Strategy::begin) did. It is undone, however the write ends, unless [`Begun::stays`] says that it
/// was stored.
#[derive(Default)]
#[must_use]
pub struct Begun(Option<Box<dyn FnOnce() + Send>>);

impl Begun {
    /// Something that `undo` takes back.
    pub fn undone_by(undo: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }

    /// The object is stored.
    pub fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn what_was_begun_is_undone_unless_it_stays() {
        let begun = || {
            let undone = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&undone);
            (Begun::undone_by(move || seen.store(true, Ordering::Relaxed)), undone)
        };
        let (left, undone) = begun();
        drop(left);
        assert!(undone.load(Ordering::Relaxed));
        let (kept, undone) = begun();
        kept.stays();
        assert!(!undone.load(Ordering::Relaxed));
    }
}
