use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kilter_model::{Cluster, IpBlock, Protocol, Selector};

use crate::partition::Region;
use crate::pods::GroupKey;
use crate::posture::{Kind, Posture, Traits};
use crate::vocabulary::{NameId, PeerId, PeerKey, Vocabulary};

/// The peers and port names that a set of postures asks about, arranged for answering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    blocks: BTreeMap<PeerId, IpBlock>,
    pods_of: BTreeMap<Arc<str>, Vec<(PeerId, Selector)>>,
    pods: Vec<(PeerId, Selector, Selector)>,
    names: BTreeMap<(Protocol, Arc<str>), NameId>,
}

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
        let mut words = Self::default();
        for peer in peers {
            match vocabulary.peer_key(peer).cloned() {
                Some(PeerKey::Block(block)) => {
                    words.blocks.insert(peer, block);
                }
                Some(PeerKey::PodsOf(namespace, pods)) => {
                    words.pods_of.entry(namespace).or_default().push((peer, pods));
                }
                Some(PeerKey::Pods { namespaces, pods }) => words.pods.push((peer, namespaces, pods)),
                None => {}
            }
        }
        for name in names {
            words.names.extend(vocabulary.name_key(name).map(|key| (key.clone(), name)));
        }
        words
    }

    /// The blocks.
    pub fn blocks(&self) -> &BTreeMap<PeerId, IpBlock> {
        &self.blocks
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        let of = self.pods_of.values().flatten().map(|(peer, _)| *peer);
        self.blocks.keys().copied().chain(of).chain(self.pods.iter().map(|(peer, _, _)| *peer))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = NameId> {
        self.names.values().copied()
    }

    /// What a group is to these words. Of a namespace that is not known, only its own policies'
    /// selectors match pods.
    pub fn group(&self, cluster: &Cluster, group: &GroupKey) -> GroupTraits {
        let of = self.pods_of.get(&group.namespace).into_iter().flatten();
        let mut peers: BTreeSet<PeerId> =
            of.filter(|(_, pods)| pods.matches(&group.labels)).map(|(peer, _)| *peer).collect();
        if let Some(namespace) = cluster.namespace(&group.namespace) {
            let matching = self.pods.iter().filter(|(_, namespaces, pods)| {
                pods.matches(&group.labels) && namespaces.matches(&namespace.labels)
            });
            peers.extend(matching.map(|(peer, _, _)| *peer));
        }
        let names = group.names.iter().filter_map(|(key, port)| Some((*self.names.get(key)?, *port)));
        GroupTraits { peers, names: names.collect() }
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
