use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Direction, NamespacedName, Origin, PolicyRef, PolicyRule, Selector, Tier};

/// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNetworkPolicy {
    /// Its name.
    pub name: Arc<str>,
    /// When it is asked: before or after NetworkPolicy.
    pub tier: ClusterTier,
    /// Its place in the tier, 0 to 1000; the lowest is asked first. The order of equal ones is
    /// undefined; Kilter takes them by name, and says so.
    pub priority: u16,
    /// The pods that it is about.
    pub subject: Subject,
    /// Ingress rules, the first that matches decides; none leave ingress alone.
    pub ingress: Vec<ClusterRule>,
    /// Egress rules, likewise.
    pub egress: Vec<ClusterRule>,
    /// Where it was declared.
    pub origin: Origin,
}

/// The tiers that a ClusterNetworkPolicy can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClusterTier {
    /// Before NetworkPolicy, which cannot override it.
    Admin,
    /// After NetworkPolicy, for pods that none selects.
    Baseline,
}

/// The pods that a ClusterNetworkPolicy is about; never one of the host network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Of these namespaces.
    pub namespaces: Selector,
    /// The pods with these labels.
    pub pods: Selector,
}

/// A rule of a ClusterNetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRule {
    /// What its author calls it.
    pub name: Option<Arc<str>>,
    /// What it does with what it matches.
    pub action: Action,
    /// What it matches, as it is enforced.
    pub matches: PolicyRule,
    /// Set where that is not what is written.
    pub caveat: Option<Caveat>,
}

/// What a rule of a ClusterNetworkPolicy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Permits; no later rule is asked.
    Accept,
    /// Refuses; no later rule is asked.
    Deny,
    /// Leaves it to the next tier.
    Pass,
}

/// Why a rule is enforced as another than is written. The specification has such rules fail
/// closed: one that accepts matches nothing, one that denies or passes denies everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caveat {
    /// Its peers include domain names.
    DomainNames(Vec<Arc<str>>),
    /// It has a peer or protocol of a kind that this version does not know.
    Unknown,
}

impl ClusterNetworkPolicy {
    /// Its rules in one direction.
    pub fn rules(&self, direction: Direction) -> &[ClusterRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// What of it is not enforced as it is written, one sentence a rule.
    pub fn caveats(&self) -> Vec<String> {
        let mut found = Vec::new();
        for direction in [Direction::Ingress, Direction::Egress] {
            for (number, rule) in (1..).zip(self.rules(direction)) {
                let Some(caveat) = &rule.caveat else { continue };
                let instead = match rule.action {
                    Action::Accept => "it accepts nothing",
                    Action::Deny | Action::Pass => "it denies everything",
                };
                let (origin, policy) = (&rule.matches.origin, self.reference());
                found.push(format!("{origin}: {policy}: {direction} rule {number}: {caveat}; {instead}"));
            }
        }
        found
    }

    /// How answers name it.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef { tier: self.tier.into(), name: NamespacedName::new("", self.name.clone()) }
    }
}

impl From<ClusterTier> for Tier {
    fn from(tier: ClusterTier) -> Self {
        match tier {
            ClusterTier::Admin => Tier::Admin,
            ClusterTier::Baseline => Tier::Baseline,
        }
    }
}

impl fmt::Display for ClusterTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClusterTier::Admin => "Admin",
            ClusterTier::Baseline => "Baseline",
        })
    }
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caveat::DomainNames(names) => {
                write!(f, "domainNames are not enforced yet ({})", names.join(", "))
            }
            Caveat::Unknown => f.write_str("it has a peer or protocol of a kind that Kilter does not know"),
        }
    }
}
