//! Forgets old history as time goes by.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Store;

/// How long history is kept at least: upstream's default, which clients that list in pages count on.
pub const KEEP_HISTORY: Duration = Duration::from_secs(5 * 60);

/// Keeps history for at least `keep`, and while the store is written to for at most twice that, until the future is
/// dropped.
pub async fn keep_history(store: Arc<dyn Store>, keep: Duration) {
    let mut ticks = tokio::time::interval(keep);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut earlier = None;
    loop {
        ticks.tick().await;
        if let Some(revision) = due(&mut earlier, store.status().revision)
            && let Err(error) = store.compact(revision).await
        {
            tracing::warn!(revision, %error, "the store's history was not compacted");
        }
    }
}

/// What to compact to, if anything happened since: the revision of the tick before.
fn due(earlier: &mut Option<u64>, now: u64) -> Option<u64> {
    earlier.replace(now).filter(|&earlier| earlier < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_forgotten_up_to_the_tick_before() {
        let mut earlier = None;
        let due: Vec<_> = [10, 20, 20, 30].map(|now| due(&mut earlier, now)).into();
        assert_eq!(due, [None, Some(10), None, Some(20)]);
    }
}
