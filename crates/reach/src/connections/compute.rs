use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;
use kilter_model::{
    Cluster, Direction, Event, IpBlock, Labels, Namespace, Origin, Peer, Pod, PortRange, PortSet, Protocol,
    WorkloadRef,
};
use kilter_policy::parts::{GroupKey, Numbers, Partition, Posture, Traits, Vocabulary, Words, compile};

use super::placement::{self, Placement};
use super::{Connection, End, Options, Range, ranges};

/// Pods that no rule tells apart, wherever they may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// Index of its posture; `None`: nothing judges it (hostNetwork).
    posture: Option<usize>,
    /// Index of what it is to others.
    traits: usize,
}

/// What an end is to the other: surely, and perhaps.
type Facets = (Traits, Traits);

/// Ports that are permitted: surely, and perhaps.
type Ports = (PortSet, PortSet);

/// Works on kinds of pods, not on pods: a thousand replicas cost no more than one.
pub struct Computation {
    postures: Vec<Arc<Posture>>,
    facets: Vec<Facets>,
    workloads: BTreeMap<WorkloadRef, BTreeSet<Kind>>,
    /// Disjoint ranges of outside addresses, as the sources of ingress and destinations of egress.
    outside: [(Direction, Vec<(Range, usize)>); 2],
    memo: HashMap<(usize, Direction, usize), Arc<Ports>>,
}

impl Computation {
    pub fn new(cluster: &Cluster, options: &Options) -> Self {
        let cluster = &with_all_namespaces(cluster);
        let pods: Vec<&Pod> = cluster.pods().filter(|pod| pod.owns_addresses()).collect();
        let keys: Vec<GroupKey> = pods.iter().map(|pod| GroupKey::of(pod)).collect();
        let numbers = NumbersOf(keys.iter().collect());

        let mut vocabulary = Vocabulary::default();
        let mut compiled: BTreeMap<&GroupKey, Arc<Posture>> = BTreeMap::new();
        for (pod, key) in pods.iter().zip(&keys).filter(|(pod, _)| !pod.host_network) {
            compiled
                .entry(key)
                .or_insert_with(|| Arc::new(compile(&mut vocabulary, cluster, pod, &numbers).0));
        }
        let words = Words::of(&vocabulary, compiled.values().map(Arc::as_ref));

        let (mut postures, mut facets) = (Numbered::default(), Numbered::default());
        let mut workloads: BTreeMap<WorkloadRef, BTreeSet<Kind>> = BTreeMap::new();
        for (pod, key) in pods.iter().zip(&keys) {
            let kind = if pod.host_network {
                let of_node = pod.node.as_deref().and_then(|it| cluster.node(it));
                let addresses = of_node.map_or(pod.addresses.as_slice(), |it| it.addresses.as_slice());
                let Placement { surely, maybe } = placement::of_node(addresses, &words);
                let is = |peers| Traits { peers, ..Traits::default() };
                Kind { posture: None, traits: facets.number((is(surely), is(maybe))) }
            } else {
                let place = placement::of_pod(pod, &words, options);
                let group = words.group(cluster, key);
                let traits = facets.number((group.at(&place.surely), group.at(&place.maybe)));
                let posture = compiled.get(key).map(|it| postures.number(it.clone()));
                Kind { posture, traits }
            };
            workloads.entry(pod.owner.clone()).or_default().insert(kind);
        }
        let outside = [Direction::Ingress, Direction::Egress]
            .map(|direction| (direction, outside(cluster, options, &words, direction, &mut facets)));
        Self { postures: postures.values, facets: facets.values, workloads, outside, memo: HashMap::new() }
    }

    pub fn run(mut self) -> Vec<Connection> {
        let workloads: Vec<_> = std::mem::take(&mut self.workloads).into_iter().collect();
        let mut all = Vec::new();
        for (from, sources) in &workloads {
            for (to, destinations) in workloads.iter().filter(|(to, _)| to != from) {
                let mut sum = Ports::default();
                for source in sources {
                    for destination in destinations {
                        let egress = self.judge(source.posture, Direction::Egress, destination.traits);
                        let ingress = self.judge(destination.posture, Direction::Ingress, source.traits);
                        add(&mut sum.0, &egress.0.intersection(&ingress.0));
                        add(&mut sum.1, &egress.1.intersection(&ingress.1));
                    }
                }
                let ends = (End::Workload(from.clone()), End::Workload(to.clone()));
                all.extend(connection(ends, sum));
            }
        }
        let outside = self.outside.clone();
        for (workload, kinds) in &workloads {
            for (direction, ranges) in &outside {
                for (range, traits) in ranges {
                    let mut sum = Ports::default();
                    for kind in kinds {
                        let ports = self.judge(kind.posture, *direction, *traits);
                        add(&mut sum.0, &ports.0);
                        add(&mut sum.1, &ports.1);
                    }
                    let (pod, other) = (End::Workload(workload.clone()), End::External(*range));
                    let ends = if *direction == Direction::Ingress { (other, pod) } else { (pod, other) };
                    all.extend(connection(ends, sum));
                }
            }
        }
        all
    }

