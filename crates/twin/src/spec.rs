//! What a twin is made of: names and addresses, checked before anything is touched.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kilter_model::{Family, Routing};
use serde::{Deserialize, Serialize};

use crate::UsageError;
use crate::pools::pools;

/// A twin as it was asked for, kept in `twin.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinSpec {
    /// Its name: an RFC 1123 label of at most 32 characters.
    pub name: String,
    /// How many nodes, those that were removed again counted too.
    pub nodes: u32,
    /// Numbers, from 1, of the nodes that were removed again.
    #[serde(default)]
    pub removed: BTreeSet<u32>,
    /// The nodes' own subnets, one of each family that the twin has; the first family is the
    /// primary one, here and below.
    pub node_subnets: Vec<IpNet>,
    /// Where pods' addresses come from; each node gets a /24 of IPv4, a /64 of IPv6.
    pub pod_cidrs: Vec<IpNet>,
    /// Where Services' addresses come from.
    pub service_cidrs: Vec<IpNet>,
    /// Where load balancers' addresses come from, at most one range of each family: within the node subnets,
    /// or elsewhere, in which case the fabric leads them there.
    #[serde(default)]
    pub lb_pools: Vec<IpNet>,
    /// How pods' packets travel from node to node.
    #[serde(default)]
    pub routing: Routing,
    /// The domain of Service names.
    pub cluster_domain: String,
    /// Wait out the probes' `initialDelaySeconds` even though a stand-in starts at once.
    pub honour_initial_delay: bool,
    /// The kubeconfig into which a context was written.
    pub kubeconfig: Option<std::path::PathBuf>,
}

/// Why a twin cannot be as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// The name would not do as a file name and a label.
    #[error("{0:?} cannot be a twin's name: use up to 32 lower-case letters, digits and '-', starting and ending with a letter or digit")]
    Name(String),
    /// No nodes, or more than fit.
    #[error("{nodes} nodes do not fit: {why}")]
    Nodes {
        /// How many were asked for.
        nodes: u32,
        /// What limits them.
        why: String,
    },
    /// The ranges are not all of the same families, or two of one role are of one family.
    #[error("the {role} has {found} and the twin {wanted}; give --ip-family, and {option} one range of each of its families")]
    Families {
        /// The ranges' role.
        role: &'static str,
        /// Its families.
        found: String,
        /// Those of the node subnets.
        wanted: String,
        /// The option that changes them.
        option: &'static str,
    },
    /// Two address ranges overlap.
    #[error("the {a} {a_net} overlaps the {b} {b_net}; choose another with {option}")]
    Overlap {
        /// The first range's role.
        a: &'static str,
        /// The first range.
        a_net: IpNet,
        /// The second range's role.
        b: &'static str,
        /// The second range.
        b_net: IpNet,
        /// The option that changes the first.
        option: &'static str,
    },
    /// A range holds an address of this machine.
    #[error("the {role} {net} contains {address}, an address of this machine ({link}); choose another with {option}")]
    HostAddress {
        /// The range's role.
        role: &'static str,
        /// The range.
        net: IpNet,
        /// The machine's address.
        address: IpAddr,
        /// The machine's link that holds it.
        link: String,
        /// The option that changes the range.
        option: &'static str,
    },
    /// A load balancer could get an address that somebody has.
    #[error("the load balancer pool {pool} contains {address}, a node's or the fabric's own address; choose another with --lb-pool")]
    PoolHoldsNode {
        /// The pool.
        pool: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// A range is too small for its purpose.
    #[error("the {role} {net} is too small: {why}; choose a larger one with {option}")]
    TooSmall {
        /// The range's role.
        role: &'static str,
        /// The range.
        net: IpNet,
        /// What must fit.
        why: String,
        /// The option that changes it.
        option: &'static str,
    },
}

