//! Random clusters: compiled rows, read by the interpreter, against the naive evaluator.

mod equality;
mod symbolic;
mod torn;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kilter_model::{Cluster, Direction, Event, PortRange};
use kilter_policy::naive::{Party, Query, Side, evaluate_within, holder};
use kilter_policy::{ClassId, Compiler, Config, Decision, ProtocolClass, Reason, Tables, Verdict};
use kilter_reach::interpreter::{Probe, decide};
use kilter_testkit::random as generate;
use proptest::collection::vec;
use proptest::prelude::*;

fn pod_cidrs() -> Vec<IpNet> {
    vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()]
}

fn config() -> Config {
    Config { node: generate::NODES[0].into(), pod_cidrs: pod_cidrs() }
}

fn compiler() -> Compiler {
    Compiler::new(config())
}

fn compile(cluster: &Cluster) -> Tables {
    let mut compiler = compiler();
    compiler.update(cluster, &[]);
    compiler.tables().clone()
}

/// Addresses of pods of the compiled node.
fn locals(cluster: &Cluster) -> Vec<IpAddr> {
    let is_local =
        |it: &IpAddr| holder(cluster, *it).is_some_and(|pod| pod.node.as_deref() == Some(generate::NODES[0]));
    generate::addresses().into_iter().filter(is_local).collect()
}

/// Every question that rows of the node must answer, with the naive answer for the pod's side.
fn questions(cluster: &Cluster) -> Vec<(Probe, Side)> {
    let mut questions = Vec::new();
    for pod in locals(cluster) {
        for peer in generate::addresses() {
            for direction in [Direction::Ingress, Direction::Egress] {
                for protocol in ProtocolClass::ALL {
                    for port in generate::PORTS {
                        let probe = Probe { pod, peer, direction, protocol, port };
                        questions.extend(naive(cluster, &probe).map(|side| (probe, side)));
                    }
                }
            }
        }
    }
    questions
}

/// The naive answer; `None` where rows are not asked: within one pod, and from the own node.
fn naive(cluster: &Cluster, probe: &Probe) -> Option<Side> {
    let (pod, peer) = (Party::Address(probe.pod), Party::Address(probe.peer));
    let (from, to) = if probe.direction == Direction::Egress { (pod, peer) } else { (peer, pod) };
    let query = Query { from, to, protocol: probe.protocol, port: probe.port };
    let answer = evaluate_within(cluster, &pod_cidrs(), &query);
    let side = if probe.direction == Direction::Egress { answer.egress } else { answer.ingress };
    (!matches!(side.reason, Reason::Itself | Reason::OwnNode)).then_some(side)
}

