//! Figures of this process, from `/proc/self`.

use std::fmt::Write as _;

/// Ticks of the kernel's process clock in a second; fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The `process_*` figures in Prometheus' text form; what can't be read is left out.
#[must_use]
pub(super) fn render() -> String {
    let mut text = String::new();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    if let (Some(user), Some(system)) = (number(11), number(12)) {
        gauge(&mut text, "process_cpu_seconds_total", "counter", (user + system) / TICKS_PER_SECOND);
    }
    if let Some(bytes) = number(20) {
        gauge(&mut text, "process_virtual_memory_bytes", "gauge", bytes);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    if let Some(kib) = resident {
        gauge(&mut text, "process_resident_memory_bytes", "gauge", kib * 1024.0);
    }
    if let (Some(ticks), Some(boot)) = (number(19), boot_time()) {
        gauge(&mut text, "process_start_time_seconds", "gauge", boot + ticks / TICKS_PER_SECOND);
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    if let Some(files) = files {
        gauge(&mut text, "process_max_fds", "gauge", files);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        gauge(&mut text, "process_open_fds", "gauge", files.count() as f64);
    }
    text
}

/// When the machine started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn gauge(text: &mut String, name: &str, kind: &str, value: f64) {
    let _infallible = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
}
