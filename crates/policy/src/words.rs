use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{Cluster, IpBlock, Labels, Protocol, Selector};

use crate::partition::Region;
use crate::pod_peers::PodPeers;
use crate::pods::{GroupId, GroupKey, PodIndex};
use crate::posture::Posture;
use crate::rules::{Kind, Traits};
use crate::vocabulary::{NameId, PeerId, PeerKey, Vocabulary};

/// The peers and port names that a set of postures asks about, arranged for answering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    blocks: BTreeMap<PeerId, IpBlock>,
    nodes: Vec<(PeerId, Selector)>,
    pods_of: BTreeMap<Arc<str>, Vec<(PeerId, Selector)>>,
    pods: PodPeers,
    names: BTreeMap<(Protocol, Arc<str>), NameId>,
}

/// What other words are to be used: what a group is to them follows from what it was to the old.
#[derive(Debug)]
pub struct WordsChange {
    gone: Words,
    gone_peers: BTreeSet<PeerId>,
    fresh: Words,
}

/// From so many peers on that come or go, asking each group is cheaper than asking each peer.
const MANY_PEERS: usize = 16;

/// What a group of pods is to the words in use, whatever the addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupTraits {
    peers: BTreeSet<PeerId>,
    names: BTreeMap<NameId, u16>,
}

impl Words {
    /// The words of these postures.
    pub fn of<'a>(vocabulary: &Vocabulary, postures: impl IntoIterator<Item = &'a Posture>) -> Self {
        let (mut peers, mut names) = (BTreeSet::new(), BTreeSet::new());
        for rules in postures.into_iter().flat_map(BTreeMap::values) {
            peers.extend(rules.peers());
            names.extend(rules.names());
        }
        Self::made_of(vocabulary, peers, names)
    }

    /// These words.
    pub fn made_of(
        vocabulary: &Vocabulary,
        peers: impl IntoIterator<Item = PeerId>,
        names: impl IntoIterator<Item = NameId>,
    ) -> Self {
        let mut words = Self::default();
        for peer in peers {
            match vocabulary.peer_key(peer).cloned() {
                Some(PeerKey::Block(block)) => {
                    words.blocks.insert(peer, block);
                }
                Some(PeerKey::Nodes(nodes)) => words.nodes.push((peer, nodes)),
                Some(PeerKey::PodsOf(namespace, pods)) => {
                    words.pods_of.entry(namespace).or_default().push((peer, pods));
                }
                Some(PeerKey::Pods { namespaces, pods }) => words.pods.insert(peer, namespaces, pods),
                None => {}
            }
        }
        for name in names {
            words.names.extend(vocabulary.name_key(name).map(|key| (key.clone(), name)));
        }
        words
    }

    /// The blocks, those of nodes' addresses included.
    pub fn blocks(&self, cluster: &Cluster) -> Vec<(PeerId, IpBlock)> {
        let of_node = |(peer, selector): &(PeerId, Selector)| {
            let nodes = cluster.nodes().filter(|it| selector.matches(&it.labels));
            let addresses = nodes.flat_map(|it| it.addresses.iter().copied());
            let block = |it: IpAddr| (*peer, IpBlock { cidr: it.into(), except: Vec::new() });
            addresses.map(block).collect::<Vec<_>>()
        };
        let declared = self.blocks.iter().map(|(peer, block)| (*peer, block.clone()));
        declared.chain(self.nodes.iter().flat_map(of_node)).collect()
    }

    /// The peers that are nodes, each with its selector.
    pub fn nodes(&self) -> &[(PeerId, Selector)] {
        &self.nodes
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        let of = self.pods_of.values().flatten().chain(&self.nodes).map(|(peer, _)| *peer);
        self.blocks.keys().copied().chain(of).chain(self.pods.ids())
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = NameId> {
        self.names.values().copied()
    }

    /// How to get from these words to others.
    pub fn change(&self, to: &Words, vocabulary: &Vocabulary) -> WordsChange {
        let (peers, names): (BTreeSet<_>, BTreeSet<_>) = (self.peers().collect(), self.names().collect());
        let (new_peers, new_names): (BTreeSet<_>, BTreeSet<_>) = (to.peers().collect(), to.names().collect());
        let fresh_peers = new_peers.difference(&peers).copied();
        let fresh_names = new_names.difference(&names).copied();
        let gone_peers: BTreeSet<_> = peers.difference(&new_peers).copied().collect();
        let gone_names = names.difference(&new_names).copied();
        WordsChange {
            fresh: Words::made_of(vocabulary, fresh_peers, fresh_names),
            gone: Words::made_of(vocabulary, gone_peers.iter().copied(), gone_names),
            gone_peers,
        }
    }

    /// What a group is to these words. Of a namespace that is not known, only its own policies'
    /// selectors match pods.
    pub fn group(&self, cluster: &Cluster, group: &GroupKey) -> GroupTraits {
        let of = self.pods_of.get(&group.namespace).into_iter().flatten();
        let mut peers: BTreeSet<PeerId> =
            of.filter(|(_, pods)| pods.matches(&group.labels)).map(|(peer, _)| *peer).collect();
        if let Some(namespace) = cluster.namespace(&group.namespace) {
            peers.extend(self.pods.matching(&namespace.labels, &group.labels));
        }
        let names = group.names.iter().filter_map(|(key, port)| Some((*self.names.get(key)?, *port)));
        GroupTraits { peers, names: names.collect() }
    }
}

