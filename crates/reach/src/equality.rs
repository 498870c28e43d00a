//! Whether two sets of policy rows decide every packet alike, whatever their ids are.
//!
//! Not by samples: the space of packets is cut where either side changes its mind. Addresses fall
//! into regions by the prefixes of both, ports into ranges by the intervals of both, pods into
//! groups by their two postures; within one such piece each side has one answer, and one packet
//! stands for all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Direction, PortRange};
use kilter_policy::{ClassId, Decision, Interval, PostureId, ProtocolClass, RuleId, SetId, Tables, Verdict};

use crate::interpreter::{Missing, Probe};

/// What a side says of one packet.
pub type Said = Result<Decision, Missing>;

/// A packet that two sets of rows do not decide alike, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The packet, seen from a pod of the node.
    pub probe: Probe,
    /// Every port that is decided as this packet is.
    pub ports: PortRange,
    /// All pods that are judged as this one is.
    pub pods: BTreeSet<IpAddr>,
    /// What the one side says.
    pub wanted: Said,
    /// What the other says.
    pub loaded: Said,
}

impl Difference {
    /// Whether one side lets the packet pass and the other does not. Otherwise both refuse, or both
    /// allow, and only the reason that people would be told differs.
    pub fn is_of_verdict(&self) -> bool {
        verdict(self.wanted) != verdict(self.loaded)
    }
}

/// What was compared, and every kind of packet that is decided differently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// For each pair of postures, direction and pair of classes, one packet whose verdict differs, and
    /// one of which only the reason does.
    pub differences: Vec<Difference>,
    /// Groups of pods with the same postures.
    pub postures: usize,
    /// Kinds of peers.
    pub classes: usize,
    /// Ranges of ports, over all postures, directions and protocols.
    pub ranges: usize,
}

/// Compares what should be with what is.
pub fn compare(wanted: &Tables, loaded: &Tables) -> Comparison {
    let regions = regions(wanted, loaded);
    let mut judge = Judge { wanted, loaded, regions, rules: Pairing::default(), known: BTreeMap::new() };
    let mut comparison = Comparison { classes: judge.regions.len(), ..Comparison::default() };
    for ((family, postures), pods) in groups(wanted, loaded) {
        comparison.postures += 1;
        for direction in [Direction::Ingress, Direction::Egress] {
            let mut told = BTreeSet::new();
            for protocol in ProtocolClass::ALL {
                let pieces = pieces(&judge, postures, direction, protocol);
                comparison.ranges += pieces.len();
                for (ports, sets) in pieces {
                    for index in judge.differing(sets).into_iter().filter(|it| judge.family(*it) == family) {
                        let packet = (ports, direction, protocol);
                        let difference = judge.describe(&pods, postures, sets, packet, index);
                        if told.insert((index, difference.is_of_verdict())) {
                            comparison.differences.push(difference);
                        }
                    }
                }
            }
        }
    }
    comparison
}

fn verdict(said: Said) -> Verdict {
    said.map_or(Verdict::Deny, |decision| decision.verdict)
}

/// What both sides have for one thing; `None` where one has nothing.
type Both<T> = (Option<T>, Option<T>);

/// What no packet crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Pods by family and postures.
fn groups(wanted: &Tables, loaded: &Tables) -> BTreeMap<(Family, Both<PostureId>), BTreeSet<IpAddr>> {
    let mut groups: BTreeMap<_, BTreeSet<IpAddr>> = BTreeMap::new();
    for pod in wanted.postures.keys().chain(loaded.postures.keys()) {
        let postures = (wanted.postures.get(pod).copied(), loaded.postures.get(pod).copied());
        groups.entry((Family::of(*pod), postures)).or_default().insert(*pod);
    }
    groups
}

/// Peers that both sides tell apart from all others, and an address that stands for them.
fn regions(wanted: &Tables, loaded: &Tables) -> Vec<(Both<ClassId>, IpAddr)> {
    let everywhere = ["0.0.0.0/0", "::/0"].map(prefix);
    let impossible = IMPOSSIBLE.map(prefix);
    let keys = wanted.classes.keys().chain(loaded.classes.keys()).map(IpNet::trunc);
    let prefixes: Vec<IpNet> =
        keys.chain(everywhere).chain(impossible).collect::<BTreeSet<_>>().into_iter().collect();
    let mut regions: BTreeMap<(Family, Both<ClassId>), IpAddr> = BTreeMap::new();
    let mut around: Vec<(IpNet, Both<ClassId>)> = Vec::new();
    for (at, prefix) in prefixes.iter().enumerate() {
        while around.last().is_some_and(|(outer, _)| !outer.contains(prefix)) {
            around.pop();
        }
        let (outer_wanted, outer_loaded) = around.last().map_or((None, None), |(_, classes)| *classes);
        let classes = (
            wanted.classes.get(prefix).copied().or(outer_wanted),
            loaded.classes.get(prefix).copied().or(outer_loaded),
        );
        around.push((*prefix, classes));
        let region = (Family::of(prefix.addr()), classes);
        if regions.contains_key(&region) || impossible.iter().any(|block| block.contains(prefix)) {
            continue;
        }
        let inner = &prefixes[at + 1..];
        let inner = &inner[..inner.partition_point(|it| prefix.contains(it))];
        regions.extend(outside_of(*prefix, inner).map(|address| (region, address)));
    }
    regions.into_iter().map(|((_, classes), address)| (classes, address)).collect()
}

/// No peer of a connection has these addresses.
const IMPOSSIBLE: [&str; 4] = ["0.0.0.0/8", "224.0.0.0/3", "::/128", "ff00::/8"];

