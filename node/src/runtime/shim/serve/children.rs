//! What the shim does for its containers: collects their output and their ends.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use martello_api::clock;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::{Awaits, Shim};
use crate::runtime::shim::complain;
use crate::runtime::shim::cri_log::Stream;
use crate::runtime::shim::protocol::Response;
use crate::runtime::spec::Exit;

/// Bytes read from a stream before others get their turn.
const CHUNK: usize = 64 * 1024;

/// Rounds of reading from a stream whose process has ended.
const MAX_DRAIN: usize = 1024;

impl Shim {
    pub(super) fn kill_overdue(&mut self) {
        let now = Instant::now();
        for container in self.containers.values_mut() {
            if container.kill_at.is_some_and(|at| at <= now) {
                kill(container.pid, Signal::SIGKILL).ok();
                // Once more in a while, in case the signal was lost on a process that could not die.
                container.kill_at = Some(now + Duration::from_secs(5));
            }
        }
    }

    /// Collects every ended child and draws the consequences.
    pub(super) fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, exit) = match status {
                WaitStatus::Exited(pid, code) => (pid, Exit { code, signal: None, oom_killed: false }),
                WaitStatus::Signaled(pid, signal, _) => {
                    let number = signal as i32;
                    (pid, Exit { code: 128 + number, signal: Some(number), oom_killed: false })
                }
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            self.ended.insert(pid, exit);
        }
        for (pid, exit) in std::mem::take(&mut self.ended) {
            if let Some(number) = self.execs.remove(&pid) {
                self.answer(number, &Response::Exited(exit), &[]);
                self.connections.remove(&number);
                continue;
            }
            let found = self.containers.iter().find(|(_, it)| it.pid == pid && it.is_running());
            if let Some(id) = found.map(|(id, _)| id.clone()) {
                self.container_ended(&id, exit);
            }
        }
    }

    fn container_ended(&mut self, id: &str, exit: Exit) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..MAX_DRAIN {
                if !self.read_some(id, stream) {
                    break;
                }
            }
        }
        let place = self.rooms.containers.join(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.ended(&place, self.groups.as_ref(), exit, clock::now());
        let status = container.status.clone();
        if let Err(error) = self.save() {
            complain(&error);
        }
        self.tell(&status);
        let waiting = self.connections.iter().filter(|(_, it)| matches!(&it.awaits, Awaits::End(end) if end == id));
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.answer(number, &Response::Container(status.clone()), &[]);
            self.connections.remove(&number);
        }
    }

    pub(super) fn copy_output(&mut self, id: &str, stream: Stream) {
        self.read_some(id, stream);
    }

    /// Reads once from a stream into the log; false when there is nothing (more) to read.
    fn read_some(&mut self, id: &str, stream: Stream) -> bool {
        let Some(container) = self.containers.get_mut(id) else { return false };
        let Some(position) = container.outputs.iter().position(|(which, _)| *which == stream) else { return false };
        let mut buffer = [0_u8; CHUNK];
        let result = match container.outputs.get(position) {
            Some((_, fd)) => fd.try_clone().and_then(|fd| std::fs::File::from(fd).read(&mut buffer)),
            None => return false,
        };
        match result {
            Ok(count) if count > 0 => {
                let bytes = buffer.get(..count).unwrap_or_default();
                // A full disk must not stop the container; what can't be logged is lost, as upstream has it.
                drop(container.log.write(stream, bytes, clock::now()));
                container.followers.retain(|(which, fd)| *which != stream || forward(fd, bytes));
                true
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => false,
            _ => {
                container.outputs.remove(position);
                false
            }
        }
    }
}

/// Passes output on to one who follows; one who does not read loses it, and one who has gone is forgotten.
fn forward(fd: &OwnedFd, bytes: &[u8]) -> bool {
    match fd.try_clone().and_then(|fd| std::fs::File::from(fd).write_all(bytes)) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
