//! From the rows that the kernel holds to the rows it should hold, as a plan.
//!
//! The compilers say how to get from one of their states to the next. That is no help where the kernel
//! holds something else: after a restart (their ids start anew) or after a write that failed.

use std::collections::{BTreeMap, BTreeSet};

use kilter_policy::{self as policy, ClassId, Write as P};
use kilter_services::{self as services, Write as S};

/// Policy rows, make-before-break. Sets that are new also learn the classes that addresses still have,
/// so that whoever is judged half way is judged as at the end.
pub fn policy(loaded: &policy::Tables, wanted: &policy::Tables) -> policy::Plan {
    let mut plan = policy::Plan::default();
    let moves = class_moves(loaded, wanted);
    let mut bridges = Vec::new();
    for (set, content) in &wanted.sets {
        let before = loaded.sets.get(set);
        if before.is_none_or(|before| before.default != content.default) {
            plan.prepare.push(P::PutSet { set: *set, default: content.default });
        }
        for (class, decision) in &content.exceptions {
            if before.and_then(|b| b.exceptions.get(class)) != Some(decision) {
                plan.prepare.push(P::PutException { set: *set, class: *class, decision: *decision });
            }
        }
        for (old, new) in moves.iter().filter(|_| before.is_none()) {
            let known = content.exceptions.contains_key(old);
            if let (Some(decision), false) = (content.exceptions.get(new), known) {
                plan.prepare.push(P::PutException { set: *set, class: *old, decision: *decision });
                bridges.push(P::DeleteException { set: *set, class: *old });
            }
        }
    }
    put_missing(&mut plan.prepare, &loaded.intervals, &wanted.intervals, |interval, set| P::PutInterval {
        interval,
        set,
    });
    put_missing(&mut plan.switch, &loaded.postures, &wanted.postures, |address, posture| P::PutPosture {
        address,
        posture,
    });
    put_missing(&mut plan.switch, &loaded.classes, &wanted.classes, |prefix, class| P::PutClass {
        prefix,
        class,
    });
    delete_rest(&mut plan.switch, &loaded.postures, &wanted.postures, |address| P::DeletePosture { address });
    delete_rest(&mut plan.switch, &loaded.classes, &wanted.classes, |prefix| P::DeleteClass { prefix });
    plan.retire = bridges;
    delete_rest(&mut plan.retire, &loaded.intervals, &wanted.intervals, |interval| P::DeleteInterval {
        interval,
    });
    for (set, content) in &loaded.sets {
        match wanted.sets.get(set) {
            None => plan.retire.push(P::DeleteSet { set: *set }),
            Some(after) => delete_rest(&mut plan.retire, &content.exceptions, &after.exceptions, |class| {
                P::DeleteException { set: *set, class }
            }),
        }
    }
    plan
}

/// Service rows: backends, then frontends, then what is left over.
pub fn services(loaded: &services::Tables, wanted: &services::Tables) -> services::Plan {
    let mut plan = services::Plan::default();
    put_missing(&mut plan.prepare, &loaded.backends, &wanted.backends, |(revision, slot), backend| {
        S::PutBackend { revision, slot, backend }
    });
    put_missing(&mut plan.prepare, &loaded.chunks, &wanted.chunks, |(revision, chunk), slots| S::PutChunk {
        revision,
        chunk,
        slots,
    });
    let missing = wanted.sources.difference(&loaded.sources);
    plan.prepare.extend(missing.map(|&(revision, range)| S::PutSource { revision, range }));
    put_missing(&mut plan.switch, &loaded.frontends, &wanted.frontends, |frontend, row| S::PutFrontend {
        frontend,
        row,
    });
    delete_rest(&mut plan.switch, &loaded.frontends, &wanted.frontends, |frontend| S::DeleteFrontend {
        frontend,
    });
    delete_rest(&mut plan.retire, &loaded.backends, &wanted.backends, |(revision, slot)| S::DeleteBackend {
        revision,
        slot,
    });
    delete_rest(&mut plan.retire, &loaded.chunks, &wanted.chunks, |(revision, chunk)| S::DeleteChunk {
        revision,
        chunk,
    });
    let rest = loaded.sources.difference(&wanted.sources);
    plan.retire.extend(rest.map(|&(revision, range)| S::DeleteSource { revision, range }));
    plan
}

