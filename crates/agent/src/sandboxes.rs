//! The network namespaces of the node's pods, looked into.

use anyhow::Result;
use kilter_netlink::Link;
use kilter_netns::NetNs;
use kilter_wire::loaded::Sandbox;

use crate::endpoint::{Plan, link_name};
use crate::engine::Engine;
use crate::ipam::{Reservation, Stage};

impl Engine {
    /// Those of containers whose ADD has succeeded and whose link is among these.
    pub(crate) fn sandboxes(&self, links: &[&Link]) -> Result<Vec<Sandbox>> {
        let wired = self.containers.iter().filter(|container| container.stage == Stage::Wired);
        let mut sandboxes = Vec::new();
        for container in wired {
            let name = link_name(&container.reservation.container);
            if let Some(link) = links.iter().find(|link| link.name == name) {
                sandboxes.push(self.sandbox(&container.reservation, link)?);
            }
        }
        Ok(sandboxes)
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
