//! The ports that a question is about.

use std::collections::BTreeSet;

use kilter_model::{Cluster, Pod, PortRange, PortSpec, Protocol};

/// Ranges of ports within which no rule makes a difference.
pub struct Ports(Vec<(Protocol, PortRange)>);

impl Ports {
    pub fn one(protocol: Protocol, port: u16) -> Self {
        Self(vec![(protocol, PortRange::single(port))])
    }

    /// Those that a pod's containers declare; `None` where they declare none.
    pub fn declared(pod: &Pod) -> Option<Self> {
        let ports: BTreeSet<_> =
            pod.ports.iter().map(|it| (it.protocol, PortRange::single(it.port))).collect();
        (!ports.is_empty()).then(|| Self(ports.into_iter().collect()))
    }

    /// All of them, cut where a rule begins or ends to match.
    pub fn all(cluster: &Cluster, destination: Option<&Pod>) -> Self {
        let mut starts = BTreeSet::from([1_u32]);
        let mut cut = |range: PortRange| {
            starts.extend([u32::from(range.first).max(1), u32::from(range.last) + 1]);
        };
        let rules = cluster.policies().flat_map(|it| it.ingress.iter().chain(&it.egress).flatten());
        let of_cluster = cluster.cluster_policies().flat_map(|it| it.ingress.iter().chain(&it.egress));
        for port in rules.chain(of_cluster.map(|it| &it.matches)).flat_map(|it| it.ports.iter().flatten()) {
            match &port.port {
                PortSpec::Range(range) => cut(*range),
                PortSpec::Named(name) => {
                    let number = destination.and_then(|it| it.named_port(name, port.protocol));
                    number.into_iter().for_each(|it| cut(PortRange::single(it)));
                }
            }
        }
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([u32::from(u16::MAX)]);
        let ranges: Vec<PortRange> = starts
            .iter()
            .zip(ends)
            .filter_map(|(first, last)| {
                Some(PortRange { first: (*first).try_into().ok()?, last: last.try_into().ok()? })
            })
            .collect();
        let each = Protocol::ALL.into_iter();
        Self(each.flat_map(|protocol| ranges.iter().map(move |it| (protocol, *it))).collect())
    }

    /// Those of them that are wanted, each judged by its first port.
    pub fn only(self, wanted: impl Fn(Protocol, u16) -> bool) -> Self {
        Self(self.0.into_iter().filter(|(protocol, range)| wanted(*protocol, range.first)).collect())
    }

    pub fn ranges(&self) -> impl Iterator<Item = (Protocol, PortRange)> {
        self.0.iter().copied()
    }
}

/// The names of a pod's ports.
pub fn names(pod: &Pod) -> Vec<String> {
    pod.ports.iter().filter_map(|it| it.name.as_deref().map(str::to_owned)).collect()
}
