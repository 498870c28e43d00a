use std::fmt;

use kilter_model::{Direction, Origin, PolicyRef};
use serde::{Deserialize, Serialize};

/// Why one side of a connection is decided as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// A rule allows it.
    Allowed {
        /// The rule's policy.
        policy: PolicyRef,
        /// Ingress or egress rule.
        direction: Direction,
        /// Which of the policy's rules in that direction, from 1.
        rule: u32,
        /// Where the rule was declared.
        origin: Origin,
    },
    /// A rule of a ClusterNetworkPolicy denies it.
    Denied {
        /// The rule's policy.
        policy: PolicyRef,
        /// Ingress or egress rule.
        direction: Direction,
        /// Which of the policy's rules in that direction, from 1.
        rule: u32,
        /// Where the rule was declared.
        origin: Origin,
    },
    /// No policy selects the pod in this direction.
    NotIsolated {
        /// Which.
        direction: Direction,
    },
    /// ClusterNetworkPolicies select the pod in this direction, but no rule decides; no
    /// NetworkPolicy isolates it.
    Unmatched {
        /// Which.
        direction: Direction,
    },
    /// Policies select the pod in this direction, and none of their rules allows it.
    Isolated {
        /// Which.
        direction: Direction,
        /// The policies, by name.
        policies: Vec<PolicyRef>,
        /// The rule that comes closest; only asked for one connection is it known.
        nearest: Option<NearestMiss>,
    },
    /// A pod's own node may always reach it.
    OwnNode,
    /// A pod may always reach itself.
    Itself,
    /// No pod is at this end, so no policy judges it.
    NotAPod,
}

/// A rule that matches one half of what was asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NearestMiss {
    /// The rule's policy.
    pub policy: PolicyRef,
    /// Which of the policy's rules in that direction, from 1.
    pub rule: u32,
    /// Where the rule was declared.
    pub origin: Origin,
    /// The half that does not match.
    pub missed: Missed,
}

/// Which half of a rule does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// The rule allows this peer, on other ports.
    Port,
    /// The rule allows this port, from or to other peers.
    Peer,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Allowed { policy, direction, rule, origin } => {
                write!(f, "allowed by {direction} rule {rule} of {policy} ({origin})")
            }
            Reason::Denied { policy, direction, rule, origin } => {
                write!(f, "denied by {direction} rule {rule} of {policy} ({origin})")
            }
            Reason::Unmatched { direction } => {
                write!(f, "no rule decides {direction}, and no NetworkPolicy isolates the pod")
            }
            Reason::NotIsolated { direction } => write!(f, "no policy selects the pod for {direction}"),
            Reason::Isolated { direction, policies, nearest } => {
                write!(f, "isolated for {direction} by ")?;
                for (i, policy) in policies.iter().enumerate() {
                    write!(f, "{}{policy}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(", and no rule allows it")?;
                nearest.as_ref().map_or(Ok(()), |it| write!(f, "; {it}"))
            }
            Reason::OwnNode => f.write_str("a pod's own node may always reach it"),
            Reason::Itself => f.write_str("a pod may always reach itself"),
            Reason::NotAPod => f.write_str("not a pod, so no policy applies"),
        }
    }
}

impl fmt::Display for NearestMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, rule, origin, missed } = self;
        let missed = match missed {
            Missed::Port => "allows this peer on other ports",
            Missed::Peer => "allows this port for other peers",
        };
        write!(f, "rule {rule} of {policy} ({origin}) {missed}")
    }
}
