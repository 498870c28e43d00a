//! Services: what a packet pays on its way through one of many, how soon a node knows all of them,
//! how soon a connection follows a change, and what all that keeps in memory.

mod change;
mod client;
mod cold;
mod failover;
mod manifests;
mod rules;
mod server;
mod slices;
pub mod soak;
mod spread;

use anyhow::{Context, Result};
use kilter_cluster::Client;
use kilter_model::Family;
use kilter_twin::Layout;
use tokio::runtime::Runtime;

use crate::datapath;
use crate::engine::{self, Plan};
use crate::figure::{Figure, Report};
use crate::kilter::{Lab, NODES};
use crate::memory;
use crate::peers::Mode;
use crate::statistics::{Sample, Summary};
use crate::work::Work;

pub use server::serve;

use self::change::{Backends, CHURN, follow};
use self::manifests::fixed;
use self::rules::Peers;
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
    let mut peers = Peers::new()?;
    let mut figures = latencies(options, &labs, &mut peers, progress)?;
    figures.extend(spread());
    let (Some(count), Some(largest)) = (options.counts.last(), labs.last()) else { return Ok(Report::default()) };
    figures.extend(kept(largest, *count)?);
    figures.extend(changes(&runtime, largest, (*count, options.runs), progress)?);
    figures.extend(cold_starts(largest, *count, options.runs, progress)?);
    figures.extend(failovers(&runtime, largest, options.runs, progress)?);
    figures.extend(peers.figures(*count, progress)?);
    Ok(Report { figures, notes: notes() })
}

/// Keep-alive and new connections through one of so many Services, in turn with the peers.
fn latencies(
    options: &Options,
    labs: &[Lab],
    peers: &mut Peers,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Figure>> {
    let mut subjects = datapath::plain(&mut peers.lab)?;
    subjects.retain(|subject| subject.name == "loopback");
    for (count, lab) in options.counts.iter().zip(labs) {
        let (client, near) = (lab.pod(NODES[0], "client")?, lab.pod(NODES[0], "near")?);
        subjects.push(lab.subject(&format!("service-of-{count}"), &client, &near, fixed(count / 2))?);
        for mode in [Mode::Nftables, Mode::Iptables] {
            progress(&format!("load {count} Services {}", mode.subject()));
            subjects.push(peers.load(mode, *count)?);
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
    let asking = lab.pod(NODES[0], "client")?.netns()?;
    let _membership = crate::place::Membership::join(&lab.node(NODES[0])?.cgroup)?;
    let slices = Slices::of(client(runtime, lab)?);
    progress(&format!("make endpoint slices: {}", OTHERS + 1));
    for number in 0..=OTHERS {
        runtime.block_on(slices.create(number, backends[0].0))?;
    }
    let mut figures = Vec::new();
    for (what, others) in [("endpoint-change", 0), ("endpoint-change-under-churn", OTHERS)] {
        let mut samples = Vec::with_capacity(runs);
        for run in 1..=runs {
            progress(&format!("{what}: run {run} of {runs}"));
            let followed = follow(runtime, &slices, &asking, &backends, (CHANGES, others))?;
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

fn client(runtime: &Runtime, lab: &Lab) -> Result<Client> {
    kilter_cluster::install_crypto();
    let kubeconfig = Layout::new(lab.twin().name()).admin_kubeconfig();
    Ok(runtime.block_on(kilter_cluster::connect(&kubeconfig))?)
}

fn cold_starts(lab: &Lab, count: usize, runs: usize, progress: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let near = lab.pod(NODES[0], "near")?;
    let _server = Server::start(&near.netns()?, b'n')?;
    let mut starts = Vec::with_capacity(runs);
    for run in 1..=runs {
        progress(&format!("add a node and ask it for {count} Services: run {run} of {runs}"));
        starts.push(cold::start(lab, count)?);
    }
    let case = |part: &str| format!("cold-start-{part} of-{count}");
    let first = single(&case("first"), "kilter", "s", starts.iter().map(|it| it.first).collect());
    let last = single(&case("last"), "kilter", "s", starts.iter().map(|it| it.last).collect());
    Ok(first.into_iter().chain(last).collect())
}

/// How long a dead backend is met.
fn failovers(runtime: &Runtime, lab: &Lab, runs: usize, progress: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut failing = failover::Failing::new(runtime, lab, client(runtime, lab)?)?;
    let mut figures = Vec::new();
    for (retry, how) in [(false, "probe-alone"), (true, "refused-carried-on")] {
        progress(&format!("let a backend die {runs} times, {how}"));
        failing.retry(runtime, retry)?;
        let all = failing.run(lab, runs)?;
        let last = all.iter().map(|it| it.last_failed).collect();
        let failed = all.iter().map(|it| f64::from(it.failed)).collect();
        figures.extend(single(&format!("failover {how}"), "kilter", "s", last));
        figures.extend(single(&format!("failed-requests {how}"), "kilter", "count", failed));
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
        "cold-start: from `kilter node add` to the first answer, and to a connection accepted through the last Service, tried \
         one after the other from the new node"
            .into(),
        format!(
            "endpoint-change: from before the request to the API to the first answer of the pod that the slice \
             leads to; under-churn: {CHURN} slices of other Services change a second beside it"
        ),
        "moved: of the clients from outside whose endpoint stays, those that are sent to another all the same; each run \
         lets another endpoint go"
            .into(),
        "rules-loaded (once), rules-changed: nft and iptables-restore alone, all rules and one Service's; a kube-proxy \
         takes the time of its own watches and sync period besides"
            .into(),
        format!(
            "failover: from a server's death, at another moment between two probes each time, to the last request \
             that fails, of one every 2 ms; two endpoints with a readiness probe every {} s, of which one failure is \
             enough; 0: none failed",
            failover::PERIOD
        ),
        "node: the whole process of a node, which is agent, DNS and kubelet".into(),
    ]);
    notes
}
