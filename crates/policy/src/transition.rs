use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::posture::Posture;
use crate::rules::Rules;
use crate::shelf::Shelf;
use crate::{ClassId, Decision, Plan, PostureId, SetId, Tables, Verdict, Write};

/// A pod of this node whose posture row changes.
#[derive(Debug)]
pub struct PostureMove {
    pub address: IpAddr,
    /// The row as it is.
    pub from: Option<PostureId>,
    /// The content it shall have; `None`: the row goes.
    pub to: Option<Arc<Posture>>,
}

/// A prefix whose class row changes.
#[derive(Debug)]
pub struct ClassMove {
    pub prefix: IpNet,
    /// The row as it is.
    pub row: Option<ClassId>,
    /// What its addresses are at present, by this row or a shorter prefix.
    pub from: Option<ClassId>,
    /// The row as it shall be; `None`: it goes.
    pub to: Option<ClassId>,
    /// Where the row goes: what its addresses are then, by a shorter prefix.
    pub heir: Option<ClassId>,
}

/// Carries out moves so that, after every single write, each connection is decided as before all
/// of them or as after all of them.
///
/// Class rows and posture rows cannot change at once. A connection is judged by the posture P of
/// one end and the class C of the other, and between (P, C) and (P', C') lies (P, C') or (P', C).
/// So each class row moves at a time when that is harmless:
///
/// - *before* the postures, if all sets that are left decide C and C' alike;
/// - *after* the postures, if all sets that are entered decide C and C' alike;
/// - else *by way of* a transitional class, which sets written before this plan decide as C, and
///   sets written by it as C'. Then all sets that are entered have to be new ones.
pub struct Transition<'a> {
    pub tables: &'a mut Tables,
    pub shelf: &'a mut Shelf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Before,
    After,
    ByWayOf(ClassId),
}

/// What an address is now and shall be.
type Pair = (Option<ClassId>, Option<ClassId>);

