//! Policy that changes under live connections: what it forbids ends, what it permits works, and
//! nothing else notices. Across nodes and on one, TCP and UDP, both ends' rules.

mod support;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use kilter_testkit::{wait_for, wait_until};
use serde_json::{Value, json};
use support::Twin;
use support::pod::{InPod, Tcp, Udp};

/// How long the machine may take for what should be there at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Without an answer for so long, datagrams are refused. They are sent every few milliseconds.
const SILENCE: Duration = Duration::from_secs(1);

/// Two clients and two servers, one of each on each node.
const PODS: [(&str, &str, &str); 4] =
    [("one", "client", "node-1"), ("two", "client", "node-2"), ("near", "server", "node-1"), ("far", "server", "node-2")];

/// Who talks to whom all the time.
const PAIRS: [Pair; 6] =
    [("one", "near"), ("one", "far"), ("two", "near"), ("two", "far"), ("near", "one"), ("far", "two")];

type Pair = (&'static str, &'static str);

fn manifests() -> String {
    let mut text = String::from("apiVersion: v1\nkind: Namespace\nmetadata: {name: live}\n");
    for (name, role, node) in PODS {
        text += &format!(
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, namespace: live, labels: {{app: {name}, role: {role}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: c, image: stand-in}}]}}\n"
        );
    }
    text
}

fn policy(name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "live"});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

/// Servers may be reached by `one` alone.
fn only_one_enters() -> Value {
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": "one"}}}]});
    let servers = json!({"matchLabels": {"role": "server"}});
    policy("ingress", json!({"podSelector": servers, "policyTypes": ["Ingress"], "ingress": [rule]}))
}

/// `one` may reach `near` alone.
fn one_leaves_for_near() -> Value {
    let rule = json!({"to": [{"podSelector": {"matchLabels": {"app": "near"}}}]});
    let one = json!({"matchLabels": {"app": "one"}});
    policy("egress", json!({"podSelector": one, "policyTypes": ["Egress"], "egress": [rule]}))
}

/// A connection of each protocol between two pods.
struct Busy {
    tcp: Tcp,
    udp: Udp,
    /// The first datagram for which an answer is due.
    since: u64,
}

struct World {
    twin: Twin,
    runtime: tokio::runtime::Runtime,
    client: kilter_cluster::Client,
    pods: BTreeMap<&'static str, InPod>,
    busy: BTreeMap<Pair, Busy>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("pods.yaml");
        std::fs::write(&source, manifests()).unwrap();
        let twin = Twin::named("revocation");
        twin.up(&[&source]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let client = runtime.block_on(kilter_cluster::connect(&kilter_twin::Layout::new(&twin.name).admin_kubeconfig())).unwrap();
        let pods: BTreeMap<_, _> = PODS.iter().map(|(name, ..)| (*name, twin.pod("live", name))).collect();
        let mut busy = BTreeMap::new();
        for (port, (from, to)) in (7000..).zip(PAIRS) {
            let (client, server) = (&pods[from], &pods[to]);
            let tcp = client.tcp(server, port, PATIENCE).unwrap();
            busy.insert((from, to), Busy { tcp, udp: client.udp(server, port).unwrap(), since: 0 });
        }
        let world = Self { twin, runtime, client, pods, busy };
        world.all_go_on(&[]);
        world
    }

    /// Applies a policy; the time at which the API was asked.
    fn apply(&self, policy: Value) -> Instant {
        let began = Instant::now();
        let applied = self.runtime.block_on(kilter_cluster::apply(&self.client, &[policy])).unwrap();
        assert!(applied.iter().all(Result::is_ok), "{applied:?}");
        began
    }

    fn delete(&self, policies: &[Value]) -> Instant {
        let began = Instant::now();
        let deleted = self.runtime.block_on(kilter_cluster::delete(&self.client, policies)).unwrap();
        deleted.into_iter().for_each(|outcome| outcome.unwrap());
        began
    }

