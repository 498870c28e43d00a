//! Policy rows and routes, written to the kernel and read back.

mod common;

use common::*;
use kilter_datapath::{DropReason, NodeRoute};
use kilter_model::{Direction, PortRange};
use kilter_policy::{
    ClassId, Decision, Interval, Plan, PostureId, ProtocolClass, RuleId, SetId, Tables, Verdict, Write,
};

/// Rows of every kind, with port ranges that need many prefixes.
fn rows() -> Vec<Write> {
    let decision = |rule| Decision {
        verdict: if rule % 2 == 0 { Verdict::Allow } else { Verdict::Deny },
        rule: RuleId(rule),
    };
    let mut rows = Vec::new();
    for set in 10..14 {
        rows.push(Write::PutSet { set: SetId(set), default: decision(set) });
        for class in 2..20 {
            let decision = decision(set * 100 + class);
            rows.push(Write::PutException { set: SetId(set), class: ClassId(class), decision });
        }
    }
    let cuts = [0u16, 1, 80, 81, 443, 1_024, 5_000, 32_768, 65_535];
    for (index, pair) in cuts.windows(2).enumerate() {
        let last = if pair[1] == u16::MAX { u16::MAX } else { pair[1] - 1 };
        let interval = Interval {
            posture: PostureId(9),
            direction: Direction::Ingress,
            protocol: ProtocolClass::Tcp,
            ports: PortRange { first: pair[0], last },
        };
        rows.push(Write::PutInterval { interval, set: SetId(10 + index as u32 % 4) });
    }
    for (prefix, class) in [
        ("10.0.0.0/8", 2),
        ("10.244.0.0/16", 3),
        ("10.244.7.0/24", 4),
        ("10.244.7.9/32", 5),
        ("fd00::/8", 2),
        ("fd00:244:7::9/128", 3),
    ] {
        rows.push(Write::PutClass { prefix: prefix.parse().unwrap(), class: ClassId(class) });
    }
    for address in ["10.244.1.99", "fd00:244:1::99"] {
        rows.push(Write::PutPosture { address: address.parse().unwrap(), posture: PostureId(9) });
    }
    rows
}

#[test]
fn policy_rows_come_back_as_they_were_written() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let mut expected = node.datapath().read_policy().unwrap();
    let before = expected.clone();
    let rows = rows();
    rows.iter().for_each(|write| expected.apply(write));
    node.apply(rows.clone());
    assert_eq!(node.datapath().read_policy().unwrap(), expected);
    node.reopen();
    assert_eq!(node.datapath().read_policy().unwrap(), expected);

    let gone = rows.iter().rev().filter_map(|write| match *write {
        Write::PutSet { set, .. } => Some(Write::DeleteSet { set }),
        Write::PutException { set, class, .. } => Some(Write::DeleteException { set, class }),
        Write::PutInterval { interval, .. } => Some(Write::DeleteInterval { interval }),
        Write::PutClass { prefix, .. } => Some(Write::DeleteClass { prefix }),
        Write::PutPosture { address, .. } => Some(Write::DeletePosture { address }),
        _ => None,
    });
    let plan = Plan { retire: gone.collect(), ..Plan::default() };
    node.datapath().apply_policy(&plan).unwrap();
    assert_eq!(node.datapath().read_policy().unwrap(), before);
}

#[test]
fn a_set_that_goes_takes_its_exceptions_with_it() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let before = node.datapath().read_policy().unwrap();
    let allow = Decision { verdict: Verdict::Allow, rule: ALLOW };
    let set = SetId(40);
    node.apply(vec![
        Write::PutSet { set, default: allow },
        Write::PutException { set, class: ClassId(3), decision: allow },
        Write::DeleteSet { set },
    ]);
    assert_eq!(node.datapath().read_policy().unwrap(), before);
    // One of the same number starts empty.
    node.apply(vec![Write::PutSet { set, default: allow }]);
    let tables: Tables = node.datapath().read_policy().unwrap();
    assert!(tables.sets[&set].exceptions.is_empty());
}

