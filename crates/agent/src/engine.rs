//! The one thread that decides: it owns the view of the cluster, the compilers, the data plane and the
//! addresses, so none of them needs a lock and no bpf system call ever holds up the runtime.
//!
//! It takes whatever has piled up, applies all of it, compiles once, and answers after the kernel holds
//! the result. So a burst of changes costs one compilation, and an ADD that is answered has every policy
//! in force that the agent had heard of.

use std::collections::BTreeSet;

use kilter_cluster::Resource;
use kilter_datapath::{Datapath, NodeRoute};
use kilter_model::Change;
use kilter_netlink::Netlink;
use kilter_netns::NetNs;
use kilter_services::{Departures, Remote};
use kilter_wire::control::NodeStatus;
use tokio::sync::{mpsc, oneshot, watch};

use crate::Config;
use crate::adopt::Strays;
use crate::announcer::Announcer;
use crate::closer::Closing;
use crate::command::{Command, Inspected, Leaving, Refusal, Reserve, chain};
use crate::containers::Containers;
use crate::endpoint::endpoint;
use crate::health::Health;
use crate::ipam::{Reservation, Stage};
use crate::observe::Observer;
use crate::rows::Rows;
use crate::updates::Follower;
use crate::view::{Known, View};
use crate::routes;

/// Versions whose effect is in the kernel, by resource.
pub type Applied = std::collections::BTreeMap<String, String>;

/// A sweep walks the whole table, however empty it is: of many idle nodes on one machine it was what they did most.
const TICKS_PER_SWEEP: u32 = 3;

/// See the module.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) netlink: Netlink,
    /// The link to other nodes' pods: the uplink, or the tunnel's device.
    pub(crate) way: u32,
    pub(crate) datapath: Datapath,
    pub(crate) rows: Rows,
    pub(crate) view: View,
    pub(crate) containers: Containers,
    pub(crate) strays: Option<Strays>,
    pub(crate) waiting: Vec<Reserve>,
    pub(crate) applied: watch::Sender<Applied>,
    pub(crate) observer: Observer,
    pub(crate) reaper: mpsc::UnboundedSender<Leaving>,
    pub(crate) closer: std::sync::mpsc::Sender<Closing>,
    pub(crate) announcer: Announcer,
    pub(crate) health: Health,
    pub(crate) departures: Departures,
    pub(crate) follower: Follower,
    /// Backends that went while the kernel could not be brought in step.
    pub(crate) departed: BTreeSet<Remote>,
    /// Whether rows are to be written although nothing changed: at first, and after a failure.
    pub(crate) rows_pending: bool,
    /// The same for routes. They are no reason to refuse a pod: policy does not rest on them.
    pub(crate) routes_pending: bool,
    /// What was set last: most of what nodes say of themselves moves no route, and reading back what there is costs
    /// more the more of them there are.
    pub(crate) routes_set: Option<[BTreeSet<NodeRoute>; 2]>,
    pub(crate) ticks: u32,
}

/// An ADD whose rows are part of the present round.
struct Attaching {
    container: String,
    reply: oneshot::Sender<Result<(), Refusal>>,
}

