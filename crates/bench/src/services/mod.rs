//! Services: what a packet pays on its way through one of many, how soon a node knows all of them,
//! how soon a connection follows a change, and what all that keeps in memory.

mod change;
mod client;
mod cold;
mod manifests;
mod server;
mod slices;
pub mod soak;
mod spread;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use anyhow::{Context, Result};
use kilter_model::Family;
use kilter_netns::NetNs;
use kilter_twin::Layout;
use tokio::runtime::Runtime;

use crate::datapath::{self, PORT};
use crate::engine::{self, Plan};
use crate::figure::{Figure, Report};
use crate::kilter::{Lab, NODES};
use crate::lab;
use crate::memory;
use crate::peers::{Mode, Service, services};
use crate::statistics::{Sample, Summary};
use crate::work::Work;

pub use server::serve;

use self::change::{Backends, CHURN, follow};
use self::manifests::fixed;
use self::server::Server;
use self::slices::Slices;

/// What to measure.
pub struct Options {
    /// How many Services, each a case of its own; the last is the one of the other figures.
    pub counts: Vec<usize>,
    /// How many runs each figure is the median of.
    pub runs: usize,
}

/// Changes of a slice in a run.
const CHANGES: usize = 100;
/// Services that change beside the one that is watched.
const OTHERS: usize = 100;
/// The benchmark, as a figure names it.
const BENCH: &str = "services";

/// Measures. Needs root. `progress` is told what is being done.
///
/// # Errors
/// A twin that does not come up, a Service that is not reachable, a change that nothing follows.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut labs = Vec::new();
    for count in &options.counts {
        progress(&format!("bring up a twin of {count} Services"));
        let moving = if Some(count) == options.counts.last() { OTHERS + 1 } else { 0 };
        labs.push(runtime.block_on(Lab::of(&count.to_string(), &manifests::manifests(*count, moving)))?);
    }
    let mut figures = latencies(options, &labs, progress)?;
    figures.extend(spread());
    let (Some(count), Some(largest)) = (options.counts.last(), labs.last()) else { return Ok(Report::default()) };
    figures.extend(kept(largest, *count)?);
    figures.extend(changes(&runtime, largest, (*count, options.runs), progress)?);
    figures.extend(cold_starts(largest, *count, options.runs, progress)?);
    figures.extend(peers(*count, options.runs, progress)?);
    Ok(Report { figures, notes: notes() })
}

/// Keep-alive and new connections through one of so many Services, in turn with the peers.
fn latencies(options: &Options, labs: &[Lab], progress: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut peers = lab::Lab::new()?;
    let mut subjects = datapath::plain(&mut peers)?;
    subjects.retain(|subject| subject.name == "loopback");
    for (count, lab) in options.counts.iter().zip(labs) {
        let (client, near) = (lab.pod(NODES[0], "client")?, lab.pod(NODES[0], "near")?);
        subjects.push(lab.subject(&format!("service-of-{count}"), &client, &near, fixed(count / 2))?);
        for mode in [Mode::Nftables, Mode::Iptables] {
            progress(&format!("load {count} Services {}", mode.subject()));
            subjects.push(datapath::through_service(&mut peers, mode, *count)?);
        }
    }
    let works = vec![Work::TcpKeepAlive, Work::TcpNewConnection];
    let plan = Plan { runs: options.runs, works, ..Plan::default() };
    engine::measure(BENCH, &subjects, &plan, progress)
}

/// Which clients move when an endpoint goes.
fn spread() -> impl Iterator<Item = Figure> {
    spread::COUNTS.into_iter().filter_map(|count| single(&format!("moved one-of-{count}-goes"), "kilter", "%", spread::moved(count)))
}

/// What the process of a node keeps.
fn kept(lab: &Lab, count: usize) -> Result<Vec<Figure>> {
    let usage = memory::of_node(lab.twin().name(), NODES[0])?;
    let parts = [("rss", usage.rss), ("peak-rss", usage.peak), ("bpf-maps", usage.maps)];
    Ok(parts
        .into_iter()
        .filter_map(|(part, value)| single(&format!("node-{part} of-{count}"), "kilter", "MB", vec![value]))
        .collect())
}

