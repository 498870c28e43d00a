//! Runs of many subjects in turn, so that whatever disturbs the machine disturbs all of them.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kilter_netns::NetNs;

use crate::figure::Figure;
use crate::statistics::Sample;
use crate::work::{Effort, Target, Work};

/// Somebody who carries traffic over a path.
pub struct Subject {
    /// `loopback`, `kernel`, `kilter`...
    pub name: String,
    /// The path: `same-node`, `across-nodes`, `service-10000`...
    pub path: String,
    /// The two ends.
    pub target: Target,
    /// Namespaces in which the kernel itself must forward none of the subject's packets. Empty where
    /// it is meant to, or where there is no other path.
    pub bypasses: Vec<Arc<NetNs>>,
}

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Runs of each subject and kind of traffic.
    pub runs: usize,
    /// What one run measures.
    pub effort: Effort,
    /// Kinds of traffic, each over all subjects.
    pub works: Vec<Work>,
}

impl Default for Plan {
    fn default() -> Self {
        let works = vec![Work::TcpKeepAlive, Work::TcpNewConnection, Work::Udp, Work::Bulk, Work::BulkOfEight];
        Self { runs: 15, effort: Effort::default(), works }
    }
}

/// Exchanges sent while a witness is watched.
const WATCHED: usize = 100;

/// Measures every subject; `progress` is told what comes next. Fails before measuring anything when
/// a subject cannot be reached or is not what carries its traffic.
pub fn measure(
    bench: &'static str,
    subjects: &[Subject],
    plan: &Plan,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    for subject in subjects {
        progress(&format!("check {} {}", subject.name, subject.path));
        check(subject).with_context(|| format!("{} ({})", subject.name, subject.path))?;
    }
    let mut figures = Vec::new();
    for work in &plan.works {
        let mut runs: Vec<Vec<Sample>> = vec![Vec::with_capacity(plan.runs); subjects.len()];
        for run in 1..=plan.runs {
            progress(&format!("{}: run {run} of {}", work.name(), plan.runs));
            for (subject, samples) in subjects.iter().zip(&mut runs) {
                let sample = work.sample(&subject.target, &plan.effort);
                samples.push(
                    sample
                        .with_context(|| format!("{} {} of {}", work.name(), subject.path, subject.name))?,
                );
            }
        }
        figures.extend(
            subjects.iter().zip(&runs).filter_map(|(subject, runs)| figure(bench, *work, subject, runs)),
        );
    }
    Ok(figures)
}

fn figure(bench: &'static str, work: Work, subject: &Subject, runs: &[Sample]) -> Option<Figure> {
    let summary = work.summary(runs)?;
    Some(Figure {
        bench,
        case: format!("{} {}", work.name(), subject.path),
        subject: subject.name.clone(),
        unit: work.unit(),
        p50: summary.p50,
        p99: summary.p99,
        low: summary.low,
        high: summary.high,
        runs: runs.len(),
    })
}

/// A refused program leaves traffic on the kernel's own path, and the figure would be the kernel's.
/// The kernel's own counters are the witness: they need no word of the one who is measured.
fn check(subject: &Subject) -> Result<()> {
    let count = || subject.bypasses.iter().map(|netns| forwarded(netns)).sum::<Result<u64>>();
    let before = count()?;
    let effort = Effort { exchanges: WATCHED, connections: WATCHED, ..Effort::default() };
    for work in [Work::TcpNewConnection, Work::TcpKeepAlive] {
        work.sample(&subject.target, &effort)?;
    }
    // Other traffic of the node may be forwarded meanwhile, but not as much as was sent here.
    match count()? - before {
        by_kernel if by_kernel < WATCHED as u64 => Ok(()),
        by_kernel => bail!(
            "not attached: the kernel itself forwarded {by_kernel} packets while {WATCHED} exchanges went through. \
             Nothing was measured"
        ),
    }
}

/// Packets that the kernel has forwarded in a namespace (`Ip: ForwDatagrams`, RFC 1213, and the same of
/// IPv6).
fn forwarded(netns: &NetNs) -> Result<u64> {
    let table = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let of_ipv4 = field(&table.context("read /proc/net/snmp")?, "Ip:", "ForwDatagrams")
        .context("/proc/net/snmp has no ForwDatagrams")?;
    // A kernel without IPv6 has no such file.
    let table = netns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp6"))?.unwrap_or_default();
    let of_ipv6 = table.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"));
    Ok(of_ipv4 + of_ipv6.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or_default())
}

/// Each protocol has a line of names and then a line of values.
fn field(table: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix(protocol));
    let position = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(position)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let table = "Ip: Forwarding DefaultTTL ForwDatagrams\nIp: 1 64 17\nTcp: RtoAlgorithm\nTcp: 1\n";
        assert_eq!(field(table, "Ip:", "ForwDatagrams"), Some(17));
        assert_eq!(field(table, "Ip:", "Nothing"), None);
    }
}