impl Engine {
    /// Works until it is stopped or nobody can ask any more.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut attaching = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                if matches!(command, Command::Stop) {
                    return;
                }
                self.serve(command, &mut attaching);
                next = commands.try_recv().ok();
            }
            let outcome = self.commit();
            self.answer_attaching(attaching, &outcome);
            if let Err(refusal) = outcome {
                tracing::error!(error = %refusal.details, "{}; it is tried again", refusal.msg);
            }
            self.serve_waiting();
        }
    }

    fn serve(&mut self, command: Command, attaching: &mut Vec<Attaching>) {
        match command {
            Command::Updates(updates) => self.view.take(updates),
            Command::Reserve(reserve) => self.waiting.push(reserve),
            Command::Explain(pod, reply) => {
                let text = match self.view.knows(&pod.uid, &pod.name) {
                    Known::Yes if !self.rows_pending => "it is known now".to_owned(),
                    Known::Yes => {
                        "the data plane cannot be brought up to date; see the agent's log".to_owned()
                    }
                    Known::NotYet(why) | Known::Never(why) => why,
                };
                let _ = reply.send(text);
            }
            Command::Attach(container, link, reply) => match self.attach(&container, link) {
                Ok(()) => attaching.push(Attaching { container, reply }),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            Command::Detach(container, reply) => drop(reply.send(self.cut_off(&container))),
            Command::Inspect(container, link, reply) => drop(reply.send(self.inspect(&container, link))),
            Command::List(reply) => {
                let there = self.containers.iter().filter(|container| container.stage != Stage::Wiring);
                let _ = reply.send(there.map(|container| container.reservation.clone()).collect());
            }
            Command::Release(containers) => {
                if let Err(error) = self.containers.release(&containers) {
                    tracing::error!(error = %chain(&error), "freed addresses cannot be recorded");
                }
            }
            Command::Events(events) => self.observer.tell(&events, |rule| self.rows.rule(rule)),
            Command::Tick => self.tick(),
            Command::Attend => self.attend(),
            Command::Flows(reply) => {
                let flows = self.observer.flows(&self.datapath, |rule| self.rows.rule(rule));
                let _ = reply.send(flows.map_err(|error| chain(&error)));
            }
            Command::RecentDrops(reply) => drop(reply.send(self.observer.recent())),
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Loaded(reply) => {
                let _ = reply.send(self.loaded().map_err(|error| format!("{error:#}")));
            }
            Command::Stop => {}
        }
    }

    /// Brings the kernel in step with the view. Nothing is concluded before every watch has synced.
    fn commit(&mut self) -> Result<(), Refusal> {
        if !self.view.is_synced() {
            return Ok(());
        }
        let changes = self.view.drain();
        self.health.update(self.view.cluster(), &changes, !self.rows_pending);
        self.announcer.follow(self.view.cluster(), &changes);
        self.routes_pending |= changes.iter().any(|change| matches!(change, Change::Node(_)));
        if !changes.is_empty() || self.rows_pending {
            self.rows_pending = true;
            self.departed.extend(self.departures.update(self.view.cluster(), &changes));
            let written = self.rows.update(self.view.cluster(), &changes, &mut self.datapath);
            (self.follower)(self.view.cluster(), &changes);
            written.map_err(|error| Refusal::later("the rows cannot be loaded", chain(&error)))?;
            self.rows_pending = false;
            self.close_departed();
        }
        // Rows first: what arrives for an address must find its Service.
        if let Err(error) = self.announcer.apply(&mut self.datapath) {
            tracing::error!("the addresses of load balancers cannot be announced; it is tried again: {error:#}");
        }
        if self.routes_pending {
            match self.update_routes() {
                Ok(()) => self.routes_pending = false,
                Err(error) => tracing::error!("the routes cannot be set; it is tried again: {error:#}"),
            }
        }
        if let Some(strays) = self.strays.take() {
            self.remove_strays(strays);
        }
        self.publish();
        Ok(())
    }

    /// Has the sockets closed that talk to backends which are gone, now that no new one can.
    fn close_departed(&mut self) {
        if self.departed.is_empty() {
            return;
        }
        let remotes = std::mem::take(&mut self.departed);
        let carried = self.datapath.carried().unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), "connections that were carried to another endpoint may end with the first");
            Default::default()
        });
        let namespaces = self.containers.iter().map(|container| container.reservation.netns.clone()).collect();
        if self.closer.send(Closing { remotes, carried, namespaces }).is_err() {
            tracing::error!("BUG: nobody closes sockets any more");
        }
    }

    fn update_routes(&mut self) -> anyhow::Result<()> {
        let routing = self.config.routing;
        let wanted = routes::wanted(self.view.cluster(), &self.config.node, routing);
        let nodes = routes::to_nodes(self.view.cluster(), &self.config.node, routing);
        let routes = [wanted, nodes];
        if self.routes_set.as_ref() == Some(&routes) {
            return Ok(());
        }
        self.routes_set = None;
        let [wanted, nodes] = &routes;
        let list: Vec<NodeRoute> = wanted.union(nodes).copied().collect();
        self.datapath.set_routes(&list)?;
        self.runtime.block_on(routes::apply(&self.netlink, self.way, routing, wanted))?;
        self.routes_set = Some(routes);
        Ok(())
    }

    /// The kernel holds the view, except for routes that are still pending.
    fn publish(&self) {
        let nodes = Resource::Nodes.name();
        self.applied.send_if_modified(|applied| {
            let mut versions = self.view.versions().clone();
            if self.routes_pending {
                versions.remove(nodes);
                versions.extend(applied.get(nodes).map(|version| (nodes.to_owned(), version.clone())));
            }
            let newer = *applied != versions;
            *applied = versions;
            newer
        });
    }

    fn attach(&mut self, container: &str, link: u32) -> Result<(), Refusal> {
        let Some(entry) = self.containers.get(container) else {
            return Err(Refusal::later("the container was deleted meanwhile", container));
        };
        let reservation = entry.reservation.clone();
        self.containers.set_used(container);
        self.datapath
            .attach_pod(endpoint(&reservation, link))
            .map_err(|error| Refusal::refused("the pod's link cannot be guarded", chain(&error)))?;
        know_namespace(&mut self.datapath, &reservation);
        self.view.assign(&reservation.uid, &reservation.addresses);
        Ok(())
    }

    fn inspect(&self, container: &str, link: u32) -> Result<Inspected, Refusal> {
        let wired = self.containers.get(container).filter(|entry| entry.stage == Stage::Wired);
        let Some(entry) = wired else { return Err(Refusal::unknown(container)) };
        let reservation = entry.reservation.clone();
        let missing = self
            .datapath
            .missing_of(&endpoint(&reservation, link))
            .map_err(|error| Refusal::later("the data plane cannot be read", chain(&error)))?;
        Ok(Inspected { reservation, missing })
    }

    fn answer_attaching(&mut self, attaching: Vec<Attaching>, outcome: &Result<(), Refusal>) {
        for Attaching { container, reply } in attaching {
            let recorded = outcome.clone().and_then(|()| {
                let advanced = self.containers.advance(&container, Stage::Wired);
                advanced.map_err(|error| Refusal::later("the container cannot be recorded", chain(&error)))
            });
            // On failure the asker undoes everything with a DETACH.
            let _ = reply.send(recorded);
        }
    }

    /// Cuts a container off, however far it is; its link and its address are still to go.
    pub(crate) fn cut_off(&mut self, container: &str) -> Result<Option<Leaving>, Refusal> {
        let Some(entry) = self.containers.get(container) else { return Ok(None) };
        let reservation = entry.reservation.clone();
        self.datapath
            .detach_pod(&reservation.addresses.iter().copied().collect())
            .map_err(|error| Refusal::later("the pod cannot be cut off", chain(&error)))?;
        self.view.unassign(&reservation.uid, &reservation.addresses);
        self.containers
            .advance(container, Stage::Leaving)
            .map_err(|error| Refusal::later("the container cannot be recorded", chain(&error)))?;
        Ok(Some(Leaving { container: container.to_owned(), link: reservation.link }))
    }

    /// Answers every ADD whose pod is known by now. Rows must be in step: a pod that starts while the
    /// kernel holds old rows would start under old policy.
    fn serve_waiting(&mut self) {
        for reserve in std::mem::take(&mut self.waiting) {
            if reserve.reply.is_closed() {
                continue;
            }
            match self.view.knows(&reserve.claim.pod.uid, &reserve.claim.pod.name) {
                Known::Yes if !self.rows_pending => {
                    let answer = self.containers.reserve(&reserve.claim);
                    if let Err(Ok(orphan)) = reserve.reply.send(answer) {
                        // Nobody waits any more, so nobody will undo it.
                        self.release_unused(orphan.container);
                    }
                }
                Known::Never(why) => {
                    let refusal = Refusal::refused("this pod is not this node's to wire", why);
                    let _ = reserve.reply.send(Err(refusal));
                }
                Known::Yes | Known::NotYet(_) => self.waiting.push(reserve),
            }
        }
    }

    fn release_unused(&mut self, container: String) {
        if let Err(error) = self.containers.release(&[container]) {
            tracing::error!(error = %chain(&error), "an address cannot be freed");
        }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let is_due = self.ticks.is_multiple_of(TICKS_PER_SWEEP) || self.datapath.is_crowded();
        if is_due && let Err(error) = self.datapath.sweep_flows() {
            tracing::error!(error = %chain(&error), "the flow table cannot be swept");
        }
        self.announcer.tell();
        self.attend();
    }

    fn attend(&mut self) {
        if let Err(error) = self.observer.attend(&mut self.datapath) {
            tracing::error!(error = %chain(&error), "opened connections cannot be reported");
        }
    }

    fn status(&self) -> NodeStatus {
        let stats = self.datapath.stats().unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), "the data plane's counters cannot be read");
            Default::default()
        });
        let wired = self.containers.iter().filter(|container| container.stage == Stage::Wired);
        NodeStatus {
            node: self.config.node.to_string(),
            pods: wired.map(|container| container.reservation.pod.clone()).collect(),
            applied: self.applied.borrow().clone(),
            ready: self.view.is_synced()
                && !self.rows_pending
                && !self.routes_pending
                && !self.announcer.is_pending(),
            tables: stats.tables.iter().map(|(name, entries)| ((*name).to_owned(), *entries)).collect(),
            retried: stats.retried,
            drops: stats.drops.iter().map(|(reason, packets)| (reason.to_string(), *packets)).collect(),
        }
    }
}

/// Lets the hooks of sockets know whose they are. Without it a pod is refused by Services that are for some
/// clients only, and by nothing else.
pub(crate) fn know_namespace(datapath: &mut Datapath, pod: &Reservation) {
    let known = NetNs::open(&pod.netns).and_then(|namespace| namespace.cookie()).map_err(anyhow::Error::from);
    let told = known.and_then(|cookie| Ok(datapath.know_namespace(cookie, &pod.addresses)?));
    if let Err(error) = told {
        tracing::error!(pod = %pod.pod, "Services for some clients only will not serve this pod: {error:#}");
    }
}
