use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use kilter_datapath::{Datapath, EventSource, Overlay};
use kilter_model::Routing;
use kilter_netlink::Netlink;
use kilter_netns::NetNs;
use kilter_services::Departures;
use kilter_wire::control::{Drop as Dropped, Flow, NodeStatus, Opened};
use kilter_wire::loaded::Loaded;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::announcer::Announcer;
use crate::closer::Closing;
use crate::command::{Command, Leaving, chain};
use crate::containers::Containers;
use crate::engine::{Applied, Engine, know_namespace};
use crate::health::{self, Health};
use crate::ipam::{Stage, Store};
use crate::observe::Observer;
use crate::rows::Rows;
use crate::updates::{Follower, Updates};
use crate::view::View;
use crate::wiring::{Locks, Wiring};
use crate::{Config, adopt, closer, cni_server, host, observe, overlay, reaper};

/// Batches and questions that wait for the engine.
const COMMANDS: usize = 1024;

/// Between two sweeps of the flow table.
const TICK: Duration = Duration::from_secs(2);

/// How long the reader of events waits for one before it looks whether it should stop.
const GLANCE: Duration = Duration::from_millis(100);

/// The agent of one node.
#[derive(Debug)]
pub struct Agent;

/// A running agent. It stops when [`Handle::shutdown`] is called or the last handle is dropped; the
/// data plane goes on as it is.
#[derive(Debug, Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: String,
    engine: mpsc::Sender<Command>,
    applied: watch::Receiver<Applied>,
    observers: observe::Channels,
    stop: CancellationToken,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Agent {
    /// Starts an agent: prepares the node, takes over what a former process left, listens for the
    /// plugin, and follows `updates`. The process must be in the node's network namespace; threads are
    /// started from the calling one. Returns when the socket accepts.
    ///
    /// # Errors
    /// When the node has no such uplink, the data plane cannot be loaded, or files cannot be used.
    pub async fn start(config: Config, updates: impl Updates) -> Result<Handle> {
        let (engine, commands) = mpsc::channel(COMMANDS);
        let (applied, applied_seen) = watch::channel(Applied::new());
        let observers = observe::Channels::new();
        let (reaper, doomed) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let (node, socket) = (config.node.to_string(), config.socket.clone());

        let (closer, closings) = std::sync::mpsc::channel();
        let (checks, health) = watch::channel(health::Checks::default());
        let follower = updates.follower();
        let channels = Channels { applied, observers: observers.clone(), reaper: reaper.clone(), closer, checks, follower };
        let (deciding, prepared) = decide(config, channels, commands)?;
        let (events, mtu) = prepared.await.context("BUG: the engine ended without a word")??;
        let reaping = reap(doomed, engine.clone(), stop.clone())?;
        let checking = check_health(health, stop.clone())?;
        let node_namespace = NetNs::current()?;
        let closing = spawn("kilter-closer", move || closer::run(&node_namespace, &closings))?;
        let reporting = {
            let (engine, stop) = (engine.clone(), stop.clone());
            spawn("kilter-events", move || report(events, &engine, &stop))?
        };
        let (serving, listens) = serve(socket, mtu, engine.clone(), reaper, stop.clone())?;
        listens.await.context("the plugin's socket cannot be served; see the log")??;

        tokio::spawn(until(stop.clone(), follow(updates, engine.clone())));
        tokio::spawn(until(stop.clone(), tick(engine.clone())));
        let threads = std::sync::Mutex::new(vec![deciding, reaping, checking, closing, reporting, serving]);
        Ok(Handle {
            inner: Arc::new(Inner { node, engine, applied: applied_seen, observers, stop, threads }),
        })
    }
}

type Prepared = Result<(EventSource, u32)>;

/// Opens everything on the engine's thread, which then serves `commands`.
fn decide(
    config: Config,
    channels: Channels,
    commands: mpsc::Receiver<Command>,
) -> Result<(JoinHandle<()>, oneshot::Receiver<Prepared>)> {
    let (ready, prepared) = oneshot::channel();
    let thread = spawn("kilter-engine", move || match open(config, channels) {
        Ok((engine, events, mtu)) => {
            if ready.send(Ok((events, mtu))).is_ok() {
                engine.run(commands);
            }
        }
        Err(error) => drop(ready.send(Err(error))),
    })?;
    Ok((thread, prepared))
}

