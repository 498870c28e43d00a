//! One node, end to end: cluster events in, the real plugin, real packets, the real data plane.
//! Needs root; fails without.

mod balancers;
mod endings;
mod prove;
mod runtime;
mod tiers;
mod world;

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use kilter_model::Event;
use kilter_testkit::wait_until;
use world::{PATIENCE, Wired, World, namespace, node, only_from, pod, service};

/// Long enough for an answer on one machine, short enough to wait for one that must not come.
const SILENCE: Duration = Duration::from_millis(300);

fn talk(from: &Wired, to: &Wired, port: u16) {
    let listener = to.listen(port);
    let mut client = from
        .connect((to.address, port))
        .unwrap_or_else(|e| panic!("{} -> {}: {e}", from.address, to.address));
    let (mut server, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), std::net::IpAddr::V4(from.address));
    client.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
}

#[test]
fn pods_reach_each_other_where_policy_says_and_a_refusal_names_its_rule() {
    let mut world = World::new("policy");
    world.apply([namespace("shop"), pod("web"), pod("db"), pod("other"), only_from("db", &["web"])]);
    let (web, db, other) = (world.add("web"), world.add("db"), world.add("other"));
    assert_eq!([web.address, db.address, other.address].map(|a| a.octets()[3]), [2, 3, 4]);

    talk(&web, &db, 8080);
    talk(&other, &web, 8080);
    let _listening = db.listen(9090);
    let mut drops = world.agent().drops();
    assert!(other.connect_within((db.address, 9090), SILENCE).is_err());
    let drop = world.block_on(drops.recv()).unwrap();
    assert_eq!((drop.from.0, drop.to), (other.address.into(), (db.address.into(), 9090)));
    assert_eq!(
        (drop.direction.as_str(), drop.reason.as_str(), drop.protocol.as_str()),
        ("ingress", "policy", "TCP")
    );
    assert!(drop.rule.as_deref().unwrap_or_default().contains("only-to-db"), "{drop:?}");

    world.apply([only_from("db", &["web", "other"])]);
    other.connect((db.address, 9090)).unwrap();
    world.apply([only_from("db", &[])]);
    assert!(web.connect_within((db.address, 9090), SILENCE).is_err());

    let status = world.block_on(world.agent().status());
    assert!(status.ready);
    assert_eq!(status.pods, ["shop/db", "shop/other", "shop/web"]);
    assert!(status.drops.get("policy").is_some_and(|packets| *packets > 0), "{status:?}");
}

#[test]
fn del_cuts_off_at_once_and_cleans_up_behind() {
    let mut world = World::new("del");
    world.apply([namespace("shop"), pod("web"), pod("db")]);
    let (web, db) = (world.add("web"), world.add("db"));
    talk(&web, &db, 8080);
    let _listening = db.listen(9090);
    world.del("db");
    assert!(web.connect_within((db.address, 9090), SILENCE).is_err());
    wait_until(PATIENCE, "the link and the record go", || {
        world.pod_links() == [web.link.as_str()] && world.records() == ["c-web.wired"]
    });
    world.del("db");
    world.del("never-there");
    let again = world.add("db");
    assert_ne!(again.address, db.address, "a freed address rests");
    talk(&web, &again, 8080);
}

#[test]
fn add_waits_for_the_pod_and_its_namespace() {
    let mut world = World::new("waits");
    world.apply([only_from("web", &[])]);
    let web = kilter_testkit::TestNetNs::new("web");
    let (answers, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let call = world.caller();
        scope.spawn(move || answers.send(call("ADD", "c-web", web.path(), "web")).unwrap());
        assert!(answered.recv_timeout(SILENCE).is_err(), "nobody knows this pod yet");
        world.tell([pod("web")]);
        assert!(answered.recv_timeout(SILENCE).is_err(), "nobody knows its namespace yet");
        world.tell([namespace("shop")]);
        let answer = answered.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(answer["ips"][0]["address"], "10.244.1.2/32");
    });
}

