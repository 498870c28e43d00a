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
        Output::Text => out!("{}", text(&status)),
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
    let retried: u64 = status.nodes.iter().map(|node| node.retried).sum();
    if retried > 0 {
        text += &format!("\n{retried} connections that one endpoint refused were carried to another\n");
    }
    let ready = status.pods.iter().filter(|p| p.ready).count();
    text += &format!("\n{ready} of {} pods ready; {}\n", status.pods.len(), stand_ins(status));
    for pod in status.pods.iter().filter(|p| !p.is_well()) {
        let (name, phase, node) = (&pod.name, &pod.phase, pod.node.as_deref().unwrap_or("no node"));
        let why = pod.why.as_deref().unwrap_or("its status does not say why");
        text += &format!("  NOT READY {name} ({phase}, {node}): {why}\n");
    }
    for fault in &status.faults {
        text += &format!("broken on purpose: {fault}; `kilter chaos heal` mends it\n");
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

/// Which containers are what their images would be, in a few words.
fn stand_ins(status: &Status) -> String {
    let named = |pod: &kilter_twin::PodState| format!("{} ({})", pod.name, pod.real.join(", "));
    let real: Vec<String> = status.pods.iter().filter(|pod| !pod.real.is_empty()).map(named).collect();
    match real.is_empty() {
        true => "every container is a stand-in".into(),
        false => format!("every container is a stand-in, but these run for real: {}", real.join(", ")),
    }
}
