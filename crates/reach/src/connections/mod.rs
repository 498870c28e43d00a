//! Every permitted connection, workload to workload and with the outside.

mod compute;
mod exposed;
mod matrix;
mod placement;
mod portsets;
mod ranges;
mod rows;
mod universe;

pub(crate) use ranges::{address, cut, number};
pub(crate) use universe::blocks;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Cluster, PortRange, PortSet, Protocol, WorkloadRef};
use serde::{Deserialize, Serialize};

pub use compute::Pairs;

/// What the manifests do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the addresses of pods lie that have none yet. Also says which address families the
    /// outside is listed in.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether ipBlocks match the addresses of pods. The Kubernetes conformance tests want it;
    /// some other analysers assume that they do not.
    pub ip_blocks_match_pods: bool,
}

impl Default for Options {
    /// The pod block of a twin, and ipBlocks that match pods.
    fn default() -> Self {
        let pods = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 244, 0, 0), 16);
        Self { pod_cidrs: vec![pods.into()], ip_blocks_match_pods: true }
    }
}

/// What one end may open to the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Connection {
    /// Who opens it.
    pub from: End,
    /// To whom.
    pub to: End,
    /// Ports of the destination's pods that are permitted, 1 to 65535.
    pub ports: PortSet,
    /// Ports that are permitted besides if an address that is not known yet lies in the right one
    /// of the rules' blocks.
    pub depends_on_address: PortSet,
}

/// What is permitted between two ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permitted {
    /// See [`Connection::ports`].
    pub ports: PortSet,
    /// See [`Connection::depends_on_address`].
    pub depends_on_address: PortSet,
}

impl Permitted {
    /// Whether nothing is permitted, not even perhaps.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty() && self.depends_on_address.is_empty()
    }

    /// What this permits, or perhaps permits, and the other does not.
    pub fn beyond(&self, other: &Permitted) -> Permitted {
        let ports = self.ports.difference(&other.ports);
        let either = other.depends_on_address.difference(&other.ports);
        let perhaps = self.depends_on_address.difference(&other.ports).difference(&either);
        Permitted { ports, depends_on_address: perhaps }
    }
}

impl fmt::Display for Permitted {
    /// `TCP 80; depends on the address: TCP 5432`, or `No Connections`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (certain, more) = (port_text(&self.ports), port_text(&self.depends_on_address));
        match (self.ports.is_empty(), self.depends_on_address.is_empty()) {
            (true, true) => f.write_str("No Connections"),
            (false, true) => f.write_str(&certain),
            (true, false) => write!(f, "depends on the address: {more}"),
            (false, false) => write!(f, "{certain}; depends on the address: {more}"),
        }
    }
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Any pod of a workload.
    Workload(WorkloadRef),
    /// Any address that no pod holds.
    External(Range),
    /// Whatever carries out Ingresses: a pod that nothing is known of.
    #[serde(rename = "ingress-controller")]
    IngressController,
}

/// Addresses that no rule tells apart, `first..=last`, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Range {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

/// Computes every permitted connection of a cluster, sorted as text. What is permitted nowhere is
/// not listed, nor is a workload to itself. Between workloads both sides' policies count; with the
/// outside, and of what Ingresses expose, only the pod's.
pub fn connections(cluster: &Cluster, options: &Options) -> Vec<Connection> {
    let mut all = compute::Computation::new(cluster, options).connections();
    all.sort_by_cached_key(ToString::to_string);
    all
}

/// Answers for every pair of kinds of pods, on every port, and counts what is permitted.
pub fn pairs(cluster: &Cluster, options: &Options) -> Pairs {
    compute::Computation::new(cluster, options).pairs()
}

/// Ports as text: `SCTP 9,TCP 80,443-445`, or `All Connections`.
pub fn port_text(ports: &PortSet) -> String {
    let everything = [PortRange { first: 1, last: u16::MAX }];
    if Protocol::ALL.iter().all(|it| ports.ranges(*it) == everything) {
        return "All Connections".to_owned();
    }
    let of = |protocol: Protocol| {
        let ranges: Vec<String> = ports.ranges(protocol).iter().map(ToString::to_string).collect();
        (!ranges.is_empty()).then(|| format!("{protocol} {}", ranges.join(",")))
    };
    let alphabetical = [Protocol::Sctp, Protocol::Tcp, Protocol::Udp];
    alphabetical.into_iter().filter_map(of).collect::<Vec<_>>().join(",")
}

impl Connection {
    /// What is permitted.
    pub fn permitted(&self) -> Permitted {
        Permitted { ports: self.ports.clone(), depends_on_address: self.depends_on_address.clone() }
    }
}

impl fmt::Display for Connection {
    /// One line: `shop/web[Deployment] => shop/db[StatefulSet] : TCP 5432`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} => {} : {}", self.from, self.to, self.permitted())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Workload(workload) => workload.fmt(f),
            End::IngressController => f.write_str("{ingress-controller}"),
            End::External(range) => write!(f, "{range}[External]"),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(Protocol, u16, u16)]) -> PortSet {
        let mut set = PortSet::default();
        for (protocol, first, last) in ranges {
            set.insert(*protocol, PortRange { first: *first, last: *last });
        }
        set
    }

    #[test]
    fn ports_are_listed_by_protocol_and_all_of_them_have_a_name() {
        let some = [
            (Protocol::Udp, 53, 53),
            (Protocol::Tcp, 443, 445),
            (Protocol::Tcp, 80, 80),
            (Protocol::Sctp, 9, 9),
        ];
        assert_eq!(port_text(&set(&some)), "SCTP 9,TCP 80,443-445,UDP 53");
        assert_eq!(port_text(&set(&Protocol::ALL.map(|it| (it, 1, 65535)))), "All Connections");
    }

    #[test]
    fn what_depends_on_an_address_is_said() {
        let range = Range { first: [10, 0, 0, 0].into(), last: [10, 255, 255, 255].into() };
        let name = kilter_model::NamespacedName::new("shop", "db");
        let mut connection = Connection {
            from: End::External(range),
            to: End::Workload(WorkloadRef { kind: "StatefulSet".into(), name }),
            ports: set(&[(Protocol::Tcp, 80, 80)]),
            depends_on_address: set(&[(Protocol::Tcp, 5432, 5432)]),
        };
        let ends = "10.0.0.0-10.255.255.255[External] => shop/db[StatefulSet]";
        assert_eq!(connection.to_string(), format!("{ends} : TCP 80; depends on the address: TCP 5432"));
        connection.ports = PortSet::default();
        assert_eq!(connection.to_string(), format!("{ends} : depends on the address: TCP 5432"));
    }
}
