use std::sync::Arc;

use kilter_model::Direction;
use kilter_policy::parts::{Posture, Traits};

use super::portsets::{PortSets, PortsId};
use super::rows::{Facet, Index, Ports, Row, Rows, find};

/// What all postures permit.
#[derive(Debug, Default)]
pub struct Matrix {
    /// As sources.
    pub egress: Vec<Row>,
    /// As destinations, unless the source's facet is an exception.
    pub ingress: Vec<Ports>,
    /// By the source's facet: the postures, sorted, for which it is an exception.
    pub ingress_of_facet: Vec<Vec<(u32, Ports)>>,
}

/// So few postures are not worth another thread.
const FEW: usize = 256;

impl Matrix {
    /// What these postures permit, computed by all processors.
    pub fn new(postures: &[Arc<Posture>], traits: &[Traits], facets: &[Facet], sets: &mut PortSets) -> Self {
        let index = Index::new(traits, facets);
        Self::in_parts_of(FEW, postures, &index, sets)
    }

    fn in_parts_of(least: usize, postures: &[Arc<Posture>], index: &Index<'_>, sets: &mut PortSets) -> Self {
        let facets = index.facets();
        let parts = in_parts(postures, least, |first, postures| {
            let mut sets = PortSets::new();
            let mut rows = Rows::new(index);
            let mut part = Self { ingress_of_facet: vec![Vec::new(); facets], ..Self::default() };
            for (number, posture) in (first..).zip(postures) {
                part.egress.push(rows.row(posture, Direction::Egress, &mut sets));
                let ingress = rows.row(posture, Direction::Ingress, &mut sets);
                part.ingress.push(ingress.default);
                for (facet, ports) in ingress.exceptions {
                    part.ingress_of_facet[facet as usize].push((number as u32, ports));
                }
            }
            (part, sets)
        });
        let mut all = Self { ingress_of_facet: vec![Vec::new(); facets], ..Self::default() };
        for (part, its_sets) in parts {
            all.append(part, &sets.adopt(&its_sets));
        }
        all
    }

    /// What a posture permits a source of this facet.
    pub fn ingress(&self, posture: usize, facet: usize) -> Ports {
        find(&self.ingress_of_facet[facet], posture).unwrap_or(self.ingress[posture])
    }

    /// Adds the postures that follow, whose sets of ports have these ids here.
    fn append(&mut self, part: Self, ids: &[PortsId]) {
        let here = |ports: &mut Ports| *ports = (ids[ports.0.index()], ids[ports.1.index()]);
        let exceptions_here = |all: &mut Vec<(u32, Ports)>| all.iter_mut().for_each(|(_, ports)| here(ports));
        for mut row in part.egress {
            here(&mut row.default);
            exceptions_here(&mut row.exceptions);
            self.egress.push(row);
        }
        for mut ports in part.ingress {
            here(&mut ports);
            self.ingress.push(ports);
        }
        for (all, mut more) in self.ingress_of_facet.iter_mut().zip(part.ingress_of_facet) {
            exceptions_here(&mut more);
            if all.is_empty() { *all = more } else { all.extend(more) }
        }
    }
}

/// Cuts a slice into as many parts as there are processors, none shorter than `least`, and works on
/// them at once. Work is told at which index its part begins.
pub fn in_parts<T: Sync, R: Send>(all: &[T], least: usize, work: impl Fn(usize, &[T]) -> R + Sync) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let length = all.len().div_ceil(processors).max(least);
    if all.len() <= length {
        return vec![work(0, all)];
    }
    std::thread::scope(|scope| {
        let work = &work;
        let parts = all.chunks(length).enumerate();
        let threads: Vec<_> = parts.map(|(it, part)| scope.spawn(move || work(it * length, part))).collect();
        threads
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use kilter_model::Cluster;
    use kilter_testkit::random as generate;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::Options;
    use super::super::universe::Universe;
    use super::*;

    #[test]
    fn parts_are_worked_on_in_order_and_whole() {
        let all: Vec<usize> = (0..100).collect();
        for least in [1, 7, 50, 100, 1000] {
            let parts = in_parts(&all, least, |first, part| (first, part.to_vec()));
            assert!(parts.iter().all(|(first, part)| part[0] == *first), "{parts:?}");
            let whole: Vec<usize> = parts.into_iter().flat_map(|(_, part)| part).collect();
            assert_eq!(whole, all);
        }
        assert_eq!(in_parts(&all[..0], 1, |_, part| part.len()), [0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

        #[test]
        fn what_is_permitted_does_not_depend_on_the_parts(events in vec(generate::event(), 10..40)) {
            let cluster = Cluster::from_events(generate::nodes().into_iter().chain(events));
            let universe = Universe::new(&cluster, &Options::default());
            let index = Index::new(&universe.traits, &universe.facets);
            let written = |least| {
                let mut sets = PortSets::new();
                let matrix = Matrix::in_parts_of(least, &universe.postures, &index, &mut sets);
                let mut all = Vec::new();
                for posture in 0..universe.postures.len() {
                    for facet in 0..universe.facets.len() {
                        let (a, b) = (matrix.ingress(posture, facet), matrix.egress[posture].get(facet));
                        all.extend([a.0, a.1, b.0, b.1].map(|it| sets.set(it).clone()));
                    }
                }
                all
            };
            prop_assert_eq!(written(1), written(usize::MAX));
        }
    }
}
