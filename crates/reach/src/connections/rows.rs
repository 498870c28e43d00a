use std::collections::{BTreeMap, BTreeSet, HashMap};

use kilter_model::{Direction, PortRange, PortSet};
use kilter_policy::parts::{NameId, PeerId, Posture, Traits};

use super::portsets::{PortSets, PortsId};

/// Ports that are permitted: surely, and perhaps.
pub type Ports = (PortsId, PortsId);

/// What an end may be to the other: one thing, or several where its address is not known; each as
/// an index of the traits.
pub type Facet = Vec<usize>;

/// What a posture permits in one direction, with every facet.
#[derive(Debug, Clone)]
pub struct Row {
    /// With facets that are no exception.
    pub default: Ports,
    /// With these facets, by their numbers; sorted. Narrow: a large cluster has millions.
    pub exceptions: Vec<(u32, Ports)>,
}

/// The row of what nothing judges.
pub static OPEN: Row = Row { default: (PortsId::ALL, PortsId::ALL), exceptions: Vec::new() };

impl Row {
    /// With one facet.
    pub fn get(&self, facet: usize) -> Ports {
        find(&self.exceptions, facet).unwrap_or(self.default)
    }
}

/// What is noted for a number, in a sorted list.
pub fn find(noted: &[(u32, Ports)], number: usize) -> Option<Ports> {
    noted.binary_search_by_key(&number, |(it, _)| *it as usize).ok().map(|at| noted[at].1)
}

/// Something that a rule asks about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Question {
    Peer(PeerId),
    Name(NameId, u16),
}

/// What can be at the other end, arranged for questions about it.
pub struct Index<'a> {
    traits: &'a [Traits],
    facets: &'a [Facet],
    /// The traits for which a question is answered with yes.
    answers: HashMap<Question, Vec<usize>>,
    /// The facets that a trait is part of.
    facets_of: Vec<Vec<usize>>,
}

/// Computes rows. Of all traits only those are looked at that a rule of the posture asks about, and
/// of those that it cannot tell apart only one: so a row costs what its rules match.
pub struct Rows<'a> {
    index: &'a Index<'a>,
    /// For each trait its kind, while a row is computed; otherwise 0.
    kinds: Vec<u32>,
}

impl<'a> Index<'a> {
    /// What can be at the other end.
    pub fn new(traits: &'a [Traits], facets: &'a [Facet]) -> Self {
        let mut answers: HashMap<Question, Vec<usize>> = HashMap::new();
        for (number, it) in traits.iter().enumerate() {
            let peers = it.peers.iter().map(|peer| Question::Peer(*peer));
            let names = it.names.iter().map(|(name, port)| Question::Name(*name, *port));
            for question in peers.chain(names) {
                answers.entry(question).or_default().push(number);
            }
        }
        let mut facets_of = vec![Vec::new(); traits.len()];
        for (number, facet) in facets.iter().enumerate() {
            for it in facet {
                facets_of[*it].push(number);
            }
        }
        Self { traits, facets, answers, facets_of }
    }

    /// How many facets there are.
    pub fn facets(&self) -> usize {
        self.facets.len()
    }
}

impl<'a> Rows<'a> {
    /// Nothing is computed yet.
    pub fn new(index: &'a Index<'a>) -> Self {
        Self { index, kinds: vec![0; index.traits.len()] }
    }

    /// The row of a posture.
    pub fn row(&mut self, posture: &Posture, direction: Direction, sets: &mut PortSets) -> Row {
        let Index { traits, facets, facets_of, .. } = self.index;
        let (touched, kinds) = self.tell_apart(questions(posture, direction));
        let mut permits = vec![sets.id(permitted(posture, direction, &Traits::default())); kinds + 1];
        let mut is_known = vec![false; kinds + 1];
        for it in &touched {
            let kind = self.kinds[*it] as usize;
            if !std::mem::replace(&mut is_known[kind], true) {
                permits[kind] = sets.id(permitted(posture, direction, &traits[*it]));
            }
        }
        let mut asked: Vec<usize> = touched.iter().flat_map(|it| &facets_of[*it]).copied().collect();
        asked.sort_unstable();
        asked.dedup();
        let mut all = Vec::with_capacity(asked.len());
        for facet in asked {
            let mut each = facets[facet].iter().map(|it| permits[self.kinds[*it] as usize]);
            let first = each.next().unwrap_or(PortsId::NONE);
            let ports = each.fold((first, first), |(surely, maybe), it| {
                (sets.intersection(surely, it), sets.union(maybe, it))
            });
            all.push((facet as u32, ports));
        }
        for it in touched {
            self.kinds[it] = 0;
        }
        shortest(all, (permits[0], permits[0]), facets.len())
    }

    /// Gives traits that the questions tell apart different kinds, from 1; those that answer no to
    /// all of them stay 0. Returns the traits that are not, and the highest kind.
    fn tell_apart(&mut self, questions: BTreeSet<Question>) -> (Vec<usize>, usize) {
        let (mut touched, mut last) = (Vec::new(), 0);
        for question in questions {
            let Some(yes) = self.index.answers.get(&question) else { continue };
            // What those become that answer yes to this one, too.
            let mut becomes: HashMap<u32, u32> = HashMap::new();
            for it in yes {
                let kind = self.kinds[*it];
                if kind == 0 {
                    touched.push(*it);
                }
                self.kinds[*it] = *becomes.entry(kind).or_insert_with(|| {
                    last += 1;
                    last
                });
            }
        }
        (touched, last as usize)
    }
}

/// A row with the commonest value as its default.
fn shortest(all: Vec<(u32, Ports)>, default: Ports, facets: usize) -> Row {
    let mut counts: BTreeMap<Ports, usize> = BTreeMap::from([(default, facets - all.len())]);
    // Neighbours are alike, mostly.
    for run in all.chunk_by(|a, b| a.1 == b.1) {
        *counts.entry(run[0].1).or_default() += run.len();
    }
    let commonest = counts.iter().max_by_key(|(_, count)| **count).map_or(default, |(ports, _)| *ports);
    if commonest == default {
        let exceptions = all.into_iter().filter(|(_, ports)| *ports != default).collect();
        return Row { default, exceptions };
    }
    let mut known = all.into_iter().peekable();
    let each = (0..facets as u32).map(|it| known.next_if(|(facet, _)| *facet == it).unwrap_or((it, default)));
    Row { default: commonest, exceptions: each.filter(|(_, ports)| *ports != commonest).collect() }
}

fn questions(posture: &Posture, direction: Direction) -> BTreeSet<Question> {
    let mut questions = BTreeSet::new();
    for ((_, _, range), rules) in posture.iter().filter(|((at, _, _), _)| *at == direction) {
        questions.extend(rules.peers().map(Question::Peer));
        // A name is asked about on the range of the one port that it has to stand for.
        questions.extend(rules.names().map(|name| Question::Name(name, range.first)));
    }
    questions
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
