//! What a former process of this node left: taken over where it is alive, removed where it is not, and
//! nothing is removed before every watch has synced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result};
use kilter_datapath::{Datapath, Endpoint};
use kilter_netlink::Link;

use crate::command::{Leaving, chain};
use crate::containers::Containers;
use crate::endpoint::{LINK_PREFIX, endpoint};
use crate::engine::Engine;
use crate::ipam::Stage;
use crate::view::View;

/// What is to be removed after the first sync.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// Containers whose link is gone with their namespace, or whose ADD or DEL was cut short.
    pub containers: Vec<String>,
    /// Links of ours that no record names.
    pub links: Vec<String>,
    /// Addresses with hooks that no record names.
    pub endpoints: BTreeSet<IpAddr>,
}

/// Takes over every wired container whose link is there: its hooks are attached if they are not, so that
/// no link of a pod is open for a moment longer, and the view gets its address.
pub fn adopt(
    containers: &Containers,
    links: &[Link],
    datapath: &mut Datapath,
    view: &mut View,
) -> Result<Strays> {
    let by_name: BTreeMap<&str, &Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
    let attached: BTreeSet<Endpoint> = datapath.endpoints()?.into_iter().collect();
    let mut strays = Strays::default();
    let (mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new());
    // Oldest first, so that of two containers of one pod the later one gets its identity.
    let mut all: Vec<_> = containers.iter().collect();
    all.sort_by_key(|container| container.reservation.since);
    for container in all {
        let reservation = &container.reservation;
        names.insert(reservation.link.as_str());
        addresses.extend(reservation.addresses.iter().copied());
        let (Some(link), Stage::Wired) = (by_name.get(reservation.link.as_str()), container.stage) else {
            strays.containers.push(reservation.container.clone());
            continue;
        };
        let endpoint = endpoint(reservation, link.index);
        if !attached.contains(&endpoint) {
            datapath
                .attach_pod(endpoint)
                .with_context(|| format!("guard the link of pod {}", reservation.pod))?;
        }
        view.assign(&reservation.uid, &reservation.addresses);
    }
    let ours = links.iter().filter(|link| link.name.starts_with(LINK_PREFIX));
    strays.links =
        ours.filter(|link| !names.contains(link.name.as_str())).map(|link| link.name.clone()).collect();
    strays.endpoints = attached
        .iter()
        .flat_map(|endpoint| &endpoint.addresses)
        .filter(|address| !addresses.contains(*address))
        .copied()
        .collect();
    Ok(strays)
}

impl Engine {
    /// Cuts strays off and hands their links to the reaper.
    pub(crate) fn remove_strays(&mut self, strays: Strays) {
        if let Err(error) = self.datapath.detach_pod(&strays.endpoints) {
            tracing::error!(error = %chain(&error), "stray endpoints cannot be removed");
        }
        for container in strays.containers {
            match self.cut_off(&container) {
                Ok(Some(leaving)) => self.reap(leaving),
                Ok(None) => {}
                Err(refusal) => {
                    tracing::error!(container, error = %refusal.details, "{}", refusal.msg);
                }
            }
        }
        for link in strays.links {
            self.reap(Leaving { container: String::new(), link });
        }
    }

    fn reap(&self, leaving: Leaving) {
        tracing::info!(link = %leaving.link, container = %leaving.container, "left behind by a former process; removed");
        // The reaper ends only after the engine.
        let _ = self.reaper.send(leaving);
    }
}
