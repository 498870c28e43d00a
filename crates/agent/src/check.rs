//! CHECK: is everything still there that ADD made (SPEC, section 4, "CHECK")?
//!
//! A plugin later in the chain may have taken routes and addresses away, and the last result of the
//! chain, which the runtime hands back, then does not have them: only what it has is looked for. Hooks,
//! rows and links are nobody else's to take away.

use kilter_netlink::{Error, Netlink, Route};
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
            addresses: &reservation.addresses,
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
        let (routes, neighbours) = (node.routes(true).await?, node.neighbours().await?);
        let mut missing = Vec::new();
        for route in self.routes_on_node(link).iter().filter(|route| !has_route(&routes, route)) {
            missing.push(format!("the node's route to {}", route.destination));
        }
        for neighbour in self.pod_on_node(link).iter().filter(|neighbour| !neighbours.contains(neighbour)) {
            missing.push(format!("the node's neighbour {}", neighbour.address));
        }
        Ok(missing)
    }

    /// What ADD has made in the pod's namespace, returned as `result`, and is not there as it was, in words.
    pub(crate) async fn missing_in_pod(&self, result: &CniResult) -> Result<Vec<String>, Error> {
        let pod = Netlink::new(self.namespace)?;
        let Some(link) = pod.link(self.ifname).await? else {
            return Ok(vec![format!("the pod's link {}", self.ifname)]);
        };
        let mut missing = Vec::new();
        if !link.up {
            missing.push(format!("the pod's link {} being up", self.ifname));
        }
        if link.mac != Some(pod_mac(self.addresses)) {
            missing.push(format!("the hardware address of the pod's link {}", self.ifname));
        }
        let (addresses, routes, neighbours) =
            (pod.addresses().await?, pod.routes(false).await?, pod.neighbours().await?);
        for address in self.addresses.iter().map(|address| host(*address)) {
            if !result.ips.iter().any(|ip| ip.address.parse() == Ok(address)) {
                missing.push(format!("the address {address} in prevResult"));
            } else if !addresses.contains(&(link.index, address)) {
                missing.push(format!("the pod's address {address}"));
            }
        }
        for route in self.routes_in_pod(link.index) {
            let destination = route.destination.to_string();
            let wanted = result.routes.iter().any(|it| it.dst == destination && it.gw == route.via);
            if wanted && !has_route(&routes, &route) {
                missing.push(format!("the pod's route to {destination}"));
            }
        }
        for gateway in self.gateways_in_pod(link.index).iter().filter(|gateway| !neighbours.contains(gateway))
        {
            missing.push(format!("the pod's neighbour {}", gateway.address));
        }
        Ok(missing)
    }
}

/// Whether packets take this route; what else it says is the kernel's affair.
fn has_route(routes: &[Route], wanted: &Route) -> bool {
    routes.iter().any(|it| (it.destination, it.via, it.link) == (wanted.destination, wanted.via, wanted.link))
}
