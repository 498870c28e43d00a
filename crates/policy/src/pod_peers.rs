use std::collections::HashMap;
use std::sync::Arc;

use kilter_model::{Labels, Operator, Selector};

use crate::vocabulary::PeerId;

/// A label and its value.
type Pair = (Arc<str>, Arc<str>);

/// Peers that select pods by labels of theirs and of their namespace, found by a label that they
/// require: of thousands of them only few come into question for one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodPeers {
    peers: Vec<PodPeer>,
    /// Those that require this of the pod.
    by_pod: HashMap<Pair, Vec<usize>>,
    /// Those that require this of the namespace, and nothing definite of the pod.
    by_namespace: HashMap<Pair, Vec<usize>>,
    /// The others.
    rest: Vec<usize>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PodPeer {
    id: PeerId,
    namespaces: Selector,
    pods: Selector,
}

impl PodPeers {
    /// Adds a peer.
    pub fn insert(&mut self, id: PeerId, namespaces: Selector, pods: Selector) {
        let number = self.peers.len();
        let index = match (required(&pods), required(&namespaces)) {
            (Some(pairs), _) => Some((&mut self.by_pod, pairs)),
            (None, Some(pairs)) => Some((&mut self.by_namespace, pairs)),
            (None, None) => None,
        };
        match index {
            Some((index, pairs)) => {
                pairs.into_iter().for_each(|pair| index.entry(pair).or_default().push(number));
            }
            None => self.rest.push(number),
        }
        self.peers.push(PodPeer { id, namespaces, pods });
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().map(|it| it.id)
    }

    /// All of them: which namespaces, and which pods of those.
    pub fn selectors(&self) -> impl Iterator<Item = (&Selector, &Selector)> {
        self.peers.iter().map(|it| (&it.namespaces, &it.pods))
    }

    /// Those that select a pod of these labels in a namespace of these.
    pub fn matching(&self, namespace: &Labels, pod: &Labels) -> Vec<PeerId> {
        let by_pod = indexed(&self.by_pod, pod);
        let by_namespace = indexed(&self.by_namespace, namespace);
        let possible = by_pod.chain(by_namespace).chain(&self.rest).map(|it| &self.peers[*it]);
        let matching = possible.filter(|it| it.pods.matches(pod) && it.namespaces.matches(namespace));
        matching.map(|it| it.id).collect()
    }
}

fn indexed<'a>(index: &'a HashMap<Pair, Vec<usize>>, labels: &'a Labels) -> impl Iterator<Item = &'a usize> {
    labels.iter().filter_map(|(key, value)| index.get(&(key.clone(), value.clone()))).flatten()
}

/// Pairs of which the labels must have one, if the selector has a requirement of that kind. No two
/// of them are in one set of labels.
fn required(selector: &Selector) -> Option<Vec<Pair>> {
    selector.requirements().iter().find_map(|it| match &it.operator {
        Operator::In(values) => Some(values.iter().map(|value| (it.key.clone(), value.clone())).collect()),
        Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => None,
    })
}
