//! What a process keeps in memory, and what it keeps in the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Megabytes (10^6 bytes) of a node's process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Resident now.
    pub(crate) rss: f64,
    /// The most that was ever resident.
    pub(crate) peak: f64,
    /// Of the BPF maps that it holds.
    pub(crate) maps: f64,
}

/// Of the process that is a node of a twin.
pub(crate) fn of_node(twin: &str, node: &str) -> Result<Usage> {
    let process = node_process(twin, node)?;
    let status = fs::read_to_string(process.join("status")).context("read a node process's status")?;
    let maps = maps(&process)?;
    Ok(Usage { rss: megabytes(&status, "VmRSS:"), peak: megabytes(&status, "VmHWM:"), maps })
}

/// The directory in /proc of the process that is a node of a twin.
pub(crate) fn node_process(twin: &str, node: &str) -> Result<PathBuf> {
    let group = format!("0::/kilter/{twin}/{node}");
    let mut processes = fs::read_dir("/proc").context("read /proc")?.flatten().map(|entry| entry.path());
    let is_it = |process: &PathBuf| {
        // One that has ended meanwhile is not the one.
        let of = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
        of("cmdline").contains("run\0node\0") && of("cgroup").lines().any(|line| line.starts_with(&group))
    };
    processes.find(is_it).with_context(|| format!("{node} of twin {twin} has no process"))
}

/// One map may be open many times.
fn maps(process: &Path) -> Result<f64> {
    let mut bytes = BTreeMap::new();
    let open = process.join("fdinfo");
    for entry in fs::read_dir(&open).with_context(|| format!("read {}", open.display()))?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let (Some(id), Some(size)) = (number(&text, "map_id:"), number(&text, "memlock:")) {
            bytes.insert(id as u64, size);
        }
    }
    Ok(bytes.values().sum::<f64>() / 1e6)
}

/// Megabytes of one line of a file of /proc, which counts in KiB.
pub(crate) fn megabytes(text: &str, name: &str) -> f64 {
    number(text, name).unwrap_or_default() * 1024.0 / 1e6
}

fn number(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes_and_told_in_megabytes() {
        let text =
            "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:    1000 kB\nPss:     500 kB\nPss_Dirty: 9 kB\n";
        assert_eq!((megabytes(text, "Rss:"), megabytes(text, "Pss:")), (1.024, 0.512));
        assert_eq!(megabytes(text, "Swap:"), 0.0);
    }
}
