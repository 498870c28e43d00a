//! What is loaded is proved equal to the model, and whatever is tampered with is found and named.

use std::net::{IpAddr, Ipv4Addr};

use kilter_model::{Cluster, Event};
use kilter_netlink::{Family, Masquerade, Route, sysctl};
use kilter_reach::proof::{Expected, Finding, Proof, Subject, prove};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::world::{Wired, World, namespace, node, only_from, pod, service};
use crate::talk;

/// A node with three pods, a policy, a Service and a neighbour; and the API's list of it.
struct Shop {
    world: World,
    list: Cluster,
    pods: Vec<Wired>,
}

impl Shop {
    fn new(label: &str) -> Self {
        let mut world = World::new(label);
        let mut events = vec![
            node("here", "10.240.0.11", "10.244.1.0/24"),
            node("there", "10.240.0.12", "10.244.2.0/24"),
            namespace("shop"),
            only_from("db", &["web"]),
            pod("web"),
            pod("db"),
            pod("other"),
        ];
        events.extend(service("front", &[(Ipv4Addr::new(10, 244, 1, 2), 8080), (Ipv4Addr::new(10, 244, 1, 4), 8080)]));
        world.apply(events.clone());
        let mut shop = Self { world, list: Cluster::from_events(events), pods: Vec::new() };
        for name in ["web", "db", "other"] {
            let wired = shop.world.add(name);
            let Event::Pod(mut listed) = pod(name) else { unreachable!() };
            listed.addresses = vec![wired.address.into()];
            shop.list.apply(Event::Pod(listed));
            shop.pods.push(wired);
        }
        shop.assert_equal();
        shop
    }

    fn proof(&self) -> Proof {
        let loaded = self.world.block_on(self.world.agent().loaded()).unwrap();
        let routes = kilter_agent::expected_routes(&self.list, "here", Default::default()).into_iter();
        let expected = Expected {
            node: "here".into(),
            pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            lb_pools: vec!["10.240.255.0/24".parse().unwrap(), "fd00:240::ff00/120".parse().unwrap()],
            routes: routes.map(|route| (route.prefix, route.next_hop)).collect(),
            tunnel: None,
            pod_mtu: 1500,
            settings: kilter_agent::expected_settings("eth0", &["10.244.1.0/24".parse().unwrap()], None),
            links: kilter_agent::expected_links(&self.list, "here"),
        };
        prove(&self.list, &expected, &loaded)
    }

    #[track_caller]
    fn assert_equal(&self) {
        assert_eq!(self.proof().findings, []);
    }

    fn found(&self, subject: Subject) -> Vec<Finding> {
        self.proof().findings.into_iter().filter(|finding| finding.subject == subject).collect()
    }

    /// Does something to each row of a map in turn and undoes it; how often that was found.
    fn tamper(&self, map: &str, subject: Subject, how: impl Fn(&MapHandle, &[u8], &[u8])) -> (usize, usize) {
        let map = MapHandle::from_pinned_path(self.world.map(map)).unwrap();
        let keys: Vec<Vec<u8>> = map.keys().collect();
        let mut found = 0;
        for key in &keys {
            let Some(row) = map.lookup(key, MapFlags::ANY).unwrap() else { continue };
            how(&map, key, &row);
            found += usize::from(!self.found(subject).is_empty());
            map.update(key, &row, MapFlags::ANY).unwrap();
        }
        self.assert_equal();
        (found, keys.len())
    }
}

fn delete(map: &MapHandle, key: &[u8], _row: &[u8]) {
    map.delete(key).unwrap();
}

/// Flips the lowest bit of a byte.
fn flip(byte: usize) -> impl Fn(&MapHandle, &[u8], &[u8]) {
    move |map, key, row| {
        let mut row = row.to_vec();
        row[byte] ^= 1;
        map.update(key, &row, MapFlags::ANY).unwrap();
    }
}

