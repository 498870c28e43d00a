//! `kilter prove`.

use anyhow::Result;
use clap::Args;
use kilter_verify::Options;

use super::{print_json, runtime};
use crate::cli::{Output, TwinArgs};
use crate::exit::Outcome;

/// `kilter prove`.
#[derive(Debug, Args)]
pub struct ProveArgs {
    #[command(flatten)]
    pub twin: TwinArgs,
    /// Only this node.
    #[arg(long)]
    pub node: Option<String>,
}

pub fn run(args: &ProveArgs) -> Result<Outcome> {
    let spec = kilter_twin::running(&args.twin.name)?;
    let options = Options::default();
    let report = runtime()?.block_on(kilter_verify::prove(&spec, args.node.as_deref(), &options))?;
    match args.twin.output {
        Output::Json => print_json(&report)?,
        Output::Text => out!("{report}"),
    }
    Ok(if report.proved { Outcome::Clean } else { Outcome::Finding })
}