    /// Waits until everything but these pairs has gone to and fro some more, with no byte and no
    /// datagram lost on the way.
    fn all_go_on(&self, but: &[Pair]) {
        let others: Vec<_> = self.busy.iter().filter(|(pair, _)| !but.contains(pair)).collect();
        let before: Vec<(u64, u64)> = others.iter().map(|(_, it)| (it.tcp.echoed(), it.udp.sent())).collect();
        for ((pair, busy), (bytes, datagrams)) in others.iter().zip(before) {
            let what = format!("{pair:?}: bytes come back");
            wait_until(PATIENCE, &what, || busy.tcp.is_disturbed() || busy.tcp.echoed() >= bytes + 20 * 64);
            assert!(!busy.tcp.is_disturbed(), "{pair:?} was disturbed: {:?}", busy.tcp.ended());
            let what = format!("{pair:?}: every datagram is answered");
            wait_until(PATIENCE, &what, || busy.udp.sent() > datagrams);
            wait_until(PATIENCE, &what, || busy.udp.all_answered(datagrams, busy.since));
        }
    }

    /// Waits until these pairs' connections have ended: TCP by a reset at both ends, datagrams by
    /// silence. Returns how long each took since then.
    fn end(&self, pairs: &[Pair], began: Instant) -> (Duration, Duration) {
        let (mut tcp, mut udp) = (Duration::ZERO, Duration::ZERO);
        for pair in pairs {
            let busy = &self.busy[pair];
            let (at, ends) = wait_for(PATIENCE, &format!("TCP {pair:?} ends at both ends"), || busy.tcp.ended());
            let is_reset = |end: &ErrorKind| matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
            assert!(ends.iter().all(is_reset), "{pair:?} ended otherwise than by a reset: {ends:?}");
            tcp = tcp.max(at.saturating_duration_since(began));
            let what = format!("UDP {pair:?} falls silent");
            let last = wait_for(PATIENCE, &what, || busy.udp.silent_since(SILENCE));
            udp = udp.max(last.saturating_duration_since(began));
        }
        (tcp, udp)
    }

    /// New connections of these pairs open, and their datagrams come through again.
    fn open(&mut self, pairs: &[Pair], began: Instant) -> (Duration, Duration) {
        let (mut tcp, mut udp) = (Duration::ZERO, Duration::ZERO);
        for (port, pair) in (8000..).zip(pairs) {
            let (client, server) = (&self.pods[pair.0], &self.pods[pair.1]);
            // A SYN that is refused is sent again after a second only.
            let attempt = Duration::from_millis(20);
            let opened = wait_for(PATIENCE, &format!("{pair:?} may connect"), || client.tcp(server, port, attempt).ok());
            tcp = tcp.max(began.elapsed());
            let busy = self.busy.get_mut(pair).unwrap();
            busy.tcp = opened;
            let what = format!("UDP {pair:?} is answered again");
            wait_until(PATIENCE, &what, || busy.udp.silent_since(SILENCE).is_none());
            udp = udp.max(began.elapsed());
            busy.since = busy.udp.sent();
        }
        (tcp, udp)
    }
}

#[test]
fn trap_14_what_a_change_forbids_ends_and_nothing_else_notices() {
    let mut world = World::new();
    let by_ingress = [("two", "near"), ("two", "far")];
    let began = world.apply(only_one_enters());
    let (tcp, udp) = world.end(&by_ingress, began);
    println!("since the API was asked: TCP into the servers reset at both ends after {tcp:?}, UDP silent after {udp:?}");
    world.all_go_on(&by_ingress);
    world.twin.prove();

    let all = [by_ingress[0], by_ingress[1], ("one", "far")];
    let began = world.apply(one_leaves_for_near());
    let (tcp, udp) = world.end(&all[2..], began);
    println!("TCP out of a client reset at both ends after {tcp:?}, UDP silent after {udp:?}");
    world.all_go_on(&all);
    world.twin.prove();

    let began = world.delete(&[only_one_enters(), one_leaves_for_near()]);
    let (tcp, udp) = world.open(&all, began);
    println!("permitted again: TCP connected after {tcp:?}, UDP answered after {udp:?}");
    world.all_go_on(&[]);
    world.twin.verify();
}
