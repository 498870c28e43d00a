use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Direction, PortRange, Protocol};
use serde::{Deserialize, Serialize};

use crate::{Reason, Write};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A class of peer addresses that no rule in use tells apart. Local to one node, never 0.
    ClassId
}
id! {
    /// What holds for the pods that are selected by the same policies. Local to one node, never 0.
    PostureId
}
id! {
    /// A default decision with exceptions by class, shared by intervals. Local to one node, never 0.
    SetId
}
id! {
    /// Why a decision is what it is: a key of [`Tables::rules`]. Local to one node, never 0.
    RuleId
}

/// Whether a connection may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

impl Verdict {
    /// Whether this is [`Verdict::Allow`].
    pub const fn is_allow(self) -> bool {
        matches!(self, Verdict::Allow)
    }

    /// The verdict of two sides that must both agree.
    pub const fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Allow, Verdict::Allow) => Verdict::Allow,
            _ => Verdict::Deny,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        })
    }
}

/// A verdict and the rule it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// What is decided.
    pub verdict: Verdict,
    /// By which rule.
    pub rule: RuleId,
}

/// The IP protocols that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProtocolClass {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
    /// ICMP and everything else. It has no ports: lookups use port 0.
    Other,
}

impl ProtocolClass {
    /// All of them.
    pub const ALL: [ProtocolClass; 4] =
        [ProtocolClass::Tcp, ProtocolClass::Udp, ProtocolClass::Sctp, ProtocolClass::Other];

    /// The number that stands for it in rows: the IP protocol, or 0 for [`ProtocolClass::Other`].
    pub const fn number(self) -> u8 {
        match self {
            ProtocolClass::Tcp => 6,
            ProtocolClass::Udp => 17,
            ProtocolClass::Sctp => 132,
            ProtocolClass::Other => 0,
        }
    }

    /// The class of an IP protocol number.
    pub const fn of(ip_protocol: u8) -> Self {
        match ip_protocol {
            6 => ProtocolClass::Tcp,
            17 => ProtocolClass::Udp,
            132 => ProtocolClass::Sctp,
            _ => ProtocolClass::Other,
        }
    }

    /// The transport protocol, if rules can name it.
    pub const fn transport(self) -> Option<Protocol> {
        match self {
            ProtocolClass::Tcp => Some(Protocol::Tcp),
            ProtocolClass::Udp => Some(Protocol::Udp),
            ProtocolClass::Sctp => Some(Protocol::Sctp),
            ProtocolClass::Other => None,
        }
    }
}

impl From<Protocol> for ProtocolClass {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => ProtocolClass::Tcp,
            Protocol::Udp => ProtocolClass::Udp,
            Protocol::Sctp => ProtocolClass::Sctp,
        }
    }
}

impl fmt::Display for ProtocolClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProtocolClass::Tcp => "TCP",
            ProtocolClass::Udp => "UDP",
            ProtocolClass::Sctp => "SCTP",
            ProtocolClass::Other => "other",
        })
    }
}

/// A key of [`Tables::intervals`]. The port ranges of one (posture, direction, protocol) are
/// disjoint and leave no gap between 0 and 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// Of the pod that is judged.
    pub posture: PostureId,
    /// Whether that pod is the destination (ingress) or the source (egress).
    pub direction: Direction,
    /// The packet's protocol.
    pub protocol: ProtocolClass,
    /// Destination ports, after Service translation.
    pub ports: PortRange,
}

/// What holds for the peers at the other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DecisionSet {
    /// For every class without an exception.
    pub default: Decision,
    /// For these classes.
    pub exceptions: BTreeMap<ClassId, Decision>,
}

impl DecisionSet {
    /// What holds for a class.
    pub fn decide(&self, class: ClassId) -> Decision {
        self.exceptions.get(&class).copied().unwrap_or(self.default)
    }
}

/// All policy rows of one node. A lookup that finds no row means deny.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// Address to class, by longest prefix; a pod's address is a host prefix.
    pub classes: BTreeMap<IpNet, ClassId>,
    /// The postures of this node's pods, by address.
    pub postures: BTreeMap<IpAddr, PostureId>,
    /// Which set judges which ports.
    pub intervals: BTreeMap<Interval, SetId>,
    /// The sets.
    pub sets: BTreeMap<SetId, DecisionSet>,
    /// What the rules in decisions stand for. Not in the kernel.
    pub rules: BTreeMap<RuleId, Reason>,
}

impl Tables {
    /// Applies one row write.
    pub fn apply(&mut self, write: &Write) {
        match *write {
            Write::PutSet { set, default } => {
                self.sets
                    .entry(set)
                    .and_modify(|s| s.default = default)
                    .or_insert_with(|| DecisionSet { default, exceptions: BTreeMap::new() });
            }
            Write::PutException { set, class, decision } => {
                if let Some(set) = self.sets.get_mut(&set) {
                    set.exceptions.insert(class, decision);
                }
            }
            Write::PutInterval { interval, set } => {
                self.intervals.insert(interval, set);
            }
            Write::PutClass { prefix, class } => {
                self.classes.insert(prefix, class);
            }
            Write::PutPosture { address, posture } => {
                self.postures.insert(address, posture);
            }
            Write::DeleteException { set, class } => {
                if let Some(set) = self.sets.get_mut(&set) {
                    set.exceptions.remove(&class);
                }
            }
            Write::DeleteSet { set } => {
                self.sets.remove(&set);
            }
            Write::DeleteInterval { interval } => {
                self.intervals.remove(&interval);
            }
            Write::DeleteClass { prefix } => {
                self.classes.remove(&prefix);
            }
            Write::DeletePosture { address } => {
                self.postures.remove(&address);
            }
        }
    }
}
