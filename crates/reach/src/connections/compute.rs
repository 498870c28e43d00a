use std::collections::BTreeSet;

use kilter_model::{Cluster, Direction, WorkloadRef};

use super::matrix::{Matrix, in_parts};
use super::portsets::{PortSets, PortsId};
use super::rows::{OPEN, Ports};
use super::universe::{Kind, Universe};
use super::{Connection, End, Options};

/// Every pair of kinds of pods, and every kind with the outside.
pub struct Computation {
    universe: Universe,
    sets: PortSets,
    permits: Matrix,
}

/// So few kinds of sources are not worth another thread.
const FEW: usize = 256;

impl Computation {
    pub fn new(cluster: &Cluster, options: &Options) -> Self {
        let universe = Universe::new(cluster, options);
        let mut sets = PortSets::new();
        let permits = Matrix::new(&universe.postures, &universe.traits, &universe.facets, &mut sets);
        Self { universe, sets, permits }
    }

    /// Every permitted connection, in no order.
    pub fn connections(&mut self) -> Vec<Connection> {
        let workloads: Vec<_> = std::mem::take(&mut self.universe.workloads).into_iter().collect();
        let mut all = Vec::new();
        for (number, (from, sources)) in workloads.iter().enumerate() {
            self.from_workload(number, sources, &workloads, |to, ports| {
                let ends = (End::Workload(from.clone()), End::Workload(to.clone()));
                all.push((ends, ports));
            });
        }
        for (workload, kinds) in &workloads {
            all.extend(self.outside(workload, kinds));
        }
        all.extend(self.exposed());
        self.universe.workloads = workloads.into_iter().collect();
        all.into_iter().filter_map(|(ends, ports)| self.connection(ends, ports)).collect()
    }

    /// How many ordered pairs of different kinds of pods there are, and of how many a connection is
    /// permitted on some port, and perhaps permitted.
    pub fn pairs(&self) -> Pairs {
        let kinds: Vec<Kind> = self.universe.kinds().into_iter().collect();
        let parts = in_parts(&kinds, FEW, |first, sources| {
            let (mut view, mut sets, mut pairs) = (View::default(), self.sets.clone(), Pairs::default());
            for (number, from) in (first..).zip(sources) {
                self.look_from(*from, &mut view);
                for (_, to) in kinds.iter().enumerate().filter(|(it, _)| *it != number) {
                    let (surely, maybe) = view.ports(*to, &mut sets);
                    pairs.asked += 1;
                    pairs.permitted += u64::from(surely != PortsId::NONE);
                    pairs.perhaps += u64::from(maybe != PortsId::NONE);
                }
            }
            pairs
        });
        parts.into_iter().fold(Pairs { kinds: kinds.len(), ..Pairs::default() }, |all, part| Pairs {
            kinds: all.kinds,
            asked: all.asked + part.asked,
            permitted: all.permitted + part.permitted,
            perhaps: all.perhaps + part.perhaps,
        })
    }

    /// What the pods of one workload may open to those of every other.
    fn from_workload<'a>(
        &mut self,
        number: usize,
        sources: &BTreeSet<Kind>,
        workloads: &'a [(WorkloadRef, BTreeSet<Kind>)],
        mut found: impl FnMut(&'a WorkloadRef, Ports),
    ) {
        let mut sums = vec![(PortsId::NONE, PortsId::NONE); workloads.len()];
        let mut view = View::default();
        for source in sources {
            self.look_from(*source, &mut view);
            for (sum, (_, destinations)) in sums.iter_mut().zip(workloads) {
                for it in destinations {
                    let ports = view.ports(*it, &mut self.sets);
                    *sum = self.union(*sum, ports);
                }
            }
        }
        sums[number] = (PortsId::NONE, PortsId::NONE);
        for (sum, (to, _)) in sums.into_iter().zip(workloads).filter(|(it, _)| it.1 != PortsId::NONE) {
            found(to, sum);
        }
    }

