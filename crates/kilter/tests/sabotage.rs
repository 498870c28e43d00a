//! What somebody does to a node by hand, `kilter prove` names. An agent mends nothing while it runs:
//! what is its own to set, its next start sets again.

mod support;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use kilter_netlink::{Family, Masquerade, sysctl};
use kilter_netns::NetNs;
use kilter_testkit::{Intruder, cgroup2_root, wait_until};
use kilter_twin::Layout;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Twin, describe, example};

const NODE: &str = "node-1";
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of two instructions that lets everything pass, as `tc` takes it.
const FOREIGN: &str = "1,6 0 0 4294967295";

struct World {
    twin: Twin,
    layout: Layout,
    /// The node's side of the link of `shop/cart`'s pod, and that pod's addresses.
    link: String,
    addresses: Vec<String>,
}

impl World {
    fn new() -> Self {
        let twin = Twin::named("sabotage");
        let shop = example("shop");
        let output = twin.kilter(&["up", "--ip-family", "dual", "-f", shop.to_str().unwrap()]);
        assert!(output.status.success(), "kilter up: {}\n{}", describe(&output), twin.logs());
        let layout = Layout::new(&twin.name);
        let mut world = Self { twin, layout, link: String::new(), addresses: Vec::new() };
        world.twin.prove();
        let addresses = "jsonpath={range .items[?(@.spec.nodeName=='node-1')]}{.status.podIPs[*].ip}{'\\n'}{end}";
        let pods = world.twin.kubectl(&["get", "pods", "-n", "shop", "-o", addresses]);
        world.addresses = pods.lines().next().unwrap().split(' ').map(str::to_owned).collect();
        let route = world.on_node(&format!("ip route show {}", world.addresses[0]));
        world.link = route.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap().to_owned();
        world
    }

    /// Runs a command in the node's network namespace.
    fn on_node(&self, command: &str) -> String {
        let netns = self.layout.node_namespace(NODE);
        let script = format!("exec nsenter --net={} {command}", netns.display());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{command}: {}", describe(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn prove(&self) -> Output {
        self.twin.kilter(&["prove", "--node", NODE, "-o", "json"])
    }

