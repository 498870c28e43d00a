//! Which node answers for a load balancer's address on the node network: one node for each address, chosen
//! alike by all of them from what each sees of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use kilter_model::{Change, Cluster, NamespacedName, Node, Service};

/// A node with this label is not to be reached by load balancers (a well-known label of Kubernetes).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Whether a node can answer for an address at all.
fn is_able(node: &Node, address: IpAddr) -> bool {
    let speaks = node.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
    node.ready && speaks && !node.labels.contains_key(EXCLUDED)
}

/// The node that is to answer for an address of a Service; `None` where none can.
///
/// Of the nodes that are alive the one with the highest score for this address (rendezvous hashing): when a
/// node comes or goes, only addresses that it gains or loses move. With `externalTrafficPolicy: Local` only
/// nodes with an endpoint that serves count, as long as there is one: others could but drop what arrives.
pub fn owner(cluster: &Cluster, service: &Service, address: IpAddr) -> Option<Arc<str>> {
    let able = || cluster.nodes().filter(|node| is_able(node, address));
    let serving = match service.exposure.only_local {
        true => serving_nodes(cluster, service, address),
        false => BTreeSet::new(),
    };
    let best = |nodes: &mut dyn Iterator<Item = &Node>| {
        nodes.max_by_key(|node| (score(address, &node.name), node.name.clone())).map(|node| node.name.clone())
    };
    best(&mut able().filter(|node| serving.contains(&node.name))).or_else(|| best(&mut able()))
}

/// The nodes with ready endpoints; where nobody is ready, those with endpoints that go but serve (KEP-1669).
fn serving_nodes(cluster: &Cluster, service: &Service, address: IpAddr) -> BTreeSet<Arc<str>> {
    let all = || cluster.slices_of(&service.name).flat_map(|slice| &slice.endpoints);
    let of = |wanted: fn(&kilter_model::Endpoint) -> bool| -> BTreeSet<Arc<str>> {
        let found = all().filter(|it| it.address.is_ipv4() == address.is_ipv4() && wanted(it));
        found.filter_map(|it| it.node.clone()).collect()
    };
    let ready = of(|it| it.ready);
    if ready.is_empty() { of(|it| it.serving && it.terminating) } else { ready }
}

/// FNV-1a over the address and the name, its bits mixed once more (the finalizer of MurmurHash3): names
/// differ in their last letter, which FNV alone leaves in the low bits.
fn score(address: IpAddr, node: &str) -> u64 {
    let octets = match address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    };
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = octets.iter().chain(node.as_bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The addresses for which one node is to answer. A change of a Service costs what that Service is worth.
#[derive(Debug)]
pub struct Announcements {
    node: Arc<str>,
    pools: Vec<IpNet>,
    primed: bool,
    /// What the choice rests on, of each node.
    able: BTreeMap<Arc<str>, (bool, bool)>,
    owned: BTreeMap<NamespacedName, BTreeSet<IpAddr>>,
}

impl Announcements {
    /// For a node. Only addresses of these pools are ever answered for: whoever may write a status could
    /// otherwise take any address of the network.
    pub fn new(node: Arc<str>, pools: Vec<IpNet>) -> Self {
        Self { node, pools, primed: false, able: BTreeMap::new(), owned: BTreeMap::new() }
    }

    /// Follows the cluster, given what changed since the last call; the first call looks at everything.
    pub fn update(&mut self, cluster: &Cluster, changes: &[Change]) {
        let nodes_changed = changes.iter().any(|it| matches!(it, Change::Node(_))) && self.note_nodes(cluster);
        if !self.primed || nodes_changed {
            self.note_nodes(cluster);
            self.primed = true;
            self.owned.clear();
            cluster.services().for_each(|service| self.refresh(cluster, &service.name));
            return;
        }
        for name in changes.iter().flat_map(Change::services) {
            self.refresh(cluster, name);
        }
    }

    /// The addresses to answer for.
    pub fn owned(&self) -> BTreeSet<IpAddr> {
        self.owned.values().flatten().copied().collect()
    }

    /// Whether some node has become able or unable.
    fn note_nodes(&mut self, cluster: &Cluster) -> bool {
        let able = cluster.nodes().map(|node| {
            let of = |address: IpAddr| is_able(node, address);
            (node.name.clone(), (of([0, 0, 0, 0].into()), of([0u16; 8].into())))
        });
        let able = able.collect();
        let changed = self.able != able;
        self.able = able;
        changed
    }

    fn refresh(&mut self, cluster: &Cluster, name: &NamespacedName) {
        let owned: BTreeSet<IpAddr> = match cluster.service(name) {
            Some(service) => announced(service, &self.pools)
                .filter(|address| owner(cluster, service, *address).as_ref() == Some(&self.node))
                .collect(),
            None => BTreeSet::new(),
        };
        match owned.is_empty() {
            true => self.owned.remove(name),
            false => self.owned.insert(name.clone(), owned),
        };
    }
}

/// The addresses of a Service for which some node is to answer.
fn announced<'a>(service: &'a Service, pools: &'a [IpNet]) -> impl Iterator<Item = IpAddr> + 'a {
    let addresses = service.exposure.load_balancer.iter().filter(|_| service.exposure.is_on_node_network());
    addresses.copied().filter(|address| pools.iter().any(|pool| pool.contains(address)))
}