impl Transition<'_> {
    /// Makes the plan and applies it to the tables. `fresh` are classes that no set knows yet.
    pub fn run(mut self, postures: Vec<PostureMove>, classes: Vec<ClassMove>, fresh: Vec<ClassId>) -> Plan {
        let mut plan = Plan::default();
        let routes = self.routes(&postures, &classes);
        if routes.values().any(|it| matches!(it, Route::ByWayOf(_))) {
            self.shelf.forget_contents();
        }
        let old_sets: Vec<SetId> = self.shelf.sets().collect();
        let (postures, new_sets) = self.write_postures(postures, &mut plan.prepare);
        self.write_exceptions(&old_sets, &new_sets, &fresh, &routes, &mut plan.prepare);

        self.switch_before(&classes, &routes, &mut plan.switch);
        self.switch_postures(&postures, &mut plan.switch);
        self.switch_after(&classes, &routes, &mut plan.switch);

        self.retire(&classes, &routes, fresh, !postures.is_empty(), &mut plan.retire);
        plan
    }

    fn write(&mut self, phase: &mut Vec<Write>, write: Write) {
        match write {
            Write::PutClass { prefix, class } => {
                if let Some(before) = self.tables.classes.get(&prefix) {
                    self.shelf.count_class(*before, false);
                }
                self.shelf.count_class(class, true);
            }
            Write::DeleteClass { prefix } => {
                if let Some(before) = self.tables.classes.get(&prefix) {
                    self.shelf.count_class(*before, false);
                }
            }
            Write::PutPosture { address, posture } => {
                if let Some(before) = self.tables.postures.get(&address) {
                    self.shelf.count_posture(*before, false);
                }
                self.shelf.count_posture(posture, true);
            }
            Write::DeletePosture { address } => {
                if let Some(before) = self.tables.postures.get(&address) {
                    self.shelf.count_posture(*before, false);
                }
            }
            _ => {}
        }
        self.tables.apply(&write);
        phase.push(write);
    }

    /// How each kind of class move is to be done.
    fn routes(&mut self, postures: &[PostureMove], classes: &[ClassMove]) -> BTreeMap<Pair, Route> {
        let left: BTreeSet<SetId> = postures
            .iter()
            .filter_map(|it| it.from)
            .flat_map(|posture| self.shelf.intervals(posture).map(|(_, set)| set).collect::<Vec<_>>())
            .collect();
        let mut contents: Vec<&Arc<Posture>> = postures.iter().filter_map(|it| it.to.as_ref()).collect();
        contents.sort_by_key(|it| Arc::as_ptr(it));
        contents.dedup_by_key(|it| Arc::as_ptr(it));
        let entered: BTreeSet<&Arc<Rules>> = contents.into_iter().flat_map(|it| it.values()).collect();

        let mut routes = BTreeMap::new();
        for it in classes {
            let pair = it.pair();
            if routes.contains_key(&pair) {
                continue;
            }
            let before = || left.iter().all(|set| self.alike_in_set(*set, pair));
            let after = || entered.iter().all(|rules| self.alike_by_rules(rules, pair));
            let route = match (it.from, it.to) {
                // Denied for want of a class, whatever the posture, until the row comes.
                (None, _) if !left.is_empty() => Route::After,
                // A row that goes does so last of all: no need to touch it before.
                (_, None) if after() => Route::After,
                _ if before() => Route::Before,
                _ if after() => Route::After,
                _ => Route::ByWayOf(self.shelf.transitional_class()),
            };
            routes.insert(pair, route);
        }
        routes
    }

    /// Whether an existing set gives both classes the same verdict. `false` if it cannot be known.
    fn alike_in_set(&self, set: SetId, (from, to): Pair) -> bool {
        match (self.verdict_in_set(set, from), self.verdict_in_set(set, to)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        }
    }

    fn alike_by_rules(&self, rules: &Rules, (from, to): Pair) -> bool {
        match (self.verdict_by_rules(rules, from), self.verdict_by_rules(rules, to)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        }
    }

    /// An address without a class is denied by every set.
    fn verdict_in_set(&self, set: SetId, class: Option<ClassId>) -> Option<Verdict> {
        let Some(class) = class else { return Some(Verdict::Deny) };
        if let Some((rules, traits)) = self.shelf.rules(set).zip(self.shelf.traits(class)) {
            return Some(rules.decide(traits).verdict);
        }
        let rows = self.tables.sets.get(&set).filter(|_| self.shelf.found_both(set, class));
        rows.map(|it| it.decide(class).verdict)
    }

    fn verdict_by_rules(&self, rules: &Rules, class: Option<ClassId>) -> Option<Verdict> {
        let Some(class) = class else { return Some(Verdict::Deny) };
        self.shelf.traits(class).map(|traits| rules.decide(traits).verdict)
    }

    /// Writes the sets and intervals of postures that are new.
    fn write_postures(
        &mut self,
        moves: Vec<PostureMove>,
        phase: &mut Vec<Write>,
    ) -> (Vec<(IpAddr, Option<PostureId>)>, Vec<SetId>) {
        let mut new_sets = Vec::new();
        let mut rows = Vec::new();
        for PostureMove { address, to, .. } in moves {
            let Some(content) = to else {
                rows.push((address, None));
                continue;
            };
            let (posture, fresh) = self.shelf.posture(&content);
            rows.push((address, Some(posture)));
            let Some(fresh) = fresh else { continue };
            for set in fresh {
                let Some(rules) = self.shelf.rules(set) else { continue };
                let default = rules.default_decision();
                self.write(phase, Write::PutSet { set, default });
                new_sets.push(set);
            }
            let intervals: Vec<_> = self.shelf.intervals(posture).collect();
            for (interval, set) in intervals {
                self.write(phase, Write::PutInterval { interval, set });
            }
        }
        (rows, new_sets)
    }

    /// Teaches new sets all classes, and old sets the new classes.
    fn write_exceptions(
        &mut self,
        old_sets: &[SetId],
        new_sets: &[SetId],
        fresh: &[ClassId],
        routes: &BTreeMap<Pair, Route>,
        phase: &mut Vec<Write>,
    ) {
        let all: Vec<ClassId> = if new_sets.is_empty() { vec![] } else { self.shelf.classes().collect() };
        for (sets, classes) in [(new_sets, all.as_slice()), (old_sets, fresh)] {
            for set in sets {
                for class in classes {
                    let Some((rules, traits)) = self.shelf.rules(*set).zip(self.shelf.traits(*class)) else {
                        continue;
                    };
                    let decision = rules.decide(traits);
                    self.write_exception(*set, *class, decision, phase);
                }
            }
        }
        for ((from, to), route) in routes {
            let Route::ByWayOf(class) = route else { continue };
            for set in old_sets {
                let Some(decision) = from.and_then(|it| Some(self.tables.sets.get(set)?.decide(it))) else {
                    continue;
                };
                self.write_exception(*set, *class, decision, phase);
            }
            for set in new_sets {
                let traits = to.and_then(|it| self.shelf.traits(it));
                let Some((rules, traits)) = self.shelf.rules(*set).zip(traits) else { continue };
                let decision = rules.decide(traits);
                self.write_exception(*set, *class, decision, phase);
            }
        }
    }

    fn write_exception(&mut self, set: SetId, class: ClassId, decision: Decision, phase: &mut Vec<Write>) {
        if self.tables.sets.get(&set).is_some_and(|it| it.decide(class) != decision) {
            self.write(phase, Write::PutException { set, class, decision });
        }
    }

    /// Class rows that move before the postures, or begin their way. In any order: under the old
    /// postures none of it changes a verdict but to its final one.
    fn switch_before(
        &mut self,
        classes: &[ClassMove],
        routes: &BTreeMap<Pair, Route>,
        phase: &mut Vec<Write>,
    ) {
        for it in classes {
            let class = match routes.get(&it.pair()) {
                Some(Route::Before) => it.end(),
                Some(Route::ByWayOf(class)) => Some(*class),
                // Must not follow the shorter prefix that answers for it, when that moves. (With
                // rules that only allow, a longer prefix is allowed what the shorter one is, so
                // this would do no harm yet.)
                Some(Route::After) if it.row.is_none() => it.from,
                _ => None,
            };
            if let Some(class) = class {
                self.write(phase, Write::PutClass { prefix: it.prefix, class });
            }
        }
    }

    fn switch_postures(&mut self, rows: &[(IpAddr, Option<PostureId>)], phase: &mut Vec<Write>) {
        for (address, posture) in rows {
            let write = match posture {
                Some(posture) => Write::PutPosture { address: *address, posture: *posture },
                None => Write::DeletePosture { address: *address },
            };
            self.write(phase, write);
        }
    }

    /// Class rows that move after the postures, or end their way; then rows that go. New rows come
    /// first, the longest prefix first, so that an address that had no class gets its own at once.
    fn switch_after(
        &mut self,
        classes: &[ClassMove],
        routes: &BTreeMap<Pair, Route>,
        phase: &mut Vec<Write>,
    ) {
        for it in new_rows_first(classes) {
            if let (Some(class), Some(Route::After | Route::ByWayOf(_))) = (it.to, routes.get(&it.pair())) {
                self.write(phase, Write::PutClass { prefix: it.prefix, class });
            }
        }
        for it in classes.iter().filter(|it| it.to.is_none()) {
            self.write(phase, Write::DeleteClass { prefix: it.prefix });
        }
    }

    /// Takes away what nothing refers to any more.
    fn retire(
        &mut self,
        classes: &[ClassMove],
        routes: &BTreeMap<Pair, Route>,
        fresh: Vec<ClassId>,
        postures_moved: bool,
        phase: &mut Vec<Write>,
    ) {
        if postures_moved {
            let (intervals, sets) = self.shelf.sweep_postures();
            for interval in intervals {
                self.write(phase, Write::DeleteInterval { interval });
            }
            for set in sets {
                self.write(phase, Write::DeleteSet { set });
            }
        }
        let ways = routes.values().filter_map(|it| match it {
            Route::ByWayOf(class) => Some(*class),
            _ => None,
        });
        let candidates: BTreeSet<ClassId> = classes
            .iter()
            .flat_map(|it| [it.row, it.from, it.heir])
            .flatten()
            .chain(ways)
            .chain(fresh)
            .collect();
        let gone = self.shelf.sweep_classes(candidates);
        if gone.is_empty() {
            return;
        }
        let sets: Vec<SetId> = self.tables.sets.keys().copied().collect();
        for set in sets {
            for class in &gone {
                if self.tables.sets.get(&set).is_some_and(|it| it.exceptions.contains_key(class)) {
                    self.write(phase, Write::DeleteException { set, class: *class });
                }
            }
        }
    }
}

/// New rows before others, the longest prefix first.
fn new_rows_first(classes: &[ClassMove]) -> Vec<&ClassMove> {
    let mut ordered: Vec<&ClassMove> = classes.iter().collect();
    ordered.sort_by_key(|it| (it.row.is_some(), std::cmp::Reverse(it.prefix.prefix_len()), it.prefix));
    ordered
}

impl ClassMove {
    fn pair(&self) -> Pair {
        (self.from, self.end())
    }

    /// What its addresses shall be.
    fn end(&self) -> Option<ClassId> {
        self.to.or(self.heir)
    }
}
