//! Load balancers' addresses on the node network: who asks whose they are, and what arrives for them.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;

use common::*;
use kilter_datapath::DropReason;
use kilter_model::Protocol;
use kilter_netns::NetNs;
use kilter_services::{Backend, Flags, Frontend, FrontendRow, Plan, Write};

const VIPS: [&str; 2] = ["10.240.0.200", "fd00:240::ff07"];
const PORT: u16 = 443;

fn vip(family: usize) -> IpAddr {
    VIPS[family].parse().unwrap()
}

fn output(netns: &NetNs, line: &str) -> String {
    let run = || Command::new("sh").args(["-c", line]).output();
    let output = netns.run(run).unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn uplink_mac(node: &Node) -> String {
    let shown = output(&node.netns, "ip -o link show dev eth0");
    shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
}

fn bytes(mac: &str) -> [u8; 6] {
    let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Has a node answer for the address of a Service that leads to a pod, of each family, and for nothing else.
fn answer_for(node: &mut Node, pod: &Pod) {
    let mut plan = Plan::default();
    for family in FAMILIES {
        let revision = family as u32 + 1;
        let backend = Backend { address: pod.both()[family], port: 8443 };
        plan.prepare.push(Write::PutBackend { revision, slot: 0, backend });
        let frontend = Frontend::outside(vip(family), PORT, Protocol::Tcp);
        plan.switch.push(Write::PutFrontend { frontend, row: FrontendRow { revision, count: 1, flags: Flags::default(), affinity: 0, places: 0 } });
    }
    node.datapath().apply_services(&plan).unwrap();
    let mac = bytes(&uplink_mac(node));
    node.datapath().set_announced(&FAMILIES.map(vip).into(), mac).unwrap();
}

/// Under which hardware address the fabric knows it.
fn known_at(fabric: &Fabric, address: IpAddr) -> String {
    output(&fabric.netns, &format!("ip neigh show {address} dev br0"))
}

#[test]
fn a_neighbour_that_asks_is_told_and_reaches_the_service() {
    let fabric = Fabric::new();
    let (mut one, two) = (Node::new(&fabric, 1), Node::new(&fabric, 2));
    let pod = one.pod(5);
    answer_for(&mut one, &pod);
    for family in FAMILIES {
        let (vip, at) = (vip(family), pod.both()[family]);
        let listener = pod.netns.run(|| TcpListener::bind((at, 8443))).unwrap().unwrap();
        // From the fabric, and from another node, which forwards nothing to it but asks as anybody does.
        for netns in [&fabric.netns, &two.netns] {
            let client = connect(netns, vip, PORT, PATIENCE).unwrap();
            assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
            assert_eq!(client.peer_addr().unwrap(), SocketAddr::new(vip, PORT));
        }
        assert!(known_at(&fabric, vip).contains(&uplink_mac(&one)), "{}", known_at(&fabric, vip));
        // A question to the address itself, as neighbours ask that know it already.
        command(&fabric.netns, &format!("ip neigh change {vip} dev br0 nud probe"));
        let answered = || known_at(&fabric, vip).contains("REACHABLE");
        kilter_testkit::wait_until(PATIENCE, "a question to the address itself is answered", answered);
    }
    assert_eq!(one.datapath().read_announced().unwrap(), BTreeSet::from(FAMILIES.map(vip)));
    assert!(one.datapath().stats().unwrap().drops.is_empty());
}

#[test]
fn what_no_service_serves_there_is_refused_at_once_and_named() {
    let fabric = Fabric::new();
    let mut one = Node::new(&fabric, 1);
    let pod = one.pod(5);
    answer_for(&mut one, &pod);
    // The node's own sockets are not at an address that it only answers for.
    for family in FAMILIES {
        let _own = one.netns.run(|| TcpListener::bind((["0.0.0.0", "::"][family], 22))).unwrap().unwrap();
        let error = connect(&fabric.netns, vip(family), 22, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let (reason, ..) = one.dropped(OUTSIDES[family], vip(family));
        assert_eq!(reason, DropReason::NoService);
    }
}

#[test]
fn who_does_not_answer_for_an_address_says_nothing() {
    let fabric = Fabric::new();
    let mut one = Node::new(&fabric, 1);
    let pod = one.pod(5);
    answer_for(&mut one, &pod);
    one.datapath().set_announced(&BTreeSet::new(), [0; 6]).unwrap();
    one.reopen();
    assert_eq!(one.datapath().read_announced().unwrap(), BTreeSet::new());
    for family in FAMILIES {
        let error = connect(&fabric.netns, vip(family), PORT, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HostUnreachable);
        assert!(known_at(&fabric, vip(family)).contains("FAILED"));
    }
}

#[test]
fn answers_outlive_the_process_that_asked_for_them() {
    let fabric = Fabric::new();
    let mut one = Node::new(&fabric, 1);
    let pod = one.pod(5);
    answer_for(&mut one, &pod);
    one.datapath = None;
    let at = pod.both()[0];
    let listener = pod.netns.run(|| TcpListener::bind((at, 8443))).unwrap().unwrap();
    connect(&fabric.netns, vip(0), PORT, PATIENCE).unwrap();
    listener.accept().unwrap();
    one.reopen();
    assert_eq!(one.datapath().read_announced().unwrap(), BTreeSet::from(FAMILIES.map(vip)));
}