fn reap(
    doomed: mpsc::UnboundedReceiver<Leaving>,
    engine: mpsc::Sender<Command>,
    stop: CancellationToken,
) -> Result<JoinHandle<()>> {
    spawn("kilter-reaper", move || {
        on_own_runtime(stop, async move {
            reaper::run(Netlink::current()?, doomed, engine).await;
            Ok(())
        });
    })
}

/// Answers the health checks of load balancers.
fn check_health(checks: watch::Receiver<health::Checks>, stop: CancellationToken) -> Result<JoinHandle<()>> {
    spawn("kilter-health", move || {
        on_own_runtime(stop, async move {
            health::serve(checks).await;
            Ok(())
        });
    })
}

/// Serves the plugin; says when the socket accepts.
fn serve(
    socket: PathBuf,
    mtu: u32,
    engine: mpsc::Sender<Command>,
    reaper: mpsc::UnboundedSender<Leaving>,
    stop: CancellationToken,
) -> Result<(JoinHandle<()>, oneshot::Receiver<Result<()>>)> {
    let (listening, listens) = oneshot::channel();
    let thread = spawn("kilter-cni", move || {
        on_own_runtime(stop, async move {
            let netlink = Netlink::current()?;
            let listener = match cni_server::listen(&socket) {
                Ok(listener) => listener,
                Err(error) => return Ok(drop(listening.send(Err(error)))),
            };
            let wiring = Wiring { netlink, mtu, engine, reaper, locks: Locks::default() };
            if listening.send(Ok(())).is_ok() {
                cni_server::serve(listener, Arc::new(wiring)).await;
            }
            Ok(())
        });
    })?;
    Ok((thread, listens))
}

impl Handle {
    /// How the node is, now.
    pub async fn status(&self) -> NodeStatus {
        let (reply, answer) = oneshot::channel();
        // A stopped agent is not ready, and that is what the default says.
        let stopped = || NodeStatus { node: self.inner.node.clone(), ..NodeStatus::default() };
        match self.inner.engine.send(Command::Status(reply)).await {
            Ok(()) => answer.await.unwrap_or_else(|_| stopped()),
            Err(_) => stopped(),
        }
    }