#[test]
fn a_verdict_that_changes_in_place_reaches_live_flows() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let (a, b) = (node.pod(5), node.pod(6));
    let (here, there) = (udp(&a.netns, a.address, 0), udp(&b.netns, b.address, 5000));
    here.send_to(b"one", (b.address, 5000)).unwrap();
    there.recv_from(&mut [0; 8]).unwrap();
    let deny = Decision { verdict: Verdict::Deny, rule: DENY };
    node.apply(vec![Write::PutException { set: SetId(1), class: ClassId(1), decision: deny }]);
    // A new row in a set in use is meant for classes that no address has yet; nobody asks again.
    // The default of a set is in use.
    node.apply(vec![
        Write::DeleteException { set: SetId(1), class: ClassId(1) },
        Write::PutSet { set: SetId(1), default: deny },
    ]);
    here.send_to(b"two", (b.address, 5000)).unwrap();
    assert_eq!(node.dropped(a.address, b.address), (DropReason::Revoked, Direction::Egress, Some(DENY)));
}

#[test]
fn an_address_without_a_class_is_denied() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let a = node.pod(5);
    let client = udp(&a.netns, a.address, 0);
    let server = udp(&fabric.netns, OUTSIDE, 5000);
    client.send_to(b"one", (OUTSIDE, 5000)).unwrap();
    server.recv(&mut [0; 8]).unwrap();
    // The flow that lives was judged by the row that goes.
    node.apply(vec![Write::DeleteClass { prefix: "0.0.0.0/0".parse().unwrap() }]);
    client.send_to(b"two", (OUTSIDE, 5000)).unwrap();
    assert_eq!(node.dropped(a.address, OUTSIDE), (DropReason::Revoked, Direction::Egress, None));
    client.send_to(b"new", (OUTSIDE, 5001)).unwrap();
    assert_eq!(node.dropped(a.address, OUTSIDE), (DropReason::NotLoaded, Direction::Egress, None));
    // A row that appears reaches the flows of addresses that had none.
    node.apply(vec![Write::PutClass { prefix: "10.240.0.0/16".parse().unwrap(), class: ClassId(1) }]);
    client.send_to(b"three", (OUTSIDE, 5000)).unwrap();
    server.recv(&mut [0; 8]).unwrap();
}

/// Both families have one table, in which all of IPv4 is a small part of `::/0`.
#[test]
fn what_all_of_ipv6_is_says_nothing_about_ipv4() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let a = node.pod(5);
    masquerade(&node);
    let before = node.datapath().read_policy().unwrap();
    let everything = "0.0.0.0/0".parse().unwrap();
    node.apply(vec![Write::DeleteClass { prefix: everything }]);
    assert!(!node.datapath().read_policy().unwrap().classes.contains_key(&everything));
    let client = udp(&a.netns, a.address, 0);
    client.send_to(b"one", (OUTSIDE, 5000)).unwrap();
    assert_eq!(node.dropped(a.address, OUTSIDE), (DropReason::NotLoaded, Direction::Egress, None));
    assert_reaches(&a.netns, &fabric.netns, OUTSIDE6, 80);
    node.reopen();
    client.send_to(b"two", (OUTSIDE, 5000)).unwrap();
    assert_eq!(node.dropped(a.address, OUTSIDE), (DropReason::NotLoaded, Direction::Egress, None));
    node.apply(vec![Write::PutClass { prefix: everything, class: ClassId(1) }]);
    assert_eq!(node.datapath().read_policy().unwrap(), before);
}

#[test]
fn routes_are_replaced_as_a_whole() {
    let fabric = Fabric::new();
    let mut node = Node::new(&fabric, 1);
    let route = |third: u8, last: u8| NodeRoute {
        prefix: format!("10.244.{third}.0/24").parse().unwrap(),
        next_hop: format!("10.240.0.{last}").parse().unwrap(),
    };
    let over_ipv6 =
        NodeRoute { prefix: "fd00:244:2::/64".parse().unwrap(), next_hop: "fd00:240::12".parse().unwrap() };
    let first = [route(2, 12), route(3, 13), route(4, 14), over_ipv6];
    node.datapath().set_routes(&first).unwrap();
    assert_eq!(node.datapath().read_routes().unwrap(), first);
    let second = [route(3, 33), route(4, 14), route(5, 15)];
    node.datapath().set_routes(&second).unwrap();
    assert_eq!(node.datapath().read_routes().unwrap(), second);
    node.reopen();
    node.datapath().set_routes(&first).unwrap();
    assert_eq!(node.datapath().read_routes().unwrap(), first);
}