#[test]
fn a_policy_row_that_is_deleted_or_changed_is_found() {
    let shop = Shop::new("prove-policy");
    for map in ["postures", "intervals", "sets"] {
        let (found, rows) = shop.tamper(map, Subject::Policy, delete);
        assert!(rows > 0 && found == rows, "{map}: {found} of {rows} deleted rows found");
    }
    // Where the block around decides alike for every packet, a class row makes no difference.
    let (found, rows) = shop.tamper("classes", Subject::Policy, delete);
    assert!(found >= 2, "{found} of {rows} deleted class rows found");
    // struct decision: the rule, then the verdict.
    let (found, rows) = shop.tamper("sets", Subject::Policy, flip(4));
    assert!(found == rows, "{found} of {rows} wrong verdicts found");
    // Ids mean nothing by themselves: a rule that is named once may as well have another number.
    let (found, rows) = shop.tamper("sets", Subject::Policy, flip(0));
    assert!(found > 0, "{found} of {rows} wrong rules found");
}

#[test]
fn the_counterexample_is_a_packet_with_both_verdicts() {
    let shop = Shop::new("prove-packet");
    let sets = MapHandle::from_pinned_path(shop.world.map("sets")).unwrap();
    // The exception that lets web in: of all rows, the one whose absence refuses something.
    for key in sets.keys().collect::<Vec<_>>() {
        let row = sets.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        sets.delete(&key).unwrap();
        let found = shop.found(Subject::Policy);
        sets.update(&key, &row, MapFlags::ANY).unwrap();
        let Some(packet) = found.iter().filter_map(|it| it.packet.as_ref()).find(|packet| {
            packet.expected.allowed && !packet.loaded.allowed && packet.loaded.by.starts_with("isolated")
        }) else {
            continue;
        };
        let (web, db) = (IpAddr::V4(shop.pods[0].address), IpAddr::V4(shop.pods[1].address));
        assert_eq!((packet.from, packet.to, packet.direction.as_str()), (web, db, "ingress"));
        assert!(packet.expected.by.contains("ingress rule 1 of NetworkPolicy shop/only-to-db"), "{packet}");
        assert!(packet.loaded.by.contains("no rule allows it"), "{packet}");
        return;
    }
    panic!("no row's absence refuses web");
}

#[test]
fn services_endpoints_and_routes_are_compared_row_by_row() {
    let shop = Shop::new("prove-rows");
    for map in ["frontends", "backends"] {
        let (found, rows) = shop.tamper(map, Subject::Service, delete);
        assert!(rows > 0 && found == rows, "{map}: {found} of {rows}");
    }
    // Where a backend's row has its port: behind an address of 16 bytes.
    const PORT: usize = 16;
    let port = |map: &MapHandle, key: &[u8], row: &[u8]| flip(PORT)(map, key, row);
    let (found, rows) = shop.tamper("backends", Subject::Service, port);
    assert!(rows > 0 && found == rows, "backends changed: {found} of {rows}");
    for (map, subject) in [("endpoints", Subject::Endpoint), ("routes", Subject::Route)] {
        let (found, rows) = shop.tamper(map, subject, delete);
        assert!(rows > 0 && found == rows, "{map}: {found} of {rows}");
    }
}