    /// What the kernel holds now, read back.
    ///
    /// # Errors
    /// When some table cannot be read, or the agent has stopped; in words, for whoever asked.
    pub async fn loaded(&self) -> Result<Loaded, String> {
        let (reply, answer) = oneshot::channel();
        let stopped = || "the agent has stopped".to_owned();
        self.inner.engine.send(Command::Loaded(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Every refused packet from now on, with the rule that refused it.
    pub fn drops(&self) -> broadcast::Receiver<Dropped> {
        self.inner.observers.drops.subscribe()
    }

    /// Every connection that is opened from now on, with the rule that allows it.
    pub async fn opened(&self) -> broadcast::Receiver<Opened> {
        let opened = self.inner.observers.opened.subscribe();
        // A stopped engine opens nothing, and its channel will say so.
        let _ = self.inner.engine.send(Command::Attend).await;
        opened
    }

    /// The connections that the node tracks now.
    ///
    /// # Errors
    /// When the table cannot be read or the agent has stopped.
    pub async fn flows(&self) -> Result<Vec<Flow>> {
        let (reply, answer) = oneshot::channel();
        self.inner.engine.send(Command::Flows(reply)).await.context("the agent has stopped")?;
        answer.await.context("the agent has stopped")?.map_err(anyhow::Error::msg)
    }

    /// The refused packets of the recent past, oldest first; none once the agent has stopped.
    pub async fn recent_drops(&self) -> Vec<Dropped> {
        let (reply, answer) = oneshot::channel();
        match self.inner.engine.send(Command::RecentDrops(reply)).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// The resourceVersions whose effect is in the kernel, by resource; changes can be awaited.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.inner.applied.clone()
    }

    /// Resolves when the agent works no more, whatever the reason: a node process without an agent
    /// should end, so that somebody starts it again.
    pub async fn stopped(&self) {
        self.inner.engine.closed().await;
    }

    /// Stops the agent and waits until it has. Pods keep their network and their rows.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        // An engine that is gone already needs no telling.
        let _ = self.inner.engine.send(Command::Stop).await;
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(|e| e.into_inner()));
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().try_for_each(JoinHandle::join));
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("a thread of the agent panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.engine.try_send(Command::Stop);
    }
}

struct Channels {
    applied: watch::Sender<Applied>,
    observers: observe::Channels,
    reaper: mpsc::UnboundedSender<Leaving>,
    closer: std::sync::mpsc::Sender<Closing>,
    checks: watch::Sender<health::Checks>,
    follower: Follower,
}

/// Prepares the node and opens everything, on the engine's thread.
fn open(config: Config, channels: Channels) -> Result<(Engine, EventSource, u32)> {
    let runtime = own_runtime()?;
    let (netlink, uplink, tunnel, links) = runtime.block_on(async {
        let netlink = Netlink::current()?;
        let uplink =
            host::prepare(&netlink, &config.uplink, &config.pod_cidrs).await.context("prepare the node")?;
        let tunnel = match config.routing {
            Routing::Native => None,
            Routing::Vxlan => {
                let mtu = overlay::pod_mtu(uplink.mtu, config.routing, config.addresses.first());
                Some(overlay::prepare(&netlink, mtu).await.context("make the tunnel to other nodes")?)
            }
        };
        let links = netlink.links().await?;
        anyhow::Ok((netlink, uplink, tunnel, links))
    })?;
    let mut datapath = Datapath::open(kilter_datapath::Config {
        pin_dir: config.pins.clone(),
        node_name: config.node.to_string(),
        node_ips: config.addresses.clone(),
        uplink_ifindex: uplink.index,
        overlay: tunnel.as_ref().map(|link| Overlay { ifindex: link.index, vni: overlay::VNI, port: overlay::PORT }),
        pod_cidrs: config.pod_cidrs.clone(),
        cluster_pod_cidrs: config.cluster_pod_cidrs.clone(),
        service_cidrs: config.service_cidrs.clone(),
        masquerade_ports: host::MASQUERADE_PORTS,
        cgroup: config.cgroup.clone(),
        retry_refused: config.retry_refused,
        max_flows: config.max_flows,
    })?;
    let events = datapath.events()?;
    let departures = Departures::resume(&datapath.read_services()?);
    let rows = Rows::new(config.node.clone(), &config.cluster_pod_cidrs, config.routing, &datapath)?;
    let mut view = View::new(config.node.clone());
    let containers = Containers::load(&config.pod_cidrs, Store::open(&config.ipam)?)?;
    let strays = Some(adopt::adopt(&containers, &links, &mut datapath, &mut view)?);
    datapath.know_namespace(NetNs::current()?.cookie()?, &config.addresses)?;
    for container in containers.iter().filter(|container| container.stage == Stage::Wired) {
        know_namespace(&mut datapath, &container.reservation);
    }
    let announcer = Announcer::new(&config, uplink.index, uplink.mac.unwrap_or_default(), &datapath)?;
    let health = Health::new(config.node.clone(), channels.checks);
    let observer = Observer::new(config.node.to_string(), channels.observers);
    let way = tunnel.unwrap_or(uplink);
    let engine = Engine {
        config,
        runtime,
        netlink,
        way: way.index,
        datapath,
        rows,
        view,
        containers,
        strays,
        waiting: Vec::new(),
        applied: channels.applied,
        observer,
        reaper: channels.reaper,
        closer: channels.closer,
        announcer,
        health,
        departures,
        follower: channels.follower,
        departed: BTreeSet::new(),
        rows_pending: true,
        routes_pending: true,
        routes_set: None,
        ticks: 0,
    };
    Ok((engine, events, way.mtu))
}

async fn follow(mut updates: impl Updates, engine: mpsc::Sender<Command>) {
    while let Some(batch) = updates.next().await {
        if engine.send(Command::Updates(batch)).await.is_err() {
            return;
        }
    }
    tracing::warn!("the watches have ended; the node goes on with what it knows");
}

/// On a thread of its own: reading the ring is a wait, and there is nothing else to do.
fn report(mut events: EventSource, engine: &mpsc::Sender<Command>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match events.wait(GLANCE) {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => {
                if engine.blocking_send(Command::Events(batch)).is_err() {
                    return;
                }
            }
            Err(error) => return tracing::error!(error = %chain(&error), "drops can no longer be read"),
        }
    }
}

async fn tick(engine: mpsc::Sender<Command>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if engine.send(Command::Tick).await.is_err() {
            return;
        }
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work).with_context(|| format!("start thread {name}"))
}

fn own_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")
}

/// Links are made and deleted by system calls that may wait for the kernel's one link lock, so whoever
/// makes them has a thread and a runtime to itself.
fn on_own_runtime(stop: CancellationToken, work: impl Future<Output = Result<()>>) {
    let done = own_runtime().and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                done = work => done,
            }
        })
    });
    if let Err(error) = done {
        tracing::error!("a thread of the agent ended: {error:#}");
    }
}