/// Of an endpoint slice, alone and while others change too.
fn changes(
    runtime: &Runtime,
    lab: &Lab,
    (count, runs): (usize, usize),
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    let (near, far) = (lab.pod(NODES[0], "near")?, lab.pod(NODES[1], "far")?);
    let backends: Backends = [(near.socket(Family::V4)?.ip(), b'n'), (far.socket(Family::V4)?.ip(), b'f')];
    let _servers = [Server::start(&near.netns()?, b'n')?, Server::start(&far.netns()?, b'f')?];
    let client = lab.pod(NODES[0], "client")?.netns()?;
    let _membership = crate::place::Membership::join(&lab.node(NODES[0])?.cgroup)?;
    let slices = slices(runtime, lab)?;
    progress(&format!("make endpoint slices: {}", OTHERS + 1));
    for number in 0..=OTHERS {
        runtime.block_on(slices.create(number, backends[0].0))?;
    }
    let mut figures = Vec::new();
    for (what, others) in [("endpoint-change", 0), ("endpoint-change-under-churn", OTHERS)] {
        let mut samples = Vec::with_capacity(runs);
        for run in 1..=runs {
            progress(&format!("{what}: run {run} of {runs}"));
            let followed = follow(runtime, &slices, &client, &backends, (CHANGES, others))?;
            if others > 0 {
                progress(&format!("{:.0} other changes a second (wanted: {CHURN})", followed.churn));
            }
            samples.push(Sample::of_nanoseconds(followed.durations, 1e6).context("nothing was changed")?);
        }
        let summary = Summary::of(&samples);
        figures.extend(summary.map(|summary| figure(&format!("{what} of-{count}"), "kilter", "ms", summary, runs)));
    }
    Ok(figures)
}

fn slices(runtime: &Runtime, lab: &Lab) -> Result<Slices> {
    kilter_cluster::install_crypto();
    let kubeconfig = Layout::new(lab.twin().name()).admin_kubeconfig();
    Ok(Slices::of(runtime.block_on(kilter_cluster::connect(&kubeconfig))?))
}

fn cold_starts(lab: &Lab, count: usize, runs: usize, progress: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let near = lab.pod(NODES[0], "near")?;
    let _server = Server::start(&near.netns()?, b'n')?;
    let mut seconds = Vec::with_capacity(runs);
    for run in 1..=runs {
        progress(&format!("add a node and ask it for {count} Services: run {run} of {runs}"));
        seconds.push(cold::start(lab, count)?);
    }
    Ok(single(&format!("cold-start of-{count}"), "kilter", "s", seconds).into_iter().collect())
}

/// What loading and changing the peers' rule sets takes, without the program that would write them.
fn peers(count: usize, runs: usize, progress: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for mode in [Mode::Nftables, Mode::Iptables] {
        progress(&format!("load and change {count} Services {}", mode.subject()));
        let (mut loads, mut changes) = (Vec::new(), Vec::new());
        let backend = |host| vec![SocketAddrV4::new(Ipv4Addr::new(10, 251, 0, host), PORT)];
        let frontend = datapath::FRONTEND;
        let measured = |host| Service { protocols: &["tcp"], frontend, backends: backend(host) };
        for _ in 0..runs {
            let netns = NetNs::create()?;
            let began = Instant::now();
            mode.load(&netns, &services(count, &measured(1)))?;
            loads.push(began.elapsed().as_secs_f64());
            for change in 0..CHANGES / 10 {
                let began = Instant::now();
                mode.change(&netns, count / 2, &measured(change as u8 + 2))?;
                changes.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        figures.extend(single(&format!("rules-loaded of-{count}"), mode.subject(), "s", loads));
        figures.extend(single(&format!("rules-changed of-{count}"), mode.subject(), "ms", changes));
    }
    Ok(figures)
}

fn single(case: &str, subject: &str, unit: &'static str, values: Vec<f64>) -> Option<Figure> {
    let runs = values.len();
    Summary::of_single_values(values, false).map(|summary| figure(case, subject, unit, summary, runs))
}

fn figure(case: &str, subject: &str, unit: &'static str, summary: Summary, runs: usize) -> Figure {
    let Summary { p50, p99, low, high } = summary;
    Figure { bench: BENCH, case: case.into(), subject: subject.into(), unit, p50, p99, low, high, runs }
}

fn notes() -> Vec<String> {
    let mut notes = datapath::notes(true);
    notes.extend([
        "cold-start: from `kilter node add` to an answer through the last Service, asked from the new node".into(),
        format!(
            "endpoint-change: from before the request to the API to the first answer of the pod that the slice \
             leads to; under-churn: {CHURN} slices of other Services change a second beside it"
        ),
        "moved: of the clients from outside whose endpoint stays, those that are sent to another all the same; each run \
         lets another endpoint go"
            .into(),
        "rules-loaded, rules-changed: nft and iptables-restore alone, all rules and one Service's; a kube-proxy \
         takes the time of its own watches and sync period besides"
            .into(),
        "node: the whole process of a node, which is agent, DNS and kubelet".into(),
    ]);
    notes
}
