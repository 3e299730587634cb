//! Limits: the control groups of a node, a pod and a container, in either version of the kernel's interface.
//!
//! Started as root, the node makes one group per hierarchy and gives it to the agent's user; each pod's group is given
//! to the pod's own root, so that the shim can make its containers' groups below it.

use std::io;
use std::path::{Path, PathBuf};

use super::spec::{Resources, Usage};
use crate::keeper::anchor::start_time;

/// Microseconds over which a processor limit is measured, as in other engines.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// Least processor quota the kernel accepts, in microseconds.
const MIN_QUOTA_MICROS: u64 = 1_000;

/// Where the control groups of this machine are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchies {
    /// One mount per controller (or few controllers).
    V1(Vec<V1Mount>),
    /// One mount for all.
    V2(PathBuf),
}

/// One mount of the first version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct V1Mount {
    path: PathBuf,
    controllers: Vec<String>,
}

/// Names of controllers without which limits are not limits.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

impl Hierarchies {
    /// Reads the machine's mounts.
    pub(crate) fn detect() -> io::Result<Hierarchies> {
        Ok(Hierarchies::parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Hierarchies {
        let mut v1 = Vec::new();
        let mut v2 = PathBuf::from("/sys/fs/cgroup");
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup") => {
                    let options = right.nth(1).unwrap_or_default();
                    let controllers = options.split(',').filter(|option| !matches!(*option, "rw" | "ro"));
                    v1.push(V1Mount { path: point.into(), controllers: controllers.map(str::to_owned).collect() });
                }
                Some("cgroup2") => v2 = point.into(),
                _ => {}
            }
        }
        if v1.iter().any(|mount| mount.controllers.iter().any(|name| NEEDED.contains(&name.as_str()))) {
            Hierarchies::V1(v1)
        } else {
            Hierarchies::V2(v2)
        }
    }

    /// The directories of `group`, one per hierarchy.
    pub(crate) fn directories(&self, group: &str) -> Vec<PathBuf> {
        let group = group.trim_start_matches('/');
        match self {
            Hierarchies::V1(mounts) => mounts.iter().map(|mount| mount.path.join(group)).collect(),
            Hierarchies::V2(root) => vec![root.join(group)],
        }
    }

    /// Makes `group` in every hierarchy and gives it to `owner`, so that it can make groups below and move its own
    /// processes in.
    pub(crate) fn delegate(&self, group: &str, uid: u32, gid: u32) -> io::Result<()> {
        for directory in self.directories(group) {
            std::fs::create_dir_all(&directory)?;
            self.pass_down(&directory)?;
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid))?;
            for file in ["cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control"] {
                match std::os::unix::fs::chown(directory.join(file), Some(uid), Some(gid)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Lets groups below `directory` use its controllers.
    fn pass_down(&self, directory: &Path) -> io::Result<()> {
        match self {
            Hierarchies::V1(_) => {
                if !directory.join("cpuset.cpus").exists() {
                    return Ok(());
                }
                let parent = directory.parent().unwrap_or(directory);
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = std::fs::read_to_string(parent.join(file))?;
                    std::fs::write(directory.join(file), value.trim())?;
                }
                std::fs::write(directory.join("cgroup.clone_children"), "1")
            }
            Hierarchies::V2(root) => {
                let available = std::fs::read_to_string(directory.join("cgroup.controllers"))?;
                let wanted = NEEDED.iter().filter(|name| available.split_whitespace().any(|have| have == **name));
                let wanted: Vec<String> = wanted.map(|name| format!("+{name}")).collect();
                if wanted.is_empty() || directory == root {
                    return Ok(());
                }
                std::fs::write(directory.join("cgroup.subtree_control"), wanted.join(" "))
            }
        }
    }

    /// Deletes `group` and what is below it; groups with processes stay.
    pub(crate) fn remove(&self, group: &str) {
        for directory in self.directories(group) {
            remove_below(&directory);
        }
    }

    /// Makes a container's group below a pod's and writes its limits.
    pub(crate) fn limit(&self, group: &str, resources: &Resources) -> io::Result<()> {
        for directory in self.directories(group) {
            std::fs::create_dir_all(&directory)?;
        }
        match self {
            Hierarchies::V1(_) => self.limit_v1(group, resources),
            Hierarchies::V2(root) => limit_v2(&root.join(group.trim_start_matches('/')), resources),
        }
    }

    fn limit_v1(&self, group: &str, resources: &Resources) -> io::Result<()> {
        let write = |controller: &str, file: &str, value: u64| -> io::Result<()> {
            let directory = self.v1(controller, group).ok_or_else(|| missing(controller))?;
            std::fs::write(directory.join(file), value.to_string())
        };
        if let Some(millis) = resources.cpu_request_millis {
            write("cpu", "cpu.shares", shares(millis))?;
        }
        if let Some(millis) = resources.cpu_limit_millis {
            write("cpu", "cpu.cfs_period_us", CPU_PERIOD_MICROS)?;
            write("cpu", "cpu.cfs_quota_us", quota(millis))?;
        }
        if let Some(bytes) = resources.memory_limit_bytes {
            write("memory", "memory.limit_in_bytes", bytes)?;
            // No swap beside it, where the kernel accounts for swap at all.
            drop(write("memory", "memory.memsw.limit_in_bytes", bytes));
        }
        if let Some(count) = resources.pids_limit {
            write("pids", "pids.max", count)?;
        }
        Ok(())
    }

    fn v1(&self, controller: &str, group: &str) -> Option<PathBuf> {
        let Hierarchies::V1(mounts) = self else { return None };
        let mount = mounts.iter().find(|mount| mount.controllers.iter().any(|name| name == controller))?;
        Some(mount.path.join(group.trim_start_matches('/')))
    }

    /// Whether the process is really in `group` for each needed controller; otherwise the name of one where it isn't.
    pub(crate) fn verify(&self, pid: i32, group: &str) -> Result<(), String> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(|error| error.to_string())?;
        match self.verify_in(&text, group) {
            // What has ended is in no group any more, and needs none.
            Err(_) if start_time(pid).is_none() => Ok(()),
            verdict => verdict,
        }
    }

    fn verify_in(&self, text: &str, group: &str) -> Result<(), String> {
        let inside = |wanted: &str| {
            text.lines().any(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let controllers = fields.next().unwrap_or_default();
                let path = fields.next().unwrap_or_default();
                controllers.split(',').any(|name| name == wanted) && path.ends_with(group)
            })
        };
        let needed: &[&str] = if matches!(self, Hierarchies::V1(_)) { &NEEDED } else { &[""] };
        match needed.iter().find(|name| !inside(name)) {
            None => Ok(()),
            Some(name) => Err(format!("the process is not in {group} of controller \"{name}\"")),
        }
    }

    /// How often the memory limit of `group` killed a process.
    pub(crate) fn oom_kills(&self, group: &str) -> u64 {
        let file = match self {
            Hierarchies::V1(_) => self.v1("memory", group).map(|directory| directory.join("memory.oom_control")),
            Hierarchies::V2(root) => Some(root.join(group.trim_start_matches('/')).join("memory.events")),
        };
        file.and_then(|file| std::fs::read_to_string(file).ok()).map_or(0, |text| value_of(&text, "oom_kill"))
    }

    /// What `group` uses now.
    pub(crate) fn usage(&self, group: &str) -> Usage {
        let number = |path: PathBuf| -> u64 {
            std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        let stat = |path: PathBuf, key: &str| std::fs::read_to_string(path).map_or(0, |text| value_of(&text, key));
        match self {
            Hierarchies::V1(_) => {
                let cpu = self.v1("cpuacct", group).map_or(0, |directory| number(directory.join("cpuacct.usage")));
                let memory = self.v1("memory", group).map_or(0, |directory| {
                    let cache = stat(directory.join("memory.stat"), "total_inactive_file");
                    number(directory.join("memory.usage_in_bytes")).saturating_sub(cache)
                });
                Usage { cpu_nanos: cpu, memory_bytes: memory }
            }
            Hierarchies::V2(root) => {
                let directory = root.join(group.trim_start_matches('/'));
                let cache = stat(directory.join("memory.stat"), "inactive_file");
                Usage {
                    cpu_nanos: stat(directory.join("cpu.stat"), "usage_usec").saturating_mul(1000),
                    memory_bytes: number(directory.join("memory.current")).saturating_sub(cache),
                }
            }
        }
    }

    /// Whether groups made below `group` can limit, as far as can be told before one is made.
    pub(crate) fn can_limit(&self, group: &str) -> Result<(), String> {
        match self {
            Hierarchies::V1(_) => {
                match NEEDED.iter().find(|name| self.v1(name, group).is_none_or(|path| !path.exists())) {
                    None => Ok(()),
                    Some(name) => Err(format!("no control group of controller \"{name}\" is delegated to this node")),
                }
            }
            Hierarchies::V2(root) => {
                let directory = root.join(group.trim_start_matches('/'));
                let have = std::fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
                match NEEDED.iter().find(|name| !have.split_whitespace().any(|have| have == **name)) {
                    None => Ok(()),
                    Some(name) => Err(format!("controller \"{name}\" is not delegated to this node")),
                }
            }
        }
    }
}

