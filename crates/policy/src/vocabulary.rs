use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use kilter_model::{
    Action, ClusterNetworkPolicy, ClusterRule, Direction, IpBlock, NetworkPolicy, Peer, PolicyRef,
    PolicyRule, Protocol, Selector,
};

use crate::{Reason, RuleId};

/// A peer of a rule, wherever it is written: equal peers of different rules are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u32);

/// A named port of an egress rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

/// What a [`PeerId`] stands for. Unlike in a policy, the namespace is part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKey {
    /// Pods of one namespace.
    PodsOf(Arc<str>, Selector),
    /// Pods of the namespaces with certain labels.
    Pods {
        /// Of the namespaces.
        namespaces: Selector,
        /// Of the pods.
        pods: Selector,
    },
    /// Addresses.
    Block(IpBlock),
    /// The addresses of nodes.
    Nodes(Selector),
}

/// A rule as far as its identity goes: a policy that is written again unchanged keeps its rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum RuleKey {
    Rule(PolicyRef, Direction, u32),
    NotIsolated(Direction),
    Unmatched(Direction),
    Isolated(Direction, Vec<PolicyRef>),
}

/// Values and the ids they are known by. An id is never given to another value.
#[derive(Debug)]
struct Interner<T> {
    ids: HashMap<Arc<T>, u32>,
    values: BTreeMap<u32, Arc<T>>,
    last: u32,
}

impl<T: Hash + Eq> Interner<T> {
    fn new(last: u32) -> Self {
        Self { ids: HashMap::new(), values: BTreeMap::new(), last }
    }

    fn id(&mut self, value: T) -> u32 {
        if let Some(id) = self.ids.get(&value) {
            return *id;
        }
        self.last += 1;
        let value = Arc::new(value);
        self.ids.insert(value.clone(), self.last);
        self.values.insert(self.last, value);
        self.last
    }

    fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        self.values.retain(|id, _| keep(*id));
        self.ids.retain(|_, id| keep(*id));
    }
}

/// The words that compiled rules are made of.
#[derive(Debug)]
pub struct Vocabulary {
    peers: Interner<PeerKey>,
    names: Interner<(Protocol, Arc<str>)>,
    rules: Interner<RuleKey>,
    reasons: BTreeMap<RuleId, Reason>,
    reasons_changed: bool,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::starting_after(RuleId(0))
    }
}

impl Vocabulary {
    /// An empty vocabulary that gives its rules ids above `last`.
    pub fn starting_after(last: RuleId) -> Self {
        Self {
            peers: Interner::new(0),
            names: Interner::new(0),
            rules: Interner::new(last.0),
            reasons: BTreeMap::new(),
            reasons_changed: false,
        }
    }

    /// The id of a peer of a policy in this namespace.
    pub fn peer(&mut self, namespace: &str, peer: &Peer) -> PeerId {
        let key = match peer {
            Peer::IpBlock(block) => PeerKey::Block(block.clone()),
            Peer::Nodes(nodes) => PeerKey::Nodes(nodes.clone()),
            Peer::Pods { namespaces: None, pods } => PeerKey::PodsOf(namespace.into(), pods.clone()),
            Peer::Pods { namespaces: Some(namespaces), pods } => {
                PeerKey::Pods { namespaces: namespaces.clone(), pods: pods.clone() }
            }
        };
        PeerId(self.peers.id(key))
    }

    /// What a peer stands for, if it has not been forgotten.
    pub fn peer_key(&self, peer: PeerId) -> Option<&PeerKey> {
        self.peers.values.get(&peer.0).map(Arc::as_ref)
    }

    /// The id of a port name.
    pub fn name(&mut self, protocol: Protocol, name: &Arc<str>) -> NameId {
        NameId(self.names.id((protocol, name.clone())))
    }

    /// The id of a port name that some rule asks about.
    pub fn known_name(&self, key: &(Protocol, Arc<str>)) -> Option<NameId> {
        self.names.ids.get(key).map(|id| NameId(*id))
    }

