//! Reading back what the kernel holds, for `prove`. Nothing here comes from the agent's memory but
//! what its rule ids stand for.
//!
//! The engine's thread reads, and it is the only one that writes rows, so no half of a change is
//! seen. Flows change under the reader: each is taken as it was when it was read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use ipnet::IpNet;
use kilter_datapath::{EGRESS_MARK, End, FILTER_HANDLE, FILTER_PREFERENCE, GATEWAY_MAC};
use kilter_model::{Cluster, Routing};
use kilter_netlink::{Family, Link, Masquerade, Route, read_sysctl, read_sysctls};
use kilter_netns::NetNs;
use kilter_reach::proof::Links;
use kilter_services::{Scope, Tables};
use kilter_wire::loaded::{self as wire, Loaded};

use crate::endpoint::{LINK_PREFIX, pod_mac, settings_on_node};
use crate::engine::Engine;
use crate::host::{self, MASQUERADE_PORTS};
use crate::overlay;

/// The name of the setting that stands for the masquerade rule of a family.
fn masquerade_name(family: Family) -> String {
    match family {
        Family::V4 => "nftables ip kilter".into(),
        Family::V6 => "nftables ip6 kilter".into(),
    }
}

/// The name of the setting that stands for the rules of a family that say which table of routes is
/// asked.
fn routing_rules_name(family: Family) -> String {
    match family {
        Family::V4 => "ip rule".into(),
        Family::V6 => "ip -6 rule".into(),
    }
}

/// As the kernel makes them with each namespace: the table of own addresses, the main one, and for IPv4 one
/// that is empty.
fn routing_rules(family: Family) -> &'static str {
    match family {
        Family::V4 => "0: table 255; 32766: table 254; 32767: table 253",
        Family::V6 => "0: table 255; 32766: table 254",
    }
}

/// The name of the setting that stands for the tunnel's device.
const DEVICE: &str = overlay::LINK;

/// The settings that the namespace of a node with these pod blocks must show, and their values;
/// `tunnel_mtu` where it has a tunnel to other nodes.
pub fn expected_settings(
    uplink: &str,
    pod_cidrs: &[IpNet],
    tunnel_mtu: Option<u32>,
) -> BTreeMap<String, String> {
    let sysctls = host::sysctls(uplink, pod_cidrs).into_iter().map(|(key, value)| (key, value.to_owned()));
    let families = host::families(pod_cidrs);
    let tables = families.iter().map(|it| (routing_rules_name(*it), routing_rules(*it).to_owned()));
    let rules = families.iter().map(|family| {
        let family = *family;
        let rule =
            Masquerade { family, mark: EGRESS_MARK, link: uplink.to_owned(), ports: MASQUERADE_PORTS };
        (masquerade_name(family), masquerade_text(Some(&rule)))
    });
    let device = tunnel_mtu.map(|mtu| (DEVICE.to_owned(), overlay::expected(mtu)));
    sysctls.chain(rules).chain(tables).chain(device).collect()
}

/// How the links of a node's pods must be.
pub fn expected_links(cluster: &Cluster, node: &str) -> Links {
    let here = cluster.pods().filter(|pod| pod.node.as_deref() == Some(node) && !pod.host_network);
    let macs = here.flat_map(|pod| pod.addresses.iter().map(|address| (*address, pod_mac(&pod.addresses))));
    let settings = [false, true].map(|speaks_ipv6| {
        let settings = settings_on_node(ANY_LINK, speaks_ipv6).into_iter();
        settings.map(|(key, value)| (key, value.to_owned())).collect()
    });
    Links { gateway_mac: GATEWAY_MAC, macs: macs.collect(), settings }
}

