//! Many connections that live, many that begin, and Services that change under them, for minutes; in
//! the midst of it the process of the clients' node is killed. Nobody may notice.

mod calls;
mod history;
mod live;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kilter_model::Family;
use kilter_netns::NetNs;
use kilter_twin::{Layout, NodeClient};
use kilter_wire::control::NodeStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;

use super::client::ask_within;
use super::manifests::{manifests, moving};
use super::server::Server;
use super::slices::Slices;
use super::{BENCH, OTHERS, client, single};
use crate::figure::{Figure, Report};
use crate::kilter::{Lab, NODES};
use crate::memory;
use crate::place::Membership;
use crate::work::PATIENCE;

use self::history::History;

/// How long, and how much.
pub struct Options {
    /// How long the load lasts.
    pub duration: Duration,
    /// Connections that live all the time.
    pub connections: usize,
    /// New connections a second.
    pub rate: u32,
    /// Changes of endpoint slices a second.
    pub churn: u32,
    /// How many Services there are besides those that change.
    pub services: usize,
}

/// What it came to.
pub struct Soaked {
    /// The figures.
    pub report: Report,
    /// Whether no connection was lost or misled.
    pub clean: bool,
}

/// What went wrong with connections: how many, and the first of each kind in words.
#[derive(Default)]
struct Faults {
    count: AtomicUsize,
    first: std::sync::Mutex<Option<String>>,
}

impl Faults {
    fn add(&self, what: &str) {
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            *self.first.lock().expect("BUG: a lock was poisoned") = Some(what.to_owned());
        }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn first(&self) -> Option<String> {
        self.first.lock().expect("BUG: a lock was poisoned").clone()
    }
}

/// What all threads share.
struct Load {
    over: AtomicBool,
    lost: Faults,
    failed: Faults,
    misled: Faults,
    /// Connections that live.
    living: AtomicUsize,
    /// Questions that they have had answered.
    exchanges: AtomicUsize,
    /// Connections that have begun and ended.
    calls: AtomicUsize,
    history: History,
}

/// Runs the load against a twin of its own. Needs root.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Soaked> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    progress(&format!("bring up a twin of {} Services", options.services));
    let lab = runtime.block_on(Lab::of("soak", &manifests(options.services, OTHERS)))?;
    let (near, far) = (lab.pod(NODES[0], "near")?, lab.pod(NODES[1], "far")?);
    let backends = [(near.socket(Family::V4)?.ip(), b'n'), (far.socket(Family::V4)?.ip(), b'f')];
    let _servers = [Server::start(&near.netns()?, b'n')?, Server::start(&far.netns()?, b'f')?];
    let slices = Slices::of(client(&runtime, &lab)?);
    let load = Arc::new(Load {
        over: AtomicBool::new(false),
        lost: Faults::default(),
        failed: Faults::default(),
        misled: Faults::default(),
        living: AtomicUsize::new(0),
        exchanges: AtomicUsize::new(0),
        calls: AtomicUsize::new(0),
        history: History::new(OTHERS, backends[0].1),
    });
    for number in 0..OTHERS {
        runtime.block_on(slices.create(number, backends[0].0))?;
    }
    let _membership = Membership::join(&lab.node(NODES[0])?.cgroup)?;
    let clients = (lab.pod(NODES[0], "client")?.netns()?, lab.pod(NODES[0], "caller")?.netns()?);
    clients.1.run(reach_all)??;
    let before = Kept::of(&runtime, &lab)?;
    let churn = runtime.spawn(change(slices, load.clone(), backends, options.churn));
    let at = std::thread::scope(|scope| {
        scope.spawn(|| live::run(&clients.0, &load, options));
        scope.spawn(|| calls::run(&clients.1, &load, options));
        let at = watch(&runtime, &lab, &load, options, progress);
        load.over.store(true, Ordering::SeqCst);
        at
    })?;
    let changes = runtime.block_on(churn).context("BUG: the changing task panicked")??;
    drop(clients);
    progress("prove what the kernel has loaded");
    let proven = lab.twin().prove();
    let after = Kept::of(&runtime, &lab)?;
    Ok(judge(&load, options, changes, at, proven, (&before, &after)))
}

/// Waits until each Service that changes leads somewhere.
fn reach_all() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for number in 0..OTHERS {
        while let Err(error) = ask_within(moving(number), PATIENCE) {
            ensure!(Instant::now() < deadline, "{} does not answer: {error}", moving(number));
        }
    }
    Ok(())
}

