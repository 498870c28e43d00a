//! One node, proved: what its kernel holds against what a fresh list of the API says it should.
//!
//! Policy is compared for every packet (see [`crate::equality`]); the rest row by row. What is
//! compared was read from the kernel; what it is compared with was made from the list by the
//! compilers, in this process.

mod finding;
mod links;
mod network;
mod policy;
mod sandboxes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Cluster, Pod};
use kilter_policy::Compiler;
use kilter_policy::naive::holder;
use kilter_wire::loaded::Loaded;
use serde::Serialize;

pub use finding::{Finding, Packet, Subject, Verdict};

/// What a node should be like beside what the API says of pods, policies and Services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The node's name.
    pub node: String,
    /// The blocks of all pods of the cluster.
    pub pod_cidrs: Vec<IpNet>,
    /// The pools of load balancers' addresses for which nodes answer.
    pub lb_pools: Vec<IpNet>,
    /// Routes to other nodes' pods: block and next hop.
    pub routes: BTreeSet<(IpNet, IpAddr)>,
    /// The number of the network in the tunnel, where the way to other nodes is one.
    pub tunnel: Option<u32>,
    /// The MTU of pods' links, bytes.
    pub pod_mtu: u32,
    /// Settings of its namespace, by the names of [`Loaded::settings`].
    pub settings: BTreeMap<String, String>,
    /// Its pods' links.
    pub links: Links,
}

/// How the links of pods should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// Hardware address of the node's side of each.
    pub gateway_mac: [u8; 6],
    /// Hardware addresses of pods, by each of their addresses.
    pub macs: BTreeMap<IpAddr, [u8; 6]>,
    /// What is set for the node's side, by the names of [`Link::settings`](kilter_wire::loaded::Link):
    /// where the pod has no address of IPv6, and where it has one.
    pub settings: [BTreeMap<String, String>; 2],
}

/// What was compared on a node, and what is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// The node.
    pub node: String,
    /// What is wrong; empty: proved.
    pub findings: Vec<Finding>,
    /// How much of each was compared.
    pub compared: BTreeMap<&'static str, u64>,
}

/// Proves one node.
pub fn prove(cluster: &Cluster, expected: &Expected, loaded: &Loaded) -> Proof {
    let mut compiler = Compiler::new(kilter_policy::Config {
        node: expected.node.as_str().into(),
        pod_cidrs: expected.pod_cidrs.clone(),
    });
    compiler.update(cluster, &[]);
    let view = View { cluster, expected, loaded, wanted: compiler.tables() };
    let mut proof = Proof { node: expected.node.clone(), ..Proof::default() };
    policy::rows(&view, &mut proof);
    policy::flows(&view, &mut proof);
    network::translations(&view, &mut proof);
    network::services(&view, &mut proof);
    network::announced(&view, &mut proof);
    network::endpoints(&view, &mut proof);
    links::links(&view, &mut proof);
    links::neighbours(&view, &mut proof);
    sandboxes::sandboxes(&view, &mut proof);
    network::routes(&view, &mut proof);
    network::refusals(&view, &mut proof);
    network::settings(&view, &mut proof);
    network::hooks(&view, &mut proof);
    proof
}

/// Everything that a comparison looks at.
struct View<'a> {
    cluster: &'a Cluster,
    expected: &'a Expected,
    loaded: &'a Loaded,
    wanted: &'a kilter_policy::Tables,
}

impl View<'_> {
    /// The pods of this node that have an address of their own.
    fn local_pods(&self) -> impl Iterator<Item = &Pod> {
        let here = |pod: &&Pod| pod.node.as_deref() == Some(self.expected.node.as_str());
        self.cluster.pods().filter(here).filter(|pod| !pod.host_network)
    }

    /// An address with the name of whoever has it.
    fn name(&self, address: IpAddr) -> String {
        match holder(self.cluster, address) {
            Some(pod) => format!("{} ({address})", pod.name),
            None => address.to_string(),
        }
    }
}