/// Which class becomes which, where all addresses of the old one agree.
fn class_moves(loaded: &policy::Tables, wanted: &policy::Tables) -> BTreeMap<ClassId, ClassId> {
    let mut moves = BTreeMap::new();
    let mut torn = BTreeSet::new();
    for (prefix, old) in &loaded.classes {
        let Some(new) = wanted.classes.get(prefix) else { continue };
        if *moves.entry(*old).or_insert(*new) != *new {
            torn.insert(*old);
        }
    }
    moves.retain(|old, new| old != new && !torn.contains(old));
    moves
}

fn put_missing<K: Ord + Copy, V: PartialEq + Copy, W>(
    writes: &mut Vec<W>,
    loaded: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    put: impl Fn(K, V) -> W,
) {
    writes.extend(
        wanted.iter().filter(|(key, value)| loaded.get(key) != Some(value)).map(|(k, v)| put(*k, *v)),
    );
}

fn delete_rest<K: Ord + Copy, V, W>(
    writes: &mut Vec<W>,
    loaded: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    delete: impl Fn(K) -> W,
) {
    writes.extend(loaded.keys().filter(|key| !wanted.contains_key(key)).map(|key| delete(*key)));
}

#[cfg(test)]
mod tests {
    use kilter_model::{Direction, PortRange};
    use kilter_policy::{
        Decision, DecisionSet, Interval, PostureId, ProtocolClass, RuleId, SetId, Tables, Verdict,
    };

    use super::*;

    fn decision(verdict: Verdict) -> Decision {
        Decision { verdict, rule: RuleId(1) }
    }

    /// Two pods; the first may be reached from the second and from nobody else. Ids start at `base`.
    fn tables(base: u32) -> Tables {
        let mut tables = Tables::default();
        let (posture, set) = (PostureId(base + 1), SetId(base + 1));
        for (address, class) in [("10.0.0.1/32", 1), ("10.0.0.2/32", 2), ("0.0.0.0/0", 3)] {
            tables.classes.insert(address.parse().unwrap(), ClassId(base + class));
        }
        tables.postures.insert("10.0.0.1".parse().unwrap(), posture);
        let (direction, protocol, ports) = (Direction::Ingress, ProtocolClass::Tcp, PortRange::ALL);
        tables.intervals.insert(Interval { posture, direction, protocol, ports }, set);
        let exceptions = [(ClassId(base + 2), decision(Verdict::Allow))].into();
        tables.sets.insert(set, DecisionSet { default: decision(Verdict::Deny), exceptions });
        tables
    }

    /// What a packet from `from` to the first pod meets.
    fn judge(tables: &Tables, from: &str) -> Verdict {
        let class = tables.classes[&from.parse().unwrap()];
        let posture = tables.postures[&"10.0.0.1".parse::<std::net::IpAddr>().unwrap()];
        let set = tables.intervals.iter().find(|(interval, _)| interval.posture == posture).unwrap().1;
        tables.sets[set].decide(class).verdict
    }

    #[test]
    fn the_plan_leads_from_any_state_to_the_wanted_one() {
        let other = Tables { sets: tables(7).sets, ..tables(0) };
        for (from, to) in [
            (Tables::default(), tables(0)),
            (tables(0), Tables::default()),
            (tables(0), tables(50)),
            (other, tables(0)),
        ] {
            let mut state = from.clone();
            for write in policy(&from, &to).writes() {
                state.apply(write);
            }
            assert_eq!(state, to);
        }
        assert!(policy(&tables(3), &tables(3)).is_empty());
    }

    #[test]
    fn after_a_restart_with_new_ids_every_packet_on_the_way_is_judged_as_before() {
        let (old, new) = (tables(0), tables(50));
        let mut state = old.clone();
        for write in policy(&old, &new).writes() {
            state.apply(write);
            assert_eq!(judge(&state, "10.0.0.2/32"), Verdict::Allow, "after {write:?}");
            assert_eq!(judge(&state, "0.0.0.0/0"), Verdict::Deny, "after {write:?}");
        }
    }
}