#[test]
fn the_nodes_own_settings_and_routes_are_compared() {
    let shop = Shop::new("prove-host");
    let netns = &shop.world.node;
    for (key, wrong, right) in [("net/ipv4/ip_forward", "0", "1"), ("net/ipv4/conf/eth0/rp_filter", "1", "0")] {
        sysctl(netns, key, wrong).unwrap();
        let found = shop.found(Subject::Setting);
        // What is set for all links is set for each of them.
        assert!(found.iter().any(|it| it.what.contains(key)), "{found:?}");
        sysctl(netns, key, right).unwrap();
    }

    let there = "10.244.2.0/24".parse().unwrap();
    let eth0 = shop.world.block_on(shop.world.netlink.link_index("eth0")).unwrap();
    let astray = Route::via(there, "10.240.0.99".parse().unwrap(), eth0);
    let right = Route::via(there, "10.240.0.12".parse().unwrap(), eth0);
    shop.world.block_on(shop.world.netlink.replace_route(&astray)).unwrap();
    let found = shop.found(Subject::Route);
    assert!(found.iter().any(|it| it.what.contains("10.244.2.0/24 via 10.240.0.99")), "{found:?}");
    shop.world.block_on(shop.world.netlink.replace_route(&right)).unwrap();
    let hijack = Route::via("10.244.2.0/25".parse().unwrap(), "10.240.0.99".parse().unwrap(), eth0);
    shop.world.block_on(shop.world.netlink.replace_route(&hijack)).unwrap();
    assert_eq!(shop.found(Subject::Route).len(), 1);
    shop.world.block_on(shop.world.netlink.delete_route(&hijack)).unwrap();
    shop.assert_equal();

    Masquerade::delete(netns, Family::V4).unwrap();
    let found = shop.found(Subject::Setting);
    assert!(found.len() == 1 && found[0].what.contains("nftables"), "{found:?}");
}

#[test]
fn a_cached_verdict_that_is_not_the_models_is_found() {
    let mut shop = Shop::new("prove-flows");
    let listener = shop.pods[1].listen(9090);
    let _client = shop.pods[0].connect((shop.pods[1].address, 9090)).unwrap();
    let _server = listener.accept().unwrap();
    let generations = MapHandle::from_pinned_path(shop.world.map("generations")).unwrap();
    let read = || -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = generations.keys().map(|key| (key.clone(), generations.lookup(&key, MapFlags::ANY).unwrap().unwrap()));
        rows.collect()
    };
    let before = read();
    shop.assert_equal();
    shop.world.apply([only_from("db", &[])]);
    shop.list.apply(only_from("db", &[]));
    // The flow's next packet asks again, so its old verdict is no finding.
    shop.assert_equal();
    // The generations are turned back: the flow passes by what was true then.
    for ((key, old), (_, new)) in before.iter().zip(&read()) {
        if old != new {
            generations.update(key, old, MapFlags::ANY).unwrap();
        }
    }
    let found = shop.found(Subject::Flow);
    assert!(found.len() == 1 && found[0].what.contains("passes by its cached verdict"), "{found:?}");
}

#[test]
fn a_translation_that_leads_only_one_way_is_found() {
    let shop = Shop::new("prove-nat");
    let nat = MapHandle::from_pinned_path(shop.world.map("nat")).unwrap();
    // struct tuple: two addresses, two ports, the protocol; struct nat begins with one.
    let tuple = |source: u8, destination: u8, protocol: u8| {
        let mapped = |last: u8| [[0; 10].as_slice(), &[0xff, 0xff, 10, 240, 0, last]].concat();
        [mapped(source), mapped(destination), vec![0, 80, 0, 81, protocol, 0, 0, 0]].concat()
    };
    let becomes = |tuple: Vec<u8>| [tuple, vec![0; 16]].concat();
    nat.update(&tuple(1, 2, 6), &becomes(tuple(3, 4, 6)), MapFlags::ANY).unwrap();
    let found = shop.found(Subject::Flow);
    let text = "10.240.0.1:80 -> 10.240.0.2:81 over TCP becomes 10.240.0.3:80 -> 10.240.0.4:81, and what comes back is not";
    assert!(found.len() == 1 && found[0].what.contains(text), "{found:?}");
    nat.delete(&tuple(1, 2, 6)).unwrap();
    shop.assert_equal();
}

#[test]
fn a_node_that_serves_is_proved_while_it_serves() {
    let shop = Shop::new("prove-live");
    talk(&shop.pods[0], &shop.pods[1], 8080);
    let proof = shop.proof();
    assert_eq!(proof.findings, []);
    for what in ["policy rows", "postures", "classes of peers", "cached flows", "Service ports", "routes", "settings"] {
        assert!(proof.compared[what] > 0, "{what}: {:?}", proof.compared);
    }
}
