//! `kilter node`.

use std::time::Instant;

use anyhow::Result;
use clap::{Args, Subcommand};
use kilter_twin::chaos::{self, Fault};
use serde_json::json;

use super::{print_json, runtime};
use crate::cli::{Output, TwinArgs};
use crate::exit::Outcome;

/// `kilter node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    #[command(flatten)]
    pub twin: TwinArgs,
    #[command(subcommand)]
    pub what: What,
}

/// What to do with a node.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Add a node, and wait until it is ready.
    Add,
    /// Remove a node; pods of workloads are made anew elsewhere.
    Remove { node: String },
    /// Cut a node off: neither its pods nor the API reach it (`kilter chaos cut-node`).
    Isolate { node: String },
    /// Let nodes that were cut off back in (`kilter chaos heal`, without waiting).
    Rejoin,
}

pub fn run(args: NodeArgs) -> Result<Outcome> {
    let spec = kilter_twin::running(&args.twin.name)?;
    let json = args.twin.output == Output::Json;
    let began = Instant::now();
    runtime()?.block_on(async {
        let (node, done) = match args.what {
            What::Add => (kilter_twin::nodes::add(&spec.name).await?.name, "is ready"),
            What::Remove { node } => {
                kilter_twin::nodes::remove(&spec.name, &node).await?;
                (node, "is removed")
            }
            What::Isolate { node } => {
                chaos::inject(&spec, Fault::CutNode { node: node.clone() }).await?;
                (node, "is cut off; `kilter node rejoin` lets it back in")
            }
            What::Rejoin => {
                let mended = chaos::heal(&spec).await?;
                let names: Vec<String> = mended.iter().map(ToString::to_string).collect();
                (names.join("; "), if names.is_empty() { "nothing was cut off" } else { "is over" })
            }
        };
        let millis = began.elapsed().as_millis();
        match json {
            true => print_json(&json!({"node": node, "done": done, "millis": millis}))?,
            false => outln!("{}", format!("{node} {done} ({:.1} s)", millis as f64 / 1000.0).trim_start()),
        }
        Ok(Outcome::Clean)
    })
}