/// Stands for the link in the names of its settings.
const ANY_LINK: &str = "*";

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
        let mut hooks: Vec<String> = attachments.iter().flat_map(faults).collect();
        let pods: Vec<&Link> = links.iter().filter(|link| link.name.starts_with(LINK_PREFIX)).collect();
        for link in &pods {
            hooks.extend(self.foreign_filters(link)?);
        }
        let device = links.iter().find(|link| link.name == overlay::LINK);
        let device = (self.config.routing == Routing::Vxlan || device.is_some())
            .then(|| (DEVICE.to_owned(), overlay::found(device)));
        let settings = settings(uplink, &self.config.pod_cidrs)?;
        Ok(Loaded {
            node: self.config.node.to_string(),
            applied: self.applied.borrow().clone(),
            policy: kilter_reach::rows::to_wire(&policy),
            rules: self.rows.rules(),
            frontends: frontends(&self.datapath.read_services()?),
            announced: self.datapath.read_announced()?.into_iter().collect(),
            routes: self.datapath.read_routes()?.into_iter().map(data_route).collect(),
            endpoints: self.datapath.endpoints()?.iter().flat_map(endpoints).collect(),
            flows: self.datapath.read_flows()?.into_iter().map(flow).collect(),
            links: wire_links(&pods)?,
            translations: self.datapath.read_translations()?.into_iter().map(translation).collect(),
            neighbours: self.neighbours(&pods)?,
            sandboxes: self.sandboxes(&pods)?,
            namespaces: self.datapath.read_namespaces()?,
            kernel_routes: self.kernel_routes()?,
            refusals: self.refusals()?,
            settings: settings.into_iter().chain(self.routing_rules()?).chain(device).collect(),
            hooks,
            hooks_checked: attachments.len() as u64,
        })
    }

    fn neighbours(&self, pods: &[&Link]) -> Result<Vec<wire::Neighbour>> {
        let all = self.runtime.block_on(self.netlink.neighbours())?.into_iter();
        let on_pods = all.filter(|it| pods.iter().any(|link| link.index == it.link));
        Ok(on_pods.map(|it| wire::Neighbour { address: it.address, link: it.link, mac: it.mac }).collect())
    }

    /// Filters of others that a pod's link asks before the data plane's, in words.
    fn foreign_filters(&self, link: &Link) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (ingress, side) in [(true, "ingress"), (false, "egress")] {
            let filters = self.runtime.block_on(self.netlink.filters(link.index, ingress))?;
            // The newest of one preference is asked first, so those of ours count, too.
            let before = filters.iter().filter(|it| it.preference <= FILTER_PREFERENCE && it.handle != FILTER_HANDLE);
            found.extend(before.map(|it| {
                let kilter_netlink::Filter { preference, handle, kind } = it;
                let name = &link.name;
                format!("{side} of {name}: a foreign {kind} filter runs first (preference {preference}, handle {handle})")
            }));
        }
        Ok(found)
    }

    /// Which tables of routes are asked, by the name of the setting.
    fn routing_rules(&self) -> Result<Vec<(String, String)>> {
        let of = |family| -> Result<_> {
            let rules = self.runtime.block_on(self.netlink.routing_rules(family))?;
            Ok((routing_rules_name(family), rules.join("; ")))
        };
        host::families(&self.config.pod_cidrs).into_iter().map(of).collect()
    }

    /// What everybody's routes refuse of the pod network.
    fn refusals(&self) -> Result<Vec<wire::Refusal>> {
        let all = self.runtime.block_on(self.netlink.refusals())?.into_iter();
        let into_pods = all.filter(|it| self.is_in_pod_network(&it.destination));
        let row = |it: kilter_netlink::Refusal| wire::Refusal {
            to: (it.destination.addr(), it.destination.prefix_len()),
            kind: it.kind.to_owned(),
        };
        Ok(into_pods.map(row).collect())
    }

    fn is_in_pod_network(&self, destination: &IpNet) -> bool {
        self.config.cluster_pod_cidrs.iter().any(|block| block.contains(destination))
    }

    /// Everybody's routes into the pod network: a foreign one leads astray all the same.
    fn kernel_routes(&self) -> Result<Vec<wire::Route>> {
        let all = self.runtime.block_on(self.netlink.routes(false))?.into_iter();
        let into_pods = |route: &Route| self.is_in_pod_network(&route.destination);
        let row = |route: Route| wire::Route {
            to: (route.destination.addr(), route.destination.prefix_len()),
            via: route.via.or(route.tunnel.map(|tunnel| tunnel.to)),
            link: Some(route.link),
            tunnel: route.tunnel.map(|tunnel| tunnel.id),
        };
        Ok(all.filter(into_pods).map(row).collect())
    }
}

fn settings(uplink: &str, pod_cidrs: &[IpNet]) -> Result<BTreeMap<String, String>> {
    let namespace = NetNs::current()?;
    let mut settings = BTreeMap::new();
    for (key, _) in host::sysctls(uplink, pod_cidrs) {
        settings.insert(key.clone(), read_sysctl(&namespace, &key)?);
    }
    for family in host::families(pod_cidrs) {
        let rule = Masquerade::current(&namespace, family)?;
        settings.insert(masquerade_name(family), masquerade_text(rule.as_ref()));
    }
    Ok(settings)
}

/// Pods' links with what is set for each.
fn wire_links(links: &[&Link]) -> Result<Vec<wire::Link>> {
    let names: Vec<String> = settings_on_node(ANY_LINK, true).into_iter().map(|(key, _)| key).collect();
    let keys: Vec<String> =
        links.iter().flat_map(|link| names.iter().map(|name| name.replace(ANY_LINK, &link.name))).collect();
    let mut values = read_sysctls(&NetNs::current()?, &keys)?.into_iter();
    let row = |link: &&Link| {
        let values = names.iter().cloned().zip(values.by_ref());
        wire::Link {
            index: link.index,
            name: link.name.clone(),
            up: link.up,
            mtu: link.mtu,
            mac: link.mac,
            settings: values.filter_map(|(name, value)| Some((name, value?))).collect(),
        }
    };
    Ok(links.iter().map(row).collect())
}

fn frontends(tables: &Tables) -> Vec<wire::Frontend> {
    let row = |(frontend, row): (&kilter_services::Frontend, &kilter_services::FrontendRow)| {
        let backends = tables.backends_of(frontend).unwrap_or_default();
        wire::Frontend {
            at: SocketAddr::new(frontend.address, frontend.port),
            protocol: frontend.protocol.number(),
            outside: frontend.scope == Scope::Outside,
            flags: row.flags.to_string(),
            count: row.count,
            affinity: row.affinity,
            table: tables.table_of(row),
            sources: tables.sources_of(row.revision).iter().map(|it| (it.addr(), it.prefix_len())).collect(),
            backends: backends.into_iter().map(|it| SocketAddr::new(it.address, it.port)).collect(),
        }
    };
    tables.frontends.iter().map(row).collect()
}

fn data_route(route: kilter_datapath::NodeRoute) -> wire::Route {
    let to = (route.prefix.addr(), route.prefix.prefix_len());
    wire::Route { to, via: Some(route.next_hop), link: None, tunnel: None }
}

fn endpoints(pod: &kilter_datapath::Endpoint) -> impl Iterator<Item = wire::Endpoint> {
    pod.addresses.iter().map(|address| wire::Endpoint { address: *address, link: pod.ifindex, mac: pod.mac })
}

/// What is wrong at a hook, in words.
fn faults(at: &kilter_datapath::Attachment) -> impl Iterator<Item = String> {
    at.faults().into_iter().map(|fault| format!("{} at {}: {fault}", at.program, at.place))
}

fn translation(row: kilter_datapath::Translation) -> wire::Translation {
    wire::Translation { protocol: row.protocol, from: row.from, to: row.to, sent_on: row.sent_on }
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