#[test]
fn what_fails_is_undone() {
    let mut world = World::new("undone");
    world.apply([namespace("shop"), pod("web"), pod("db")]);
    let netns = kilter_testkit::TestNetNs::new("web");
    let inside =
        |work: &str| netns.run(|| std::fs::read_to_string(work).map(|s| s.trim().to_owned())).unwrap();
    assert!(inside("/proc/sys/net/ipv4/conf/eth0/rp_filter").is_err());

    // Something is in the way: the pod has an eth0 already.
    let first = world.plugin("ADD", "c-web", netns.path(), "web");
    assert!(first.is_ok(), "{first:?}");
    let failed = world.plugin("ADD", "c-second", netns.path(), "web").unwrap_err();
    assert_eq!(failed["code"], 100, "{failed}");
    assert!(failed["details"].as_str().unwrap().contains("veth"), "{failed}");
    wait_until(PATIENCE, "nothing is left of it", || {
        world.records() == ["c-web.wired"] && world.pod_links().len() == 1
    });
    // The first still works, and no address was lost.
    let web =
        Wired { netns, address: std::net::Ipv4Addr::new(10, 244, 1, 2), link: world.pod_links().remove(0) };
    let db = world.add("db");
    talk(&db, &web, 8080);

    let missing = world.plugin("ADD", "c-x", Path::new("/run/netns/kilter-no-such"), "db").unwrap_err();
    assert!(missing["msg"].as_str().unwrap().contains("/run/netns/kilter-no-such"), "{missing}");
    let twice = world.plugin("ADD", "c-db", db.netns.path(), "db").unwrap_err();
    assert!(twice["msg"].as_str().unwrap().contains("wired already"), "{twice}");
    talk(&db, &web, 8081);
}

#[test]
fn a_restart_takes_over_what_lives_and_removes_what_does_not() {
    let mut world = World::new("restart");
    let cluster = || [namespace("shop"), pod("web"), pod("db"), pod("gone"), only_from("db", &["web"])];
    world.apply(cluster());
    let (web, db, gone) = (world.add("web"), world.add("db"), world.add("gone"));
    let listener = db.listen(8080);
    let mut client = web.connect((db.address, 8080)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    world.stop();

    client.write_all(b"agent is down").unwrap();
    let mut heard = [0; 13];
    server.read_exact(&mut heard).unwrap();
    let dead = gone.link.clone();
    drop(gone);
    wait_until(PATIENCE, "the namespace takes its link along", || !world.pod_links().contains(&dead));

    world.start_unsynced();
    assert!(!world.block_on(world.agent().status()).ready);
    client.write_all(b"agent is blind").unwrap();
    server.read_exact(&mut [0; 14]).unwrap();
    assert_eq!(
        world.records(),
        ["c-db.wired", "c-gone.wired", "c-web.wired"],
        "nothing goes before every list"
    );

    world.tell(cluster());
    world.send(kilter_cluster::Resource::ALL.map(kilter_cluster::Update::Synced).into());
    let mut applied = world.agent().applied();
    world.block_on(applied.wait_for(|applied| !applied.is_empty())).unwrap();
    client.write_all(b"agent is back").unwrap();
    server.read_exact(&mut heard).unwrap();
    wait_until(PATIENCE, "the stray goes", || world.records() == ["c-db.wired", "c-web.wired"]);
    assert_eq!(world.block_on(world.agent().status()).pods, ["shop/db", "shop/web"]);

    // Policy is in force for what was taken over, and can change.
    talk(&web, &db, 9090);
    world.apply([only_from("db", &[])]);
    let _listening = db.listen(9091);
    assert!(web.connect_within((db.address, 9091), SILENCE).is_err());
}

#[test]
fn an_add_or_a_del_that_a_crash_cut_short_is_finished() {
    let mut world = World::new("crash");
    let cluster = || [namespace("shop"), pod("wiring"), pod("leaving"), pod("wired")];
    world.apply(cluster());
    let pods = [world.add("wiring"), world.add("leaving"), world.add("wired")];
    world.stop();
    // As a process leaves it that is killed before it has recorded what it had done.
    let directory = world.directory.path().join("ipam");
    let record = |name: &str| directory.join(name);
    std::fs::rename(record("c-wiring.wired"), record("c-wiring.wiring")).unwrap();
    std::fs::rename(record("c-leaving.wired"), record("c-leaving.leaving")).unwrap();
    std::fs::write(record("c-new.part"), "{").unwrap();
    world.start_unsynced();
    world.tell(cluster());
    world.send(kilter_cluster::Resource::ALL.map(kilter_cluster::Update::Synced).into());
    wait_until(PATIENCE, "only what was wired stays", || {
        world.records() == ["c-wired.wired"] && world.pod_links() == [pods[2].link.as_str()]
    });
    // Their addresses rest, and are not lost.
    let freed = std::fs::read_to_string(record("freed.json")).unwrap();
    for pod in &pods[..2] {
        assert!(freed.contains(&pod.address.to_string()), "{freed}");
    }
}

#[test]
fn nodes_become_routes_and_go_again() {
    let mut world = World::new("routes");
    let eth0 = world.block_on(world.netlink.link_index("eth0")).unwrap();
    let way_out = kilter_netlink::Route::default_via("10.240.0.1".parse().unwrap(), eth0);
    world.block_on(world.netlink.replace_route(&way_out)).unwrap();
    let routes = |world: &World| {
        let mut all = world.block_on(world.netlink.routes(true)).unwrap();
        assert!(all.contains(&way_out), "who plugged the node in has set it, and it is theirs");
        all.retain(|route| *route != way_out);
        all.into_iter().filter_map(|r| Some(format!("{} via {}", r.destination, r.via?))).collect::<Vec<_>>()
    };
    world
        .apply([node("here", "10.240.0.11", "10.244.1.0/24"), node("there", "10.240.0.12", "10.244.2.0/24")]);
    assert_eq!(routes(&world), ["10.244.2.0/24 via 10.240.0.12"]);
    world.apply([node("there", "10.240.0.13", "10.244.2.0/24")]);
    assert_eq!(routes(&world), ["10.244.2.0/24 via 10.240.0.13"]);
    world.apply([Event::NodeGone("there".into())]);
    assert_eq!(routes(&world), Vec::<String>::new());
}

#[test]
fn the_node_itself_reaches_its_pods_whatever_policy_says() {
    let mut world = World::new("own-node");
    world.apply([namespace("shop"), pod("db"), only_from("db", &[])]);
    let db = world.add("db");
    let listener = db.listen(8080);
    let client = world.node.run(|| std::net::TcpStream::connect((db.address, 8080)).unwrap()).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    let unused =
        world.node.run(|| std::net::TcpStream::connect(("10.244.1.200", 80)).unwrap_err().kind()).unwrap();
    assert_eq!(unused, ErrorKind::HostUnreachable);
}

/// Says its name to everybody who connects.
fn greet(pod: &Wired, port: u16, name: &'static str) {
    let listener = pod.listen(port);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(name.as_bytes()));
        }
    });
}