    /// The ports that a posture permits with a peer.
    fn judge(&mut self, posture: Option<usize>, direction: Direction, peer: usize) -> Arc<Ports> {
        let Some(posture) = posture else { return Arc::new((all_ports(), all_ports())) };
        let (postures, facets) = (&self.postures, &self.facets);
        let ports = self.memo.entry((posture, direction, peer)).or_insert_with(|| {
            let (surely, maybe) = &facets[peer];
            let sure = permitted(&postures[posture], direction, surely);
            let perhaps =
                if surely == maybe { sure.clone() } else { permitted(&postures[posture], direction, maybe) };
            Arc::new((sure, perhaps))
        });
        ports.clone()
    }
}

/// What a posture permits with one peer, on ports that connections can have.
fn permitted(posture: &Posture, direction: Direction, peer: &Traits) -> PortSet {
    let mut ports = PortSet::default();
    for ((at, protocol, range), rules) in posture {
        let Some(protocol) = protocol.transport().filter(|_| *at == direction && range.last > 0) else {
            continue;
        };
        if rules.decide(peer).verdict.is_allow() {
            ports.insert(protocol, PortRange { first: range.first.max(1), last: range.last });
        }
    }
    ports
}

fn all_ports() -> PortSet {
    let mut ports = PortSet::default();
    for protocol in Protocol::ALL {
        ports.insert(protocol, PortRange { first: 1, last: u16::MAX });
    }
    ports
}

fn add(sum: &mut PortSet, more: &PortSet) {
    for protocol in Protocol::ALL {
        for range in more.ranges(protocol) {
            sum.insert(protocol, *range);
        }
    }
}

fn connection((from, to): (End, End), (ports, maybe): Ports) -> Option<Connection> {
    let depends_on_address = maybe.difference(&ports);
    let some = !ports.is_empty() || !depends_on_address.is_empty();
    some.then_some(Connection { from, to, ports, depends_on_address })
}

/// The outside, cut along all blocks of all rules of one direction.
fn outside(
    cluster: &Cluster,
    options: &Options,
    words: &Words,
    direction: Direction,
    facets: &mut Numbered<Facets>,
) -> Vec<(Range, usize)> {
    let partition = Partition::new(words.blocks().iter().map(|(id, block)| (*id, block)), &[]);
    let blocks = blocks(cluster, direction);
    let families = [true, false]
        .into_iter()
        .filter(|ipv4| options.pod_cidrs.iter().any(|it| it.addr().is_ipv4() == *ipv4));
    let ranges = families.flat_map(|ipv4| ranges::cut(blocks.iter().copied(), ipv4));
    let mut known = |range: Range| {
        let region = partition.find(IpNet::from(range.first));
        let traits = region.map(|(_, region)| region.traits()).unwrap_or_default();
        (range, facets.number((traits.clone(), traits)))
    };
    ranges.map(&mut known).collect()
}

/// All blocks of the rules of one direction.
pub fn blocks(cluster: &Cluster, direction: Direction) -> BTreeSet<&IpBlock> {
    let rules = cluster.policies().flat_map(|policy| match direction {
        Direction::Ingress => policy.ingress.iter().flatten(),
        Direction::Egress => policy.egress.iter().flatten(),
    });
    let peers = rules.flat_map(|rule| rule.peers.iter().flatten());
    let blocks = peers.filter_map(|peer| match peer {
        Peer::IpBlock(block) => Some(block),
        Peer::Pods { .. } => None,
    });
    blocks.collect()
}

/// The cluster, with the namespaces that manifests imply but do not declare. Every namespace has
/// the label with its name.
fn with_all_namespaces(cluster: &Cluster) -> Cluster {
    let mut complete = cluster.clone();
    let used: BTreeSet<&Arc<str>> = cluster.pods().map(|pod| &pod.name.namespace).collect();
    for name in used.into_iter().filter(|name| cluster.namespace(name).is_none()) {
        let labels = Labels::from([(Arc::from("kubernetes.io/metadata.name"), name.clone())]);
        complete.apply(Event::Namespace(Namespace { name: name.clone(), labels, origin: Origin::Builtin }));
    }
    complete
}

/// The numbers that any pod gives to a port name, whether or not it has an address yet.
struct NumbersOf<'a>(BTreeSet<&'a GroupKey>);

impl Numbers for NumbersOf<'_> {
    fn numbers(&self, protocol: Protocol, name: &str) -> Vec<u16> {
        let key = (protocol, Arc::from(name));
        let numbers: BTreeSet<u16> =
            self.0.iter().filter_map(|group| group.names.get(&key).copied()).collect();
        numbers.into_iter().collect()
    }
}

/// Distinct values and their numbers.
#[derive(Debug)]
struct Numbered<T> {
    values: Vec<T>,
    numbers: BTreeMap<T, usize>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Numbered<T> {
    fn number(&mut self, value: T) -> usize {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            self.values.len() - 1
        })
    }
}
