//! Reading back what the kernel holds, for `prove`. Nothing here comes from the agent's memory but
//! what its rule ids stand for.
//!
//! The engine's thread reads, and it is the only one that writes rows, so no half of a change is
//! seen. Flows change under the reader: each is taken as it was when it was read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use kilter_datapath::{EGRESS_MARK, End};
use ipnet::IpNet;
use kilter_netlink::{Family, Masquerade, Route, read_sysctl};
use kilter_netns::NetNs;
use kilter_services::Tables;
use kilter_wire::loaded::{self as wire, Loaded};

use crate::endpoint::LINK_PREFIX;
use crate::engine::Engine;
use crate::host::{self, MASQUERADE_PORTS};

/// The name of the setting that stands for the masquerade rule of a family.
fn masquerade_name(family: Family) -> String {
    match family {
        Family::V4 => "nftables ip kilter".into(),
        Family::V6 => "nftables ip6 kilter".into(),
    }
}

/// The settings that the namespace of a node with these pod blocks must show, and their values.
pub fn expected_settings(uplink: &str, pod_cidrs: &[IpNet]) -> BTreeMap<String, String> {
    let sysctls = host::sysctls(uplink).into_iter().map(|(key, value)| (key, value.to_owned()));
    let rules = host::families(pod_cidrs).into_iter().map(|family| {
        let rule =
            Masquerade { family, mark: EGRESS_MARK, link: uplink.to_owned(), ports: MASQUERADE_PORTS };
        (masquerade_name(family), masquerade_text(Some(&rule)))
    });
    sysctls.chain(rules).collect()
}

fn masquerade_text(rule: Option<&Masquerade>) -> String {
    rule.map_or_else(
        || "missing or changed".into(),
        |Masquerade { mark, link, ports: (first, last), .. }| {
            format!("mark {mark:#x} oifname {link} masquerade to :{first}-{last}")
        },
    )
}

impl Engine {
    /// What the kernel holds now.
    pub(crate) fn loaded(&self) -> Result<Loaded> {
        let policy = self.datapath.read_policy()?;
        let links = self.runtime.block_on(self.netlink.links())?;
        let uplink = self.config.uplink.as_str();
        let attachments = self.datapath.attachments()?;
        let pods = links.iter().filter(|link| link.name.starts_with(LINK_PREFIX));
        Ok(Loaded {
            node: self.config.node.to_string(),
            applied: self.applied.borrow().clone(),
            policy: kilter_reach::rows::to_wire(&policy),
            rules: self.rows.rules(),
            frontends: frontends(&self.datapath.read_services()?),
            routes: self.datapath.read_routes()?.into_iter().map(data_route).collect(),
            endpoints: self.datapath.endpoints()?.iter().flat_map(endpoints).collect(),
            flows: self.datapath.read_flows()?.into_iter().map(flow).collect(),
            links: pods
                .map(|link| wire::Link { index: link.index, name: link.name.clone(), up: link.up })
                .collect(),
            kernel_routes: self.kernel_routes()?,
            settings: settings(uplink, &self.config.pod_cidrs)?,
            hooks: attachments.iter().flat_map(faults).collect(),
            hooks_checked: attachments.len() as u64,
        })
    }

    /// Everybody's routes into the pod network: a foreign one leads astray all the same.
    fn kernel_routes(&self) -> Result<Vec<wire::Route>> {
        let all = self.runtime.block_on(self.netlink.routes(false))?.into_iter();
        let blocks = &self.config.cluster_pod_cidrs;
        let into_pods = |route: &Route| blocks.iter().any(|block| block.contains(&route.destination));
        let row = |route: Route| wire::Route {
            to: (route.destination.addr(), route.destination.prefix_len()),
            via: route.via,
            link: Some(route.link),
        };
        Ok(all.filter(into_pods).map(row).collect())
    }
}

fn settings(uplink: &str, pod_cidrs: &[IpNet]) -> Result<BTreeMap<String, String>> {
    let namespace = NetNs::current()?;
    let mut settings = BTreeMap::new();
    for (key, _) in host::sysctls(uplink) {
        settings.insert(key.clone(), read_sysctl(&namespace, &key)?);
    }
    for family in host::families(pod_cidrs) {
        let rule = Masquerade::current(&namespace, family)?;
        settings.insert(masquerade_name(family), masquerade_text(rule.as_ref()));
    }
    Ok(settings)
}

fn frontends(tables: &Tables) -> Vec<wire::Frontend> {
    let row = |(frontend, row): (&kilter_services::Frontend, &kilter_services::FrontendRow)| {
        let backends = tables.backends_of(frontend).unwrap_or_default();
        wire::Frontend {
            at: SocketAddr::new(frontend.address, frontend.port),
            protocol: frontend.protocol.number(),
            count: row.count,
            backends: backends.into_iter().map(|it| SocketAddr::new(it.address, it.port)).collect(),
        }
    };
    tables.frontends.iter().map(row).collect()
}

fn data_route(route: kilter_datapath::NodeRoute) -> wire::Route {
    wire::Route { to: (route.prefix.addr(), route.prefix.prefix_len()), via: Some(route.next_hop), link: None }
}

fn endpoints(pod: &kilter_datapath::Endpoint) -> impl Iterator<Item = wire::Endpoint> {
    pod.addresses.iter().map(|address| wire::Endpoint { address: *address, link: pod.ifindex, mac: pod.mac })
}

/// What is wrong at a hook, in words.
fn faults(at: &kilter_datapath::Attachment) -> impl Iterator<Item = String> {
    at.faults().into_iter().map(|fault| format!("{} at {}: {fault}", at.program, at.place))
}

fn flow(flow: kilter_datapath::Flow) -> wire::Flow {
    let (from_pod, to_pod) = (matches!(flow.from_end, End::Pod(_)), matches!(flow.to_end, End::Pod(_)));
    wire::Flow {
        from: flow.from,
        to: flow.to,
        protocol: flow.protocol,
        egress: from_pod,
        // A pod's own node may always reach it.
        ingress: to_pod && flow.from_end != End::Node,
        allowed: !flow.revoked,
        current: flow.current,
    }
}
