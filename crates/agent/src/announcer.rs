//! Answering for load balancers' addresses on the node network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use kilter_datapath::Datapath;
use kilter_model::{Change, Cluster};
use kilter_netlink::{Listening, Mac, announce};
use kilter_services::Announcements;

use crate::Config;

/// How often the link is told of an address that is here now (RFC 4861, MAX_NEIGHBOR_ADVERTISEMENT): who
/// missed it once, or had heard from the former node a moment before, would send it there for a minute.
const TIMES: u8 = 3;

/// Keeps the data plane's answers in step with who is to answer, and tells the link when that changes.
pub struct Announcer {
    announcements: Announcements,
    link: u32,
    mac: Mac,
    listening: Option<Listening>,
    /// For what the data plane answers.
    owned: BTreeSet<IpAddr>,
    /// Addresses of which the link is still to be told, and how often.
    news: BTreeMap<IpAddr, u8>,
    /// Whether the data plane or the link's groups are to be set although nothing changed.
    pending: bool,
}

impl Announcer {
    /// For the node's uplink. What a former process answered for goes on to be answered.
    pub fn new(config: &Config, link: u32, mac: Mac, datapath: &Datapath) -> Result<Self, kilter_datapath::Error> {
        Ok(Self {
            announcements: Announcements::new(config.node.clone(), config.lb_pools.clone()),
            link,
            mac,
            listening: None,
            owned: datapath.read_announced()?,
            news: BTreeMap::new(),
            pending: true,
        })
    }

    /// Follows the cluster, given what changed since the last call.
    pub fn follow(&mut self, cluster: &Cluster, changes: &[Change]) {
        self.announcements.update(cluster, changes);
    }

    /// Has the data plane answer for what it is to answer for by now.
    ///
    /// # Errors
    /// When the data plane or the link cannot be set; the next call tries again.
    pub fn apply(&mut self, datapath: &mut Datapath) -> Result<()> {
        let wanted = self.announcements.owned();
        if wanted == self.owned && !self.pending {
            return Ok(());
        }
        self.pending = true;
        datapath.set_announced(&wanted, self.mac)?;
        self.listen(&wanted)?;
        self.pending = false;
        self.news.retain(|address, _| wanted.contains(address));
        self.news.extend(wanted.difference(&self.owned).map(|address| (*address, TIMES)));
        self.owned = wanted;
        self.tell();
        Ok(())
    }

    fn listen(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        if self.listening.is_none() && addresses.iter().any(IpAddr::is_ipv6) {
            self.listening = Some(Listening::new(self.link)?);
        }
        Ok(self.listening.as_mut().map_or(Ok(()), |listening| listening.set(addresses))?)
    }

    /// Whether something could not be set.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Tells the link of addresses that are new here. To be called every few seconds.
    pub fn tell(&mut self) {
        for (address, times) in &mut self.news {
            *times -= 1;
            if let Err(error) = announce(self.link, self.mac, *address) {
                tracing::warn!(%address, %error, "the node network cannot be told that this node answers for an address");
            }
        }
        self.news.retain(|_, times| *times > 0);
    }
}
