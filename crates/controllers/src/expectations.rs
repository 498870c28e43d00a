//! What was asked of the API and has not been seen in the cache yet. Who counts pods in the cache
//! must not act again before it has, or makes twice what was wanted once.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cache::Key;

/// A pod made and deleted again while the watch was interrupted is never seen. Late is enough:
/// the watch brings everything else.
const FORGET: Duration = Duration::from_secs(30);

/// Expectations of all owners of one controller, by the owner's UID.
#[derive(Default)]
pub(crate) struct Expectations {
    owners: Mutex<HashMap<String, Waiting>>,
}

struct Waiting {
    names: HashSet<Key>,
    since: Instant,
}

impl Expectations {
    /// Something is about to be asked for: the appearance, or the going, of this name.
    pub(crate) fn expect(&self, owner: &str, name: Key) {
        let mut owners = self.lock();
        let waiting = owners.entry(owner.to_string());
        let waiting = waiting.or_insert_with(|| Waiting { names: HashSet::new(), since: Instant::now() });
        waiting.names.insert(name);
        waiting.since = Instant::now();
    }

    /// It was seen, or will not happen.
    pub(crate) fn settle(&self, owner: &str, name: &Key) {
        let mut owners = self.lock();
        if let Some(waiting) = owners.get_mut(owner) {
            waiting.names.remove(name);
            if waiting.names.is_empty() {
                owners.remove(owner);
            }
        }
    }

    /// How much longer to wait at most for what is outstanding; `None` when nothing is.
    pub(crate) fn outstanding(&self, owner: &str) -> Option<Duration> {
        let mut owners = self.lock();
        let left = FORGET.checked_sub(owners.get(owner)?.since.elapsed());
        if left.is_none() {
            owners.remove(owner);
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_waits_until_all_is_settled() {
        let expectations = Expectations::default();
        let (a, b) = (Key::new("shop", "a"), Key::new("shop", "b"));
        expectations.expect("1", a.clone());
        expectations.expect("1", b.clone());
        expectations.settle("1", &a);
        expectations.settle("2", &b);
        assert!(expectations.outstanding("1").is_some());
        expectations.settle("1", &b);
        assert!(expectations.outstanding("1").is_none());
    }
}
