//! `kilter status`.

use anyhow::Result;
use kilter_twin::Status;

use super::{print_json, runtime};
use crate::cli::{Output, TwinArgs};
use crate::exit::Outcome;
use crate::table;

pub fn run(args: &TwinArgs) -> Result<Outcome> {
    let status = runtime()?.block_on(kilter_twin::status(&args.name))?;
    match args.output {
        Output::Json => print_json(&status)?,
        Output::Text => print!("{}", text(&status)),
    }
    Ok(if status.is_healthy() { Outcome::Clean } else { Outcome::Finding })
}

fn text(status: &Status) -> String {
    let control = if status.control_plane { "answers" } else { "DOES NOT ANSWER" };
    let mut text = format!("twin {}: the API {control}{}\n\n", status.spec.name, restarted(status.control_plane_restarts));
    let nodes: Vec<Vec<String>> = status
        .nodes
        .iter()
        .map(|node| {
            let state = match (node.running, node.ready) {
                (false, _) => "DEAD",
                (true, Some(true)) => "ready",
                (true, Some(false)) => "NOT READY",
                (true, None) => "unknown",
            };
            vec![node.name.clone(), state.into(), node.pods.to_string(), node.restarts.to_string()]
        })
        .collect();
    text += &table::render(&["NODE", "STATE", "PODS", "RESTARTS"], &nodes);
    let ready = status.pods.iter().filter(|p| p.ready).count();
    text += &format!("\n{ready} of {} pods ready; every container is a stand-in\n", status.pods.len());
    let waiting: Vec<Vec<String>> = status
        .pods
        .iter()
        .filter(|p| !p.ready)
        .map(|p| vec![p.name.clone(), p.phase.clone(), p.node.clone().unwrap_or_else(|| "(none)".into())])
        .collect();
    if !waiting.is_empty() {
        text += &format!("\n{}", table::render(&["NOT READY", "PHASE", "NODE"], &waiting));
        text += &format!("\nwhy: kubectl --context {} describe pod NAME -n NAMESPACE\n", status.spec.context());
    }
    text
}

/// How often a process died and was started again, where it did.
fn restarted(times: u32) -> String {
    match times {
        0 => String::new(),
        1 => " (restarted once)".into(),
        more => format!(" (restarted {more} times)"),
    }
}
