//! The node's one set of watches and one view of the cluster, seen by two: the agent, and DNS.

use kilter_agent::{Follower, Updates};
use kilter_cluster::{Feed, Update};
use kilter_dns::Zone;

/// A feed whose cluster a zone follows.
pub struct Shared {
    feed: Feed,
    zone: Zone,
}

impl Shared {
    /// The zone answers once the agent knows all that there is.
    pub fn new(feed: Feed, zone: Zone) -> Self {
        Self { feed, zone }
    }
}

impl Updates for Shared {
    async fn next(&mut self) -> Option<Vec<Update>> {
        self.feed.next().await
    }

    fn follower(&self) -> Follower {
        let zone = self.zone.clone();
        Box::new(move |cluster, changes| {
            zone.update(cluster, changes);
            zone.set_synced();
        })
    }
}
