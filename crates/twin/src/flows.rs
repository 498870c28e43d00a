//! Who talks to whom in a twin, and what was refused: what the nodes track, with names from the API.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use kilter_cluster::Update;
use kilter_model::Cluster;
pub use kilter_wire::control::FlowState;
use kilter_wire::control::{Drop, Flow, Opened};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::client::NodeClient;
use crate::paths::Layout;
use crate::spec::TwinSpec;

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    /// `namespace/pod`, `node/NAME` or `svc/namespace/NAME`; `None` for addresses of nobody here.
    pub name: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 where the protocol has none.
    pub port: u16,
}

/// A connection as the nodes at its two ends track it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Who opened it.
    pub from: Party,
    /// Towards whom.
    pub to: Party,
    /// `TCP`, `UDP`...
    pub protocol: String,
    /// How far it is; revoked where either node says so.
    pub state: FlowState,
    /// The rule that lets it out; `None` where no policy applies.
    pub egress: Option<String>,
    /// The rule that lets it in; `None` where no policy applies.
    pub ingress: Option<String>,
    /// The nodes that track it.
    pub nodes: Vec<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Happening {
    /// `opened` or `dropped`.
    pub what: What,
    /// Microseconds since the epoch.
    pub at: u64,
    /// The node that saw it.
    pub node: String,
    /// Who sent.
    pub from: Party,
    /// Towards whom.
    pub to: Party,
    /// `TCP`, `UDP`...
    pub protocol: String,
    /// `egress` or `ingress`: whose side decided.
    pub direction: String,
    /// Why it was dropped.
    pub reason: Option<String>,
    /// The rule that decided, where one did.
    pub rule: Option<String>,
    /// Of a retried connection: the endpoint that had refused it.
    pub refused_by: Option<Party>,
}

/// The kind of a [`Happening`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A connection was opened and allowed.
    Opened,
    /// One endpoint of a Service refused a connection, and it was carried to another.
    Retried,
    /// A packet was refused.
    Dropped,
}

/// Which connections are wanted; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The opener or sender: a pod, a workload, `namespace/` either, `node/NAME`, or an address.
    pub from: Option<String>,
    /// The other end, likewise.
    pub to: Option<String>,
    /// Either end, likewise.
    pub with: Option<String>,
    /// Either end is of this namespace.
    pub namespace: Option<String>,
    /// Seen by this node.
    pub node: Option<String>,
    /// `TCP`, `UDP`..., in any case.
    pub protocol: Option<String>,
    /// The destination's port.
    pub port: Option<u16>,
}

impl Filter {
    fn admits(&self, from: &Party, to: &Party, protocol: &str) -> bool {
        let is = |wanted: &Option<String>, party: &Party| wanted.as_ref().is_none_or(|w| party.is(w));
        is(&self.from, from)
            && is(&self.to, to)
            && self.with.as_ref().is_none_or(|w| from.is(w) || to.is(w))
            && self.namespace.as_ref().is_none_or(|n| from.is_of(n) || to.is_of(n))
            && self.protocol.as_ref().is_none_or(|p| p.eq_ignore_ascii_case(protocol))
            && self.port.is_none_or(|port| port == to.port)
    }
}

impl Party {
    fn of(cluster: &Cluster, (address, port): (IpAddr, u16)) -> Self {
        Self { name: name_of(cluster, address), address, port }
    }

    /// Whether a person who writes `wanted` means this one. The name of a workload means its pods,
    /// whose names go on with a dash.
    fn is(&self, wanted: &str) -> bool {
        if self.address.to_string() == wanted {
            return true;
        }
        let Some(name) = &self.name else { return false };
        let bare = name.split_once('/').map_or(name.as_str(), |(_, bare)| bare);
        let means = |name: &str| name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        means(name) || means(bare)
    }

