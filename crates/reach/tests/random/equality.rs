//! Rows compared for all packets at once, against the same rows asked packet by packet.

use std::net::IpAddr;

use kilter_model::{Cluster, Direction, Event};
use kilter_policy::{ProtocolClass, Tables, Verdict, Write};
use kilter_reach::equality::compare;
use kilter_reach::interpreter::{Probe, decide, verdict};
use kilter_reach::rows::{from_wire, to_wire};
use kilter_testkit::random as generate;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::torn::renumbered;

/// Every packet between addresses that random clusters know.
fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    for pod in generate::POD_ADDRESSES.map(|it| it.parse::<IpAddr>().unwrap()) {
        for peer in generate::addresses().into_iter().filter(|peer| peer.is_ipv4() == pod.is_ipv4()) {
            for direction in [Direction::Ingress, Direction::Egress] {
                for protocol in ProtocolClass::ALL {
                    let ports: &[u16] = if protocol == ProtocolClass::Other { &[0] } else { &generate::PORTS };
                    probes.extend(ports.iter().map(|port| Probe { pod, peer, direction, protocol, port: *port }));
                }
            }
        }
    }
    probes
}

/// Every way to spoil one row.
fn sabotages(tables: &Tables) -> Vec<Write> {
    let mut writes: Vec<Write> = Vec::new();
    writes.extend(tables.classes.keys().map(|prefix| Write::DeleteClass { prefix: *prefix }));
    writes.extend(tables.postures.keys().map(|address| Write::DeletePosture { address: *address }));
    writes.extend(tables.intervals.keys().map(|interval| Write::DeleteInterval { interval: *interval }));
    for (set, content) in &tables.sets {
        let (set, mut default) = (*set, content.default);
        default.verdict = flipped(default.verdict);
        writes.extend([Write::DeleteSet { set }, Write::PutSet { set, default }]);
        for (class, decision) in &content.exceptions {
            let mut decision = *decision;
            decision.verdict = flipped(decision.verdict);
            writes.push(Write::DeleteException { set, class: *class });
            writes.push(Write::PutException { set, class: *class, decision });
        }
    }
    let sets: Vec<_> = tables.sets.keys().copied().collect();
    for (interval, set) in &tables.intervals {
        let other = sets.iter().find(|it| *it != set);
        writes.extend(other.map(|set| Write::PutInterval { interval: *interval, set: *set }));
    }
    let classes: Vec<_> = tables.classes.values().copied().collect();
    for (prefix, class) in &tables.classes {
        let other = classes.iter().find(|it| *it != class);
        writes.extend(other.map(|class| Write::PutClass { prefix: *prefix, class: *class }));
    }
    writes
}

fn flipped(verdict: Verdict) -> Verdict {
    if verdict.is_allow() { Verdict::Deny } else { Verdict::Allow }
}

fn rows(events: Vec<Event>) -> Tables {
    crate::compile(&Cluster::from_events(generate::nodes().into_iter().chain(events)))
}

fn without_rules(tables: Tables) -> Tables {
    Tables { rules: Default::default(), ..tables }
}

/// What is reported is true, and what packets meet is reported.
fn check(wanted: &Tables, loaded: &Tables) -> Result<(), TestCaseError> {
    let found = compare(wanted, loaded);
    for difference in &found.differences {
        for pod in &difference.pods {
            for port in [difference.ports.first, difference.ports.last] {
                let probe = Probe { pod: *pod, port, ..difference.probe };
                prop_assert_eq!(decide(wanted, &probe), difference.wanted, "{:?}", probe);
                prop_assert_eq!(decide(loaded, &probe), difference.loaded, "{:?}", probe);
            }
        }
    }
    let differ = |it: &Probe| verdict(wanted, it) != verdict(loaded, it);
    if let Some(probe) = probes().into_iter().find(differ) {
        prop_assert!(found.differences.iter().any(|it| it.is_of_verdict()), "not found: {probe:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn rows_are_equal_under_any_ids(events in vec(generate::event(), 5..40)) {
        let wanted = rows(events);
        let found = compare(&wanted, &renumbered(without_rules(wanted.clone())));
        prop_assert_eq!(found.differences, []);
        let travelled = from_wire(&to_wire(&wanted));
        prop_assert_eq!(travelled, Some(without_rules(wanted)));
    }

    #[test]
    fn a_spoilt_row_is_found_where_packets_meet_it(
        events in vec(generate::event(), 10..40),
        which in vec(any::<Index>(), 4),
    ) {
        let wanted = rows(events);
        let sabotages = sabotages(&wanted);
        prop_assume!(!sabotages.is_empty());
        for which in which {
            let mut loaded = without_rules(wanted.clone());
            loaded.apply(which.get(&sabotages));
            check(&wanted, &renumbered(loaded))?;
        }
    }

    #[test]
    fn two_clusters_are_told_apart(
        events in vec(generate::event(), 5..40),
        more in vec(generate::event(), 1..4),
    ) {
        let wanted = rows(events.clone());
        let loaded = rows(events.into_iter().chain(more).collect());
        check(&wanted, &renumbered(without_rules(loaded)))?;
    }
}
