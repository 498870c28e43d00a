//! What runs at the hooks, after somebody has been at them.

mod common;

use common::*;
use kilter_datapath::{Attachment, Datapath, Fault, Place};
use kilter_netns::NetNs;
use kilter_testkit::Intruder;

/// What is wrong, hook by hook, in words without numbers.
fn faults(node: &mut Node) -> Vec<String> {
    let netns = NetNs::open(node.netns.path()).unwrap();
    let datapath = node.datapath();
    let all: Vec<Attachment> = netns.run(|| datapath.attachments()).unwrap().unwrap();
    all.iter()
        .flat_map(|it| it.faults().into_iter().map(move |fault| (it, fault)))
        .map(|(it, fault)| {
            let what = match fault {
                Fault::Missing => "is missing".to_owned(),
                Fault::OtherBuild(_) => "is of another build".to_owned(),
                Fault::OtherConstants(_) => "has other constants".to_owned(),
                Fault::ForeignBefore(program) => format!("comes after {}", program.name),
                Fault::ForeignAfter(program) => format!("is followed by {}", program.name),
            };
            format!("{} {what}", it.program)
        })
        .collect()
}

#[test]
fn every_hook_of_the_node_and_its_pods_is_listed() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let pod = node.pod(5);
    let netns = NetNs::open(node.netns.path()).unwrap();
    let datapath = node.datapath();
    let all = netns.run(|| datapath.attachments()).unwrap().unwrap();
    let places: Vec<&Place> = all.iter().map(|it| &it.place).collect();
    assert_eq!(all.len(), 1 + 9 + 2);
    assert!(places.contains(&&Place::Ingress(pod.ifindex)) && places.contains(&&Place::Egress(pod.ifindex)));
    assert!(all.iter().all(|it| it.expected.constants.len() > 500 && it.expected.tag != [0; 8]));
    assert_eq!(faults(&mut node), Vec::<String>::new());
}

#[test]
fn a_filter_that_somebody_deleted_or_replaced_is_reported() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (_a, _b) = (node.pod(5), node.pod(6));
    command(&node.netns, "tc filter del dev p5 ingress");
    assert_eq!(faults(&mut node), ["from_pod is missing"]);
    command(&node.netns, "tc qdisc del dev p6 clsact");
    assert_eq!(faults(&mut node), ["from_pod is missing", "to_pod is missing", "from_pod is missing"]);
    node.reopen();
    assert_eq!(faults(&mut node), Vec::<String>::new());
}

#[test]
fn a_link_that_is_gone_has_no_hooks() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let _pod = node.pod(5);
    command(&node.netns, "ip link del p5");
    assert_eq!(faults(&mut node), ["to_pod is missing", "from_pod is missing"]);
}

#[test]
fn a_program_of_somebody_else_at_the_uplink_or_in_the_cgroup_is_reported() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let netns = NetNs::open(node.netns.path()).unwrap();
    let uplink = node.config.uplink_ifindex;
    let intruder = netns.run(|| Intruder::at_ingress(uplink)).unwrap();
    assert_eq!(faults(&mut node), ["from_uplink comes after intruder"]);
    netns.run(|| intruder.remove()).unwrap();
    let intruder = Intruder::at_connections(&node.config.cgroup);
    assert_eq!(faults(&mut node), ["connect4 is followed by intruder"]);
    intruder.remove();
    assert_eq!(faults(&mut node), Vec::<String>::new());
}

/// Another node's agent, by mistake on this node: its programs have our names and our instructions.
#[test]
fn programs_of_another_configuration_are_told_apart() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let pod = node.pod(5);
    let mut config = node.config.clone();
    config.node_ips.pop();
    config.pin_dir = node.config.pin_dir.with_file_name("other");
    let netns = NetNs::open(node.netns.path()).unwrap();
    let attach = || {
        let mut other = Datapath::open(config).unwrap();
        other.attach_pod(pod.endpoint()).unwrap();
        other
    };
    let other = netns.run(attach).unwrap();
    // On the uplink it stands behind ours and is never asked, in the cgroup it is; a link's filter it has replaced.
    let (pods, sockets): (Vec<_>, Vec<_>) = faults(&mut node).into_iter().partition(|it| it.contains("_pod"));
    assert_eq!(pods, ["to_pod has other constants", "from_pod has other constants"]);
    assert_eq!(sockets.len(), 9);
    assert!(sockets.contains(&"connect4 is followed by connect4".to_owned()), "{sockets:?}");
    drop(other);
}