    fn is_of(&self, namespace: &str) -> bool {
        let name = self.name.as_deref().unwrap_or_default();
        let name = name.strip_prefix("svc/").unwrap_or(name);
        name.split_once('/').is_some_and(|(of, _)| of == namespace)
    }
}

/// Who is at an address. A node's own address is also that of its pods with `hostNetwork`.
fn name_of(cluster: &Cluster, address: IpAddr) -> Option<String> {
    if let Some(pod) = cluster.pod_by_address(address).filter(|pod| !pod.host_network) {
        return Some(pod.name.to_string());
    }
    if let Some(node) = cluster.nodes().find(|node| node.addresses.contains(&address)) {
        return Some(format!("node/{}", node.name));
    }
    let service = cluster.services().find(|service| service.cluster_ips.contains(&address))?;
    Some(format!("svc/{}", service.name))
}

/// The connections that the nodes of a twin track now, both ends' knowledge joined.
pub async fn connections(spec: &TwinSpec, filter: &Filter) -> Result<Vec<Connection>> {
    let cluster = snapshot(spec).await?;
    let mut flows = Vec::new();
    for mut client in clients(spec, filter).await? {
        flows.extend(client.flows().await?);
    }
    let mut joined = join(&cluster, flows);
    joined.retain(|c| filter.admits(&c.from, &c.to, &c.protocol));
    Ok(joined)
}

/// The packets that were refused in the recent past, oldest first.
pub async fn recent_drops(spec: &TwinSpec, filter: &Filter) -> Result<Vec<Happening>> {
    let cluster = snapshot(spec).await?;
    let mut drops = Vec::new();
    for mut client in clients(spec, filter).await? {
        drops.extend(client.recent_drops().await?);
    }
    drops.sort_by_key(|drop| drop.at);
    let told = drops.into_iter().map(|drop| Seen::from(drop).tell(&cluster));
    Ok(told.filter(|h| filter.admits(&h.from, &h.to, &h.protocol)).collect())
}

/// Calls `tell` with everything that happens from now on, until the nodes are gone or `tell` says
/// `false`.
pub async fn follow(
    spec: &TwinSpec,
    filter: &Filter,
    only_drops: bool,
    mut tell: impl FnMut(Happening) -> bool,
) -> Result<()> {
    let (events, mut happened) = mpsc::unbounded_channel::<Seen>();
    for client in clients(spec, filter).await? {
        client.follow_drops(events.clone()).await?;
    }
    if !only_drops {
        for client in clients(spec, filter).await? {
            client.follow_opened(events.clone()).await?;
        }
    }
    drop(events);
    let api = kilter_cluster::connect(&Layout::new(&spec.name).admin_kubeconfig()).await?;
    let mut cluster = kilter_cluster::snapshot(&api).await?;
    let mut feed = kilter_cluster::watch(api);
    loop {
        tokio::select! {
            biased;
            updates = feed.next() => {
                for update in updates.context("the API went away")? {
                    if let Update::Event { event, .. } = update {
                        cluster.apply(event);
                    }
                }
            }
            seen = happened.recv() => {
                let Some(seen) = seen else { return Ok(()) };
                let happening = seen.tell(&cluster);
                if filter.admits(&happening.from, &happening.to, &happening.protocol) && !tell(happening) {
                    return Ok(());
                }
            }
        }
    }
}

async fn snapshot(spec: &TwinSpec) -> Result<Cluster> {
    let client = kilter_cluster::connect(&Layout::new(&spec.name).admin_kubeconfig()).await?;
    Ok(kilter_cluster::snapshot(&client).await?)
}

async fn clients(spec: &TwinSpec, filter: &Filter) -> Result<Vec<NodeClient>> {
    let layout = Layout::new(&spec.name);
    let plans = match &filter.node {
        Some(node) => vec![spec.node_plan(node)?],
        None => spec.node_plans(),
    };
    let mut clients = Vec::new();
    for plan in plans {
        clients.push(NodeClient::connect(&plan.name, &layout.control_socket(&plan.name)).await?);
    }
    Ok(clients)
}

