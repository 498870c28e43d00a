use std::collections::BTreeMap;
use std::sync::Arc;

use kilter_model::Cluster;

use crate::compiler::{Compiler, Config};
use crate::posture::Posture;
use crate::rules::Rules;
use crate::shelf::Shelf;
use crate::vocabulary::Vocabulary;
use crate::{ClassId, Decision, DecisionSet, Interval, PostureId, RuleId, SetId, Tables};

/// Recognises, in rows that are found, what the compiler would write now, and gives the contents
/// back to their ids: a restart then writes only what has changed meanwhile. The rows themselves
/// tell which is which: what stands at the same address is the same, if it also says the same.
pub(crate) fn adopt(config: &Config, cluster: &Cluster, found: &Tables, shelf: &mut Shelf) -> Vocabulary {
    let mut wanted = Compiler::with_rules_after(config.clone(), last_rule(found));
    wanted.update(cluster, &[]);
    let twins = Twins::of(wanted.tables(), found);
    let (wanted_shelf, mut vocabulary) = wanted.into_contents();

    for (ours, theirs) in twins.classes.pairs() {
        if let Some(traits) = wanted_shelf.traits(ours) {
            shelf.adopt_class(theirs, traits.clone());
        }
    }
    let mut contents: BTreeMap<SetId, Arc<Rules>> = BTreeMap::new();
    for (ours, theirs) in twins.sets.pairs() {
        if let Some(rules) = wanted_shelf.rules(ours) {
            let rules = Arc::new(rules.renamed(|rule| twins.rules.there(rule)));
            shelf.adopt_set(theirs, rules.clone());
            contents.insert(ours, rules);
        }
    }
    for (ours, theirs) in twins.postures.pairs() {
        let rows = wanted_shelf
            .intervals(ours)
            .map(|(at, set)| Some(((at.direction, at.protocol, at.ports), contents.get(&set)?.clone())));
        if let Some(content) = rows.collect::<Option<Posture>>() {
            shelf.adopt_posture(theirs, Arc::new(content));
        }
    }
    vocabulary.rename_rules(|rule| twins.rules.there(rule));
    vocabulary
}

/// The highest rule id in some rows.
pub(crate) fn last_rule(tables: &Tables) -> RuleId {
    let decisions = tables.sets.values().flat_map(|set| set.exceptions.values().chain([&set.default]));
    let rules = decisions.map(|it| it.rule).chain(tables.rules.keys().copied());
    rules.max().unwrap_or(RuleId(0))
}

/// Ids that stand for the same thing, each paired once.
struct Pairs<T> {
    there: BTreeMap<T, T>,
    back: BTreeMap<T, T>,
}

impl<T: Ord + Copy> Pairs<T> {
    fn new() -> Self {
        Self { there: BTreeMap::new(), back: BTreeMap::new() }
    }

    /// Pairs two ids unless one of them is paired already. Whether they are a pair now.
    fn pair(&mut self, ours: T, theirs: T) -> bool {
        if !self.there.contains_key(&ours) && !self.back.contains_key(&theirs) {
            self.there.insert(ours, theirs);
            self.back.insert(theirs, ours);
        }
        self.there.get(&ours) == Some(&theirs)
    }

    fn there(&self, ours: T) -> Option<T> {
        self.there.get(&ours).copied()
    }

    fn pairs(&self) -> impl Iterator<Item = (T, T)> {
        self.there.iter().map(|(ours, theirs)| (*ours, *theirs))
    }

    fn keep(&mut self, keep: impl Fn(T, T) -> bool) {
        self.there.retain(|ours, theirs| keep(*ours, *theirs));
        let there = &self.there;
        self.back.retain(|theirs, ours| there.get(ours) == Some(theirs));
    }
}

struct Twins {
    classes: Pairs<ClassId>,
    sets: Pairs<SetId>,
    postures: Pairs<PostureId>,
    rules: Pairs<RuleId>,
}

impl Twins {
    fn of(ours: &Tables, theirs: &Tables) -> Self {
        let mut twins =
            Self { classes: Pairs::new(), sets: Pairs::new(), postures: Pairs::new(), rules: Pairs::new() };
        for (prefix, class) in &ours.classes {
            theirs.classes.get(prefix).map(|it| twins.classes.pair(*class, *it));
        }
        for (address, posture) in &ours.postures {
            theirs.postures.get(address).map(|it| twins.postures.pair(*posture, *it));
        }
        for (interval, set) in &ours.intervals {
            let twin = twins.twin_of(interval).and_then(|it| theirs.intervals.get(&it));
            twin.map(|it| twins.sets.pair(*set, *it));
        }
        twins.pair_rules(ours, theirs);
        twins.drop_different(ours, theirs);
        twins
    }

    fn pair_rules(&mut self, ours: &Tables, theirs: &Tables) {
        for (a, b) in self.sets.pairs() {
            let (Some(a), Some(b)) = (ours.sets.get(&a), theirs.sets.get(&b)) else { continue };
            self.rules.pair(a.default.rule, b.default.rule);
            for (class, decision) in &a.exceptions {
                let twin = self.classes.there(*class).and_then(|it| b.exceptions.get(&it));
                twin.map(|it| self.rules.pair(decision.rule, it.rule));
            }
        }
    }

    /// What does not say the same is not the same.
    fn drop_different(&mut self, ours: &Tables, theirs: &Tables) {
        let (classes, rules) = (&self.classes, &self.rules);
        let same = |a: &Decision, b: &Decision| a.verdict == b.verdict && rules.there(a.rule) == Some(b.rule);
        let alike = |a: &DecisionSet, b: &DecisionSet| {
            same(&a.default, &b.default)
                && a.exceptions.len() == b.exceptions.len()
                && a.exceptions.iter().all(|(class, decision)| {
                    let twin = classes.there(*class).and_then(|it| b.exceptions.get(&it));
                    twin.is_some_and(|it| same(decision, it))
                })
        };
        self.sets.keep(|a, b| match (ours.sets.get(&a), theirs.sets.get(&b)) {
            (Some(a), Some(b)) => alike(a, b),
            _ => false,
        });
        let sets = &self.sets;
        let rows = |tables: &Tables, posture: PostureId| {
            let of = tables.intervals.iter().filter(move |(it, _)| it.posture == posture);
            of.map(|(it, set)| ((it.direction, it.protocol, it.ports), *set)).collect::<BTreeMap<_, _>>()
        };
        self.postures.keep(|a, b| {
            let (a, b) = (rows(ours, a), rows(theirs, b));
            a.len() == b.len()
                && a.iter().all(|(at, set)| sets.there(*set).is_some_and(|it| b.get(at) == Some(&it)))
        });
    }

    fn twin_of(&self, interval: &Interval) -> Option<Interval> {
        Some(Interval { posture: self.postures.there(interval.posture)?, ..*interval })
    }
}
