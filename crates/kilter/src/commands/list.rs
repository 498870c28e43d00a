//! `kilter list`.

use anyhow::Result;
use serde_json::json;

use super::print_json;
use crate::cli::{ListArgs, Output};
use crate::exit::Outcome;
use crate::table;

pub fn run(args: &ListArgs) -> Result<Outcome> {
    let mut rows = Vec::new();
    for name in kilter_twin::twins()? {
        let spec = kilter_twin::read_spec(&kilter_twin::Layout::new(&name));
        let nodes = spec.as_ref().map(|s| s.nodes);
        let state = match kilter_twin::is_running(&name)? {
            true => "up",
            false => "dead (run kilter down)",
        };
        rows.push((name, state, nodes, spec.map(|s| s.context())));
    }
    match args.output {
        Output::Json => {
            let twins: Vec<_> = rows
                .iter()
                .map(|(name, state, nodes, context)| {
                    json!({"name": name, "up": *state == "up", "nodes": nodes, "context": context})
                })
                .collect();
            print_json(&json!({"twins": twins}))?;
        }
        Output::Text if rows.is_empty() => outln!("no twins; `kilter up` makes one"),
        Output::Text => {
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|(name, state, nodes, context)| {
                    let nodes = nodes.map_or("?".into(), |n| n.to_string());
                    vec![name, state.to_owned(), nodes, context.unwrap_or_default()]
                })
                .collect();
            out!("{}", table::render(&["NAME", "STATE", "NODES", "CONTEXT"], &cells));
        }
    }
    Ok(Outcome::Clean)
}
