//! `kilter bench`.

use anyhow::{Context, Result};
use kilter_bench::Report;

use crate::cli::{BenchArgs, BenchCommand, BenchPolicyArgs, BenchTwinArgs, Output};
use crate::exit::Outcome;

pub fn run(command: &BenchCommand) -> Result<Outcome> {
    if !matches!(command, BenchCommand::Policy(_)) {
        kilter_twin::check()?;
    }
    let mut progress = |what: &str| eprintln!("{what}");
    let (report, output) = match command {
        BenchCommand::Datapath(args) => (datapath(args, &mut progress)?, args.output),
        BenchCommand::Cni(args) => (cni(args, &mut progress)?, args.output),
        BenchCommand::Policy(args) => (policy(args, &mut progress)?, args.bench.output),
        BenchCommand::Twin(args) => (twin(args, &mut progress)?, args.bench.output),
    };
    match output {
        Output::Json => out!("{}", report.json_lines()),
        Output::Text => out!("{report}"),
    }
    Ok(Outcome::Clean)
}

fn datapath(args: &BenchArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let lab = super::runtime()?.block_on(kilter_bench::kilter::Lab::up(progress))?;
    let mut options = kilter_bench::datapath::Options { subjects: lab.subjects()?, ..Default::default() };
    options.plan.runs = args.runs;
    kilter_bench::datapath::run(options, progress)
}

fn cni(args: &BenchArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let lab = super::runtime()?.block_on(kilter_bench::kilter::Lab::up(progress))?;
    let options =
        kilter_bench::cni::Options { runs: args.runs, plugins: vec![lab.plugin()?], ..Default::default() };
    kilter_bench::cni::run(options, progress)
}

fn policy(args: &BenchPolicyArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let options = kilter_bench::policy::Options { runs: args.bench.runs, plot: args.plot.clone() };
    kilter_bench::policy::run(&options, progress)
}

fn twin(args: &BenchTwinArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let options = kilter_bench::twin::Options {
        program: std::env::current_exe().context("find this program's own file")?,
        sources: args.sources.clone(),
        pods: args.pods,
        nodes: args.nodes,
        runs: args.bench.runs,
    };
    kilter_bench::twin::run(&options, progress)
}
