use std::collections::{BTreeMap, BTreeSet};

/// Who has to do with a thing, and with which things somebody has to do.
#[derive(Debug)]
pub(crate) struct Index<O, T> {
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
    pub(crate) fn set(&mut self, owner: &O, now: BTreeSet<T>) -> Vec<T> {
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

    pub(crate) fn owners(&self, thing: &T) -> impl Iterator<Item = &O> {
        self.owners.get(thing).into_iter().flatten()
    }

    pub(crate) fn first(&self, thing: &T) -> Option<&O> {
        self.owners.get(thing)?.first()
    }
}
