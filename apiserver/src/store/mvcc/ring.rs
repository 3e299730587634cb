//! The last events of one resource, bounded in number and size.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::object::Event;

/// How much of a resource's history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Events per resource. A watcher that falls further behind has to list again.
    pub events: usize,
    /// Bytes of objects per resource, for resources with large objects.
    pub size_bytes: usize,
}

impl Default for Window {
    /// Ten minutes of the leases of 250 nodes; 64 MiB is 16,000 objects of 4 KiB.
    fn default() -> Self {
        Self { events: 16_384, size_bytes: 64 * 1024 * 1024 }
    }
}

#[derive(Debug)]
pub(super) struct Ring {
    window: Window,
    events: VecDeque<Arc<Event>>,
    size_bytes: usize,
    /// Every event after this revision is here.
    forgotten: u64,
}

impl Ring {
    pub(super) fn new(window: Window, forgotten: u64) -> Self {
        Self { window, events: VecDeque::new(), size_bytes: 0, forgotten }
    }

    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.size_bytes += event.entry.bytes().len();
        self.events.push_back(event);
        while self.events.len() > self.window.events || self.size_bytes > self.window.size_bytes {
            self.pop();
        }
    }

    /// Drops the events up to `revision`.
    pub(super) fn forget(&mut self, revision: u64) {
        while self.events.front().is_some_and(|event| event.revision <= revision) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.size_bytes -= event.entry.bytes().len();
            self.forgotten = event.revision;
        }
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(super) fn after(&self, revision: u64) -> impl Iterator<Item = &Arc<Event>> {
        let start = self.events.partition_point(|event| event.revision <= revision);
        self.events.range(start..)
    }
}
