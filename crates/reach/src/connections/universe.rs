use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use kilter_model::{
    Cluster, Direction, Event, IpBlock, Labels, Namespace, Origin, Peer, Pod, PolicyRule, PortSet, Protocol,
    WorkloadRef,
};
use kilter_policy::parts::{
    GroupKey, GroupTraits, Numbers, Policies, Posture, Traits, Vocabulary, Words, compile,
};

use super::exposed::Exposed;
use super::placement::{Places, Ways, node_blocks};
use super::rows::Facet;
use super::{Options, Range, ranges};

/// Pods that no rule tells apart, wherever they may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Index of its posture; `None`: nothing judges it (hostNetwork).
    pub posture: Option<usize>,
    /// Index of what it is to others.
    pub facet: usize,
}

/// All that can be at an end of a connection, as far as rules tell it apart. A thousand replicas
/// are one kind.
pub struct Universe {
    pub postures: Vec<Arc<Posture>>,
    pub traits: Vec<Traits>,
    pub facets: Vec<Facet>,
    pub workloads: BTreeMap<WorkloadRef, BTreeSet<Kind>>,
    /// Disjoint ranges of outside addresses, as the sources of ingress and destinations of egress,
    /// each with its facet.
    pub outside: [(Direction, Vec<(Range, usize)>); 2],
    /// What Ingresses expose of which pods of a workload.
    pub exposed: BTreeMap<WorkloadRef, BTreeSet<(Kind, PortSet)>>,
    /// The facet of the pods that carry out Ingresses.
    pub controller: usize,
}

impl Universe {
    /// The universe of a cluster.
    pub fn new(cluster: &Cluster, options: &Options) -> Self {
        let complete = with_all_namespaces(cluster);
        let cluster = &*complete;
        let pods: Vec<&Pod> = cluster.pods().filter(|pod| pod.owns_addresses()).collect();
        let groups = Groups::new(&pods);
        let (postures, words) = groups.compile(cluster);
        let of_group: Vec<GroupTraits> = groups.keys.iter().map(|it| words.group(cluster, it)).collect();
        let places = Places::new(&words, cluster, options);
        let exposing = Exposed::new(cluster);

        let (mut distinct, mut facets) = (Numbered::default(), Facets::default());
        let postures: Vec<Option<usize>> =
            postures.into_iter().map(|it| it.map(|it| distinct.number(it))).collect();
        let mut workloads: BTreeMap<WorkloadRef, BTreeSet<Kind>> = BTreeMap::new();
        let mut exposed: BTreeMap<WorkloadRef, BTreeSet<(Kind, PortSet)>> = BTreeMap::new();
        let mut in_pod_network: HashMap<usize, usize> = HashMap::new();
        for (pod, group) in pods.iter().zip(&groups.of_pod) {
            let mut facet =
                |ways: &Ways| facets.number(ways.iter().map(|it| of_group[*group].at(it)).collect());
            let kind = if pod.host_network {
                let node = pod.node.as_deref().and_then(|it| cluster.node(it));
                let is = |peers| Traits { peers, ..Traits::default() };
                let ways = places.of_node(node, pod);
                Kind { posture: None, facet: facets.number(ways.into_iter().map(is).collect()) }
            } else {
                let facet = match places.of_pod(pod) {
                    Some(ways) => facet(&ways),
                    None => *in_pod_network.entry(*group).or_insert_with(|| facet(places.somewhere())),
                };
                Kind { posture: postures[*group], facet }
            };
            let ports = exposing.ports(pod);
            if !ports.is_empty() {
                exposed.entry(pod.owner.clone()).or_default().insert((kind, ports));
            }
            match workloads.get_mut(&pod.owner) {
                Some(kinds) => kinds.insert(kind),
                None => workloads.entry(pod.owner.clone()).or_default().insert(kind),
            };
        }
        let outside = [Direction::Ingress, Direction::Egress]
            .map(|direction| (direction, outside(cluster, options, &places, direction, &mut facets)));
        let stranger = words.stranger();
        let controller = facets.number(places.somewhere().iter().map(|it| stranger.at(it)).collect());
        Self {
            postures: distinct.values,
            traits: facets.traits.values,
            facets: facets.facets.values,
            workloads,
            outside,
            exposed,
            controller,
        }
    }

    /// All kinds of pods.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        self.workloads.values().flatten().copied().collect()
    }
}

/// Pods that are alike but for their addresses.
struct Groups<'a> {
    keys: Vec<GroupKey>,
    /// A pod of each that policies judge, if it has one.
    judged: Vec<Option<&'a Pod>>,
    /// The group of each pod, in the order given.
    of_pod: Vec<usize>,
    numbers: HashMap<(Protocol, Arc<str>), BTreeSet<u16>>,
}

