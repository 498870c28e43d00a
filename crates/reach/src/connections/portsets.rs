use std::collections::HashMap;

use kilter_model::{PortRange, PortSet, Protocol};

/// Stands for a set of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortsId(u32);

impl PortsId {
    /// No ports.
    pub const NONE: PortsId = PortsId(0);
    /// All ports that connections can have.
    pub const ALL: PortsId = PortsId(1);

    /// Its place among the ids of its sets.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The different sets of ports. There are few of them, however many pairs of pods there are, so
/// what is known of two of them is remembered.
#[derive(Debug, Clone)]
pub struct PortSets {
    sets: Vec<PortSet>,
    ids: HashMap<PortSet, PortsId>,
    both: HashMap<(PortsId, PortsId), PortsId>,
    either: HashMap<(PortsId, PortsId), PortsId>,
}

impl PortSets {
    /// None and all.
    pub fn new() -> Self {
        let mut new =
            Self { sets: vec![], ids: HashMap::new(), both: HashMap::new(), either: HashMap::new() };
        let mut all = PortSet::default();
        for protocol in Protocol::ALL {
            all.insert(protocol, PortRange { first: 1, last: u16::MAX });
        }
        new.id(PortSet::default());
        new.id(all);
        new
    }

    /// What stands for a set.
    pub fn id(&mut self, set: PortSet) -> PortsId {
        if let Some(id) = self.ids.get(&set) {
            return *id;
        }
        let id = PortsId(self.sets.len() as u32);
        self.sets.push(set.clone());
        self.ids.insert(set, id);
        id
    }

    /// The ids that the sets of others have here, in the order of theirs.
    pub fn adopt(&mut self, others: &PortSets) -> Vec<PortsId> {
        others.sets.iter().map(|it| self.id(it.clone())).collect()
    }

    /// What an id stands for.
    pub fn set(&self, id: PortsId) -> &PortSet {
        &self.sets[id.0 as usize]
    }

    /// What is in both.
    pub fn intersection(&mut self, a: PortsId, b: PortsId) -> PortsId {
        match (a, b) {
            (PortsId::NONE, _) | (_, PortsId::NONE) => PortsId::NONE,
            (PortsId::ALL, it) | (it, PortsId::ALL) => it,
            (a, b) if a == b => a,
            pair => {
                if let Some(known) = self.both.get(&pair) {
                    return *known;
                }
                let id = self.id(self.set(a).intersection(self.set(b)));
                self.both.insert(pair, id);
                id
            }
        }
    }

    /// What is in either.
    pub fn union(&mut self, a: PortsId, b: PortsId) -> PortsId {
        match (a, b) {
            (PortsId::ALL, _) | (_, PortsId::ALL) => PortsId::ALL,
            (PortsId::NONE, it) | (it, PortsId::NONE) => it,
            (a, b) if a == b => a,
            pair => {
                if let Some(known) = self.either.get(&pair) {
                    return *known;
                }
                let mut sum = self.set(a).clone();
                for protocol in Protocol::ALL {
                    for range in self.set(b).ranges(protocol) {
                        sum.insert(protocol, *range);
                    }
                }
                let id = self.id(sum);
                self.either.insert(pair, id);
                id
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_id_and_sums_are_remembered() {
        let mut sets = PortSets::new();
        let tcp = |first, last| {
            let mut set = PortSet::default();
            set.insert(Protocol::Tcp, PortRange { first, last });
            set
        };
        let (low, high) = (sets.id(tcp(1, 100)), sets.id(tcp(50, 200)));
        let both = sets.intersection(low, high);
        assert_eq!(sets.set(both), &tcp(50, 100));
        assert_eq!(sets.id(tcp(50, 100)), both);
        let either = sets.union(low, high);
        assert_eq!(sets.set(either), &tcp(1, 200));
        assert_eq!((sets.union(either, low), sets.intersection(either, low)), (either, low));
        assert_eq!((sets.intersection(low, PortsId::ALL), sets.union(low, PortsId::NONE)), (low, low));
        assert_eq!(sets.intersection(low, PortsId::NONE), PortsId::NONE);
    }
}
