//! What the process takes of the system, under the names that every exporter
//! uses. Read from `/proc`; where there is none, or it says something else, the
//! metric is left without a value.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::page::{Metric, Page, one};
use crate::system::{open_files_limit, page_size, ticks_per_second};

const CPU: Metric = Metric::seconds("process_cpu", "CPU time spent, user and system.");
const MEMORY: Metric = Metric {
    name: "process_resident_memory",
    unit: Some(Unit::Bytes),
    help: "Memory that is in RAM.",
};
const OPEN_FDS: Metric = Metric::plain("process_open_fds", "File descriptors that are open.");
const MAX_FDS: Metric = Metric::plain(
    "process_max_fds",
    "File descriptors that may be open at once.",
);
const START: Metric = Metric::seconds("process_start_time", "When the process started.");

/// What the process takes now.
#[derive(Debug, Default)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    started: Option<f64>,
}

impl Process {
    /// Reads it.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(Stat::read);
        let boot = fs::read_to_string("/proc/stat").ok();
        let boot = boot.as_deref().and_then(boot_time);
        let ticks = ticks_per_second();
        let page = page_size();
        // The directory is read through one descriptor more.
        let open_fds = fs::read_dir("/proc/self/fd")
            .map(|entries| (entries.count() as u64).saturating_sub(1))
            .ok();
        Self {
            cpu_seconds: stat.as_ref().map(|stat| stat.cpu_ticks as f64 / ticks),
            resident_bytes: stat.as_ref().map(|stat| stat.resident_pages * page),
            open_fds,
            max_fds: open_files_limit(),
            started: stat
                .zip(boot)
                .map(|(stat, boot)| boot + stat.started_ticks as f64 / ticks),
        }
    }
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        page.counter(&CPU, self.cpu_seconds.into_iter().flat_map(one))?;
        page.gauge(&MEMORY, self.resident_bytes.into_iter().flat_map(one))?;
        page.gauge(&OPEN_FDS, self.open_fds.into_iter().flat_map(one))?;
        page.gauge(&MAX_FDS, self.max_fds.into_iter().flat_map(one))?;
        page.gauge(&START, self.started.into_iter().flat_map(one))
    }
}

/// What is used of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    /// Since the system booted.
    started_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    /// See `man proc_pid_stat`. The name in parentheses may hold anything, so
    /// fields are counted from behind it.
    fn read(text: &str) -> Option<Self> {
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        // The first one behind is the third of the line.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            started_ticks: field(22)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the system booted, in seconds since 1970.
fn boot_time(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_numbers_are_read_whatever_the_process_is_called() {
        let line = "42 (a ) 1 (b) S 1 42 42 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 9 0 7000 \
            300000 1234 18446744073709551615 1 1";
        assert_eq!(
            Stat::read(line),
            Some(Stat {
                cpu_ticks: 200,
                started_ticks: 7000,
                resident_pages: 1234,
            })
        );
        assert_eq!(Stat::read("42 (short) S 1"), None);
        assert_eq!(Stat::read(""), None);
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1.7e9));
        assert_eq!(boot_time("cpu 1\n"), None);
    }
}
