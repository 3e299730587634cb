//! Which processes are a node's, by the ids of their users: what is written down of a process is believed only of those.

use std::fs;
use std::path::Path;

use nix::unistd::{Uid, User};

use super::ids::{self, Layout, Range};
use crate::keeper::anchor::{Anchor, start_time};
use crate::sys::Process;

/// The ids of users on this machine that belong to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owners {
    /// The agent's own.
    agent: u32,
    /// Those of its pods; none if the machine grants none any more.
    pods: Option<Range>,
    layout: Layout,
}

impl Owners {
    /// Those of the node with this state directory, which belongs to its agent.
    pub(super) fn of(state_dir: &Path) -> Self {
        let agent = fs::metadata(state_dir)
            .map_or(Uid::effective().as_raw(), |data| std::os::unix::fs::MetadataExt::uid(&data));
        let name = User::from_uid(Uid::from_raw(agent)).ok().flatten().map_or_else(|| agent.to_string(), |it| it.name);
        let range = |file: &str| ids::largest(&fs::read_to_string(file).unwrap_or_default(), &name, agent);
        Self::new(agent, range("/etc/subuid"), range("/etc/subgid"))
    }

    fn new(agent: u32, uids: Option<Range>, gids: Option<Range>) -> Self {
        let count = |range: Option<Range>| range.map_or(0, |range| range.count);
        Self { agent, pods: uids, layout: Layout::new(count(uids).min(count(gids))) }
    }

    /// All of the node's.
    pub(super) fn all(&self) -> Vec<Range> {
        let agent = Range { start: self.agent, count: 1 };
        std::iter::once(agent).chain(self.pods).collect()
    }

    /// Those of the pods of one slot; of all pods if it isn't known.
    pub(super) fn of_slot(&self, slot: Option<u32>) -> Vec<Range> {
        let one = |pods: Range| match slot {
            // In the node's user namespace the agent is 0 and its range begins at 1.
            Some(slot) => Range { start: pods.start + (self.layout.first(slot) - 1), count: self.layout.ids() },
            None => pods,
        };
        self.pods.map(one).into_iter().collect()
    }
}

/// Kills a process if it's still the recorded one and its users are of these; says whether it did.
pub(super) fn kill_of(process: Anchor, users: &[Range]) -> bool {
    // From here on no other process can get the signal, whatever becomes of the number.
    let Ok(handle) = Process::open(process.pid) else { return false };
    let is_theirs = start_time(process.pid) == Some(process.started) && runs_as(process.pid, users);
    is_theirs && handle.kill().is_ok()
}

/// Whether all four users of a process (real, effective, saved, of files) are of these.
fn runs_as(pid: i32, users: &[Range]) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("Uid:")) else { return false };
    let mut own = line.split_whitespace().map(str::parse::<u32>).peekable();
    let within = |uid: u32| users.iter().any(|range| uid >= range.start && uid - range.start < range.count);
    own.peek().is_some() && own.all(|uid| uid.is_ok_and(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_ids_of_its_own() {
        let range = Range { start: 300_000, count: 4 * ids::SLOT_IDS };
        let owners = Owners::new(993, Some(range), Some(range));
        assert_eq!(owners.all(), [Range { start: 993, count: 1 }, range]);
        assert_eq!(owners.of_slot(Some(0)), [Range { start: 300_000, count: ids::SLOT_IDS }]);
        assert_eq!(owners.of_slot(Some(2)), [Range { start: 300_000 + 2 * ids::SLOT_IDS, count: ids::SLOT_IDS }]);
        assert_eq!(owners.of_slot(None), [range]);
        assert!(Owners::new(993, None, None).of_slot(Some(1)).is_empty());
    }
}
