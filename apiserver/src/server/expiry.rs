//! Removes events that have lasted long enough. As upstream, whose etcd ends the lease that each write gives: nobody asks for
//! it, so there is no admission and no audit record; watchers see a deletion.

use std::{sync::Arc, time::Duration};

use martello_api::clock;

use super::Core;
use crate::{
    registry::events::lifetime::Lifetimes,
    store::{ListAt, Op, Page, Resource, Scope, StoreError},
};

/// Most events that are removed at once; other writes come between.
const BATCH: usize = 256;
/// Pause after a removal, so that events that end one after the other are removed together.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for an end: the clock may be set while it is waited.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Removes each event `ttl` after it was last written, until the server drains.
pub(super) async fn end_events(core: Arc<Core>, ttl: Duration) {
    let work = async {
        loop {
            match run(&core, ttl).await {
                // More happened than the store remembers: it is looked again.
                Err(StoreError::Compacted { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "events that have ended are not removed");
                    tokio::time::sleep(RETRY).await;
                }
                Ok(never) => match never {},
            }
        }
    };
    core.drain.run_until_cancelled(work).await;
}

async fn run(core: &Core, ttl: Duration) -> Result<std::convert::Infallible, StoreError> {
    let scope = Scope::all(&Resource::new("", "events"));
    let mut lifetimes = Lifetimes::new(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    let listed = core.store.list(&scope, ListAt::Latest, Page::default()).await?;
    listed.items.iter().for_each(|entry| lifetimes.note(entry, clock::now()));
    let mut watch = core.store.watch(&scope, listed.revision).await?;
    loop {
        lifetimes.heed(clock::now());
        tokio::select! {
            batch = watch.next() => {
                let batch = batch?;
                batch.events.iter().for_each(|change| lifetimes.follow(change, clock::now()));
            }
            () = until_next(&lifetimes) => {
                remove(core, lifetimes.ended(clock::now(), BATCH)).await?;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn until_next(lifetimes: &Lifetimes) {
    match lifetimes.next_end() {
        Some(end) => {
            let left = Duration::try_from(end.duration_since(clock::now())).unwrap_or_default();
            tokio::time::sleep(left.min(LONGEST_WAIT)).await;
        }
        None => std::future::pending().await,
    }
}

/// Removes events, but for those that were written again or are gone: the watch tells of them in a moment.
async fn remove(core: &Core, mut ended: Vec<Op>) -> Result<(), StoreError> {
    while !ended.is_empty() {
        match core.store.commit(ended.clone()).await {
            Err(StoreError::Conflict { index, .. }) => drop(ended.remove(index)),
            Err(error) => return Err(error),
            Ok(_) => {
                tracing::debug!(events = ended.len(), "removed events that have ended");
                ended.iter().for_each(|op| core.quotas.wrote(op.key()));
                return Ok(());
            }
        }
    }
    Ok(())
}
