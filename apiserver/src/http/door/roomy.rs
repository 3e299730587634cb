//! Work that may take long on the processor: what others asked for goes on beside it, on other threads.

use std::{
    cell::Cell,
    num::NonZero,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
    thread,
};

use futures::future::BoxFuture;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task::block_in_place,
};
use tokio_util::sync::PollSemaphore;

/// Turns on the processor for such work, in the whole process: half of the processors, so that the other half is for what is
/// done soon, whoever sends how much of the other.
static TURNS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new((thread::available_parallelism().map_or(1, NonZero::get) / 2).max(1))));

thread_local! {
    /// Whether what this thread does just now has a turn.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// Work that takes a turn each time it goes on, and the thread that it is on with it: the other tasks of that thread go on
/// elsewhere. While it waits for something it takes neither. Such work within such work goes on in the turn of the outer: one
/// of its own it would wait for in vain where there is but one.
pub(super) struct Roomy<T> {
    work: BoxFuture<'static, T>,
    turns: PollSemaphore,
}

impl<T> Roomy<T> {
    pub(super) fn new(work: BoxFuture<'static, T>) -> Self {
        Self { work, turns: PollSemaphore::new(Arc::clone(&TURNS)) }
    }
}

impl<T> Future for Roomy<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if HAS_TURN.get() {
            return this.work.as_mut().poll(cx);
        }
        // It is never closed, and there would be no turns to wait for if it were.
        let _turn = ready!(this.turns.poll_acquire(cx));
        let mut go_on = || {
            let _end = HasTurn::begin();
            this.work.as_mut().poll(cx)
        };
        if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread { block_in_place(go_on) } else { go_on() }
    }
}

/// As long as this is there, what this thread does has a turn.
struct HasTurn;

impl HasTurn {
    fn begin() -> Self {
        HAS_TURN.set(true);
        Self
    }
}

impl Drop for HasTurn {
    fn drop(&mut self) {
        HAS_TURN.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_beside_work_that_keeps_its_thread() {
        let (began, begun) = oneshot::channel();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let long = tokio::spawn(Roomy::new(Box::pin(async move {
            began.send(()).unwrap();
            while !seen.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            tokio::task::yield_now().await;
            7
        })));
        begun.await.unwrap();
        // The runtime has one thread, and that is taken.
        tokio::spawn(async move { over.store(true, Ordering::Relaxed) }).await.unwrap();
        assert_eq!(long.await.unwrap(), 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_within_work_waits_for_no_turn_of_its_own() {
        let all = TURNS.available_permits();
        let deep = |depth: usize| {
            let innermost: BoxFuture<'static, usize> = Box::pin(async {
                tokio::task::yield_now().await;
                1
            });
            (1..depth)
                .fold(innermost, |work, _| Box::pin(Roomy::new(Box::pin(async move { Roomy::new(work).await + 1 }))))
        };
        let done = tokio::time::timeout(std::time::Duration::from_secs(60), tokio::spawn(deep(all + 2))).await;
        assert_eq!(done.expect("it waits for itself").unwrap(), all + 2);
    }

    #[tokio::test]
    async fn where_there_is_one_thread_it_is_done_all_the_same() {
        assert_eq!(Roomy::new(Box::pin(async { 7 })).await, 7);
    }
}
