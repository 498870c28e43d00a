//! Markdown as GitHub and GitLab read it.

use std::fmt::Write;

use kilter_model::WorkloadRef;

use super::text::{exposure_text, summary};
use crate::connections::Connection;
use crate::diff::Diff;

/// A comment on a pull request has 65,536 characters at most; a table of this many rows fits.
const ROWS: usize = 300;

/// A table of connections.
pub fn connections(connections: &[Connection]) -> String {
    let mut text = "| from | to | ports |\n|---|---|---|\n".to_owned();
    for it in connections {
        let _ = writeln!(text, "| {} | {} | {} |", code(&it.from), code(&it.to), it.permitted());
    }
    text
}

/// A comment for a pull request: what the outside may do differently first.
pub fn diff(diff: &Diff) -> String {
    if diff.is_empty() {
        return "### Network connections\n\nNo connection differs.\n".to_owned();
    }
    let mut text = format!("### Network connections\n\n**{}**\n", summary(diff));
    let opened: Vec<_> = diff.exposures.iter().filter(|it| it.opened).collect();
    if !opened.is_empty() {
        text += "\n> [!WARNING]\n";
        opened.iter().for_each(|it| _ = writeln!(text, "> - {}", exposure_text(it)));
    }
    let closed: Vec<_> = diff.exposures.iter().filter(|it| !it.opened).collect();
    if !closed.is_empty() {
        text.push('\n');
        closed.iter().for_each(|it| _ = writeln!(text, "- {}", exposure_text(it)));
    }
    for (set, word) in [(&diff.workloads_added, "added"), (&diff.workloads_removed, "removed")] {
        if !set.is_empty() {
            let names: Vec<String> = set.iter().map(|it: &WorkloadRef| code(it)).collect();
            let _ = writeln!(text, "\nWorkloads {word}: {}", names.join(", "));
        }
    }
    if !diff.changes.is_empty() {
        text += "\n| change | from | to | before | after |\n|---|---|---|---|---|\n";
    }
    for it in diff.changes.iter().take(ROWS) {
        let (from, to) = (code(&it.from), code(&it.to));
        let _ = writeln!(text, "| {} | {from} | {to} | {} | {} |", it.kind.word(), it.old, it.new);
    }
    if let Some(more) = diff.changes.len().checked_sub(ROWS).filter(|it| *it > 0) {
        let _ = writeln!(text, "\nand {more} more connections: `kilter diff` prints them all.");
    }
    text
}

/// Brackets and underscores in names are not markup.
fn code(name: &impl ToString) -> String {
    format!("`{}`", name.to_string())
}
