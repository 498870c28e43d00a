use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Direction, NamespacedName, Origin, PortRange, Protocol, Selector};

/// The order in which policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// ClusterNetworkPolicy of tier Admin.
    Admin,
    /// NetworkPolicy; final for the pods it selects.
    NetworkPolicy,
    /// ClusterNetworkPolicy of tier Baseline.
    Baseline,
}

/// Which policy, for answers and rule ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its tier.
    pub tier: Tier,
    /// Namespace and name; the namespace is empty for cluster-scoped policies.
    pub name: NamespacedName,
}

impl NetworkPolicy {
    /// Its rules in one direction; `None` where it does not apply to it.
    pub fn rules(&self, direction: Direction) -> Option<&[PolicyRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// How answers name it.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { tier: Tier::NetworkPolicy, name: self.name.clone() }
    }
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.tier {
            Tier::NetworkPolicy => "NetworkPolicy",
            Tier::Admin | Tier::Baseline => "ClusterNetworkPolicy",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// `networking.k8s.io/v1` NetworkPolicy, with its defaults applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub name: NamespacedName,
    /// The pods of its namespace that it selects.
    pub pod_selector: Selector,
    /// Ingress rules; `None` when `policyTypes` does not name Ingress, so that an empty list
    /// (isolate, allow nothing) and "does not apply" cannot be confused.
    pub ingress: Option<Vec<PolicyRule>>,
    /// Egress rules; `None` when the policy does not apply to egress.
    pub egress: Option<Vec<PolicyRule>>,
    /// Where it was declared.
    pub origin: Origin,
}

/// One rule: any of the peers, on any of the ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Who may be at the other end; `None` is anyone, an empty list nobody.
    pub peers: Option<Vec<Peer>>,
    /// On which ports; `None` is all ports of all protocols (and what has no ports).
    pub ports: Option<Vec<PolicyPort>>,
    /// Where the rule was declared.
    pub origin: Origin,
}

/// The other end of a permitted connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// Pods: both selectors must match.
    Pods {
        /// `None`: the policy's own namespace.
        namespaces: Option<Selector>,
        /// The empty selector: all pods of those namespaces.
        pods: Selector,
    },
    /// Addresses.
    IpBlock(IpBlock),
    /// The addresses of nodes with these labels (`status.addresses`).
    Nodes(Selector),
}

/// A block of addresses with holes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpBlock {
    /// The block, host bits cleared.
    pub cidr: IpNet,
    /// Blocks within `cidr` that this peer does not match.
    pub except: Vec<IpNet>,
}

/// A port of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyPort {
    /// TCP where the policy names none.
    pub protocol: Protocol,
    /// Which ports.
    pub port: PortSpec,
}

/// How a rule names its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PortSpec {
    /// A range; a single port is a range of one; no port is [`PortRange::ALL`].
    Range(PortRange),
    /// Resolved per destination pod; matches nothing where the destination is not a pod.
    Named(Arc<str>),
}
