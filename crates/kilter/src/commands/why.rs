//! `kilter why`.

use anyhow::Result;
use clap::Args;
use kilter_reach::why::{Answer, Question, find, split_port, why};
use serde_json::json;

use super::{print, print_json};
use super::target::{self, TargetArgs};
use crate::cli::Output;
use crate::exit::Outcome;

/// `kilter why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Who opens the connection: [NAMESPACE/]WORKLOAD, pod/X, node/X, an address, or internet.
    #[arg(value_name = "SRC")]
    pub from: String,
    /// To whom: DST[:PORT[/PROTOCOL]], where DST may also be svc/X. Without a port: those it declares.
    #[arg(value_name = "DST")]
    pub to: String,
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

pub fn run(args: &WhyArgs) -> Result<Outcome> {
    let target = target::load(&args.target)?;
    let (to, port) = split_port(&args.to)?;
    let question =
        Question { from: find(&target.cluster, &args.from)?, to: find(&target.cluster, to)?, port };
    let answer = why(&target.cluster, &target.options, &question)?;
    match args.output {
        Output::Json => print_json(&as_json(&answer))?,
        Output::Text => print(&answer.to_string())?,
    }
    Ok(if answer.verdict().is_allow() { Outcome::Clean } else { Outcome::Finding })
}

fn as_json(answer: &Answer) -> serde_json::Value {
    json!({"verdict": answer.verdict(), "cases": answer.cases, "unserved": answer.unserved})
}
