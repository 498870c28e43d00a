use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use kilter_model::NamespacedName;
use tokio::sync::watch;

use super::{Object, TooOld};
use crate::resources::Resource;

/// What happened to one object, at one revision.
#[derive(Debug)]
pub struct Change {
    /// The revision of the write.
    pub revision: u64,
    /// The state before, if there was one.
    pub before: Option<Arc<Object>>,
    /// The state after; for a deletion the last state, under the revision of the deletion.
    pub object: Arc<Object>,
    /// Whether the object is gone.
    pub deleted: bool,
}

/// The objects of one resource and the latest changes to them.
#[derive(Debug)]
pub(super) struct Table {
    pub resource: &'static Resource,
    pub objects: BTreeMap<NamespacedName, Arc<Object>>,
    /// The latest changes, oldest first. Watchers are cursors into it: a slow one costs nothing.
    ring: VecDeque<Arc<Change>>,
    capacity: usize,
    /// The newest revision that the ring no longer has.
    forgotten: u64,
    /// Tells watchers the newest revision of this table.
    pub news: watch::Sender<u64>,
}

impl Table {
    pub fn new(resource: &'static Resource, capacity: usize) -> Self {
        let objects = BTreeMap::new();
        Self { resource, objects, ring: VecDeque::new(), capacity, forgotten: 0, news: watch::Sender::new(0) }
    }

    /// Begins after a revision: nothing before it is known.
    pub fn forget(&mut self, revision: u64) {
        self.ring.clear();
        self.forgotten = revision;
        self.news.send_replace(revision);
    }

    /// Records a change and wakes the watchers.
    pub fn record(&mut self, change: Change) {
        let revision = change.revision;
        self.ring.push_back(Arc::new(change));
        while self.ring.len() > self.capacity {
            if let Some(oldest) = self.ring.pop_front() {
                self.forgotten = oldest.revision;
            }
        }
        self.news.send_replace(revision);
    }

    /// The changes after a revision, oldest first, at most `limit`.
    pub fn after(&self, revision: u64, limit: usize) -> Result<Vec<Arc<Change>>, TooOld> {
        if revision < self.forgotten {
            return Err(TooOld { asked: revision, oldest: self.forgotten });
        }
        let start = self.ring.partition_point(|c| c.revision <= revision);
        Ok(self.ring.iter().skip(start).take(limit).cloned().collect())
    }

    /// The objects of one namespace, or of all, that come after `start`, in order.
    pub fn range(&self, namespace: Option<&str>, start: Option<&NamespacedName>) -> Vec<Arc<Object>> {
        in_range(&self.objects, namespace, start)
    }

    /// [`Table::range`] as it was at an earlier revision: the current state with later changes undone.
    pub fn range_at(
        &self,
        namespace: Option<&str>,
        start: Option<&NamespacedName>,
        revision: u64,
    ) -> Result<Vec<Arc<Object>>, TooOld> {
        let later = self.after(revision, usize::MAX)?;
        if later.is_empty() {
            return Ok(self.range(namespace, start));
        }
        let mut objects = self.objects.clone();
        for change in later.into_iter().rev() {
            match &change.before {
                Some(before) => objects.insert(change.object.key.clone(), before.clone()),
                None => objects.remove(&change.object.key),
            };
        }
        Ok(in_range(&objects, namespace, start))
    }
}

fn in_range(
    objects: &BTreeMap<NamespacedName, Arc<Object>>,
    namespace: Option<&str>,
    start: Option<&NamespacedName>,
) -> Vec<Arc<Object>> {
    let first = NamespacedName::new(namespace.unwrap_or_default(), "");
    let from = match start {
        Some(key) if *key >= first => Bound::Excluded(key),
        _ => Bound::Included(&first),
    };
    objects
        .range((from, Bound::Unbounded))
        .take_while(|(key, _)| namespace.is_none_or(|n| *key.namespace == *n))
        .map(|(_, object)| object.clone())
        .collect()
}