fn prefix(text: &str) -> IpNet {
    text.parse().expect("a constant prefix")
}

/// An address of `block` that lies in none of the sorted prefixes `inner`, all of them within it.
fn outside_of(block: IpNet, inner: &[IpNet]) -> Option<IpAddr> {
    match inner.first() {
        None => return Some(block.addr()),
        Some(first) if *first == block => return None,
        Some(_) => {}
    }
    let mut halves = block.subnets(block.prefix_len() + 1).ok()?;
    let (lower, upper) = (halves.next()?, halves.next()?);
    let middle = inner.partition_point(|it| lower.contains(it));
    outside_of(lower, &inner[..middle]).or_else(|| outside_of(upper, &inner[middle..]))
}

/// Ports that each side decides by one set.
fn pieces(
    judge: &Judge<'_>,
    postures: Both<PostureId>,
    direction: Direction,
    protocol: ProtocolClass,
) -> Vec<(PortRange, Both<SetId>)> {
    let wanted = intervals(judge.wanted, postures.0, direction, protocol);
    let loaded = intervals(judge.loaded, postures.1, direction, protocol);
    // What has no ports is looked up with port 0.
    let end: u32 = if protocol == ProtocolClass::Other { 1 } else { 1 << 16 };
    let cuts = wanted.iter().chain(&loaded).flat_map(|(ports, _)| [ports.first.into(), u32::from(ports.last) + 1]);
    let cuts: BTreeSet<u32> = cuts.chain([0, end]).filter(|cut| *cut <= end).collect();
    let cuts: Vec<u32> = cuts.into_iter().collect();
    let ranges = cuts.windows(2).map(|cut| PortRange { first: cut[0] as u16, last: (cut[1] - 1) as u16 });
    ranges.map(|ports| (ports, (set_at(&wanted, ports.first), set_at(&loaded, ports.first)))).collect()
}

fn intervals(
    tables: &Tables,
    posture: Option<PostureId>,
    direction: Direction,
    protocol: ProtocolClass,
) -> Vec<(PortRange, SetId)> {
    let Some(posture) = posture else { return Vec::new() };
    let at = |port| Interval { posture, direction, protocol, ports: PortRange { first: port, last: port } };
    let all = tables.intervals.range(at(0)..=at(u16::MAX));
    all.map(|(interval, set)| (interval.ports, *set)).collect()
}

/// Where rows overlap, the kernel takes the longest prefix.
fn set_at(intervals: &[(PortRange, SetId)], port: u16) -> Option<SetId> {
    let around = intervals.iter().filter(|(ports, _)| ports.contains(port));
    around.min_by_key(|(ports, _)| ports.last - ports.first).map(|(_, set)| *set)
}

/// Ids of one side and the ids that mean the same on the other, as far as seen.
#[derive(Default)]
struct Pairing {
    there: BTreeMap<RuleId, RuleId>,
    back: BTreeMap<RuleId, RuleId>,
}

impl Pairing {
    /// Whether these two may mean the same, given what was paired before.
    fn pair(&mut self, here: RuleId, there: RuleId) -> bool {
        *self.there.entry(here).or_insert(there) == there && *self.back.entry(there).or_insert(here) == here
    }
}

struct Judge<'a> {
    wanted: &'a Tables,
    loaded: &'a Tables,
    regions: Vec<(Both<ClassId>, IpAddr)>,
    rules: Pairing,
    /// For pairs of sets, the regions that they do not decide alike.
    known: BTreeMap<Both<SetId>, Vec<usize>>,
}

impl Judge<'_> {
    fn differing(&mut self, sets: Both<SetId>) -> Vec<usize> {
        if let Some(known) = self.known.get(&sets) {
            return known.clone();
        }
        let mut differ = Vec::new();
        for region in 0..self.regions.len() {
            let same = match self.say(sets, self.regions[region].0) {
                (Err(_), Err(_)) => true,
                (Ok(wanted), Ok(loaded)) => {
                    wanted.verdict == loaded.verdict && self.rules.pair(wanted.rule, loaded.rule)
                }
                _ => false,
            };
            if !same {
                differ.push(region);
            }
        }
        self.known.insert(sets, differ.clone());
        differ
    }

    fn family(&self, region: usize) -> Family {
        Family::of(self.regions[region].1)
    }

    fn say(&self, sets: Both<SetId>, classes: Both<ClassId>) -> (Said, Said) {
        (look_up(self.wanted, sets.0, classes.0), look_up(self.loaded, sets.1, classes.1))
    }

    fn describe(
        &self,
        pods: &BTreeSet<IpAddr>,
        postures: Both<PostureId>,
        sets: Both<SetId>,
        (ports, direction, protocol): (PortRange, Direction, ProtocolClass),
        region: usize,
    ) -> Difference {
        let (classes, peer) = self.regions[region];
        let (wanted, loaded) = self.say(sets, classes);
        let missing = |posture: Option<PostureId>, said: Said| if posture.is_none() { Err(Missing::Posture) } else { said };
        let pod = pods.iter().next().copied().expect("a group has a pod");
        let probe = Probe { pod, peer, direction, protocol, port: ports.first };
        let (wanted, loaded) = (missing(postures.0, wanted), missing(postures.1, loaded));
        Difference { probe, ports, pods: pods.clone(), wanted, loaded }
    }
}

/// In the order in which the program looks.
fn look_up(tables: &Tables, set: Option<SetId>, class: Option<ClassId>) -> Said {
    let class = class.ok_or(Missing::Class)?;
    let set = set.ok_or(Missing::Interval)?;
    Ok(tables.sets.get(&set).ok_or(Missing::Set)?.decide(class))
}