    /// What a workload may open to the outside, and the outside to it.
    fn outside(&mut self, workload: &WorkloadRef, kinds: &BTreeSet<Kind>) -> Vec<((End, End), Ports)> {
        let mut found = Vec::new();
        for (direction, ranges) in self.universe.outside.clone() {
            for (range, facet) in ranges {
                let mut sum = (PortsId::NONE, PortsId::NONE);
                for kind in kinds {
                    let ports = self.judge(kind.posture, direction, facet);
                    sum = self.union(sum, ports);
                }
                let (pod, other) = (End::Workload(workload.clone()), End::External(range));
                let ends = if direction == Direction::Ingress { (other, pod) } else { (pod, other) };
                found.push((ends, sum));
            }
        }
        found
    }

    /// What Ingresses may open.
    fn exposed(&mut self) -> Vec<((End, End), Ports)> {
        let mut found = Vec::new();
        for (workload, exposed) in std::mem::take(&mut self.universe.exposed) {
            let mut sum = (PortsId::NONE, PortsId::NONE);
            for (kind, ports) in exposed {
                let ports = self.sets.id(ports);
                let (surely, maybe) = self.judge(kind.posture, Direction::Ingress, self.universe.controller);
                let both = (self.sets.intersection(surely, ports), self.sets.intersection(maybe, ports));
                sum = self.union(sum, both);
            }
            found.push(((End::IngressController, End::Workload(workload)), sum));
        }
        found
    }

    fn judge(&self, posture: Option<usize>, direction: Direction, facet: usize) -> Ports {
        match (posture, direction) {
            (None, _) => OPEN.default,
            (Some(it), Direction::Ingress) => self.permits.ingress(it, facet),
            (Some(it), Direction::Egress) => self.permits.egress[it].get(facet),
        }
    }

    /// Lays out what the others are to one kind, and it to them.
    fn look_from(&self, kind: Kind, view: &mut View) {
        let egress = kind.posture.map_or(&OPEN, |it| &self.permits.egress[it]);
        view.egress.clear();
        view.egress.resize(self.universe.facets.len(), egress.default);
        for (facet, ports) in &egress.exceptions {
            view.egress[*facet as usize] = *ports;
        }
        view.ingress.clone_from(&self.permits.ingress);
        for (posture, ports) in &self.permits.ingress_of_facet[kind.facet] {
            view.ingress[*posture as usize] = *ports;
        }
    }

    fn union(&mut self, a: Ports, b: Ports) -> Ports {
        (self.sets.union(a.0, b.0), self.sets.union(a.1, b.1))
    }

    fn connection(&self, (from, to): (End, End), (surely, maybe): Ports) -> Option<Connection> {
        if maybe == PortsId::NONE {
            return None;
        }
        let ports = self.sets.set(surely).clone();
        let depends_on_address = self.sets.set(maybe).difference(&ports);
        Some(Connection { from, to, ports, depends_on_address })
    }
}

/// All pairs of kinds of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pairs {
    /// How many kinds of pods there are.
    pub kinds: usize,
    /// How many ordered pairs of different ones.
    pub asked: u64,
    /// Of how many a connection is permitted on some port.
    pub permitted: u64,
    /// Of how many one is permitted at least if an address is the right one.
    pub perhaps: u64,
}

/// The cluster as one kind of source sees it.
#[derive(Default)]
struct View {
    /// Its own egress, by the destination's facet.
    egress: Vec<Ports>,
    /// The destination's ingress, by the destination's posture.
    ingress: Vec<Ports>,
}

impl View {
    /// What the source may open to a kind.
    fn ports(&self, to: Kind, sets: &mut PortSets) -> Ports {
        let egress = self.egress[to.facet];
        let ingress = to.posture.map_or(OPEN.default, |it| self.ingress[it]);
        (sets.intersection(egress.0, ingress.0), sets.intersection(egress.1, ingress.1))
    }
}
