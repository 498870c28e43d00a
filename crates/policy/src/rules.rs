use std::collections::{BTreeMap, BTreeSet};

use kilter_model::Action;

use crate::vocabulary::{NameId, PeerId};
use crate::{Decision, RuleId, Verdict};

/// What sets one peer address apart from another: the content of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Traits {
    /// What kind of address it is.
    pub kind: Kind,
    /// The peers in use that match it.
    pub peers: BTreeSet<PeerId>,
    /// The names in use that it gives to ports, and the ports.
    pub names: BTreeMap<NameId, u16>,
}

/// What kind of address it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A pod's.
    Pod,
    /// In a pod block, but of no known pod: any pod's, perhaps.
    Unknown,
    /// Anything else.
    #[default]
    External,
}

/// Some of the peers of one rule, on the ports under consideration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The rule.
    pub rule: RuleId,
    /// What it does.
    pub action: Action,
    /// Whom it matches.
    pub peers: Peers,
    /// Only peers that give this name to a port.
    pub name: Option<NamedPort>,
}

/// The peers of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peers {
    /// Anyone.
    Anyone,
    /// These.
    Some {
        /// Sorted.
        ids: Vec<PeerId>,
        /// Whether pods are among them, which an unknown address may be.
        pods: bool,
    },
}

/// A port name that the peer resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: NameId,
    /// The port that it has to stand for; `None`: a port that no known pod gives it, but an unknown
    /// one may.
    pub port: Option<u16>,
}

/// The content of a set: who is permitted or refused by what, and what holds for the others.
///
/// Two lists, asked one after the other: what tier Admin says, and then what NetworkPolicy says of
/// a pod that it isolates, or tier Baseline of another. A Pass ends the list it is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rules {
    default: Decision,
    admin: Vec<Entry>,
    lower: Vec<Entry>,
}

/// How an entry and a peer relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Perhaps,
    Yes,
}

impl Rules {
    /// The rules that say this, in their shortest form.
    pub fn new(default: Decision, admin: Vec<Entry>, lower: Vec<Entry>) -> Self {
        let (admin, by_admin) = shorten(admin);
        if let Some(default) = by_admin {
            return Self { default, admin, lower: Vec::new() };
        }
        let (lower, by_lower) = shorten(lower);
        Self { default: by_lower.unwrap_or(default), admin, lower }
    }

    /// What holds for peers that no entry matches.
    pub fn default_decision(&self) -> Decision {
        self.default
    }

    /// What holds for a peer.
    pub fn decide(&self, peer: &Traits) -> Decision {
        ask(&self.admin, peer, || ask(&self.lower, peer, || self.default))
    }

    /// The rules that a decision of this set may name.
    pub fn rule_ids(&self) -> impl Iterator<Item = RuleId> {
        self.entries().map(|entry| entry.rule).chain([self.default.rule])
    }

    /// The peers that it asks about.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.entries().flat_map(|entry| entry.peers.ids().iter().copied())
    }

    /// The port names that it asks about.
    pub fn names(&self) -> impl Iterator<Item = NameId> {
        self.entries().filter_map(|entry| entry.name.map(|it| it.name))
    }

    /// The same with other ids for rules; `None` keeps an id.
    pub fn renamed(&self, rename: impl Fn(RuleId) -> Option<RuleId>) -> Self {
        let rename = |rule| rename(rule).unwrap_or(rule);
        let each = |entries: &[Entry]| {
            entries.iter().map(|it| Entry { rule: rename(it.rule), ..it.clone() }).collect()
        };
        let default = Decision { rule: rename(self.default.rule), ..self.default };
        Self { default, admin: each(&self.admin), lower: each(&self.lower) }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.admin.iter().chain(&self.lower)
    }
}

/// Entries without those that cannot matter, and what they decide of all that none matches.
fn shorten(mut entries: Vec<Entry>) -> (Vec<Entry>, Option<Decision>) {
    if let Some(any) = entries.iter().position(Entry::is_unconditional) {
        entries.truncate(any + 1);
        // What is passed before it must not come to what it decides.
        if !entries[..any].iter().any(|it| it.action == Action::Pass)
            && let Some(decision) = entries[any].decision()
        {
            entries.truncate(any);
            return (entries, Some(decision));
        }
    }
    // A Pass leads where the end of the list leads, too.
    while entries.last().is_some_and(|it| it.action == Action::Pass) {
        entries.pop();
    }
    (entries, None)
}

/// The first entry that matches decides. What matches perhaps is refused if it may be refused, and
/// never accepted for it.
fn ask(entries: &[Entry], peer: &Traits, next: impl Fn() -> Decision) -> Decision {
    for entry in entries {
        match (entry.matches(peer), entry.decision()) {
            (Match::No, _) => {}
            (Match::Yes, decision) => return decision.unwrap_or_else(next),
            (Match::Perhaps, decision) => {
                let decision = decision.unwrap_or_else(&next);
                if decision.verdict == Verdict::Deny {
                    return decision;
                }
            }
        }
    }
    next()
}

impl Entry {
    fn is_unconditional(&self) -> bool {
        self.peers == Peers::Anyone && self.name.is_none()
    }

    /// What it decides; `None`: it passes.
    fn decision(&self) -> Option<Decision> {
        let verdict = match self.action {
            Action::Accept => Verdict::Allow,
            Action::Deny => Verdict::Deny,
            Action::Pass => return None,
        };
        Some(Decision { verdict, rule: self.rule })
    }

    fn matches(&self, peer: &Traits) -> Match {
        let by_name = match self.name {
            None => Match::Yes,
            Some(_) if peer.kind == Kind::Unknown => Match::Perhaps,
            Some(NamedPort { name, port }) => {
                Match::from(port.is_some() && peer.names.get(&name).copied() == port)
            }
        };
        by_name.min(self.peers.matches(peer))
    }
}

impl Peers {
    fn ids(&self) -> &[PeerId] {
        match self {
            Peers::Anyone => &[],
            Peers::Some { ids, .. } => ids,
        }
    }

    fn matches(&self, peer: &Traits) -> Match {
        match self {
            Peers::Anyone => Match::Yes,
            Peers::Some { ids, .. } if ids.iter().any(|it| peer.peers.contains(it)) => Match::Yes,
            Peers::Some { pods: true, .. } if peer.kind == Kind::Unknown => Match::Perhaps,
            Peers::Some { .. } => Match::No,
        }
    }
}

impl From<bool> for Match {
    fn from(matches: bool) -> Self {
        if matches { Match::Yes } else { Match::No }
    }
}
