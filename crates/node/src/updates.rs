//! The node's one set of watches, seen by two: DNS takes what it needs as the agent's updates pass.

use std::collections::BTreeSet;

use kilter_agent::Updates;
use kilter_cluster::{Feed, Resource, Update};
use kilter_dns::Zone;
use kilter_model::Cluster;

/// A feed that keeps a zone up to date on the way.
pub struct Shared {
    feed: Feed,
    zone: Zone,
    /// Services, slices and namespaces: all that DNS speaks of.
    cluster: Cluster,
    missing: BTreeSet<Resource>,
}

impl Shared {
    /// The zone answers once everything it needs has been listed.
    pub fn new(feed: Feed, zone: Zone) -> Self {
        let missing = BTreeSet::from([Resource::Services, Resource::EndpointSlices, Resource::Namespaces]);
        Self { feed, zone, cluster: Cluster::default(), missing }
    }

    fn see(&mut self, update: &Update) {
        match update {
            Update::Event { resource, event, .. } if speaks_of(*resource) => {
                let change = self.cluster.apply(event.clone());
                self.zone.update(&self.cluster, change.as_slice());
            }
            Update::Event { .. } => {}
            Update::Synced(resource) => {
                if self.missing.remove(resource) && self.missing.is_empty() {
                    self.zone.set_synced();
                }
            }
        }
    }
}

fn speaks_of(resource: Resource) -> bool {
    matches!(resource, Resource::Services | Resource::EndpointSlices | Resource::Namespaces)
}

impl Updates for Shared {
    async fn next(&mut self) -> Option<Vec<Update>> {
        let updates = self.feed.next().await?;
        updates.iter().for_each(|update| self.see(update));
        Some(updates)
    }
}
