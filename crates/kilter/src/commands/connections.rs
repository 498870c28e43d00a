//! `kilter connections`.

use anyhow::Result;
use clap::Args;
use kilter_reach::{Connection, connections, port_text};
use serde_json::{Value, json};

use super::print_json;
use super::target::{self, TargetArgs};
use crate::cli::Output;
use crate::exit::Outcome;

/// `kilter connections`.
#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

pub fn run(args: &ConnectionsArgs) -> Result<Outcome> {
    let target = target::load(&args.target)?;
    for warning in kilter_reach::warnings(&target.cluster) {
        eprintln!("warning: {warning}");
    }
    let all = connections(&target.cluster, &target.options);
    match args.output {
        Output::Json => print_json(&json!({"connections": all.iter().map(as_json).collect::<Vec<_>>()}))?,
        Output::Text => all.iter().for_each(|connection| println!("{connection}")),
    }
    Ok(Outcome::Clean)
}

fn as_json(connection: &Connection) -> Value {
    let mut value = json!({
        "from": connection.from.to_string(),
        "to": connection.to.to_string(),
        "ports": port_text(&connection.ports),
    });
    if !connection.depends_on_address.is_empty() {
        value["dependsOnAddress"] = port_text(&connection.depends_on_address).into();
    }
    value
}
