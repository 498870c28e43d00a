//! After every single write of a plan, every verdict is the old one or the new one.

use std::net::IpAddr;

use kilter_model::{Cluster, Direction};
use kilter_policy::{
    ClassId, Compiler, Decision, DecisionSet, Interval, PostureId, ProtocolClass, RuleId, SetId, Tables,
    Verdict,
};
use kilter_reach::interpreter::{class, interval};
use kilter_testkit::random as generate;
use proptest::collection::vec;
use proptest::prelude::*;

const ASKED: [(ProtocolClass, u16); 5] = [
    (ProtocolClass::Tcp, 80),
    (ProtocolClass::Tcp, 8080),
    (ProtocolClass::Udp, 53),
    (ProtocolClass::Sctp, 65535),
    (ProtocolClass::Other, 0),
];

/// The verdicts of all (pod, peer, direction, port), in a fixed order.
fn verdicts(tables: &Tables) -> Vec<Verdict> {
    let addresses = generate::addresses();
    let classes: Vec<_> = addresses.iter().map(|it| class(tables, *it)).collect();
    let mut verdicts = Vec::new();
    for pod in generate::POD_ADDRESSES {
        let posture = tables.postures.get(&pod.parse::<IpAddr>().unwrap()).copied();
        for direction in [Direction::Ingress, Direction::Egress] {
            for (protocol, port) in ASKED {
                let set = posture.and_then(|it| interval(tables, it, direction, protocol, port));
                let set = set.and_then(|it| tables.sets.get(&it));
                verdicts.extend(classes.iter().map(|class| match (set, class) {
                    (Some(set), Some(class)) => set.decide(*class).verdict,
                    _ => Verdict::Deny,
                }));
            }
        }
    }
    verdicts
}

fn check_plan(tables: &mut Tables, plan: &kilter_policy::Plan) -> Result<(), TestCaseError> {
    let old = verdicts(tables);
    let mut end = tables.clone();
    plan.writes().for_each(|write| end.apply(write));
    let new = verdicts(&end);
    for (number, write) in plan.writes().enumerate() {
        tables.apply(write);
        for (at, now) in verdicts(tables).into_iter().enumerate() {
            prop_assert!(
                now == old[at] || now == new[at],
                "question {at}: {:?} -> {:?}, but {now:?} after write {number}, {write:?}, of {plan:#?}",
                old[at],
                new[at]
            );
        }
    }
    Ok(())
}

/// A compiler that finds rows, under ids that are not its own, brings them to `after`. It writes
/// nothing if they are right already.
pub fn check_resumed(after: &Cluster, found: &Tables, unchanged: bool) -> Result<(), TestCaseError> {
    let mut loaded = found.clone();
    let mut compiler = Compiler::resume(crate::config(), loaded.clone());
    let plan = compiler.update(after, &[]);
    if unchanged {
        prop_assert!(plan.is_empty(), "{plan:?}");
    }
    check_plan(&mut loaded, &plan)?;
    loaded.rules = compiler.tables().rules.clone();
    prop_assert_eq!(&loaded, compiler.tables());
    crate::check_tidy(&loaded)?;
    crate::check(after, &loaded)?;
    prop_assert_eq!(crate::content(&loaded), crate::content(&crate::compile(after)));
    Ok(())
}

/// The same rows under other ids, so that equal ids are no accident.
pub fn renumbered(tables: Tables) -> Tables {
    let class = |it: ClassId| ClassId(1000 - it.0);
    let set = |it: SetId| SetId(2000 - it.0);
    let posture = |it: PostureId| PostureId(3000 - it.0);
    let decision = |it: Decision| Decision { rule: RuleId(4000 - it.rule.0), ..it };
    Tables {
        classes: tables.classes.into_iter().map(|(k, v)| (k, class(v))).collect(),
        postures: tables.postures.into_iter().map(|(k, v)| (k, posture(v))).collect(),
        intervals: (tables.intervals.into_iter())
            .map(|(k, v)| (Interval { posture: posture(k.posture), ..k }, set(v)))
            .collect(),
        sets: (tables.sets.into_iter())
            .map(|(k, v)| {
                let exceptions = v.exceptions.into_iter().map(|(k, v)| (class(k), decision(v))).collect();
                (set(k), DecisionSet { default: decision(v.default), exceptions })
            })
            .collect(),
        rules: Default::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_write_makes_a_third_verdict(
        start in vec(generate::event(), 10..30),
        batches in vec(vec(generate::event(), 1..4), 1..4),
    ) {
        let mut cluster = Cluster::from_events(generate::nodes().into_iter().chain(start));
        let mut compiler = crate::compiler();
        let mut tables = Tables::default();
        check_plan(&mut tables, &compiler.update(&cluster, &[]))?;
        for batch in batches {
            let changes = crate::apply(&mut cluster, batch);
            check_plan(&mut tables, &compiler.update(&cluster, &changes))?;
        }
    }
}