impl Words {
    /// What a pod without labels, in a namespace without labels, is to these words.
    pub fn stranger(&self) -> GroupTraits {
        let nothing = Labels::new();
        let peers = self.pods.matching(&nothing, &nothing).into_iter().collect();
        GroupTraits { peers, names: BTreeMap::new() }
    }
}

impl Words {
    /// The groups to which these words say something.
    fn concerned(&self, cluster: &Cluster, pods: &PodIndex, found: &mut BTreeSet<GroupId>) {
        let mut select = |namespace: &str, selector: &Selector| {
            let is_selected = |it: &GroupId| pods.group(*it).is_some_and(|key| selector.matches(&key.labels));
            found.extend(pods.groups_of(namespace).filter(is_selected));
        };
        for (namespace, peers) in &self.pods_of {
            peers.iter().for_each(|(_, selector)| select(namespace, selector));
        }
        for (namespaces, selector) in self.pods.selectors() {
            let matching = cluster.namespaces().filter(|it| namespaces.matches(&it.labels));
            matching.for_each(|it| select(&it.name, selector));
        }
        if !self.names.is_empty() {
            let has_name = |key: &GroupKey| key.names.keys().any(|it| self.names.contains_key(it));
            found.extend(pods.groups().filter(|(_, key)| has_name(key)).map(|(group, _)| group));
        }
    }
}

impl WordsChange {
    /// The groups that may be something else to the new words than to the old ones: of tens of
    /// thousands, those that a peer selects which came or went.
    pub fn concerned(&self, cluster: &Cluster, pods: &PodIndex) -> BTreeSet<GroupId> {
        if self.gone_peers.len() + self.fresh.peers().count() >= MANY_PEERS {
            return pods.groups().map(|(group, _)| group).collect();
        }
        let mut found = BTreeSet::new();
        self.gone.concerned(cluster, pods, &mut found);
        self.fresh.concerned(cluster, pods, &mut found);
        found
    }

    /// Makes what a group was to the old words what it is to the new ones. Whether that is another.
    pub fn revise(&self, traits: &mut GroupTraits, cluster: &Cluster, group: &GroupKey) -> bool {
        let before = (traits.peers.len(), traits.names.len());
        for gone in &self.gone_peers {
            traits.peers.remove(gone);
        }
        for gone in self.gone.names() {
            traits.names.remove(&gone);
        }
        let shrunk = before != (traits.peers.len(), traits.names.len());
        let fresh = self.fresh.group(cluster, group);
        let grows = !fresh.peers.is_empty() || !fresh.names.is_empty();
        traits.peers.extend(fresh.peers);
        traits.names.extend(fresh.names);
        shrunk || grows
    }
}

impl GroupTraits {
    /// What an address of the group is that these blocks match.
    pub fn at(&self, blocks: &BTreeSet<PeerId>) -> Traits {
        Traits {
            kind: Kind::Pod,
            peers: self.peers.union(blocks).copied().collect(),
            names: self.names.clone(),
        }
    }
}

impl Region {
    /// What the addresses of the region are that no pod holds.
    pub fn traits(&self) -> Traits {
        Traits { kind: self.kind, peers: self.blocks.clone(), names: BTreeMap::new() }
    }
}