#[test]
fn services_lead_to_their_endpoints_also_after_a_restart() {
    let mut world = World::new("services");
    let cluster = || [namespace("shop"), pod("web"), pod("a"), pod("b")];
    world.apply(cluster());
    let (web, a, b) = (world.add("web"), world.add("a"), world.add("b"));
    greet(&a, 8080, "a");
    greet(&b, 8081, "b");
    world.apply(service("front", &[(a.address, 8080)]));
    assert_eq!(world.read_from(&web, "10.96.0.10:80").as_deref(), Some("a"));

    world.stop();
    assert_eq!(
        world.read_from(&web, "10.96.0.10:80").as_deref(),
        Some("a"),
        "nobody needs the agent for this"
    );
    world.start_unsynced();
    world.tell(cluster());
    world.tell(service("front", &[(b.address, 8081)]));
    world.send(kilter_cluster::Resource::ALL.map(kilter_cluster::Update::Synced).into());
    let mut applied = world.agent().applied();
    world.block_on(applied.wait_for(|applied| !applied.is_empty())).unwrap();
    assert_eq!(world.read_from(&web, "10.96.0.10:80").as_deref(), Some("b"));
    world.apply(service("front", &[]));
    assert_eq!(world.read_from(&web, "10.96.0.10:80"), None);
}

#[test]
fn trap_10_what_leaves_the_cluster_bears_the_nodes_address_and_what_stays_does_not() {
    let mut world = World::new("egress");
    world.apply([namespace("shop"), pod("web")]);
    let web = world.add("web");
    let server = world.fabric.run(|| std::net::TcpListener::bind("10.240.0.1:7000").unwrap()).unwrap();
    let _client = web.connect(("10.240.0.1".parse().unwrap(), 7000)).unwrap();
    let (_, from) = server.accept().unwrap();
    assert_eq!(from.ip().to_string(), "10.240.0.11");
    assert!((40_000..60_000).contains(&from.port()), "{from}");

    let own = world.node.run(|| std::net::TcpListener::bind("10.240.0.11:7001").unwrap()).unwrap();
    let _client = web.connect(("10.240.0.11".parse().unwrap(), 7001)).unwrap();
    assert_eq!(own.accept().unwrap().1.ip(), std::net::IpAddr::V4(web.address));
}

#[test]
fn a_burst_of_pods_is_wired_without_doubling_an_address() {
    let mut world = World::new("burst");
    let names: Vec<String> = (0..24).map(|i| format!("p{i}")).collect();
    world.apply([namespace("shop")]);
    world.tell(names.iter().map(|name| pod(name)));
    let wired: Vec<Wired> = std::thread::scope(|scope| {
        let adding: Vec<_> = names.iter().map(|name| scope.spawn(|| world.add(name))).collect();
        adding.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: std::collections::BTreeSet<_> = wired.iter().map(|pod| pod.address).collect();
    assert_eq!(addresses.len(), names.len());
    talk(&wired[0], &wired[23], 8080);
    std::thread::scope(|scope| names.iter().for_each(|name| drop(scope.spawn(|| world.del(name)))));
    wait_until(PATIENCE, "all of it goes", || world.pod_links().is_empty() && world.records().is_empty());
}
