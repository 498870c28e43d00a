//! `kilter bench`.

use std::time::Duration;

use anyhow::{Context, Result};
use kilter_bench::Report;
use kilter_bench::machine::Times;
use kilter_bench::services::soak::Soaked;
use kilter_model::{Family, Routing};

use crate::cli::{
    BenchArgs, BenchCommand, BenchDatapathArgs, BenchFamily, BenchPolicyArgs, BenchServicesArgs, BenchSoakArgs,
    BenchTwinArgs, Output,
};
use crate::exit::Outcome;

pub fn run(command: &BenchCommand) -> Result<Outcome> {
    if !matches!(command, BenchCommand::Policy(_) | BenchCommand::Api(_)) {
        kilter_twin::check()?;
    }
    let mut progress = |what: &str| eprintln!("{what}");
    let mut clean = true;
    let times = Times::now();
    let (mut report, output) = match command {
        BenchCommand::Datapath(args) => (datapath(args, &mut progress)?, args.bench.output),
        BenchCommand::Api(args) => (api(args, &mut progress)?, args.output),
        BenchCommand::Cni(args) => (cni(args, &mut progress)?, args.output),
        BenchCommand::Policy(args) => (policy(args, &mut progress)?, args.bench.output),
        BenchCommand::Services(args) => (services(args, &mut progress)?, args.bench.output),
        BenchCommand::Twin(args) => (twin(args, &mut progress)?, args.bench.output),
        BenchCommand::Soak(args) => {
            let soaked = soak(args, &mut progress)?;
            clean = soaked.clean;
            (soaked.report, args.output)
        }
        BenchCommand::Server { netns, who } => {
            kilter_bench::services::serve(netns, *who)?;
            return Ok(Outcome::Clean);
        }
    };
    report.notes.extend(times.note());
    match output {
        Output::Json => out!("{}", report.json_lines()),
        Output::Text => out!("{report}"),
    }
    Ok(if clean { Outcome::Clean } else { Outcome::Finding })
}

fn datapath(args: &BenchDatapathArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let families: Vec<Family> = args.ip_family.iter().map(|family| family_of(*family)).collect();
    let (mut labs, mut subjects) = (Vec::new(), Vec::new());
    for routing in &args.routing {
        let up = kilter_bench::kilter::Lab::up((*routing).into(), &families, progress);
        let lab = super::runtime()?.block_on(up)?;
        subjects.extend(lab.subjects()?);
        labs.push(lab);
    }
    let mut options =
        kilter_bench::datapath::Options { subjects, peers: !args.no_peers, ..Default::default() };
    options.plan.runs = args.bench.runs;
    kilter_bench::datapath::run(options, progress)
}

fn family_of(family: BenchFamily) -> Family {
    match family {
        BenchFamily::Ipv4 => Family::V4,
        BenchFamily::Ipv6 => Family::V6,
    }
}

fn cni(args: &BenchArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let up = kilter_bench::kilter::Lab::up(Routing::Native, &[Family::V4], progress);
    let lab = super::runtime()?.block_on(up)?;
    let options =
        kilter_bench::cni::Options { runs: args.runs, plugins: vec![lab.plugin()?], ..Default::default() };
    kilter_bench::cni::run(options, progress)
}

fn api(args: &BenchArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let options = kilter_bench::api::Options { runs: args.runs, kubectl: kilter_bench::api::kubectl() };
    kilter_bench::api::run(&options, progress)
}

fn policy(args: &BenchPolicyArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let options = kilter_bench::policy::Options { runs: args.bench.runs, plot: args.plot.clone() };
    kilter_bench::policy::run(&options, progress)
}

fn services(args: &BenchServicesArgs, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let counts = args.services.iter().map(|count| usize::from(*count)).collect();
    kilter_bench::services::run(&kilter_bench::services::Options { counts, runs: args.bench.runs }, progress)
}

fn soak(args: &BenchSoakArgs, progress: &mut dyn FnMut(&str)) -> Result<Soaked> {
    let options = kilter_bench::services::soak::Options {
        duration: Duration::from_secs(args.seconds),
        connections: args.connections,
        rate: args.rate,
        churn: args.churn,
        services: SOAKED,
    };
    kilter_bench::services::soak::run(&options, progress)
}

/// Services of a soak beside those that change.
const SOAKED: usize = 1_000;

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
