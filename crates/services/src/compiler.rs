use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{Change, Cluster, NamespacedName, Node, Uid};

use crate::select::{self, Wanted};
use crate::{CHUNK, Frontend, FrontendRow, Plan, Scope, Tables, Write, maglev};

/// Keeps the Service rows of a node in step with a cluster. A change costs what its Service is
/// worth, however many others there are.
#[derive(Debug, Default)]
pub struct Compiler {
    node: Arc<str>,
    primed: bool,
    /// The zone of the node, which some choices rest on.
    zone: Option<Arc<str>>,
    tables: Tables,
    /// The frontends that each asks for.
    wanted: BTreeMap<Owner, BTreeMap<Frontend, Wanted>>,
    /// Who asks for a frontend; the first has it, Services before pods.
    claims: Index<Owner, Frontend>,
    /// Whose cluster IP an address is.
    cluster_ips: Index<NamespacedName, IpAddr>,
    /// Whose endpoints name an address.
    named: Index<NamespacedName, IpAddr>,
    last_revision: u32,
}

/// Whose a frontend is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Service(NamespacedName),
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
        let changed = changes.iter().filter_map(|it| match it {
            Change::Service(name) => Some(name.clone()),
            _ => None,
        });
        changed.collect()
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
                Owner::Service(_) => None,
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
        let now =
            service.map(|it| select::frontends(cluster, it, &self.node, is_service)).unwrap_or_default();
        self.ask(Owner::Service(name.clone()), now, stale);
    }

    /// Takes over what one owner asks for.
    fn ask(&mut self, owner: Owner, now: BTreeMap<Frontend, Wanted>, stale: &mut BTreeSet<Frontend>) {
        stale.extend(self.claims.set(&owner, now.keys().copied().collect()));
        stale.extend(now.keys().copied());
        if now.is_empty() {
            self.wanted.remove(&owner);
        } else {
            self.wanted.insert(owner, now);
        }
    }

    /// Plans what brings one frontend in step.
    fn write_frontend(&mut self, frontend: Frontend, plan: &mut Plan) {
        let owner = self.claims.first(&frontend);
        let wanted = owner.and_then(|owner| self.wanted.get(owner)?.get(&frontend));
        let row = self.tables.frontends.get(&frontend).copied();
        if let (Some(row), Some(wanted)) = (row, wanted) {
            let backends = self.tables.backends_of(&frontend);
            let counted = row.count as usize == wanted.backends.len();
            let same_backends = counted && backends.as_ref() == Some(&wanted.backends);
            let has_table = self.tables.table_of(&row).len() == row.places as usize
                && (frontend.scope == Scope::Inside || row.places as usize == maglev::size(wanted.backends.len()));
            let same_clients = self.tables.sources_of(row.revision) == wanted.sources.clone().unwrap_or_default();
            if same_backends && same_clients && has_table && (row.flags, row.affinity) == (wanted.flags, wanted.affinity) {
                return;
            }
        }
        if let Some(wanted) = wanted {
            self.last_revision += 1;
            let revision = self.last_revision;
            let mut count = 0;
            for backend in &wanted.backends {
                plan.prepare.push(Write::PutBackend { revision, slot: count, backend: *backend });
                count += 1;
            }
            let ranges = wanted.sources.iter().flatten();
            plan.prepare.extend(ranges.map(|range| Write::PutSource { revision, range: *range }));
            // Who connects inside is sent anywhere: one node chooses, and only once.
            let table = if frontend.scope == Scope::Outside { maglev::table(&wanted.backends) } else { Vec::new() };
            let places = table.len() as u32;
            for (chunk, part) in (0u32..).zip(table.chunks(CHUNK)) {
                let mut slots = [0; CHUNK];
                slots[..part.len()].copy_from_slice(part);
                plan.prepare.push(Write::PutChunk { revision, chunk, slots });
            }
            let Wanted { flags, affinity, .. } = *wanted;
            let row = FrontendRow { revision, count, flags, affinity, places };
            plan.switch.push(Write::PutFrontend { frontend, row });
        } else if row.is_some() {
            plan.switch.push(Write::DeleteFrontend { frontend });
        }
        if let Some(row) = row {
            let slots = self.tables.backends.range((row.revision, 0)..=(row.revision, u32::MAX));
            plan.retire.extend(slots.map(|(&(revision, slot), _)| Write::DeleteBackend { revision, slot }));
            let chunks = self.tables.chunks.range((row.revision, 0)..=(row.revision, u32::MAX));
            plan.retire.extend(chunks.map(|(&(revision, chunk), _)| Write::DeleteChunk { revision, chunk }));
            let (revision, ranges) = (row.revision, self.tables.sources_of(row.revision).into_iter());
            plan.retire.extend(ranges.map(|range| Write::DeleteSource { revision, range }));
        }
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

/// Who has to do with a thing, and with which things somebody has to do.
#[derive(Debug)]
struct Index<O, T> {
    owners: BTreeMap<T, BTreeSet<O>>,
    things: BTreeMap<O, BTreeSet<T>>,
}

impl<O, T> Default for Index<O, T> {
    fn default() -> Self {
        Self { owners: BTreeMap::new(), things: BTreeMap::new() }
    }
}

impl<O: Ord + Clone, T: Ord + Copy> Index<O, T> {
    /// Sets the things of one; returns those that came and those that went.
    fn set(&mut self, owner: &O, now: BTreeSet<T>) -> Vec<T> {
        let before = self.things.remove(owner).unwrap_or_default();
        let changed: Vec<T> = before.symmetric_difference(&now).copied().collect();
        for thing in &changed {
            let owners = self.owners.entry(*thing).or_default();
            if now.contains(thing) {
                owners.insert(owner.clone());
            } else {
                owners.remove(owner);
            }
            if owners.is_empty() {
                self.owners.remove(thing);
            }
        }
        if !now.is_empty() {
            self.things.insert(owner.clone(), now);
        }
        changed
    }

    fn owners(&self, thing: &T) -> impl Iterator<Item = &O> {
        self.owners.get(thing).into_iter().flatten()
    }

    fn first(&self, thing: &T) -> Option<&O> {
        self.owners.get(thing)?.first()
    }
}
