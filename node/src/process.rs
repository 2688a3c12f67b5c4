//! What the operating system says about the process, as Prometheus's own clients tell it: from `/proc`, so on Linux only.

use std::fmt::{Display, Write};
use std::fs;

/// What the kernel counts processor time in, parts of a second: for programs it is this on all architectures that the node runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends them to `text`; those that the system does not tell are left out.
pub(crate) fn write(text: &mut String) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The handle that lists them is one.
    let open = fs::read_dir("/proc/self/fd").map(|open| open.count().saturating_sub(1) as u64);
    let kilobytes = |name| field(&status, name)?.checked_mul(1024);
    metric(
        text,
        ("process_resident_memory_bytes", "gauge"),
        "Memory of the process that is in RAM",
        kilobytes("VmRSS:"),
    );
    metric(
        text,
        ("process_virtual_memory_bytes", "gauge"),
        "Addresses of the process that are in use",
        kilobytes("VmSize:"),
    );
    metric(
        text,
        ("process_threads", "gauge"),
        "Threads of the process",
        field(&status, "Threads:"),
    );
    metric(
        text,
        ("process_open_fds", "gauge"),
        "Open files and connections",
        open.ok(),
    );
    metric(
        text,
        ("process_max_fds", "gauge"),
        "Files and connections that may be open",
        field(&limits, "Max open files"),
    );
    metric(
        text,
        ("process_cpu_seconds", "counter"),
        "Processor time of the process",
        cpu_seconds(&stat),
    );
}

/// The number behind `name` in a table.
fn field(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of `/proc/self/stat`: in user mode and in the kernel, the 14th and 15th of its fields. The second may have spaces, in parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11);
    let user: u64 = ticks.next()?.parse().ok()?;
    let system: u64 = ticks.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn metric(text: &mut String, (name, kind): (&str, &str), help: &str, value: Option<impl Display>) {
    let Some(value) = value else {
        return;
    };
    let total = if kind == "counter" { "_total" } else { "" };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name}{total} {value}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_understood() {
        let status = "Name:\tslackline\nVmSize:\t  812 kB\nVmRSS:\t 1024 kB\nThreads:\t7\n";
        assert_eq!(field(status, "VmRSS:"), Some(1024));
        assert_eq!(field(status, "Threads:"), Some(7));
        let limits = "Max open files            1024                 524288               files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024));
        assert_eq!(field("Max open files unlimited", "Max open files"), None);
        let stat = "12 (a )b) S 1 12 12 0 -1 4194560 900 0 1 0 150 75 0 0 20 0 7 0 100 200 300";
        assert_eq!(cpu_seconds(stat), Some(2.25));
        assert_eq!(cpu_seconds(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_described() {
        let mut text = String::new();
        write(&mut text);
        for name in [
            "process_resident_memory_bytes ",
            "process_virtual_memory_bytes ",
            "process_threads ",
            "process_open_fds ",
            "process_max_fds ",
            "process_cpu_seconds_total ",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(name)),
                "{name}: {text}"
            );
        }
    }
}
