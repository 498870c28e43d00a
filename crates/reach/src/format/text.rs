//! Plain text for a terminal.

use std::fmt::Write;

use kilter_model::{Direction, WorkloadRef};

use crate::connections::End;
use crate::diff::{Diff, Exposure, Kind};

/// A summary, what the outside may do differently, and a line for each connection.
pub fn diff(diff: &Diff) -> String {
    if diff.is_empty() {
        return "no connection differs\n".to_owned();
    }
    let mut text = format!("{}\n", summary(diff));
    for (set, word) in [(&diff.workloads_added, "added"), (&diff.workloads_removed, "removed")] {
        if !set.is_empty() {
            let names: Vec<String> = set.iter().map(WorkloadRef::to_string).collect();
            let _ = writeln!(text, "workloads {word}: {}", names.join(", "));
        }
    }
    for exposure in &diff.exposures {
        let mark = if exposure.opened { '!' } else { ' ' };
        let _ = writeln!(text, "{mark} {}", exposure_text(exposure));
    }
    if !diff.changes.is_empty() {
        text.push('\n');
    }
    for it in &diff.changes {
        let _ = match it.kind {
            Kind::Added => writeln!(text, "+ {} => {} : {}", it.from, it.to, it.new),
            Kind::Removed => writeln!(text, "- {} => {} : {}", it.from, it.to, it.old),
            Kind::Changed => writeln!(text, "~ {} => {} : {} -> {}", it.from, it.to, it.old, it.new),
        };
    }
    text
}

/// `2 connections added, 1 changed, 0 removed`.
pub fn summary(diff: &Diff) -> String {
    let count = |kind: Kind| diff.changes.iter().filter(|it| it.kind == kind).count();
    let (added, changed, removed) = (count(Kind::Added), count(Kind::Changed), count(Kind::Removed));
    let s = if added == 1 { "" } else { "s" };
    format!("{added} connection{s} added, {changed} changed, {removed} removed")
}

/// `shop/web[Deployment] becomes reachable from the internet: TCP 8080 (0.0.0.0-255.255.255.255)`.
pub fn exposure_text(exposure: &Exposure) -> String {
    let happens = match (exposure.direction, exposure.opened) {
        (Direction::Ingress, true) => "becomes reachable from the internet",
        (Direction::Ingress, false) => "is less reachable from the internet",
        (Direction::Egress, true) => "may reach more of the internet",
        (Direction::Egress, false) => "may reach less of the internet",
    };
    let what: Vec<String> =
        exposure.what.iter().map(|(ports, at)| format!("{ports} ({})", places(at))).collect();
    format!("{} {happens}: {}", exposure.workload, what.join("; "))
}

fn places(ends: &[End]) -> String {
    const SHOWN: usize = 4;
    let mut names: Vec<String> =
        ends.iter().take(SHOWN).map(|it| it.to_string().replace("[External]", "")).collect();
    if ends.len() > SHOWN {
        names.push(format!("and {} more ranges", ends.len() - SHOWN));
    }
    names.join(", ")
}