/// Whether both give the same kind of reason, and name the same policies where they are isolated.
fn alike(decided: &Reason, asked: &Reason) -> bool {
    match (decided, asked) {
        (
            Reason::Isolated { direction: a, policies: p, .. },
            Reason::Isolated { direction: b, policies: q, .. },
        ) => (a, p) == (b, q),
        (Reason::Allowed { direction: a, .. }, Reason::Allowed { direction: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

fn check(cluster: &Cluster, tables: &Tables) -> Result<(), TestCaseError> {
    for (probe, side) in questions(cluster) {
        let decision = decide(tables, &probe);
        let verdict = decision.map_or(Verdict::Deny, |it| it.verdict);
        prop_assert_eq!(verdict, side.verdict, "{:?}: {}", probe, side.reason);
        let decision = decision.map_err(|it| TestCaseError::fail(format!("{probe:?}: no {it:?}")))?;
        let reason = tables.rules.get(&decision.rule);
        prop_assert!(
            reason.is_some_and(|it| alike(it, &side.reason)),
            "{:?}: {:?} {}",
            probe,
            reason,
            side.reason
        );
    }
    Ok(())
}

/// Nothing that nothing refers to, no gap in a posture's ports.
fn check_tidy(tables: &Tables) -> Result<(), TestCaseError> {
    let postures: BTreeSet<_> = tables.postures.values().copied().collect();
    let classes: BTreeSet<_> = tables.classes.values().copied().collect();
    let sets: BTreeSet<_> = tables.intervals.values().copied().collect();
    prop_assert_eq!(&sets, &tables.sets.keys().copied().collect::<BTreeSet<_>>());
    prop_assert_eq!(&postures, &tables.intervals.keys().map(|it| it.posture).collect::<BTreeSet<_>>());
    for set in tables.sets.values() {
        for (class, decision) in &set.exceptions {
            prop_assert!(classes.contains(class), "exception for {class}, which no address has");
            prop_assert_ne!(*decision, set.default);
        }
    }
    let mut next: BTreeMap<_, u32> = BTreeMap::new();
    for interval in tables.intervals.keys() {
        let expected = next.entry((interval.posture, interval.direction, interval.protocol)).or_default();
        prop_assert_eq!(*expected, u32::from(interval.ports.first));
        *expected = u32::from(interval.ports.last) + 1;
    }
    prop_assert_eq!(next.len(), postures.len() * 8);
    prop_assert!(next.values().all(|it| *it == 65536));
    Ok(())
}

/// One row of a posture with its set written out.
type Row = (Direction, ProtocolClass, PortRange, Reason, Vec<(ClassId, Reason)>);

/// Tables without their ids: classes numbered by address, postures written out, rules by reason.
fn content(tables: &Tables) -> (Vec<(String, ClassId)>, BTreeMap<IpAddr, Vec<Row>>) {
    let mut numbers = BTreeMap::new();
    let mut number = |class: &ClassId| {
        let next = ClassId(u32::try_from(numbers.len()).unwrap());
        *numbers.entry(*class).or_insert(next)
    };
    let classes: Vec<_> =
        tables.classes.iter().map(|(prefix, id)| (prefix.to_string(), number(id))).collect();
    let reason = |decision: &Decision| tables.rules[&decision.rule].clone();
    let mut rows = |posture| {
        let of = tables.intervals.iter().filter(|(it, _)| it.posture == posture);
        of.map(|(it, set)| {
            let set = &tables.sets[set];
            let mut exceptions: Vec<_> = set.exceptions.iter().map(|(c, d)| (number(c), reason(d))).collect();
            exceptions.sort();
            (it.direction, it.protocol, it.ports, reason(&set.default), exceptions)
        })
        .collect::<Vec<_>>()
    };
    let postures = tables.postures.iter().map(|(address, posture)| (*address, rows(*posture))).collect();
    (classes, postures)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn rows_decide_as_the_rules_do(events in vec(generate::event(), 0..30)) {
        let cluster = Cluster::from_events(generate::nodes().into_iter().chain(events));
        let tables = compile(&cluster);
        check(&cluster, &tables)?;
        check_tidy(&tables)?;
    }

    #[test]
    fn updates_lead_to_the_same_rows_as_compiling_anew(
        batches in vec(vec(generate::event(), 1..4), 1..14),
    ) {
        let mut cluster = Cluster::from_events(generate::nodes());
        let (mut compiler, mut written) = (compiler(), Tables::default());
        for batch in batches {
            let changes: Vec<_> = batch.into_iter().filter_map(|event| cluster.apply(event)).collect();
            let plan = compiler.update(&cluster, &changes);
            plan.writes().for_each(|write| written.apply(write));
            written.rules = compiler.tables().rules.clone();
            prop_assert_eq!(&written, compiler.tables());
            check_tidy(&written)?;
            prop_assert_eq!(content(&written), content(&compile(&cluster)));
        }
        check(&cluster, &written)?;
    }

    #[test]
    fn what_is_unchanged_keeps_its_ids(
        events in vec(generate::event(), 5..30),
        more in vec(generate::event(), 1..4),
    ) {
        let before = Cluster::from_events(generate::nodes().into_iter().chain(events));
        let mut compiler = compiler();
        compiler.update(&before, &[]);
        let tables = compiler.tables().clone();
        let mut after = before.clone();
        let changes: Vec<_> = more.into_iter().filter_map(|event| after.apply(event)).collect();
        compiler.update(&after, &changes);
        // The same changes undone and done again, told as one batch: nothing has changed.
        let mut now = compiler.tables().clone();
        prop_assert!(compiler.update(&after, &changes).is_empty());
        now.rules = compiler.tables().rules.clone();
        prop_assert_eq!(compiler.tables(), &now);
        if changes.iter().all(|it| matches!(it, kilter_model::Change::Pod(..))) {
            for (address, posture) in &now.postures {
                let same = tables.postures.get(address).is_some_and(|it| rows_equal(&tables, *it, &now, *posture));
                if same {
                    prop_assert_eq!(tables.postures.get(address), Some(posture));
                }
            }
        }
    }

    #[test]
    fn found_rows_are_replaced_by_the_same_content(
        events in vec(generate::event(), 5..30),
        more in vec(generate::event(), 0..4),
        intact in proptest::bool::weighted(0.8),
    ) {
        let before = Cluster::from_events(generate::nodes().into_iter().chain(events));
        let mut found = compile(&before);
        if !intact {
            found.classes.clear();
        }
        let mut after = before.clone();
        for event in more {
            after.apply(event);
        }
        let unchanged = intact && before == after;
        torn::check_resumed(&after, &torn::renumbered(found), unchanged)?;
    }
}

/// Whether two postures have the very same rows, sets by id.
fn rows_equal(a: &Tables, p: kilter_policy::PostureId, b: &Tables, q: kilter_policy::PostureId) -> bool {
    let rows = |tables: &Tables, posture| {
        let of = tables.intervals.iter().filter(move |(it, _)| it.posture == posture);
        of.map(|(it, set)| (it.direction, it.protocol, it.ports, *set)).collect::<Vec<_>>()
    };
    rows(a, p) == rows(b, q)
}

/// Applies a batch and returns what changed.
fn apply(cluster: &mut Cluster, batch: Vec<Event>) -> Vec<kilter_model::Change> {
    batch.into_iter().filter_map(|event| cluster.apply(event)).collect()
}