/// A node of a twin, with the addresses it will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// `node-1`, `node-2`...
    pub name: String,
    /// Its addresses in the node subnets, the primary family's first.
    pub addresses: Vec<IpAddr>,
    /// Its blocks of pod addresses.
    pub pod_cidrs: Vec<IpNet>,
}

/// The prefix length of a node's block: 254 addresses of IPv4, as the kubelet's default of 110 pods
/// wants, and a whole subnet of IPv6 (RFC 4291).
const fn node_block(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}
/// Host numbers in the node subnet: the gateway, the API, and from here on nodes.
const GATEWAY_HOST: u32 = 1;
const API_HOST: u32 = 2;
const FIRST_NODE_HOST: u32 = 11;

/// What an address range is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The nodes' own subnet.
    NodeSubnet,
    /// Pods.
    PodCidr,
    /// Services.
    ServiceCidr,
}

impl Role {
    const ALL: [Role; 3] = [Role::NodeSubnet, Role::PodCidr, Role::ServiceCidr];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Role::NodeSubnet => "node subnet",
            Role::PodCidr => "pod CIDR",
            Role::ServiceCidr => "Service CIDR",
        }
    }

    const fn option(self) -> &'static str {
        match self {
            Role::NodeSubnet => "--node-subnet",
            Role::PodCidr => "--pod-cidr",
            Role::ServiceCidr => "--service-cidr",
        }
    }

    /// The range of a family where nobody asks for another.
    fn default_range(self, family: Family) -> IpNet {
        match (self, family) {
            (Role::NodeSubnet, Family::V4) => v4([10, 240, 0, 0], 16),
            (Role::PodCidr, Family::V4) => v4([10, 244, 0, 0], 16),
            (Role::ServiceCidr, Family::V4) => v4([10, 96, 0, 0], 16),
            (Role::NodeSubnet, Family::V6) => v6(0x240, 64),
            (Role::PodCidr, Family::V6) => v6(0x244, 48),
            (Role::ServiceCidr, Family::V6) => v6(0x96, 108),
        }
    }

    /// The ranges of these families, in their order: those given, and the default for the others.
    /// One that is given and of no such family stays, for [`TwinSpec::validate`] to refuse.
    pub fn ranges(self, families: &[Family], given: &[IpNet]) -> Vec<IpNet> {
        let of = |family: &Family| given.iter().find(|net| Family::of(&net.addr()) == *family).copied();
        let mut ranges: Vec<IpNet> =
            families.iter().map(|family| of(family).unwrap_or(self.default_range(*family))).collect();
        ranges.extend(given.iter().filter(|net| !ranges.contains(net)).copied().collect::<Vec<_>>());
        ranges
    }
}

fn families(ranges: &[IpNet]) -> Vec<Family> {
    ranges.iter().map(|net| Family::of(&net.addr())).collect()
}

fn family_names(ranges: &[IpNet]) -> String {
    families(ranges).iter().map(|family| family.name()).collect::<Vec<_>>().join(" and ")
}

impl TwinSpec {
    /// The defaults, for a name and the families that the twin has.
    pub fn named(name: &str, families: &[Family]) -> Self {
        let node_subnets = Role::NodeSubnet.ranges(families, &[]);
        Self {
            name: name.to_owned(),
            nodes: 3,
            removed: BTreeSet::new(),
            lb_pools: pools(&node_subnets, &[]),
            node_subnets,
            pod_cidrs: Role::PodCidr.ranges(families, &[]),
            service_cidrs: Role::ServiceCidr.ranges(families, &[]),
            routing: Routing::Native,
            cluster_domain: "cluster.local".to_owned(),
            honour_initial_delay: false,
            kubeconfig: None,
        }
    }

    /// Its address families, the primary one first.
    pub fn families(&self) -> Vec<Family> {
        families(&self.node_subnets)
    }