/// A connection between two nodes is tracked by both; each knows its own side's rule.
fn join(cluster: &Cluster, flows: Vec<Flow>) -> Vec<Connection> {
    let mut joined: BTreeMap<_, Connection> = BTreeMap::new();
    for flow in flows {
        let key = (flow.from, flow.to, flow.protocol.clone());
        let connection = joined.entry(key).or_insert_with(|| Connection {
            from: Party::of(cluster, flow.from),
            to: Party::of(cluster, flow.to),
            protocol: flow.protocol,
            state: flow.state,
            egress: None,
            ingress: None,
            nodes: Vec::new(),
        });
        connection.state = connection.state.max(flow.state);
        connection.egress = connection.egress.take().or(flow.egress);
        connection.ingress = connection.ingress.take().or(flow.ingress);
        connection.nodes.push(flow.node);
    }
    joined.into_values().collect()
}

/// An event of one node, not yet with names.
struct Seen {
    what: What,
    event: Drop,
    refused_by: Option<(IpAddr, u16)>,
}

impl From<Drop> for Seen {
    fn from(event: Drop) -> Self {
        Self { what: What::Dropped, event, refused_by: None }
    }
}

impl From<Opened> for Seen {
    fn from(opened: Opened) -> Self {
        let Opened { node, at, direction, from, to, protocol, rule, refused_by } = opened;
        let event = Drop { node, at, direction, from, to, protocol, reason: String::new(), rule };
        let what = if refused_by.is_some() { What::Retried } else { What::Opened };
        Self { what, event, refused_by }
    }
}

impl Seen {
    fn tell(self, cluster: &Cluster) -> Happening {
        let Drop { node, at, direction, from, to, protocol, reason, rule } = self.event;
        Happening {
            what: self.what,
            at,
            node,
            from: Party::of(cluster, from),
            to: Party::of(cluster, to),
            protocol,
            direction,
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            rule,
            refused_by: self.refused_by.map(|end| Party::of(cluster, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(name: &str) -> Party {
        Party { name: Some(name.into()), address: [10, 244, 0, 2].into(), port: 80 }
    }

    #[test]
    fn a_workloads_name_means_its_pods() {
        let pod = party("shop/cart-7d9f-x2k");
        for wanted in ["cart", "shop/cart", "cart-7d9f", "shop/cart-7d9f-x2k", "10.244.0.2"] {
            assert!(pod.is(wanted), "{wanted}");
        }
        for wanted in ["car", "other/cart", "shop", "10.244.0.3"] {
            assert!(!pod.is(wanted), "{wanted}");
        }
    }

    #[test]
    fn namespaces_are_those_of_pods_and_services() {
        assert!(party("shop/cart").is_of("shop") && party("svc/shop/cart").is_of("shop"));
        assert!(!party("node/node-1").is_of("shop"));
    }

    #[test]
    fn two_nodes_tell_one_connection() {
        let flow = |node: &str, egress: Option<&str>, ingress: Option<&str>, state| Flow {
            node: node.into(),
            from: ([10, 244, 0, 2].into(), 40_000),
            to: ([10, 244, 1, 2].into(), 80),
            protocol: "TCP".into(),
            state,
            egress: egress.map(Into::into),
            ingress: ingress.map(Into::into),
        };
        let flows = vec![
            flow("node-1", Some("out"), None, FlowState::Established),
            flow("node-2", None, Some("in"), FlowState::Revoked),
        ];
        let joined = join(&Cluster::default(), flows);
        assert_eq!(joined.len(), 1);
        assert_eq!((joined[0].egress.as_deref(), joined[0].ingress.as_deref()), (Some("out"), Some("in")));
        assert_eq!((joined[0].state, joined[0].nodes.len()), (FlowState::Revoked, 2));
    }
}
