use std::collections::{BTreeMap, BTreeSet};

/// Who has to do with a thing, and with which things somebody has to do. Of both there are tens of thousands, and
/// mostly one to one, where trees would be mostly room.
#[derive(Debug)]
pub(crate) struct Index<O, T> {
    owners: BTreeMap<T, Owners<O>>,
    things: BTreeMap<O, Box<[T]>>,
}

#[derive(Debug)]
enum Owners<O> {
    One(O),
    Many(BTreeSet<O>),
}

impl<O, T> Default for Index<O, T> {
    fn default() -> Self {
        Self { owners: BTreeMap::new(), things: BTreeMap::new() }
    }
}

impl<O: Ord + Clone, T: Ord + Copy> Index<O, T> {
    /// Sets the things of one; returns those that came and those that went.
    pub(crate) fn set(&mut self, owner: &O, now: BTreeSet<T>) -> Vec<T> {
        let before: BTreeSet<T> = self.things.remove(owner).into_iter().flatten().collect();
        let changed: Vec<T> = before.symmetric_difference(&now).copied().collect();
        for thing in &changed {
            match now.contains(thing) {
                true => self.add(*thing, owner),
                false => self.take_away(thing, owner),
            }
        }
        if !now.is_empty() {
            self.things.insert(owner.clone(), now.into_iter().collect());
        }
        changed
    }

    fn add(&mut self, thing: T, owner: &O) {
        let owners = match self.owners.remove(&thing) {
            None => Owners::One(owner.clone()),
            Some(Owners::One(other)) => Owners::Many(BTreeSet::from([other, owner.clone()])),
            Some(Owners::Many(mut all)) => {
                all.insert(owner.clone());
                Owners::Many(all)
            }
        };
        self.owners.insert(thing, owners);
    }

    fn take_away(&mut self, thing: &T, owner: &O) {
        let left = match self.owners.get_mut(thing) {
            Some(Owners::Many(all)) => {
                all.remove(owner);
                all.len()
            }
            _ => 0,
        };
        if left == 0 {
            self.owners.remove(thing);
        }
    }

    pub(crate) fn owners(&self, thing: &T) -> impl Iterator<Item = &O> {
        let (one, many) = match self.owners.get(thing) {
            None => (None, None),
            Some(Owners::One(owner)) => (Some(owner), None),
            Some(Owners::Many(all)) => (None, Some(all)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(crate) fn first(&self, thing: &T) -> Option<&O> {
        self.owners(thing).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_and_goes_is_known_from_both_sides() {
        let mut index: Index<&str, u8> = Index::default();
        let all = |index: &Index<&'static str, u8>, thing: u8| -> Vec<&str> { index.owners(&thing).copied().collect() };
        assert_eq!(index.set(&"b", BTreeSet::from([1, 2])), [1, 2]);
        assert_eq!(index.set(&"a", BTreeSet::from([2])), [2]);
        assert_eq!((all(&index, 1), all(&index, 2), all(&index, 3)), (vec!["b"], vec!["a", "b"], vec![]));
        assert_eq!(index.set(&"c", BTreeSet::from([2, 3])), [2, 3]);
        assert_eq!(index.set(&"a", BTreeSet::from([3])), [2, 3]);
        assert_eq!((all(&index, 2), all(&index, 3)), (vec!["b", "c"], vec!["a", "c"]));
        for owner in ["a", "b", "c"] {
            index.set(&owner, BTreeSet::new());
        }
        assert!(index.owners.is_empty() && index.things.is_empty());
    }
}
