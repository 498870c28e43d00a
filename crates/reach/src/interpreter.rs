//! The data plane's own lookups over policy rows, in Rust.
//!
//! A witness beside the kernel and `kilter_policy::naive`: what the program in `bpf/` does with
//! maps is done here with [`Tables`], step by step and in the same order. A lookup that finds
//! nothing denies.

use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Direction, PortRange};
use kilter_policy::{ClassId, Decision, Interval, PostureId, ProtocolClass, SetId, Tables, Verdict};

/// Which lookup found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missing {
    /// The judged address has no posture: it is no pod of this node, or not set up yet.
    Posture,
    /// The peer's address has no class.
    Class,
    /// The posture has no interval with this port.
    Interval,
    /// The interval names a set that does not exist.
    Set,
}

/// One direction of a connection, seen from a pod of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probe {
    /// The address of the pod that is judged.
    pub pod: IpAddr,
    /// The address at the other end.
    pub peer: IpAddr,
    /// Ingress if the pod is the destination.
    pub direction: Direction,
    /// The packet's protocol.
    pub protocol: ProtocolClass,
    /// The destination port; 0 for [`ProtocolClass::Other`].
    pub port: u16,
}

/// What the rows decide, or which one is missing.
pub fn decide(tables: &Tables, probe: &Probe) -> Result<Decision, Missing> {
    let posture = *tables.postures.get(&probe.pod).ok_or(Missing::Posture)?;
    let class = class(tables, probe.peer).ok_or(Missing::Class)?;
    let set =
        interval(tables, posture, probe.direction, probe.protocol, probe.port).ok_or(Missing::Interval)?;
    let set = tables.sets.get(&set).ok_or(Missing::Set)?;
    Ok(set.decide(class))
}

/// The verdict: what is missing denies.
pub fn verdict(tables: &Tables, probe: &Probe) -> Verdict {
    decide(tables, probe).map_or(Verdict::Deny, |decision| decision.verdict)
}

/// The class of an address, by longest prefix.
pub fn class(tables: &Tables, address: IpAddr) -> Option<ClassId> {
    let longest = IpNet::from(address).max_prefix_len();
    (0..=longest)
        .rev()
        .filter_map(|length| IpNet::new(address, length).ok())
        .find_map(|prefix| tables.classes.get(&prefix.trunc()).copied())
}

/// The set of the interval that contains a port.
pub fn interval(
    tables: &Tables,
    posture: PostureId,
    direction: Direction,
    protocol: ProtocolClass,
    port: u16,
) -> Option<SetId> {
    let at = |ports| Interval { posture, direction, protocol, ports };
    // Ranges are ordered by their first port, so the last one not above it is the candidate.
    let up_to = at(PortRange { first: port, last: u16::MAX });
    let (interval, set) = tables.intervals.range(at(PortRange { first: 0, last: 0 })..=up_to).next_back()?;
    interval.ports.contains(port).then_some(*set)
}
