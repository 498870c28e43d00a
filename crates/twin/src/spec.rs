//! What a twin is made of: names and addresses, checked before anything is touched.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A twin as it was asked for, kept in `twin.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinSpec {
    /// Its name: an RFC 1123 label of at most 32 characters.
    pub name: String,
    /// How many nodes.
    pub nodes: u32,
    /// The nodes' own subnet.
    pub node_subnet: Ipv4Net,
    /// Where pods' addresses come from; each node gets a /24 of it.
    pub pod_cidr: Ipv4Net,
    /// Where Services' addresses come from.
    pub service_cidr: Ipv4Net,
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
    /// Two address ranges overlap.
    #[error("the {a} {a_net} overlaps the {b} {b_net}; choose another with {option}")]
    Overlap {
        /// The first range's role.
        a: &'static str,
        /// The first range.
        a_net: Ipv4Net,
        /// The second range's role.
        b: &'static str,
        /// The second range.
        b_net: Ipv4Net,
        /// The option that changes the first.
        option: &'static str,
    },
    /// A range holds an address of this machine.
    #[error("the {role} {net} contains {address}, an address of this machine ({link}); choose another with {option}")]
    HostAddress {
        /// The range's role.
        role: &'static str,
        /// The range.
        net: Ipv4Net,
        /// The machine's address.
        address: IpAddr,
        /// The machine's link that holds it.
        link: String,
        /// The option that changes the range.
        option: &'static str,
    },
    /// A range is too small for its purpose.
    #[error("the {role} {net} is too small: {why}; choose a larger one with {option}")]
    TooSmall {
        /// The range's role.
        role: &'static str,
        /// The range.
        net: Ipv4Net,
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
    /// Its address in the node subnet.
    pub address: Ipv4Addr,
    /// Its block of pod addresses.
    pub pod_cidr: Ipv4Net,
}

/// The prefix length of a node's block: 254 addresses, as the kubelet's default of 110 pods wants.
const NODE_BLOCK: u8 = 24;
/// Host numbers in the node subnet: the gateway, the API, and from here on nodes.
const GATEWAY_HOST: u32 = 1;
const API_HOST: u32 = 2;
const FIRST_NODE_HOST: u32 = 11;

