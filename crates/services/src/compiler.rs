use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{Change, Cluster, NamespacedName, Node, Pod, Routing, Uid};

use crate::index::Index;
use crate::rows::Rows;
use crate::select::{self, Wanted};
use crate::{Frontend, Plan, Tables, Write, weight};

/// Keeps the Service rows of a node in step with a cluster. A change costs what its Service is
/// worth, however many others there are.
#[derive(Debug, Default)]
pub struct Compiler {
    node: Arc<str>,
    routing: Routing,
    primed: bool,
    /// The zone of the node, which some choices rest on.
    zone: Option<Arc<str>>,
    tables: Tables,
    /// The frontends that each asks for, sorted.
    wanted: BTreeMap<Owner, Box<[(Frontend, Wanted)]>>,
    /// Who asks for a frontend; the first has it.
    claims: Index<Owner, Frontend>,
    /// Whose cluster IP an address is.
    cluster_ips: Index<NamespacedName, IpAddr>,
    /// Whose endpoints name an address.
    named: Index<NamespacedName, IpAddr>,
    last_revision: u32,
}

/// Whose a frontend is, those first who have it where several ask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// At addresses that it was given, and at node ports.
    Service(NamespacedName),
    /// At `externalIPs`, which anybody may write: never in place of an address that was given to another.
    Guest(NamespacedName),
    /// Of this node, with a port of the node's.
    Pod(Uid),
}

impl Compiler {
    /// A compiler for the node of this name, on which no rows are written yet.
    pub fn new(node: Arc<str>) -> Self {
        Self { node, ..Self::default() }
    }

    /// A compiler for a node on which these rows are found. What is right among them stays.
    pub fn resume(node: Arc<str>, loaded: Tables) -> Self {
        let of_backends = loaded.backends.keys().map(|(revision, _)| *revision);
        let of_frontends = loaded.frontends.values().map(|row| row.revision);
        let of_sources = loaded.sources.iter().map(|(revision, _)| *revision);
        let of_chunks = loaded.chunks.keys().map(|(revision, _)| *revision);
        let last_revision = of_backends.chain(of_frontends).chain(of_sources).chain(of_chunks).max().unwrap_or(0);
        Self { node, tables: loaded, last_revision, ..Self::default() }
    }

    /// For a cluster whose nodes reach each other's pods this way. Before the first update.
    pub fn routed(self, routing: Routing) -> Self {
        Self { routing, ..self }
    }

    /// Brings the rows in step with `cluster`, given what changed since the last call, and says
    /// how to get there. The first call compiles everything, whatever `changes` says.
    pub fn update(&mut self, cluster: &Cluster, changes: &[Change]) -> Plan {
        let mut stale = BTreeSet::new();
        let mut plan = Plan::default();
        let changed = self.changed_services(cluster, changes);
        let pods = self.changed_pods(cluster, changes);
        if !self.primed {
            stale.extend(self.tables.frontends.keys().copied());
            self.retire_orphans(&mut plan.retire);
            self.primed = true;
        }
        for service in self.note_addresses(cluster, changed) {
            self.refresh(cluster, &service, &mut stale);
        }
        for pod in pods {
            let now = cluster.pod(&pod).map(|it| select::host_ports(cluster, it, &self.node)).unwrap_or_default();
            self.ask(Owner::Pod(pod), now, &mut stale);
        }
        for frontend in stale {
            self.write_frontend(frontend, &mut plan);
        }
        plan.writes().for_each(|write| self.tables.apply(write));
        plan
    }

