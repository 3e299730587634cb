//! A queue of keys: each is worked on by one worker at a time, added once however often it changes, and
//! tried again after a failure with growing delays.

use std::{
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    fmt::Debug,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::RequestError;

/// First delay after a failure; doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// The longest delay between two tries: a fault that is mended is noticed within this time.
const RETRY_MOST: Duration = Duration::from_secs(60);

/// A de-duplicating work queue with delays. Clones share it.
pub struct Queue<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    waiting: HashSet<T>,
    working: HashSet<T>,
    again: HashSet<T>,
    delayed: BinaryHeap<Delayed<T>>,
    failures: HashMap<T, u32>,
    order: u64,
}

struct Delayed<T> {
    at: Instant,
    order: u64,
    item: T,
}

impl<T> PartialEq for Delayed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && self.order == other.order
    }
}
impl<T> Eq for Delayed<T> {}
impl<T> PartialOrd for Delayed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Delayed<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at).then(other.order.cmp(&self.order))
    }
}

impl<T: Clone + Eq + Hash> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashSet::new(),
            again: HashSet::new(),
            delayed: BinaryHeap::new(),
            failures: HashMap::new(),
            order: 0,
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a look at `item`, as soon as a worker is free.
    pub fn add(&self, item: T) {
        self.state().add(item);
        self.inner.changed.notify_one();
    }

    /// Asks for a look at `item` after `delay`.
    pub fn add_after(&self, item: T, delay: Duration) {
        {
            let mut state = self.state();
            state.order += 1;
            let delayed = Delayed { at: Instant::now() + delay, order: state.order, item };
            state.delayed.push(delayed);
        }
        self.inner.changed.notify_one();
    }

    /// The next item; [`Queue::done`] must follow.
    async fn next(&self) -> T {
        loop {
            let changed = self.inner.changed.notified();
            let next_due = {
                let mut state = self.state();
                state.release_due(Instant::now());
                if let Some(item) = state.ready.pop_front() {
                    state.waiting.remove(&item);
                    state.working.insert(item.clone());
                    if !state.ready.is_empty() {
                        self.inner.changed.notify_one();
                    }
                    return item;
                }
                state.delayed.peek().map(|delayed| delayed.at)
            };
            match next_due {
                Some(at) => tokio::select! { () = changed => {}, () = tokio::time::sleep_until(at) => {} },
                None => changed.await,
            }
        }
    }

    fn done(&self, item: &T, succeeded: bool) {
        let delay = {
            let mut state = self.state();
            state.working.remove(item);
            if state.again.remove(item) {
                state.add(item.clone());
            }
            if succeeded {
                state.failures.remove(item);
                None
            } else {
                let failures = state.failures.entry(item.clone()).or_insert(0);
                let delay = retry_delay(*failures);
                *failures += 1;
                Some(delay)
            }
        };
        match delay {
            Some(delay) => self.add_after(item.clone(), delay),
            None => self.inner.changed.notify_one(),
        }
    }
}

/// The delay before a further try, after so many failures.
fn retry_delay(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MOST)
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, item: T) {
        if self.working.contains(&item) {
            self.again.insert(item);
        } else if self.waiting.insert(item.clone()) {
            self.ready.push_back(item);
        }
    }

    fn release_due(&mut self, now: Instant) {
        while self.delayed.peek().is_some_and(|delayed| delayed.at <= now) {
            if let Some(delayed) = self.delayed.pop() {
                self.add(delayed.item);
            }
        }
    }
}

/// Starts `workers` workers that hand each item of `queue` to `reconcile`, with a clone of `state`; a failure is
/// logged once and tried again.
pub fn work<T, S, F, Fut>(
    tasks: &mut JoinSet<()>,
    controller: &'static str,
    queue: &Queue<T>,
    workers: usize,
    shutdown: &CancellationToken,
    state: S,
    reconcile: F,
) where
    T: Clone + Eq + Hash + Debug + Send + 'static,
    S: Clone + Send + 'static,
    F: Fn(S, T) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), RequestError>> + Send,
{
    for _ in 0..workers {
        let (queue, shutdown) = (queue.clone(), shutdown.clone());
        let (state, reconcile) = (state.clone(), reconcile.clone());
        tasks.spawn(async move {
            while let Some(item) = shutdown.run_until_cancelled(queue.next()).await {
                let result = reconcile(state.clone(), item.clone()).await;
                let done = match &result {
                    Ok(()) => true,
                    Err(error) if error.is_namespace_terminating() => {
                        tracing::debug!(controller, ?item, error = %Chain(error), "left alone");
                        true
                    }
                    Err(error) if error.is_stale() => {
                        tracing::debug!(controller, ?item, error = %Chain(error), "again");
                        false
                    }
                    Err(error) => {
                        tracing::warn!(controller, ?item, error = %Chain(error), "failed, will try again");
                        false
                    }
                };
                queue.done(&item, done);
            }
        });
    }
}

/// An error with all its causes, in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_item_added_twice_is_handed_out_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.next().await, "b");
        assert!(queue.state().ready.is_empty());
    }

    #[tokio::test]
    async fn an_item_that_changes_while_worked_on_comes_again_after_it_is_done() {
        let queue = Queue::new();
        queue.add(1);
        let item = queue.next().await;
        queue.add(1);
        assert!(queue.state().ready.is_empty(), "two workers would have had it at once");
        queue.done(&item, true);
        assert_eq!(queue.next().await, 1);
    }

    #[test]
    fn failures_are_tried_again_with_growing_delays() {
        let delays: Vec<Duration> = (0..40).map(retry_delay).collect();
        assert_eq!(delays[0], RETRY_FIRST);
        assert!(delays.is_sorted() && delays[39] == RETRY_MOST, "{delays:?}");
    }

    #[tokio::test]
    async fn an_item_that_failed_comes_again() {
        let queue = Queue::new();
        queue.add(1);
        let item = queue.next().await;
        queue.done(&item, false);
        assert_eq!(queue.next().await, 1);
    }
}
