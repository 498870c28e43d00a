//! `kilter why`.

use anyhow::Result;
use clap::Args;
use kilter_model::Cluster;
use kilter_reach::Options;
use kilter_reach::why::{Answer, Question, find, split_port, why};
use kilter_verify::Live;
use serde_json::{Value, json};

use super::target::{self, TargetArgs};
use super::{print, print_json, runtime};
use crate::cli::Output;
use crate::exit::Outcome;

/// `kilter why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Who opens the connection: [NAMESPACE/]WORKLOAD, pod/X, node/X, an address, or internet.
    #[arg(value_name = "SRC")]
    pub from: String,
    /// To whom: DST[:PORT[/PROTOCOL]], where DST may also be svc/X. Without a port: those it declares. A port of a node
    /// (node/X:30080) is the Service or pod that it leads to.
    #[arg(value_name = "DST")]
    pub to: String,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Also ask what the nodes of the twin have loaded, and what they refused lately.
    #[arg(long, conflicts_with_all = ["sources", "context"])]
    pub live: bool,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

pub fn run(args: &WhyArgs) -> Result<Outcome> {
    if args.live {
        return run_live(args);
    }
    let target = target::load(&args.target)?;
    let answer = ask(args, &target.cluster, &target.options)?;
    match args.output {
        Output::Json => print_json(&as_json(&answer, &[]))?,
        Output::Text => print(&answer.to_string())?,
    }
    Ok(outcome(&answer, &[]))
}

fn ask(args: &WhyArgs, cluster: &Cluster, options: &Options) -> Result<Answer> {
    let (to, port) = split_port(&args.to)?;
    let question = Question { from: find(cluster, &args.from)?, to: find(cluster, to)?, port };
    Ok(why(cluster, options, &question)?)
}

fn run_live(args: &WhyArgs) -> Result<Outcome> {
    let spec = kilter_twin::running(args.target.name.as_deref().unwrap_or("default"))?;
    let options = Options { pod_cidrs: spec.pod_cidrs.clone(), ..args.target.addresses.options() };
    let asked = kilter_verify::live(&spec, |cluster| ask(args, cluster, &options));
    let (answer, live) = runtime()?.block_on(asked)?;
    match args.output {
        Output::Json => print_json(&as_json(&answer, &live))?,
        Output::Text => {
            let cases = answer.cases.iter().zip(&live).map(|(case, live)| format!("{case}{live}"));
            let cases: Vec<String> = answer.unserved.iter().map(ToString::to_string).chain(cases).collect();
            print(&cases.join("\n"))?;
        }
    }
    Ok(outcome(&answer, &live))
}

/// A denial is a finding, and so is a node that decides otherwise than the model.
fn outcome(answer: &Answer, live: &[Live]) -> Outcome {
    let agreed = answer.verdict().is_allow() && !live.iter().any(Live::differs);
    if agreed { Outcome::Clean } else { Outcome::Finding }
}

fn as_json(answer: &Answer, live: &[Live]) -> Value {
    let mut cases = json!(answer.cases);
    for (case, live) in cases.as_array_mut().into_iter().flatten().zip(live) {
        case["live"] = json!(live);
    }
    json!({"verdict": answer.verdict(), "cases": cases, "unserved": answer.unserved})
}
