//! Who waits until a record has got somewhere: each is woken once, when it has, and by nothing else.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How far a record is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It survives the process.
    Written,
    /// It survives a power failure.
    Synced,
}

/// Those who wait, by the number of their record.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    written: Queue,
    synced: Queue,
    /// Tells apart those who wait for the same record.
    last: u64,
}

type Queue = BTreeMap<(u64, u64), oneshot::Sender<()>>;

impl Queues {
    fn of(&mut self, reach: Reach) -> &mut Queue {
        match reach {
            Reach::Written => &mut self.written,
            Reach::Synced => &mut self.synced,
        }
    }
}

impl Waiters {
    /// Joins those who wait, unless `settled` already has an answer. It is asked with the queue locked: what is reached
    /// after that wakes the one who joined.
    pub(crate) fn join<T>(
        &self,
        reach: Reach,
        number: u64,
        settled: impl FnOnce() -> Option<T>,
    ) -> Result<oneshot::Receiver<()>, T> {
        let mut queues = self.queues.lock();
        if let Some(answer) = settled() {
            return Err(answer);
        }
        let (wake, woken) = oneshot::channel();
        queues.last += 1;
        let key = (number, queues.last);
        queues.of(reach).insert(key, wake);
        Ok(woken)
    }

    /// Wakes all whose record has got there.
    pub(crate) fn reached(&self, reach: Reach, number: u64) {
        let woken = {
            let mut queues = self.queues.lock();
            let queue = queues.of(reach);
            let later = queue.split_off(&(number.saturating_add(1), 0));
            std::mem::replace(queue, later)
        };
        for wake in woken.into_values() {
            // Who does not wait any more need not know.
            wake.send(()).unwrap_or_default();
        }
    }

    /// Turns all away: their channels end without a word.
    pub(crate) fn give_up(&self) {
        let turned_away = {
            let mut queues = self.queues.lock();
            (std::mem::take(&mut queues.written), std::mem::take(&mut queues.synced))
        };
        drop(turned_away);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(waiters: &Waiters, reach: Reach, number: u64) -> oneshot::Receiver<()> {
        waiters.join::<()>(reach, number, || None).unwrap()
    }

    #[test]
    fn each_is_woken_when_its_own_record_is_there() {
        let waiters = Waiters::default();
        let (mut first, mut twin) = (join(&waiters, Reach::Written, 1), join(&waiters, Reach::Written, 1));
        let (mut second, mut synced) = (join(&waiters, Reach::Written, 2), join(&waiters, Reach::Synced, 1));
        waiters.reached(Reach::Written, 1);
        assert!(first.try_recv().is_ok() && twin.try_recv().is_ok());
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(synced.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        waiters.give_up();
        assert_eq!(second.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(synced.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn who_need_not_wait_does_not() {
        assert_eq!(Waiters::default().join(Reach::Synced, 7, || Some("there")).unwrap_err(), "there");
    }
}
