//! CHECK: is everything still there that ADD made (SPEC, section 4, "CHECK")?
//!
//! A plugin later in the chain may have taken routes and addresses away, and the last result of the
//! chain, which the runtime hands back, then does not have them: only what it has is looked for. Hooks,
//! rows and links are nobody else's to take away.

use ipnet::IpNet;
use kilter_netlink::{Error, Netlink};
use kilter_wire::cni::{CniResult, code};

use crate::command::{Command, Refusal, chain};
use crate::endpoint::{Plan, host, link_name, pod_mac};
use crate::wiring::{Wiring, open_namespace};

/// A CHECK as it was asked for, checked.
#[derive(Debug, Clone)]
pub struct Check {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `prevResult`: what the chain's ADD returned at last.
    pub result: CniResult,
}

impl Wiring {
    /// Says what of a container's attachment is missing or different, all of it at once.
    pub async fn check(&self, check: &Check) -> Result<(), Refusal> {
        let _alone = self.locks.lock(&check.container).await;
        let namespace = open_namespace(&check.netns)?;
        let unreadable = |error: Error| Refusal::later("links and routes cannot be read", chain(&error));
        let link = link_name(&check.container);
        let there = self.netlink.link(&link).await.map_err(unreadable)?;
        // No link has index 0, so nothing is attached to it.
        let index = there.as_ref().map_or(0, |link| link.index);
        let inspected = self.ask(|reply| Command::Inspect(check.container.clone(), index, reply)).await??;
        let reservation = inspected.reservation;
        if reservation.ifname != check.ifname {
            return Err(Refusal::unknown(&format!("{} with interface {}", check.container, check.ifname)));
        }
        let plan = Plan {
            link: &link,
            ifname: &check.ifname,
            address: reservation.address,
            mtu: self.mtu,
            namespace: &namespace,
        };
        let mut missing = match &there {
            None => vec![format!("the node's link {link}")],
            Some(there) if !there.up => vec![format!("the node's link {link} being up")],
            Some(_) => plan.missing_on_node(&self.netlink, index).await.map_err(unreadable)?,
        };
        missing.extend(inspected.missing);
        missing.extend(plan.missing_in_pod(&check.result).await.map_err(unreadable)?);
        verdict(&reservation.pod, &missing)
    }
}

fn verdict(pod: &str, missing: &[String]) -> Result<(), Refusal> {
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Refusal {
            code: code::CHECK_FAILED,
            msg: format!("pod {pod} is not wired as it was"),
            details: format!("missing: {}; DEL and ADD it again", missing.join(", ")),
        }),
    }
}

impl Plan<'_> {
    async fn missing_on_node(&self, node: &Netlink, link: u32) -> Result<Vec<String>, Error> {
        let mut missing = Vec::new();
        let route = self.route_on_node(link);
        if !node.routes(true).await?.contains(&route) {
            missing.push(format!("the node's route to {}", route.destination));
        }
        let neighbour = self.pod_on_node(link);
        if !node.neighbours().await?.contains(&neighbour) {
            missing.push(format!("the node's neighbour {}", neighbour.address));
        }
        Ok(missing)
    }

    async fn missing_in_pod(&self, result: &CniResult) -> Result<Vec<String>, Error> {
        let pod = Netlink::new(self.namespace)?;
        let Some(link) = pod.link(self.ifname).await? else {
            return Ok(vec![format!("the pod's link {}", self.ifname)]);
        };
        let mut missing = Vec::new();
        if !link.up {
            missing.push(format!("the pod's link {} being up", self.ifname));
        }
        if link.mac != Some(pod_mac(self.address)) {
            missing.push(format!("the hardware address of the pod's link {}", self.ifname));
        }
        let address = host(self.address);
        match names_address(result, address) {
            false => missing.push(format!("the address {address} in prevResult")),
            true if !pod.addresses().await?.contains(&(link.index, address)) => {
                missing.push(format!("the pod's address {address}"));
            }
            true => {}
        }
        let route = self.route_in_pod(link.index);
        let wanted =
            result.routes.iter().any(|r| r.dst == route.destination.to_string() && r.gw == route.via);
        if wanted
            && !pod
                .routes(false)
                .await?
                .iter()
                .any(|r| r.destination == route.destination && r.via == route.via)
        {
            missing.push(format!("the pod's route to {}", route.destination));
        }
        let gateway = self.gateway_in_pod(link.index);
        if !pod.neighbours().await?.contains(&gateway) {
            missing.push(format!("the pod's neighbour {}", gateway.address));
        }
        Ok(missing)
    }
}

fn names_address(result: &CniResult, address: IpNet) -> bool {
    result.ips.iter().any(|ip| ip.address.parse() == Ok(address))
}