    /// What a name stands for, if it has not been forgotten.
    pub fn name_key(&self, name: NameId) -> Option<&(Protocol, Arc<str>)> {
        self.names.values.get(&name.0).map(Arc::as_ref)
    }

    /// The id of the `number`th rule of a policy, from 1.
    pub fn rule(
        &mut self,
        policy: &NetworkPolicy,
        direction: Direction,
        number: u32,
        rule: &PolicyRule,
    ) -> RuleId {
        let (policy, origin) = (policy.reference(), rule.origin.clone());
        let key = RuleKey::Rule(policy.clone(), direction, number);
        self.reason(key, Reason::Allowed { policy, direction, rule: number, origin })
    }

    /// The same of a cluster-scoped policy.
    pub fn cluster_rule(
        &mut self,
        policy: &ClusterNetworkPolicy,
        direction: Direction,
        number: u32,
        rule: &ClusterRule,
    ) -> RuleId {
        let (policy, origin) = (policy.reference(), rule.matches.origin.clone());
        let key = RuleKey::Rule(policy.clone(), direction, number);
        let reason = match rule.action {
            Action::Deny => Reason::Denied { policy, direction, rule: number, origin },
            Action::Accept | Action::Pass => Reason::Allowed { policy, direction, rule: number, origin },
        };
        self.reason(key, reason)
    }

    /// The id of "no policy selects the pod".
    pub fn not_isolated(&mut self, direction: Direction) -> RuleId {
        self.reason(RuleKey::NotIsolated(direction), Reason::NotIsolated { direction })
    }

    /// The id of "no rule decides".
    pub fn unmatched(&mut self, direction: Direction) -> RuleId {
        self.reason(RuleKey::Unmatched(direction), Reason::Unmatched { direction })
    }

    /// The id of "isolated by these policies and no rule allows".
    pub fn isolated(&mut self, direction: Direction, policies: &[&NetworkPolicy]) -> RuleId {
        let policies: Vec<_> = policies.iter().map(|policy| policy.reference()).collect();
        let reason = Reason::Isolated { direction, policies: policies.clone(), nearest: None };
        self.reason(RuleKey::Isolated(direction, policies), reason)
    }

    /// What the rules stand for, if that changed since the last call.
    pub fn changed_reasons(&mut self) -> Option<&BTreeMap<RuleId, Reason>> {
        std::mem::take(&mut self.reasons_changed).then_some(&self.reasons)
    }

    /// Gives rules other ids, no two the same; `None` keeps an id.
    pub fn rename_rules(&mut self, rename: impl Fn(RuleId) -> Option<RuleId>) {
        let new = |id: u32| rename(RuleId(id)).map_or(id, |it| it.0);
        self.rules.ids.values_mut().for_each(|id| *id = new(*id));
        self.rules.values =
            std::mem::take(&mut self.rules.values).into_iter().map(|(id, it)| (new(id), it)).collect();
        let reasons = std::mem::take(&mut self.reasons);
        self.reasons = reasons.into_iter().map(|(id, it)| (RuleId(new(id.0)), it)).collect();
        self.reasons_changed = true;
    }

    /// Forgets what nobody uses.
    pub fn retain(
        &mut self,
        peers: &BTreeSet<PeerId>,
        names: &BTreeSet<NameId>,
        rules: impl Fn(RuleId) -> bool,
    ) {
        self.peers.retain(|id| peers.contains(&PeerId(id)));
        self.names.retain(|id| names.contains(&NameId(id)));
        self.rules.retain(|id| rules(RuleId(id)));
        let before = self.reasons.len();
        self.reasons.retain(|id, _| rules(*id));
        self.reasons_changed |= self.reasons.len() != before;
    }

    fn reason(&mut self, key: RuleKey, reason: Reason) -> RuleId {
        let id = RuleId(self.rules.id(key));
        if self.reasons.get(&id) != Some(&reason) {
            self.reasons.insert(id, reason);
            self.reasons_changed = true;
        }
        id
    }
}
