//! Policy with real packets: every answer of a stand-in and every refused packet's event, held against
//! tables that others made, and against the rules for random clusters.

#[path = "../support/mod.rs"]
mod support;

mod random;
mod truth_tables;

use kilter_verify::Judged;

/// Disagreements for people, the first few of them.
fn told(wrong: &[Judged]) -> String {
    let lines = wrong.iter().take(10).map(|judged| format!("{judged:#?}"));
    format!("{} disagreements\n{}", wrong.len(), lines.collect::<Vec<_>>().join("\n"))
}