    /// Checks names, sizes and overlaps; `host` are this machine's addresses with their links.
    pub fn validate(&self, host: &[(String, IpAddr)]) -> Result<(), SpecError> {
        check_name(&self.name)?;
        self.check_families()?;
        self.check_sizes()?;
        let ranges: Vec<(Role, IpNet)> =
            Role::ALL.iter().flat_map(|role| self.of(*role).iter().map(|net| (*role, *net))).collect();
        for (i, (role, net)) in ranges.iter().enumerate() {
            for (b, b_net) in &ranges[..i] {
                if net.contains(&b_net.network()) || b_net.contains(&net.network()) {
                    let (a, b, option) = (role.name(), b.name(), role.option());
                    return Err(SpecError::Overlap { a, a_net: *net, b, b_net: *b_net, option });
                }
            }
            if let Some((link, address)) = host.iter().find(|(_, address)| net.contains(address)) {
                return Err(SpecError::HostAddress {
                    role: role.name(),
                    net: *net,
                    address: *address,
                    link: link.clone(),
                    option: role.option(),
                });
            }
        }
        self.check_pools(host)
    }

    fn of(&self, role: Role) -> &[IpNet] {
        match role {
            Role::NodeSubnet => &self.node_subnets,
            Role::PodCidr => &self.pod_cidrs,
            Role::ServiceCidr => &self.service_cidrs,
        }
    }

    fn check_families(&self) -> Result<(), SpecError> {
        let wanted = families(&self.node_subnets);
        for role in Role::ALL {
            let found = families(self.of(role));
            if found != wanted || found.is_empty() || (found.len() > 1 && found[0] == found[1]) {
                return Err(SpecError::Families {
                    role: role.name(),
                    found: family_names(self.of(role)),
                    wanted: family_names(&self.node_subnets),
                    option: role.option(),
                });
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), SpecError> {
        if self.nodes == 0 {
            return Err(SpecError::Nodes { nodes: 0, why: "a cluster has at least one".into() });
        }
        let too_small = |role: Role, net: &IpNet, why: String| SpecError::TooSmall {
            role: role.name(),
            net: *net,
            why,
            option: role.option(),
        };
        for net in &self.pod_cidrs {
            let block = node_block(Family::of(&net.addr()));
            if net.prefix_len() > block || u64::from(self.nodes) > size(block - net.prefix_len()) {
                let why = format!("each of {} nodes needs a /{block}", self.nodes);
                return Err(too_small(Role::PodCidr, net, why));
            }
        }
        for net in &self.node_subnets {
            let hosts = size(net.max_prefix_len() - net.prefix_len());
            if u64::from(FIRST_NODE_HOST) + u64::from(self.nodes) + 1 > hosts {
                let why = format!("{} nodes and the gateway do not fit", self.nodes);
                return Err(too_small(Role::NodeSubnet, net, why));
            }
        }
        match self.service_cidrs.iter().find(|net| net.max_prefix_len() - net.prefix_len() < 4) {
            Some(net) => Err(too_small(Role::ServiceCidr, net, "DNS has the tenth address".into())),
            None => Ok(()),
        }
    }

    /// The fabric's own addresses in the node subnets, the nodes' gateways.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.node_subnets.iter().map(|net| host(net, GATEWAY_HOST)).collect()
    }

    /// Whether another twin of the same name would have the same addresses and ways between nodes, however many
    /// these are.
    pub fn has_addresses_of(&self, other: &Self) -> bool {
        let ranges = |spec: &Self| {
            let ranges = [&spec.node_subnets, &spec.pod_cidrs, &spec.service_cidrs, &spec.lb_pools];
            (ranges.map(Clone::clone), spec.cluster_domain.clone())
        };
        self.routing == other.routing && ranges(self) == ranges(other)
    }

    /// Where the API listens in the fabric; the first is where it is known to be.
    pub fn api_addresses(&self) -> Vec<IpAddr> {
        self.node_subnets.iter().map(|net| host(net, API_HOST)).collect()
    }

    /// The cluster IP of `kubernetes.default`.
    pub fn api_service_ips(&self) -> Vec<IpAddr> {
        self.service_cidrs.iter().map(|net| host(net, 1)).collect()
    }

    /// The cluster IPs of `kube-dns.kube-system`.
    pub fn dns_service_ips(&self) -> Vec<IpAddr> {
        self.service_cidrs.iter().map(|net| host(net, 10)).collect()
    }

    /// The nodes, in order.
    pub fn node_plans(&self) -> Vec<NodePlan> {
        (0..self.nodes)
            .filter(|i| !self.removed.contains(&(i + 1)))
            .map(|i| NodePlan {
                name: node_name(i + 1),
                addresses: self.node_subnets.iter().map(|net| host(net, FIRST_NODE_HOST + i)).collect(),
                pod_cidrs: self.pod_cidrs.iter().map(|net| block(net, i)).collect(),
            })
            .collect()
    }

    /// One node, by name.
    pub fn node_plan(&self, name: &str) -> Result<NodePlan, UsageError> {
        let plans = self.node_plans();
        plans.iter().find(|plan| plan.name == name).cloned().ok_or_else(|| {
            let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
            UsageError(format!("twin {} has no node {name}; it has {}", self.name, names.join(", ")))
        })
    }

    /// With one node more, and that node: the first that was removed, or a new one.
    pub fn with_another_node(&self) -> (Self, NodePlan) {
        let mut spec = self.clone();
        let number = spec.removed.pop_first().unwrap_or_else(|| {
            spec.nodes += 1;
            spec.nodes
        });
        let plan = spec.node_plans().into_iter().find(|plan| plan.name == node_name(number));
        (spec, plan.expect("BUG: a node that was just added is not planned"))
    }

    /// Without one of its nodes.
    pub fn without_node(&self, name: &str) -> Self {
        let mut spec = self.clone();
        spec.removed.extend((1..=self.nodes).filter(|number| node_name(*number) == name));
        spec
    }

    /// The kubeconfig context by which `kubectl` reaches the twin.
    pub fn context(&self) -> String {
        format!("kilter-{}", self.name)
    }
}

fn node_name(number: u32) -> String {
    format!("node-{number}")
}

/// Checks that a twin may be called so.
pub fn check_name(name: &str) -> Result<(), SpecError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = (1..=32).contains(&name.len())
        && name.chars().all(|c| plain(c) || c == '-')
        && name.starts_with(plain)
        && name.ends_with(plain);
    if fits { Ok(()) } else { Err(SpecError::Name(name.to_owned())) }
}

fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    Ipv4Net::new(octets.into(), prefix).expect("BUG: a default range is malformed").into()
}

/// `fd00:SECOND::/PREFIX`: unique local addresses (RFC 4193), of this machine only.
fn v6(second: u16, prefix: u8) -> IpNet {
    let network = Ipv6Addr::new(0xfd00, second, 0, 0, 0, 0, 0, 0);
    Ipv6Net::new(network, prefix).expect("BUG: a default range is malformed").into()
}

/// How many things these bits can tell apart, as far as that matters.
fn size(bits: u8) -> u64 {
    1 << bits.min(40)
}

pub(crate) fn host(net: &IpNet, number: u32) -> IpAddr {
    match net.network() {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) + number).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) + u128::from(number)).into(),
    }
}

/// A node's block of a range that has been validated.
fn block(net: &IpNet, number: u32) -> IpNet {
    let prefix = node_block(Family::of(&net.addr()));
    let first = match net.network() {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) + (number << (32 - prefix))).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) + (u128::from(number) << (128 - prefix))).into(),
    };
    IpNet::new(first, prefix).expect("BUG: a node's block has no prefix length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TwinSpec {
        TwinSpec::named("shop", &[Family::V4])
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_defaults_are_valid_and_distinct() {
        for families in [&[Family::V4][..], &[Family::V6], &[Family::V4, Family::V6]] {
            let spec = TwinSpec { nodes: 100, ..TwinSpec::named("shop", families) };
            assert_eq!(spec.validate(&[]), Ok(()));
            let plans = spec.node_plans();
            let addresses: BTreeSet<_> = plans.iter().flat_map(|p| &p.addresses).collect();
            let blocks: BTreeSet<_> = plans.iter().flat_map(|p| &p.pod_cidrs).collect();
            assert_eq!((addresses.len(), blocks.len()), (100 * families.len(), 100 * families.len()));
        }
        let plans = TwinSpec::named("shop", &[Family::V4, Family::V6]).node_plans();
        assert_eq!(plans[1].pod_cidrs, [net("10.244.1.0/24"), net("fd00:244:0:1::/64")]);
        assert_eq!(plans[1].addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.240.0.12", "fd00:240::c"]);
    }

    #[test]
    fn ranges_of_the_wrong_families_are_refused_with_what_to_do() {
        let given = Role::PodCidr.ranges(&[Family::V4], &[net("fd00:1::/48")]);
        assert_eq!(
            TwinSpec { pod_cidrs: given, ..spec() }.validate(&[]).unwrap_err().to_string(),
            "the pod CIDR has IPv4 and IPv6 and the twin IPv4; give --ip-family, and --pod-cidr one range of each of its families"
        );
        let given = Role::PodCidr.ranges(&[Family::V4, Family::V6], &[net("fd00:1::/48")]);
        assert_eq!(given, [net("10.244.0.0/16"), net("fd00:1::/48")]);
        let twice = vec![net("10.1.0.0/16"), net("10.2.0.0/16")];
        let spec = TwinSpec { node_subnets: twice, ..spec() };
        assert!(matches!(spec.validate(&[]), Err(SpecError::Families { .. })));
    }

    #[test]
    fn a_service_cidr_within_the_pod_cidr_is_refused_with_what_to_do() {
        let spec = TwinSpec { service_cidrs: vec![net("10.244.128.0/20")], ..spec() };
        assert_eq!(
            spec.validate(&[]).unwrap_err().to_string(),
            "the Service CIDR 10.244.128.0/20 overlaps the pod CIDR 10.244.0.0/16; choose another with --service-cidr"
        );
    }

    #[test]
    fn an_address_of_this_machine_is_named() {
        let host = [("eth0".to_owned(), IpAddr::from([10, 96, 3, 4]))];
        assert_eq!(
            spec().validate(&host).unwrap_err().to_string(),
            "the Service CIDR 10.96.0.0/16 contains 10.96.3.4, an address of this machine (eth0); choose another with --service-cidr"
        );
    }

    #[test]
    fn sizes_are_checked() {
        assert!(matches!(TwinSpec { nodes: 0, ..spec() }.validate(&[]), Err(SpecError::Nodes { .. })));
        assert!(matches!(TwinSpec { nodes: 257, ..spec() }.validate(&[]), Err(SpecError::TooSmall { .. })));
        assert!(matches!(
            TwinSpec { pod_cidrs: vec![net("10.244.0.0/25")], nodes: 1, ..spec() }.validate(&[]),
            Err(SpecError::TooSmall { .. })
        ));
    }

    #[test]
    fn a_removed_node_comes_back_under_its_own_name_and_addresses() {
        let before = spec().node_plans();
        let without = spec().without_node("node-2");
        assert_eq!(without.node_plans(), [before[0].clone(), before[2].clone()]);
        let (again, node) = without.with_another_node();
        assert_eq!((again.node_plans(), node), (before.clone(), before[1].clone()));
        let (more, node) = again.with_another_node();
        assert_eq!((more.node_plans().len(), node.name.as_str()), (4, "node-4"));
    }

    #[test]
    fn names_that_would_escape_the_directory_are_refused() {
        for name in ["", "..", "a/b", "-a", "a-", "A", &"a".repeat(33)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(check_name("sock-shop2"), Ok(()));
    }
}
