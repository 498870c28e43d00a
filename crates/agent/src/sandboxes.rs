//! The network namespaces of the node's pods, looked into, and the node's own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use kilter_netlink::Link;
use kilter_netns::NetNs;
use kilter_wire::loaded::Sandbox;

use crate::endpoint::{Plan, link_name};
use crate::engine::Engine;
use crate::ipam::{Reservation, Stage};

impl Engine {
    /// The node's own, and those of containers whose ADD has succeeded and whose link is among these.
    pub(crate) fn sandboxes(&self, links: &[&Link]) -> Result<Vec<Sandbox>> {
        let wired = self.containers.iter().filter(|container| container.stage == Stage::Wired);
        let mut sandboxes = vec![self.own_namespace()?];
        for container in wired {
            let name = link_name(&container.reservation.container);
            if let Some(link) = links.iter().find(|link| link.name == name) {
                sandboxes.push(self.sandbox(&container.reservation, link)?);
            }
        }
        Ok(sandboxes)
    }

    /// Nothing is made in it for a pod.
    fn own_namespace(&self) -> Result<Sandbox> {
        let first = |ipv4: bool| self.config.addresses.iter().find(move |it| it.is_ipv4() == ipv4).copied();
        let addresses: BTreeSet<IpAddr> = [true, false].into_iter().filter_map(first).collect();
        Ok(Sandbox { addresses, cookie: Some(NetNs::current()?.cookie()?), missing: Vec::new() })
    }

    fn sandbox(&self, reservation: &Reservation, link: &Link) -> Result<Sandbox> {
        let addresses = reservation.addresses.iter().copied().collect();
        let Ok(namespace) = NetNs::open(&reservation.netns) else {
            return Ok(Sandbox { addresses, cookie: None, missing: vec![format!("its namespace {}", reservation.netns)] });
        };
        let plan = Plan {
            link: &link.name,
            ifname: &reservation.ifname,
            addresses: &reservation.addresses,
            mtu: link.mtu,
            namespace: &namespace,
        };
        let made = plan.result("", &reservation.netns);
        let missing = self.runtime.block_on(plan.missing_in_pod(&made))?;
        Ok(Sandbox { addresses, cookie: Some(namespace.cookie()?), missing })
    }
}
