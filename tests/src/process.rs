//! What `/proc` tells about a server's processes: processor time and memory.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Clock ticks in a second, as `/proc/PID/stat` counts them; 100 on every Linux that runs here.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time, user and system, that the processes have used since they started.
pub fn cpu_time(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| one_cpu_time(*pid)).sum()
}

fn one_cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let ticks = parse_stat(&text).with_context(|| format!("read utime and stime in {path}"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// utime + stime. The command's name may hold blanks and parentheses, so fields are counted after the last one.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of the processes together, in bytes.
pub fn resident_bytes(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| status_bytes(*pid, "VmRSS:")).sum()
}

/// The most resident memory that the processes had, each at its own time, in bytes.
pub fn peak_bytes(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| status_bytes(*pid, "VmHWM:")).sum()
}

/// Makes the kernel forget the most resident memory that the processes had: from now on it is what they have.
pub fn forget_peak(pids: &[u32]) -> Result<()> {
    for pid in pids {
        let path = format!("/proc/{pid}/clear_refs");
        std::fs::write(&path, "5").with_context(|| format!("write {path}"))?;
    }
    Ok(())
}

fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    parse_status(&text, field).with_context(|| format!("read {field} in {path}"))
}

fn parse_status(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Raises this process's limit of open files as far as it may, and with it that of what it starts.
pub fn allow_many_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")
}

/// A process and all that descend from it, the agent and its helpers included.
pub fn family(root: u32) -> Result<Vec<u32>> {
    let parents = parents()?;
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(family)
}

/// The processes that a process has started itself.
pub fn children(parent: u32) -> Result<Vec<u32>> {
    Ok(parents()?.into_iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid).collect())
}

/// What a process is called; its number where it has gone.
#[must_use]
pub fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| pid.to_string(), |name| name.trim().to_owned())
}

/// The words of a process's command line; none where it has gone.
#[must_use]
pub fn arguments(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Every process with its parent.
fn parents() -> Result<Vec<(u32, u32)>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").context("list /proc")? {
        let name = entry.context("list /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while it is being looked at.
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    Ok(parents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_stat(text), Some(12));
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "VmSize:\t 10 kB\nVmHWM:\t   4096 kB\nVmRSS:\t   2048 kB\n";
        assert_eq!(parse_status(text, "VmRSS:"), Some(2048 * 1024));
        assert_eq!(parse_status(text, "VmHWM:"), Some(4096 * 1024));
    }

    #[test]
    fn a_process_belongs_to_its_own_family() {
        let own = std::process::id();
        assert_eq!(family(own).unwrap().first(), Some(&own));
        assert!(resident_bytes(&[own]).unwrap() > 0);
        assert!(peak_bytes(&[own]).unwrap() > 0);
    }
}