    /// The rows after the last update.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    fn changed_services(&mut self, cluster: &Cluster, changes: &[Change]) -> BTreeSet<NamespacedName> {
        let zone = cluster.node(&self.node).and_then(Node::zone).cloned();
        let moved = self.zone != zone;
        self.zone = zone;
        if !self.primed || moved {
            return cluster.services().map(|it| it.name.clone()).collect();
        }
        let mut changed = BTreeSet::new();
        for change in changes {
            changed.extend(change.services().cloned());
            if let Change::Pod(uid, before) = change {
                changed.extend(self.weighed_anew(cluster.pod(uid), before.as_deref()));
            }
        }
        changed
    }

    /// The Services with an endpoint whose weight is another now.
    fn weighed_anew(&self, now: Option<&Pod>, before: Option<&Pod>) -> BTreeSet<NamespacedName> {
        if now.map_or(1, weight::of_pod) == before.map_or(1, weight::of_pod) {
            return BTreeSet::new();
        }
        let addresses = now.into_iter().chain(before).flat_map(|pod| &pod.addresses);
        addresses.flat_map(|address| self.named.owners(address)).cloned().collect()
    }

    /// Pods of this node, and those that have gone from it.
    fn changed_pods(&self, cluster: &Cluster, changes: &[Change]) -> BTreeSet<Uid> {
        let is_here = |node: &Option<Arc<str>>| node.as_ref() == Some(&self.node);
        // Which addresses are the node's own decides about all of its pods.
        let is_of_node = |it: &Change| matches!(it, Change::Node(name) if *name == self.node);
        if !self.primed || changes.iter().any(is_of_node) {
            let here = cluster.pods().filter(|pod| is_here(&pod.node)).map(|pod| pod.uid.clone());
            let known = self.wanted.keys().filter_map(|owner| match owner {
                Owner::Pod(uid) => Some(uid.clone()),
                Owner::Service(_) | Owner::Guest(_) => None,
            });
            return here.chain(known).collect();
        }
        let changed = changes.iter().filter_map(|it| match it {
            Change::Pod(uid, _) => Some(uid),
            _ => None,
        });
        let concerns = |uid: &&Uid| {
            cluster.pod(uid).is_some_and(|pod| is_here(&pod.node))
                || self.wanted.contains_key(&Owner::Pod((*uid).clone()))
        };
        changed.filter(concerns).cloned().collect()
    }

    /// Takes over which addresses are whose. Returns the Services to look at: those that changed,
    /// and those with an endpoint that became, or is no longer, the address of a Service.
    fn note_addresses(
        &mut self,
        cluster: &Cluster,
        changed: BTreeSet<NamespacedName>,
    ) -> BTreeSet<NamespacedName> {
        let mut affected = changed.clone();
        for name in &changed {
            let service = cluster.service(name);
            let now = service.map(select::cluster_ips).unwrap_or_default().iter().copied().collect();
            for address in self.cluster_ips.set(name, now) {
                affected.extend(self.named.owners(&address).cloned());
            }
            let named = service.map(|_| select::named_addresses(cluster, name)).unwrap_or_default();
            self.named.set(name, named);
        }
        affected
    }

    /// Selects anew what one Service asks for.
    fn refresh(&mut self, cluster: &Cluster, name: &NamespacedName, stale: &mut BTreeSet<Frontend>) {
        let is_service = |address| self.cluster_ips.first(&address).is_some();
        let service = cluster.service(name);
        let now = service.map(|it| {
            let here = select::Here { node: &self.node, routing: self.routing };
            select::frontends(cluster, it, here, is_service)
        });
        let now = now.unwrap_or_default();
        let is_guest = |frontend: &Frontend| service.is_some_and(|it| select::is_guest(it, frontend.address));
        let (guest, own) = now.into_iter().partition(|(frontend, _)| is_guest(frontend));
        self.ask(Owner::Service(name.clone()), own, stale);
        self.ask(Owner::Guest(name.clone()), guest, stale);
    }

    /// Takes over what one owner asks for.
    fn ask(&mut self, owner: Owner, now: BTreeMap<Frontend, Wanted>, stale: &mut BTreeSet<Frontend>) {
        stale.extend(self.claims.set(&owner, now.keys().copied().collect()));
        stale.extend(now.keys().copied());
        if now.is_empty() {
            self.wanted.remove(&owner);
        } else {
            self.wanted.insert(owner, now.into_iter().collect());
        }
    }

    /// Plans what brings one frontend in step.
    fn write_frontend(&mut self, frontend: Frontend, plan: &mut Plan) {
        let owner = self.claims.first(&frontend);
        let wanted = owner.and_then(|owner| self.wanted_by(owner, &frontend)).map(|it| Rows::of(&frontend, it));
        let row = self.tables.frontends.get(&frontend).copied();
        if let (Some(row), Some(wanted)) = (row, &wanted)
            && *wanted == Rows::found(&self.tables, &frontend, &row)
        {
            return;
        }
        if let Some(wanted) = wanted {
            self.last_revision += 1;
            let row = wanted.write(self.last_revision, &mut plan.prepare);
            plan.switch.push(Write::PutFrontend { frontend, row });
        } else if row.is_some() {
            plan.switch.push(Write::DeleteFrontend { frontend });
        }
        if let Some(row) = row {
            self.retire(row.revision, &mut plan.retire);
        }
    }

    fn wanted_by(&self, owner: &Owner, frontend: &Frontend) -> Option<&Wanted> {
        let all = self.wanted.get(owner)?;
        let at = all.binary_search_by_key(frontend, |(it, _)| *it).ok()?;
        Some(&all[at].1)
    }

    fn retire(&self, revision: u32, retire: &mut Vec<Write>) {
        let slots = self.tables.backends.range((revision, 0)..=(revision, u32::MAX));
        retire.extend(slots.map(|(&(revision, slot), _)| Write::DeleteBackend { revision, slot }));
        let chunks = self.tables.chunks.range((revision, 0)..=(revision, u32::MAX));
        retire.extend(chunks.map(|(&(revision, chunk), _)| Write::DeleteChunk { revision, chunk }));
        let ranges = self.tables.sources_of(revision).into_iter();
        retire.extend(ranges.map(|range| Write::DeleteSource { revision, range }));
    }

    /// Backends found that no frontend names.
    fn retire_orphans(&self, retire: &mut Vec<Write>) {
        let used: BTreeSet<u32> = self.tables.frontends.values().map(|row| row.revision).collect();
        let orphans = self.tables.backends.keys().filter(|(revision, _)| !used.contains(revision));
        retire.extend(orphans.map(|&(revision, slot)| Write::DeleteBackend { revision, slot }));
        let orphans = self.tables.chunks.keys().filter(|(revision, _)| !used.contains(revision));
        retire.extend(orphans.map(|&(revision, chunk)| Write::DeleteChunk { revision, chunk }));
        let orphans = self.tables.sources.iter().filter(|(revision, _)| !used.contains(revision));
        retire.extend(orphans.map(|&(revision, range)| Write::DeleteSource { revision, range }));
    }
}
