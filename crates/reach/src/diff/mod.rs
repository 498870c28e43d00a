//! What a change of a cluster opens and closes.

mod align;

use std::collections::{BTreeMap, BTreeSet};

use kilter_model::{Cluster, Direction, WorkloadRef};
use serde::Serialize;

use crate::connections::{Connection, End, Options, Permitted, connections};

/// What differs between two clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Connections, sorted: added, changed, removed, then by their ends.
    pub changes: Vec<Change>,
    /// Workloads that only the new cluster has.
    pub workloads_added: BTreeSet<WorkloadRef>,
    /// Workloads that only the old cluster has.
    pub workloads_removed: BTreeSet<WorkloadRef>,
    /// Workloads whose exposure to addresses outside the cluster grew or shrank.
    pub exposures: Vec<Exposure>,
}

/// One connection before and after; one of both permits nothing where it was added or removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// What was permitted.
    pub old: Permitted,
    /// What is permitted now.
    pub new: Permitted,
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It was not permitted before.
    Added,
    /// On other ports than before.
    Changed,
    /// It is not permitted any more.
    Removed,
}

impl Kind {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Removed => "removed",
        }
    }
}

/// A workload that outside addresses reach, or that reaches them, differently than before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposure {
    /// Who.
    pub workload: WorkloadRef,
    /// Ingress: it is reached from outside; egress: it reaches outside.
    pub direction: Direction,
    /// Whether something was opened, or else closed.
    pub opened: bool,
    /// Which ports, at which addresses.
    pub what: BTreeMap<Permitted, Vec<End>>,
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.workloads_added.is_empty() && self.workloads_removed.is_empty()
    }
}

/// Compares two clusters.
pub fn diff(old: &Cluster, new: &Cluster, options: &Options) -> Diff {
    let mut diff = compare(connections(old, options), connections(new, options));
    let (before, after) = (workloads(old), workloads(new));
    diff.workloads_added = after.difference(&before).cloned().collect();
    diff.workloads_removed = before.difference(&after).cloned().collect();
    diff
}

fn workloads(cluster: &Cluster) -> BTreeSet<WorkloadRef> {
    cluster.pods().filter(|it| it.owns_addresses()).map(|it| it.owner.clone()).collect()
}

/// Compares two lists of connections.
pub fn compare(mut old: Vec<Connection>, mut new: Vec<Connection>) -> Diff {
    align::align(&mut old, &mut new);
    let (mut before, mut after) = (by_ends(old), by_ends(new));
    let ends: BTreeSet<(End, End)> = before.keys().chain(after.keys()).cloned().collect();
    let mut changes = Vec::new();
    for (from, to) in ends {
        let key = (from, to);
        let (old, new) = (before.remove(&key).unwrap_or_default(), after.remove(&key).unwrap_or_default());
        let kind = match (old.is_empty(), new.is_empty()) {
            _ if old == new => continue,
            (true, _) => Kind::Added,
            (_, true) => Kind::Removed,
            _ => Kind::Changed,
        };
        changes.push(Change { kind, from: key.0, to: key.1, old, new });
    }
    let mut changes = align::merge(changes);
    changes.sort();
    let exposures = exposures(&changes);
    Diff { changes, exposures, ..Diff::default() }
}

fn by_ends(connections: Vec<Connection>) -> BTreeMap<(End, End), Permitted> {
    connections
        .into_iter()
        .map(|it| {
            let permitted = it.permitted();
            ((it.from, it.to), permitted)
        })
        .collect()
}

fn exposures(changes: &[Change]) -> Vec<Exposure> {
    let mut found: BTreeMap<(WorkloadRef, Direction, bool), BTreeMap<Permitted, Vec<End>>> = BTreeMap::new();
    for change in changes {
        let (workload, direction, outside) = match (&change.from, &change.to) {
            (End::External(_), End::Workload(it)) => (it, Direction::Ingress, &change.from),
            (End::Workload(it), End::External(_)) => (it, Direction::Egress, &change.to),
            _ => continue,
        };
        let both = [(true, change.new.beyond(&change.old)), (false, change.old.beyond(&change.new))];
        for (opened, what) in both.into_iter().filter(|(_, what)| !what.is_empty()) {
            let entry = found.entry((workload.clone(), direction, opened)).or_default();
            entry.entry(what).or_default().push(outside.clone());
        }
    }
    let exposure = |((workload, direction, opened), what)| Exposure { workload, direction, opened, what };
    found.into_iter().map(exposure).collect()
}
