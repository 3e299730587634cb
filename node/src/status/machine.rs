//! What the machine is and how it fares, as the kernel tells it.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{agent::config::Config, pods::quantity::Amount};

/// Below this much free memory, the node says that memory is short (upstream's eviction threshold).
const LEAST_MEMORY: u64 = 100 << 20;
/// Below this percentage of free space, the node says that its disk is short (upstream's eviction threshold).
const LEAST_DISK_PERCENT: u64 = 10;
/// On a large disk a tenth is more than the node needs to go on.
const LEAST_DISK_BYTES: u64 = 5 << 30;
/// Above this percentage of used process ids, the node says that they are short.
const MOST_PIDS_PERCENT: u64 = 95;

/// What doesn't change while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Thousandths of processors.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the disk on which the agent's directory lies.
    pub disk_bytes: u64,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's id; the machine id where only root may read it.
    pub system_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the distribution.
    pub os: String,
    /// Go's name of the processor architecture.
    pub architecture: &'static str,
}

/// What is short at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

impl Machine {
    /// Looks at the machine; what can't be read stays empty.
    #[must_use]
    pub fn look(state_dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine_id = read("/etc/machine-id");
        let uuid = read("/sys/class/dmi/id/product_uuid");
        Self {
            cpu_millis: std::thread::available_parallelism().map_or(1, |count| count.get() as u64) * 1000,
            memory_bytes: meminfo(&read("/proc/meminfo"), "MemTotal"),
            disk_bytes: disk(state_dir).map_or(0, |(total, _)| total),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: read("/proc/sys/kernel/osrelease"),
            os: os_name(&read("/etc/os-release")),
            architecture: architecture(),
        }
    }

    /// What the machine has.
    #[must_use]
    pub fn capacity(&self, config: &Config) -> BTreeMap<String, Amount> {
        self.resources(config, 0, 0)
    }

    /// What pods may use together.
    #[must_use]
    pub fn allocatable(&self, config: &Config) -> BTreeMap<String, Amount> {
        self.resources(config, config.reserved_cpu_millis, config.reserved_memory_bytes)
    }

    fn resources(&self, config: &Config, cpu_millis: u64, memory_bytes: u64) -> BTreeMap<String, Amount> {
        BTreeMap::from([
            ("cpu".to_owned(), Amount::of_milli(self.cpu_millis.saturating_sub(cpu_millis))),
            ("memory".to_owned(), Amount::of(self.memory_bytes.saturating_sub(memory_bytes))),
            ("ephemeral-storage".to_owned(), Amount::of(self.disk_bytes)),
            ("pods".to_owned(), Amount::of(u64::from(config.max_pods))),
        ])
    }
}

/// What is short now.
#[must_use]
pub fn pressure(state_dir: &Path) -> Pressure {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let available = meminfo(&memory, "MemAvailable");
    let (total, free) = disk(state_dir).unwrap_or((0, 1));
    let used: u64 =
        read("/proc/loadavg").split(' ').nth(3).and_then(|text| text.split('/').nth(1)?.parse().ok()).unwrap_or(0);
    let most: u64 = read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(u64::MAX);
    Pressure {
        memory: !memory.is_empty() && available < LEAST_MEMORY,
        disk: total > 0 && free < (total / 100 * LEAST_DISK_PERCENT).min(LEAST_DISK_BYTES),
        pids: used > most / 100 * MOST_PIDS_PERCENT,
    }
}

/// A value of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Total and free bytes of the disk that holds `path`.
fn disk(path: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = stat.fragment_size();
    Some((stat.blocks().saturating_mul(unit), stat.blocks_available().saturating_mul(unit)))
}

fn os_name(text: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(meminfo("MemTotal:       16 kB\nMemAvailable:    8 kB\n", "MemAvailable"), 8192);
        assert_eq!(os_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::look(Path::new("/"));
        assert!(machine.cpu_millis > 0 && machine.memory_bytes > 0 && machine.disk_bytes > 0);
    }
}