/// Waits out the load and kills the node's process half-way. Says what lives when it is killed.
fn watch(
    runtime: &Runtime,
    lab: &Lab,
    load: &Load,
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<usize> {
    let began = Instant::now();
    let mut living = None;
    let mut back = false;
    while began.elapsed() < options.duration {
        std::thread::sleep(Duration::from_secs(1));
        // A tick later than it said that it is ready, so that no call judged now began before.
        load.history.runs(living.is_none() || back);
        back = living.is_some() && status(runtime, lab).is_ok_and(|status| status.ready);
        if living.is_none() && began.elapsed() > options.duration / 2 {
            living = Some(load.living.load(Ordering::Relaxed));
            progress("kill -9 the process of the clients' node");
            load.history.runs(false);
            kill_node(lab, NODES[0])?;
        }
        progress(&format!(
            "{} s: {} connections live, {} exchanges, {} calls, {} faults",
            began.elapsed().as_secs(),
            load.living.load(Ordering::Relaxed),
            load.exchanges.load(Ordering::Relaxed),
            load.calls.load(Ordering::Relaxed),
            load.lost.count() + load.failed.count() + load.misled.count(),
        ));
    }
    living.context("the load was over before the node's process could be killed")
}

fn kill_node(lab: &Lab, node: &str) -> Result<()> {
    let process = memory::node_process(lab.twin().name(), node)?;
    let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok());
    kill(Pid::from_raw(pid.context("BUG: /proc without numbers")?), Signal::SIGKILL)?;
    Ok(())
}

/// Lets one Service after the other lead to the other pod. Returns how many changes the API took.
async fn change(slices: Slices, load: Arc<Load>, backends: [(IpAddr, u8); 2], rate: u32) -> Result<usize> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    for turn in 0usize.. {
        ticks.tick().await;
        if load.over.load(Ordering::SeqCst) {
            return Ok(turn);
        }
        let (address, who) = backends[(turn / OTHERS + 1) % 2];
        let number = turn % OTHERS;
        load.history.leads(number, who);
        slices.lead(number, address).await?;
        load.history.led(number);
    }
    Ok(0)
}

/// What the node keeps, in its process and in the kernel.
struct Kept {
    rss: f64,
    tables: BTreeMap<String, u64>,
}

impl Kept {
    fn of(runtime: &Runtime, lab: &Lab) -> Result<Self> {
        let rss = memory::of_node(lab.twin().name(), NODES[0])?.rss;
        Ok(Self { rss, tables: status(runtime, lab)?.tables })
    }
}

/// Of the clients' node, by its own process.
fn status(runtime: &Runtime, lab: &Lab) -> Result<NodeStatus> {
    let socket = Layout::new(lab.twin().name()).control_socket(NODES[0]);
    runtime.block_on(async { NodeClient::connect(NODES[0], &socket).await?.status().await })
}

fn judge(
    load: &Load,
    options: &Options,
    changes: usize,
    living: usize,
    proven: Result<()>,
    (before, after): (&Kept, &Kept),
) -> Soaked {
    let count = |case: &str, value: f64, unit| single(&format!("soak {case}"), "kilter", unit, vec![value]);
    let seconds = options.duration.as_secs_f64();
    let mut figures: Vec<Figure> = [
        ("live-connections", living as f64, "count"),
        ("exchanges", load.exchanges.load(Ordering::Relaxed) as f64 / seconds, "1/s"),
        ("new-connections", load.calls.load(Ordering::Relaxed) as f64 / seconds, "1/s"),
        ("changes", changes as f64 / seconds, "1/s"),
        ("lost", load.lost.count() as f64, "count"),
        ("refused", load.failed.count() as f64, "count"),
        ("misled", load.misled.count() as f64, "count"),
        ("node-rss-before", before.rss, "MB"),
        ("node-rss-after", after.rss, "MB"),
    ]
    .into_iter()
    .filter_map(|(case, value, unit)| count(case, value, unit))
    .collect();
    figures.extend(load.history.lateness().into_iter().filter_map(|(case, values)| single(case, "kilter", "ms", values)));
    let mut notes = vec![format!(
        "{BENCH} soak of {seconds:.0} s; the process of the clients' node was killed half-way; misled: a connection \
         that began more than {} ms after the change away from the pod that answered it, when a node process ran",
        history::GRACE.as_millis()
    )];
    for (name, rows) in &after.tables {
        let was = before.tables.get(name).copied().unwrap_or_default();
        notes.push(format!("table {name}: {was} rows before, {rows} after"));
    }
    let faults = [("lost", &load.lost), ("refused", &load.failed), ("misled", &load.misled)];
    notes.extend(faults.iter().filter_map(|(name, all)| Some(format!("the first that was {name}: {}", all.first()?))));
    let clean = faults.iter().all(|(_, all)| all.count() == 0) && proven.is_ok();
    notes.push(match proven {
        Ok(()) => "`kilter prove` found no difference after it".into(),
        Err(error) => format!("`kilter prove` after it: {error:#}"),
    });
    Soaked { report: Report { figures, notes }, clean }
}

/// A runtime whose sockets are of a namespace: it never leaves this thread.
fn inside(netns: &NetNs) -> Result<Runtime> {
    netns.set()?;
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("start a runtime")
}