impl<'a> Groups<'a> {
    fn new(pods: &[&'a Pod]) -> Self {
        let mut keys = Numbered::default();
        let of_pod: Vec<usize> = pods.iter().map(|pod| keys.number(GroupKey::of(pod))).collect();
        let mut judged = vec![None; keys.values.len()];
        for (pod, group) in pods.iter().zip(&of_pod).filter(|(pod, _)| !pod.host_network) {
            judged[*group].get_or_insert(*pod);
        }
        let mut numbers: HashMap<_, BTreeSet<u16>> = HashMap::new();
        for (name, number) in keys.values.iter().flat_map(|it| &it.names) {
            numbers.entry(name.clone()).or_default().insert(*number);
        }
        Self { keys: keys.values, judged, of_pod, numbers }
    }

    /// The posture of each group, and the words of all.
    fn compile(&self, cluster: &Cluster) -> (Vec<Option<Arc<Posture>>>, Words) {
        let policies = Policies::of(cluster);
        let mut vocabulary = Vocabulary::default();
        let mut posture = |pod: &Pod| Arc::new(compile(&mut vocabulary, &policies, pod, self).0);
        let postures: Vec<_> = self.judged.iter().map(|it| it.map(&mut posture)).collect();
        let words = Words::of(&vocabulary, postures.iter().flatten().map(Arc::as_ref));
        (postures, words)
    }
}

impl Numbers for Groups<'_> {
    fn numbers(&self, protocol: Protocol, name: &str) -> Vec<u16> {
        let numbers = self.numbers.get(&(protocol, Arc::from(name)));
        numbers.into_iter().flatten().copied().collect()
    }
}

/// The outside, cut along all blocks of all rules of one direction.
fn outside(
    cluster: &Cluster,
    options: &Options,
    places: &Places<'_>,
    direction: Direction,
    facets: &mut Facets,
) -> Vec<(Range, usize)> {
    let blocks = blocks(cluster, direction);
    let families = [true, false]
        .into_iter()
        .filter(|ipv4| options.pod_cidrs.iter().any(|it| it.addr().is_ipv4() == *ipv4));
    let ranges = families.flat_map(|ipv4| ranges::cut(&blocks, ipv4));
    let mut known = |range: Range| {
        let traits = Traits { peers: places.at_address(range.first), ..Traits::default() };
        (range, facets.number(BTreeSet::from([traits])))
    };
    ranges.map(&mut known).collect()
}

/// All blocks of the rules of one direction, those of nodes' addresses included.
pub fn blocks(cluster: &Cluster, direction: Direction) -> BTreeSet<IpBlock> {
    let namespaced = cluster.policies().flat_map(|it| it.rules(direction).unwrap_or_default());
    let scoped = cluster.cluster_policies().flat_map(|it| it.rules(direction)).map(|it| &it.matches);
    let peers = namespaced.chain(scoped).flat_map(|rule: &PolicyRule| rule.peers.iter().flatten());
    let mut blocks = BTreeSet::new();
    for peer in peers {
        match peer {
            Peer::IpBlock(block) => blocks.extend([block.clone()]),
            Peer::Nodes(selector) => blocks.extend(node_blocks(cluster, selector)),
            Peer::Pods { .. } => {}
        }
    }
    blocks
}

/// The cluster, with the namespaces that manifests imply but do not declare. Every namespace has
/// the label with its name.
fn with_all_namespaces(cluster: &Cluster) -> Cow<'_, Cluster> {
    let mut complete = Cow::Borrowed(cluster);
    let used: BTreeSet<&Arc<str>> = cluster.pods().map(|pod| &pod.name.namespace).collect();
    for name in used.into_iter().filter(|name| cluster.namespace(name).is_none()) {
        let labels = Labels::from([(Arc::from("kubernetes.io/metadata.name"), name.clone())]);
        let namespace = Namespace { name: name.clone(), labels, origin: Origin::Builtin };
        complete.to_mut().apply(Event::Namespace(namespace));
    }
    complete
}

/// Distinct facets, made of distinct traits.
#[derive(Default)]
struct Facets {
    traits: Numbered<Traits>,
    facets: Numbered<Facet>,
}

impl Facets {
    fn number(&mut self, ways: BTreeSet<Traits>) -> usize {
        let facet = ways.into_iter().map(|it| self.traits.number(it)).collect();
        self.facets.number(facet)
    }
}

/// Distinct values and their numbers.
struct Numbered<T> {
    values: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Hash + Eq + Clone> Numbered<T> {
    fn number(&mut self, value: T) -> usize {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = self.values.len();
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}
