//! Changes that are stored but perhaps not yet known to the authorizer.
//!
//! Watchers hear of a change the moment it is stored, and the authorizer a moment later. A node that has just been told of
//! its pod may ask for the pod's Secret in between; it is not denied before what is under way has settled.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// No denial waits longer: a change that takes longer than this has trouble with its disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The changes that are under way.
#[derive(Debug, Default)]
pub struct Unsettled {
    running: Mutex<Running>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    numbers: BTreeSet<u64>,
}

/// A change that is under way until this is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<Unsettled>, u64);

impl Unsettled {
    /// A change begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let mut running = self.running.lock();
        let number = running.next;
        running.next += 1;
        running.numbers.insert(number);
        UnderWay(Arc::clone(self), number)
    }

    /// Waits until every change that has begun by now has ended; later ones don't matter. Gives up after `PATIENCE`.
    /// Says whether there was anything to wait for.
    pub async fn settled(&self) -> bool {
        let until = self.running.lock().next;
        let under_way = || self.running.lock().numbers.first().is_some_and(|number| *number < until);
        if !under_way() {
            return false;
        }
        let wait = async {
            loop {
                let ended = self.ended.notified();
                if !under_way() {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            tracing::debug!("a denial did not wait any longer for changes that are under way");
        }
        true
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.running.lock().numbers.remove(&self.1);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, poll};

    use super::*;

    #[tokio::test]
    async fn a_denial_waits_for_what_began_before_it_and_for_nothing_else() {
        let unsettled = Arc::new(Unsettled::default());
        assert!(!unsettled.settled().await);
        let (first, second) = (unsettled.begin(), unsettled.begin());
        let mut waits = Box::pin(unsettled.settled());
        assert!(poll!(&mut waits).is_pending());
        let later = unsettled.begin();
        drop(second);
        assert!(poll!(&mut waits).is_pending());
        drop(first);
        assert_eq!(waits.now_or_never(), Some(true));
        drop(later);
    }
}