    /// Proof must fail with a finding of this subject that says all of these.
    #[track_caller]
    fn is_named(&self, subject: &str, words: &[&str]) {
        let output = self.prove();
        assert_eq!(output.status.code(), Some(1), "{subject} {words:?}: {}", describe(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["nodes"][0]["findings"].as_array().unwrap();
        let says = |finding: &Value| {
            let what = finding["what"].as_str().unwrap();
            finding["subject"] == subject && words.iter().all(|word| what.contains(word))
        };
        assert!(findings.iter().any(says), "no finding about a {subject} says {words:?}: {findings:#?}");
    }

    /// Does something, which must be named, and undoes it, after which all is well.
    #[track_caller]
    fn sabotage(&self, command: &str, subject: &str, words: &[&str], undo: &str) {
        self.on_node(command);
        self.is_named(subject, words);
        self.on_node(undo);
        self.is_equal(command);
    }

    #[track_caller]
    fn is_equal(&self, after: &str) {
        let output = self.prove();
        assert!(output.status.success(), "after {after} was undone: {}", describe(&output));
    }

    /// Starts the node's process anew: it sets again all that is its own to set.
    fn restart(&self) {
        let file = self.layout.node(NODE).join("pid");
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        wait_until(PATIENCE, "the node is equal to the model again", || {
            let is_new = std::fs::read_to_string(self.layout.node(NODE).join("pid"));
            is_new.is_ok_and(|now| now.trim() != pid.to_string()) && self.prove().status.success()
        });
    }

    /// The newest directory of what is pinned for the node.
    fn pins(&self) -> PathBuf {
        let versions = std::fs::read_dir(self.layout.bpf().join(NODE)).unwrap();
        versions.map(|entry| entry.unwrap().path()).max().unwrap()
    }

    fn map(&self, name: &str) -> MapHandle {
        MapHandle::from_pinned_path(self.pins().join("maps").join(name)).unwrap()
    }
}

#[test]
fn whatever_is_done_to_a_node_by_hand_is_named() {
    let world = World::new();
    programs(&world);
    ways(&world);
    settings(&world);
    inside(&world);
    rows(&world);
    world.twin.verify();
}

/// Hooks that are detached or replaced, and what runs before them.
fn programs(world: &World) {
    let link = &world.link;
    world.on_node(&format!("tc filter del dev {link} ingress"));
    world.is_named("hook", &["from_pod at ingress", "does not run here"]);
    world.restart();

    world.on_node(&format!("tc filter replace dev {link} egress pref 1 handle 1 protocol all bpf bytecode '{FOREIGN}'"));
    world.is_named("hook", &["to_pod at egress", "does not run here"]);
    world.on_node(&format!("tc filter del dev {link} egress"));
    world.restart();

    world.sabotage(
        &format!("tc filter add dev {link} ingress pref 1 handle 2 protocol all bpf bytecode '{FOREIGN}'"),
        "hook",
        &[link, "foreign bpf filter runs first"],
        &format!("tc filter del dev {link} ingress pref 1 handle 2 protocol all bpf"),
    );

    let netns = NetNs::open(world.layout.node_namespace(NODE)).unwrap();
    let uplink: u32 = world.on_node("ip -o link show eth0").split(':').next().unwrap().parse().unwrap();
    let intruder = netns.run(|| Intruder::at_ingress(uplink)).unwrap();
    world.is_named("hook", &["from_uplink at ingress", "intruder", "is foreign and runs first"]);
    netns.run(|| intruder.remove()).unwrap();
    let intruder = Intruder::at_connections(&cgroup2_root().join("kilter").join(&world.twin.name).join(NODE));
    world.is_named("hook", &["connect4 at cgroup", "intruder", "is foreign and runs, too"]);
    intruder.remove();
    world.is_equal("programs of somebody else");

    for (pin, place) in [("connect4", "cgroup"), ("from_uplink", "ingress")] {
        let pinned = libbpf_rs::Link::open(world.pins().join("links").join(pin)).unwrap();
        pinned.detach().unwrap();
        world.is_named("hook", &[pin, place, "does not run here"]);
        drop(pinned);
        world.restart();
    }
}

/// Routes, neighbours and hardware addresses.
fn ways(world: &World) {
    let (link, address) = (&world.link, &world.addresses[0]);
    world.sabotage(
        "ip route add 10.244.1.0/25 via 10.240.0.99 dev eth0",
        "route",
        &["10.244.1.0/25 via 10.240.0.99", "should not be there"],
        "ip route del 10.244.1.0/25 via 10.240.0.99 dev eth0",
    );
    world.on_node("ip route replace 10.244.1.0/24 via 10.240.0.99 dev eth0 proto 107");
    world.is_named("route", &["the kernel has no route to 10.244.1.0/24 via 10.240.0.12"]);
    world.on_node("ip route replace 10.244.1.0/24 via 10.240.0.12 dev eth0 proto 107");
    world.is_equal("a route that was changed");

    world.sabotage(
        "ip route add blackhole 10.244.2.0/26",
        "route",
        &["blackhole 10.244.2.0/26", "should not be there"],
        "ip route del blackhole 10.244.2.0/26",
    );
    world.sabotage(
        "ip route del unreachable 10.244.0.0/24",
        "route",
        &["does not make 10.244.0.0/24 unreachable"],
        "ip route add unreachable 10.244.0.0/24 proto 107",
    );
    world.sabotage(
        "ip rule add from 10.244.0.0/16 table 99 priority 100",
        "setting",
        &["ip rule is `0: table 255; 100: table 99 if Source(10.244.0.0)"],
        "ip rule del priority 100",
    );

    let permanent = |address: &str| {
        let known = world.on_node(&format!("ip neigh show {address} dev {link} nud permanent"));
        known.split_whitespace().nth(2).unwrap().to_owned()
    };
    let mac = permanent(address);
    world.sabotage(
        &format!("ip neigh replace {address} dev {link} lladdr 02:00:00:00:00:99 nud permanent"),
        "neighbour",
        &[address, "at 02:00:00:00:00:99, and should at", &mac],
        &format!("ip neigh replace {address} dev {link} lladdr {mac} nud permanent"),
    );
    world.sabotage(
        &format!("ip neigh del {address} dev {link}"),
        "neighbour",
        &["does not know", address],
        &format!("ip neigh replace {address} dev {link} lladdr {mac} nud permanent"),
    );
    world.on_node(&format!("ip link set {link} address 02:00:00:00:00:77"));
    world.is_named("endpoint", &[link, "02:00:00:00:00:77, and should have 02:6b:6c:74:00:01"]);
    world.on_node(&format!("ip link set {link} address 02:6b:6c:74:00:01"));
    // With the address of a link the kernel forgets who is behind it.
    for address in &world.addresses {
        world.on_node(&format!("ip neigh replace {address} dev {link} lladdr {mac} nud permanent"));
    }
    world.is_equal("a hardware address that was changed");
}

/// Sysctls of both families, and the masquerade rule.
fn settings(world: &World) {
    let link = &world.link;
    let netns = NetNs::open(world.layout.node_namespace(NODE)).unwrap();
    for (key, wrong, right) in [
        (format!("net/ipv6/conf/{link}/accept_ra"), "2", "0"),
        (format!("net/ipv6/conf/{link}/disable_ipv6"), "1", "0"),
        (format!("net/ipv4/conf/{link}/rp_filter"), "1", "0"),
        ("net/ipv6/conf/all/forwarding".into(), "0", "1"),
        ("net/ipv4/conf/eth0/rp_filter".into(), "1", "0"),
    ] {
        sysctl(&netns, &key, wrong).unwrap();
        world.is_named("setting", &[&key, &format!("is `{wrong}`, and should be `{right}`")]);
        sysctl(&netns, &key, right).unwrap();
        world.restore(link);
        world.is_equal(&key);
    }
    for (family, name) in [(Family::V4, "nftables ip kilter"), (Family::V6, "nftables ip6 kilter")] {
        Masquerade::delete(&netns, family).unwrap();
        world.is_named("setting", &[name, "missing or changed", "masquerade"]);
        world.restart();
    }
}

/// In a pod's own network namespace, where a container with the right to may do it, too.
fn inside(world: &World) {
    let address = &world.addresses[0];
    let pod = format!("nsenter --net=/proc/{}/ns/net", world.pause());
    for (wrong, lacks, right) in [
        ("ip route del default", "lacks the pod's route to 0.0.0.0/0", "ip route add default via 169.254.1.1 dev eth0 onlink"),
        ("ip neigh del 169.254.1.1 dev eth0", "lacks the pod's neighbour 169.254.1.1", "ip neigh replace 169.254.1.1 dev eth0 lladdr 02:6b:6c:74:00:01 nud permanent"),
    ] {
        world.sabotage(&format!("{pod} {wrong}"), "endpoint", &[address, lacks], &format!("{pod} {right}"));
    }
}

impl World {
    /// The process that holds the pod's namespaces.
    fn pause(&self) -> u64 {
        let records = std::fs::read_dir(self.layout.node(NODE).join("pods")).unwrap();
        let records = records.filter_map(|entry| std::fs::read(entry.unwrap().path().join("sandbox.json")).ok());
        let mut records = records.map(|record| serde_json::from_slice::<Value>(&record).unwrap());
        let ours = |record: &Value| record["addresses"][0] == self.addresses[0].as_str();
        records.find(ours).expect("a record of the pod's sandbox")["pid"].as_u64().unwrap()
    }

    /// What the kernel forgets with `disable_ipv6`: the route to the pod and who it is.
    fn restore(&self, link: &str) {
        let mac = self.on_node(&format!("ip neigh show {} dev {link}", self.addresses[0]));
        let mac = mac.split_whitespace().nth(2).unwrap();
        let address = &self.addresses[1];
        self.on_node(&format!("ip -6 route replace {address}/128 dev {link} proto 107"));
        self.on_node(&format!("ip neigh replace {address} dev {link} lladdr {mac} nud permanent"));
    }
}

/// Rows of every kind, one of each deleted; and what `why --live` says of a pod without its posture.
fn rows(world: &World) {
    for (map, subject) in [
        ("postures", "policy"),
        ("intervals", "policy"),
        ("sets", "policy"),
        ("endpoints", "endpoint"),
        ("frontends", "service"),
        ("backends", "service"),
        ("routes", "route"),
        ("namespaces", "endpoint"),
    ] {
        let rows = world.map(map);
        let key = rows.keys().next().unwrap();
        let row = rows.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        rows.delete(&key).unwrap();
        world.is_named(subject, &[]);
        rows.update(&key, &row, MapFlags::ANY).unwrap();
        world.is_equal(map);
    }

    // The next hop of a route that is loaded.
    let (routes, nodes) = (world.map("routes"), world.map("nodes"));
    let index = routes.lookup(&routes.keys().next().unwrap(), MapFlags::ANY).unwrap().unwrap();
    let row = nodes.lookup(&index, MapFlags::ANY).unwrap().unwrap();
    let mut astray = row.clone();
    *astray.last_mut().unwrap() ^= 1;
    nodes.update(&index, &astray, MapFlags::ANY).unwrap();
    world.is_named("route", &["the data plane has a route", "should not be there"]);
    nodes.update(&index, &row, MapFlags::ANY).unwrap();
    world.is_equal("nodes");

    // A connection that is sent on as it comes, to a pod of the very node.
    let (nat, key, row) = (world.map("nat"), sent_on_key(), sent_on_row(&world.addresses[0]));
    nat.update(&key, &row, MapFlags::ANY).unwrap();
    world.is_named("flow", &["is sent on as it comes", "which is a pod of this node"]);
    nat.delete(&key).unwrap();
    world.is_equal("nat");

    let why = || {
        let output = world.twin.kilter(&["why", "--live", &world.addresses[0], "internet:443"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (_, text) = why();
    assert!(text.contains("as the model says, on every node that judges it"), "{text}");
    let postures = world.map("postures");
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        postures.keys().map(|key| (key.clone(), postures.lookup(&key, MapFlags::ANY).unwrap().unwrap())).collect();
    rows.iter().for_each(|(key, _)| postures.delete(key).unwrap());
    let (code, text) = why();
    rows.iter().for_each(|(key, row)| postures.update(key, row, MapFlags::ANY).unwrap());
    assert!(text.contains("node-1: egress") && text.contains("no posture row for the pod is loaded"), "{text}");
    assert_eq!(code, Some(1), "{text}");
    world.is_equal("postures");
}

/// A client's ends, as `struct tuple` has them.
fn sent_on_key() -> Vec<u8> {
    tuple("192.0.2.7:443")
}

/// Where its packets go, as `struct nat` says it (FLOW_SENT_ON), seen just now.
fn sent_on_row(pod: &str) -> Vec<u8> {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: u64 = uptime.split('.').next().unwrap().parse().unwrap();
    let seen = ((seconds * 1_000_000_000) >> 30) as u32;
    let end = [&1u32.to_ne_bytes()[..], &seen.to_ne_bytes(), &[128, 0, 0, 0, 0, 0, 0, 0]].concat();
    [tuple(&format!("{pod}:8080")), end].concat()
}

fn tuple(to: &str) -> Vec<u8> {
    let mapped = |end: &SocketAddrV4| end.ip().to_ipv6_mapped().octets();
    let [from, to]: [SocketAddrV4; 2] = ["198.51.100.10:40000", to].map(|end| end.parse().unwrap());
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    [&mapped(&from)[..], &mapped(&to), &ports, &[6, 0, 0, 0]].concat()
}
