//! Group commit: the commands that come in while an entry is on its way to disk make up the next entry.
//!
//! openraft waits for the disk with every entry, so entries, not commands, are what a sync costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::super::command::Command;
use super::super::shared::{self, Shared};
use super::super::{Committed, StoreError};
use super::types::{Commands, Member, Types};

/// Commands in one entry: what a disk that takes a long time to sync should cost in memory and delay.
const ENTRY_COMMANDS: usize = 512;

/// An entry that has so many bytes takes no further command, for the same reason.
const ENTRY_BYTES: usize = 4 * 1024 * 1024;

/// Commands that wait. Whoever comes when so many wait, waits to wait.
const WAITING_COMMANDS: usize = 4096;

/// Takes commands. Clones share the queue.
#[derive(Clone)]
pub(super) struct Batcher {
    queue: mpsc::Sender<Request>,
}

struct Request {
    command: Command,
    answer: oneshot::Sender<Result<Committed, StoreError>>,
}

/// When to save the state: once the log since the last time is this large, and as large as the state.
pub(super) struct SaveWhen {
    pub(super) log_bytes: Arc<AtomicU64>,
    pub(super) at_least: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) saving: Arc<AtomicBool>,
}

impl Batcher {
    /// Starts the task that feeds `raft`. It ends with the last clone.
    pub(super) fn start(raft: openraft::Raft<Types>, save: SaveWhen) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, requests) = mpsc::channel(WAITING_COMMANDS);
        let task = tokio::spawn(feed(requests, raft, save));
        (Self { queue }, task)
    }

    /// Proposes `command` and waits until it is durable and applied.
    pub(super) async fn propose(&self, command: Command) -> Result<Committed, StoreError> {
        let (answer, outcome) = oneshot::channel();
        let closed = || StoreError::Unavailable { reason: "it is being closed".to_owned() };
        self.queue.send(Request { command, answer }).await.map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }
}

async fn feed(mut requests: mpsc::Receiver<Request>, raft: openraft::Raft<Types>, save: SaveWhen) {
    while let Some(first) = requests.recv().await {
        let mut size_bytes = first.command.size_bytes();
        let (mut commands, mut answers) = (vec![first.command], vec![first.answer]);
        // Those who were just answered get the chance to ask again.
        tokio::task::yield_now().await;
        while commands.len() < ENTRY_COMMANDS && size_bytes < ENTRY_BYTES {
            let Ok(next) = requests.try_recv() else { break };
            size_bytes += next.command.size_bytes();
            commands.push(next.command);
            answers.push(next.answer);
        }
        match raft.client_write(Commands(commands.into())).await {
            Ok(written) => {
                for (answer, outcome) in answers.into_iter().zip(written.data.of) {
                    // A writer that stopped waiting doesn't need the answer.
                    drop(answer.send(shared::committed(outcome)));
                }
            }
            Err(error) => {
                let reason = reason(&error);
                for answer in answers {
                    drop(answer.send(Err(StoreError::Unavailable { reason: reason.clone() })));
                }
            }
        }
        save_if_due(&raft, &save);
    }
}

fn reason(error: &RaftError<u64, ClientWriteError<u64, Member>>) -> String {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => match forward.leader_id {
            Some(leader) => format!("member {leader} leads the group"),
            None => "the group has no leader now".to_owned(),
        },
        other => other.to_string(),
    }
}

fn save_if_due(raft: &openraft::Raft<Types>, save: &SaveWhen) {
    let log_bytes = save.log_bytes.load(Ordering::Relaxed);
    if log_bytes < save.at_least || log_bytes < save.shared.read(|state| state.size_bytes()) as u64 {
        return;
    }
    if save.saving.swap(true, Ordering::AcqRel) {
        return;
    }
    let (raft, saving) = (raft.clone(), Arc::clone(&save.saving));
    tokio::spawn(async move {
        if let Err(error) = super::save(&raft).await {
            tracing::warn!(%error, "the store's state was not saved; its log keeps growing");
        }
        saving.store(false, Ordering::Release);
    });
}