fn limit_v2(directory: &Path, resources: &Resources) -> io::Result<()> {
    let write = |file: &str, value: String| std::fs::write(directory.join(file), value);
    if let Some(millis) = resources.cpu_request_millis {
        write("cpu.weight", weight(shares(millis)).to_string())?;
    }
    if let Some(millis) = resources.cpu_limit_millis {
        write("cpu.max", format!("{} {CPU_PERIOD_MICROS}", quota(millis)))?;
    }
    if let Some(bytes) = resources.memory_limit_bytes {
        write("memory.max", bytes.to_string())?;
        drop(write("memory.swap.max", "0".to_owned()));
    }
    if let Some(count) = resources.pids_limit {
        write("pids.max", count.to_string())?;
    }
    Ok(())
}

fn missing(controller: &str) -> io::Error {
    io::Error::other(format!("this machine has no controller \"{controller}\""))
}

fn shares(millis: u64) -> u64 {
    (millis.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// The second version's weight for a share, as KEP-2254 maps them.
fn weight(shares: u64) -> u64 {
    1 + (shares.saturating_sub(2)).saturating_mul(9_999) / 262_142
}

fn quota(millis: u64) -> u64 {
    (millis.saturating_mul(CPU_PERIOD_MICROS) / 1000).max(MIN_QUOTA_MICROS)
}

fn value_of(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn remove_below(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    // A group with processes stays, and is found by the next attempt.
    drop(std::fs::remove_dir(directory));
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 24 0:26 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw\n\
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n\
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn controllers_of_the_first_version_win_over_an_empty_second_one() {
        let found = Hierarchies::parse(V1);
        assert_eq!(found.v1("cpuacct", "/a/b").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b"));
        assert_eq!(found.directories("/a").len(), 3);
    }

    #[test]
    fn a_lone_second_version_is_used() {
        let found = Hierarchies::parse("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!(found, Hierarchies::V2("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_process_outside_its_group_is_noticed() {
        let found = Hierarchies::parse(V1);
        let inside = "5:memory:/m/pod/c\n4:cpu,cpuacct:/m/pod/c\n3:pids:/m/pod/c\n0::/\n";
        assert_eq!(found.verify_in(inside, "/m/pod/c"), Ok(()));
        let outside = inside.replace("pids:/m/pod/c", "pids:/");
        assert!(found.verify_in(&outside, "/m/pod/c").unwrap_err().contains("pids"));
    }

    #[test]
    fn a_process_that_has_ended_needs_no_group() {
        use nix::{
            sys::wait::{Id, WaitPidFlag, waitid},
            unistd::Pid,
        };

        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let groups = Hierarchies::parse(V1);
        assert!(groups.verify(pid, "/nowhere").is_err());
        child.kill().unwrap();
        // It has ended, and stays until it is waited for.
        waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        assert_eq!(groups.verify(pid, "/nowhere"), Ok(()));
        child.wait().unwrap();
    }

    #[test]
    fn limits_are_converted_as_upstream_does() {
        assert_eq!((shares(100), shares(0), quota(500), quota(1)), (102, 2, 50_000, 1_000));
        assert_eq!((weight(2), weight(262_144)), (1, 10_000));
    }
}
