//! Permitted connections, computed for all ports and all addresses at once, against single
//! questions to the naive evaluator.

use std::net::IpAddr;

use kilter_model::{Cluster, Event, Pod, Protocol, WorkloadRef};
use kilter_policy::Verdict;
use kilter_policy::naive::{Party, Query, evaluate};
use kilter_reach::{Connection, End, Options, connections};
use kilter_testkit::random as generate;
use proptest::collection::vec;
use proptest::prelude::*;

/// Where pods without an address may come to lie, for the test.
const PLACES: [&str; 4] = ["10.244.0.9", "10.244.0.200", "10.244.77.1", "10.244.0.2"];

/// A cluster in which every pod is a workload of its own, runs, and has one IPv4 address or none.
fn simple(events: Vec<Event>) -> Cluster {
    let mut cluster = Cluster::from_events(generate::nodes().into_iter().chain(events));
    let pods: Vec<Pod> = cluster.pods().cloned().collect();
    let mut taken = Vec::new();
    for mut pod in pods {
        pod.phase = kilter_model::PodPhase::Running;
        pod.host_network = false;
        pod.addresses.retain(IpAddr::is_ipv4);
        pod.addresses.truncate(1);
        pod.addresses.retain(|it| !taken.contains(it));
        taken.extend(pod.addresses.iter().copied());
        cluster.apply(Event::Pod(pod));
    }
    cluster
}

fn allowed(cluster: &Cluster, from: Party, to: Party, protocol: Protocol, port: u16) -> bool {
    evaluate(cluster, &Query { from, to, protocol: protocol.into(), port }).verdict() == Verdict::Allow
}

/// Whether a port is permitted: surely, and perhaps.
fn listed(all: &[Connection], from: &End, to: &End, protocol: Protocol, port: u16) -> (bool, bool) {
    let Some(found) = all.iter().find(|it| it.from == *from && it.to == *to) else { return (false, false) };
    let surely = found.ports.contains(protocol, port);
    (surely, surely || found.depends_on_address.contains(protocol, port))
}

fn outside(all: &[Connection], address: IpAddr, incoming: bool) -> Vec<End> {
    let ends = all.iter().map(|it| if incoming { &it.from } else { &it.to });
    let mut ends: Vec<End> = ends
        .filter(|end| matches!(end, End::External(it) if it.first <= address && address <= it.last))
        .cloned()
        .collect();
    ends.dedup();
    ends
}

fn end(owner: &WorkloadRef) -> End {
    End::Workload(owner.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn connections_are_what_single_questions_say(
        events in vec(generate::event(), 5..30),
        places in proptest::sample::subsequence(PLACES.to_vec(), 4).prop_shuffle(),
    ) {
        let cluster = simple(events);
        let mut complete = cluster.clone();
        // As the analysis does: a namespace that pods imply exists.
        for pod in cluster.pods().filter(|pod| cluster.namespace(&pod.name.namespace).is_none()) {
            let name = pod.name.namespace.clone();
            let labels = [("kubernetes.io/metadata.name".into(), name.clone())].into();
            complete.apply(Event::Namespace(kilter_model::Namespace {
                name,
                labels,
                origin: kilter_model::Origin::Builtin,
            }));
        }
        let all = connections(&cluster, &Options::default());
        let homeless: Vec<Pod> = cluster.pods().filter(|pod| pod.addresses.is_empty()).cloned().collect();
        for (mut pod, place) in homeless.into_iter().zip(places) {
            let place = place.parse().unwrap();
            if complete.pod_by_address(place).is_none() {
                pod.addresses = vec![place];
                complete.apply(Event::Pod(pod));
            }
        }
        let placed: Vec<&Pod> = complete.pods().filter(|pod| !pod.addresses.is_empty()).collect();
        for from in &placed {
            for to in placed.iter().filter(|it| it.uid != from.uid) {
                for protocol in Protocol::ALL {
                    for port in &generate::PORTS[1..] {
                        let ends = (Party::Pod(from.uid.clone()), Party::Pod(to.uid.clone()));
                        let is = allowed(&complete, ends.0, ends.1, protocol, *port);
                        let (surely, perhaps) =
                            listed(&all, &end(&from.owner), &end(&to.owner), protocol, *port);
                        prop_assert!(surely <= is && is <= perhaps, "{} {} {protocol} {port}", from.name, to.name);
                        let known = |pod: &Pod| cluster.pod(&pod.uid).is_some_and(|it| !it.addresses.is_empty());
                        if known(from) && known(to) {
                            prop_assert_eq!(surely, perhaps);
                        }
                    }
                }
            }
        }
        for (pod, address) in placed.iter().flat_map(|pod| ["8.8.8.8", "10.1.2.3"].map(|it| (pod, it))) {
            let address: IpAddr = address.parse().unwrap();
            for protocol in Protocol::ALL {
                for port in &generate::PORTS[1..] {
                    let (this, that) = (Party::Pod(pod.uid.clone()), Party::Address(address));
                    let is = allowed(&complete, this.clone(), that.clone(), protocol, *port);
                    let mut found = outside(&all, address, false).into_iter();
                    let listed_out = found.any(|to| listed(&all, &end(&pod.owner), &to, protocol, *port).0);
                    prop_assert_eq!(is, listed_out, "{} to {} {} {}", pod.name, address, protocol, port);
                    let is = allowed(&complete, that, this, protocol, *port);
                    let mut found = outside(&all, address, true).into_iter();
                    let listed_in = found.any(|from| listed(&all, &from, &end(&pod.owner), protocol, *port).0);
                    prop_assert_eq!(is, listed_in, "{} from {} {} {}", pod.name, address, protocol, port);
                }
            }
        }
    }
}