impl TwinSpec {
    /// The defaults, for a name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 3,
            node_subnet: net([10, 240, 0, 0], 16),
            pod_cidr: net([10, 244, 0, 0], 16),
            service_cidr: net([10, 96, 0, 0], 16),
            cluster_domain: "cluster.local".to_owned(),
            honour_initial_delay: false,
            kubeconfig: None,
        }
    }

    /// Checks names, sizes and overlaps; `host` are this machine's addresses with their links.
    pub fn validate(&self, host: &[(String, IpAddr)]) -> Result<(), SpecError> {
        check_name(&self.name)?;
        self.check_sizes()?;
        let ranges = self.ranges();
        for (i, (a, a_net, option)) in ranges.iter().enumerate() {
            for (b, b_net, _) in &ranges[..i] {
                if a_net.contains(&b_net.network()) || b_net.contains(&a_net.network()) {
                    return Err(SpecError::Overlap { a, a_net: *a_net, b, b_net: *b_net, option });
                }
            }
            for (link, address) in host {
                if let IpAddr::V4(v4) = address
                    && a_net.contains(v4)
                {
                    return Err(SpecError::HostAddress {
                        role: a,
                        net: *a_net,
                        address: *address,
                        link: link.clone(),
                        option,
                    });
                }
            }
        }
        Ok(())
    }

    fn ranges(&self) -> [(&'static str, Ipv4Net, &'static str); 3] {
        [
            ("node subnet", self.node_subnet, "--node-subnet"),
            ("pod CIDR", self.pod_cidr, "--pod-cidr"),
            ("Service CIDR", self.service_cidr, "--service-cidr"),
        ]
    }

    fn check_sizes(&self) -> Result<(), SpecError> {
        if self.nodes == 0 {
            return Err(SpecError::Nodes { nodes: 0, why: "a cluster has at least one".into() });
        }
        let blocks = 1u64 << NODE_BLOCK.saturating_sub(self.pod_cidr.prefix_len()).min(24);
        if self.pod_cidr.prefix_len() > NODE_BLOCK || u64::from(self.nodes) > blocks {
            return Err(SpecError::TooSmall {
                role: "pod CIDR",
                net: self.pod_cidr,
                why: format!("each of {} nodes needs a /{NODE_BLOCK}", self.nodes),
                option: "--pod-cidr",
            });
        }
        let hosts = 1u64 << (32 - self.node_subnet.prefix_len());
        if u64::from(FIRST_NODE_HOST) + u64::from(self.nodes) + 1 > hosts {
            return Err(SpecError::TooSmall {
                role: "node subnet",
                net: self.node_subnet,
                why: format!("{} nodes and the gateway do not fit", self.nodes),
                option: "--node-subnet",
            });
        }
        if self.service_cidr.prefix_len() > 28 {
            return Err(SpecError::TooSmall {
                role: "Service CIDR",
                net: self.service_cidr,
                why: "DNS has the tenth address".into(),
                option: "--service-cidr",
            });
        }
        Ok(())
    }

    /// The fabric's own address in the node subnet, the nodes' gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        host(self.node_subnet, GATEWAY_HOST)
    }

    /// Whether another twin of the same name would have the same nodes and addresses.
    pub fn has_addresses_of(&self, other: &Self) -> bool {
        let plan = |s: &Self| (s.nodes, s.node_subnet, s.pod_cidr, s.service_cidr, s.cluster_domain.clone());
        plan(self) == plan(other)
    }

    /// Where the API listens in the fabric.
    pub fn api_address(&self) -> Ipv4Addr {
        host(self.node_subnet, API_HOST)
    }

    /// The cluster IP of `kubernetes.default`.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        host(self.service_cidr, 1)
    }

    /// The cluster IP of `kube-dns.kube-system`.
    pub fn dns_service_ip(&self) -> Ipv4Addr {
        host(self.service_cidr, 10)
    }

    /// The nodes, in order.
    pub fn node_plans(&self) -> Vec<NodePlan> {
        (0..self.nodes)
            .map(|i| NodePlan {
                name: format!("node-{}", i + 1),
                address: host(self.node_subnet, FIRST_NODE_HOST + i),
                pod_cidr: Ipv4Net::new(host(self.pod_cidr, i << (32 - NODE_BLOCK)), NODE_BLOCK)
                    .expect("BUG: a /24 is a prefix length"),
            })
            .collect()
    }

    /// The kubeconfig context by which `kubectl` reaches the twin.
    pub fn context(&self) -> String {
        format!("kilter-{}", self.name)
    }
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

fn net(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new(octets.into(), prefix).expect("BUG: a default range is malformed")
}

fn host(net: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()) + number)
}


#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn spec() -> TwinSpec {
        TwinSpec::named("shop")
    }

    #[test]
    fn the_defaults_are_valid_and_distinct() {
        assert_eq!(spec().validate(&[]), Ok(()));
        let plans = TwinSpec { nodes: 100, ..spec() }.node_plans();
        let addresses: BTreeSet<_> = plans.iter().map(|p| p.address).collect();
        let blocks: BTreeSet<_> = plans.iter().map(|p| p.pod_cidr).collect();
        assert_eq!((addresses.len(), blocks.len()), (100, 100));
        assert_eq!(plans[1].pod_cidr.to_string(), "10.244.1.0/24");
    }

    #[test]
    fn a_service_cidr_within_the_pod_cidr_is_refused_with_what_to_do() {
        let spec = TwinSpec { service_cidr: net([10, 244, 128, 0], 20), ..spec() };
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
            TwinSpec { pod_cidr: net([10, 244, 0, 0], 25), nodes: 1, ..spec() }.validate(&[]),
            Err(SpecError::TooSmall { .. })
        ));
    }

    #[test]
    fn names_that_would_escape_the_directory_are_refused() {
        for name in ["", "..", "a/b", "-a", "a-", "A", &"a".repeat(33)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(check_name("sock-shop2"), Ok(()));
    }
}
