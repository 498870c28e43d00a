//! The third witness: the loaded programs, run on packets with the rows that this crate wrote.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use kilter_model::Direction;
use kilter_netns::NetNs;
use kilter_policy::{Plan, ProtocolClass, RuleId, Tables};
use kilter_testkit::Packet;

use super::question::{Place, Question, Shape, Way, Word};
use crate::common::{Fabric, Node, Pod, pod_mac};
use crate::fixtures::{Ran, link_address, test_run};
use crate::loader::{Programs, wire};
use crate::{Event, Flow, GATEWAY_MAC, NodeRoute};

/// `TCX_DROP`.
const DROPPED: u32 = 2;
/// Of the first question; each has one of its own. None is a port that questions are about: two that meet in one
/// flow, each the other's answer, would be one connection.
const SOURCE_PORT: u16 = 20_000;
/// What the programs say, or what about it cannot be right whatever the rules are.
pub(super) type Answer = Result<Word<RuleId>, String>;

/// A node whose pods' links exist, attached, whether or not a cluster has pods at their addresses.
pub(super) struct Kernel {
    node: Node,
    pods: Vec<Pod>,
    uplink_mac: [u8; 6],
    /// Programs to run instead of the node's own, over the same maps.
    pub(super) instead: Option<Programs>,
    _fabric: Fabric,
}

/// A question that was put as this packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) question: Question,
    source_port: u16,
}

impl Asked {
    fn new(question: Question, source_port: u16) -> Self {
        Self { question, source_port }
    }

    /// The ends of its flow.
    fn ends(&self) -> (SocketAddr, SocketAddr, u8) {
        let Question { from, to, protocol, port, .. } = self.question;
        let port = if protocol == ProtocolClass::Other { self.source_port } else { port };
        ((from, self.source_port).into(), (to, port).into(), number(protocol, from))
    }
}

impl Kernel {
    /// The calling thread is in the node's namespace afterwards.
    pub(super) fn new() -> Self {
        let fabric = Fabric::new();
        let mut node = Node::with(&fabric, 1, |config| {
            config.pod_cidrs = vec!["10.244.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
            config.max_flows = 1 << 19;
        });
        let pods: Vec<Pod> = [1, 2, 3, 5].into_iter().map(|last| attach(&mut node, last)).collect();
        let others = NodeRoute {
            prefix: "10.244.0.0/16".parse().unwrap(),
            next_hop: "10.240.0.12".parse().unwrap(),
        };
        node.datapath().set_routes(&[others]).unwrap();
        node.datapath().report_flows(true).unwrap();
        let uplink_mac = node.netns.run(|| link_address("eth0")).unwrap();
        // Interfaces of a test run are those of the thread's namespace; a thread a packet is too slow.
        NetNs::open(node.netns.path()).unwrap().set().unwrap();
        Self { node, pods, uplink_mac, instead: None, _fabric: fabric }
    }

    pub(super) fn place(&self) -> Place {
        Place {
            pods: self.pods.iter().flat_map(Pod::both).collect(),
            node: self.node.config.node_ips[0],
        }
    }

    /// How the node's data plane was opened.
    pub(super) fn config(&self) -> &crate::Config {
        &self.node.config
    }

    /// The rows that the kernel holds.
    pub(super) fn tables(&mut self) -> Tables {
        self.node.datapath().read_policy().unwrap()
    }

    pub(super) fn write(&mut self, plan: &Plan) {
        self.node.datapath().apply_policy(plan).unwrap();
    }

    /// Deletes every class row, which no compiler does.
    pub(super) fn lose_classes(&mut self) {
        let classes = &self.node.datapath().maps.classes;
        classes.keys().unwrap().iter().for_each(|key| assert!(classes.remove(key).unwrap()));
    }

    /// Puts questions, each as a new connection, and says which packets they were.
    pub(super) fn ask(&mut self, questions: &[Question]) -> Vec<(Asked, Answer)> {
        self.forget();
        let asked: Vec<Asked> = (SOURCE_PORT..).zip(questions).map(|(port, it)| Asked::new(*it, port)).collect();
        let heard = asked.iter().map(|asked| self.hear(asked, asked.question.shape)).collect();
        self.answers(asked, heard)
    }

    /// Sends another packet of each connection that was allowed.
    pub(super) fn ask_again(&mut self, asked: Vec<Asked>) -> Vec<(Asked, Answer)> {
        let heard = asked.iter().map(|asked| self.hear(asked, Shape::MidStream)).collect();
        self.answers(asked, heard)
    }

    /// Completes what was heard with the rules that the flows' entries name.
    fn answers(&mut self, asked: Vec<Asked>, heard: Vec<Option<Answer>>) -> Vec<(Asked, Answer)> {
        let flows = self.node.datapath().read_flows().unwrap().into_iter();
        let flows: HashMap<_, Flow> = flows.map(|flow| ((flow.from, flow.to, flow.protocol), flow)).collect();
        let complete = |asked: Asked, heard: Option<Answer>| {
            let passed = || {
                let flow = flows.get(&asked.ends()).ok_or("it passed without an entry")?;
                Ok(Word::Allowed { egress: flow.egress_rule, ingress: flow.ingress_rule })
            };
            (asked, heard.unwrap_or_else(passed))
        };
        asked.into_iter().zip(heard).map(|(asked, heard)| complete(asked, heard)).collect()
    }

    /// What the programs tell of one packet; `None`: it passed.
    fn hear(&mut self, asked: &Asked, shape: Shape) -> Option<Answer> {
        let returned = self.send(asked, shape).returned;
        match self.node.drain()[..] {
            [] | [Event::Open { .. }] if returned != DROPPED => None,
            // A connection that is reset is dropped as well, but its packet goes on as the reset.
            [Event::Drop { direction, reason, rule, .. }] => Some(refused(direction, reason, rule)),
            ref events => Some(Err(format!("returned {} and told {events:?}", returned as i32))),
        }
    }

    /// Purges every flow, so that source ports may be used again.
    fn forget(&mut self) {
        let datapath = self.node.datapath.as_ref().unwrap();
        for address in self.pods.iter().flat_map(Pod::both) {
            datapath.run_sweep(wire(address)).unwrap();
        }
    }

    fn send(&self, asked: &Asked, shape: Shape) -> Ran {
        let Question { from, to, way, .. } = asked.question;
        let uplink = self.node.config.uplink_ifindex;
        let link = |address: IpAddr| self.pods.iter().find(|pod| pod.both().contains(&address));
        let mut packet = packet(asked, shape);
        let (program, ifindex, ingress_ifindex) = match (link(from), link(to)) {
            (Some(pod), _) => {
                packet = packet.macs(pod_mac(pod.address), GATEWAY_MAC);
                ("from_pod", pod.ifindex, 0)
            }
            (None, Some(pod)) if self.node.config.node_ips.contains(&from) => ("to_pod", pod.ifindex, 0),
            (None, Some(pod)) if way == Way::Stack => ("to_pod", pod.ifindex, 1),
            (None, _) => {
                packet = packet.macs([2; 6], self.uplink_mac);
                ("from_uplink", uplink, 0)
            }
        };
        let frame = packet.build();
        let program = self.program(program);
        test_run(program, &frame, ifindex, ingress_ifindex)
    }

    fn program(&self, name: &'static str) -> BorrowedFd<'_> {
        let own = &self.node.datapath.as_ref().unwrap().programs;
        self.instead.as_ref().unwrap_or(own).get(name).unwrap()
    }
}

fn attach(node: &mut Node, last: u8) -> Pod {
    let pod = node.wire(last);
    let datapath = node.datapath.as_mut().unwrap();
    node.netns.run(|| datapath.attach_pod(pod.endpoint())).unwrap().unwrap();
    pod
}

fn refused(
    direction: Direction,
    reason: crate::DropReason,
    rule: Option<RuleId>,
) -> Answer {
    use crate::DropReason::{NoFlow, NotLoaded, Policy, Revoked};
    match (reason, rule) {
        (Policy | NoFlow | Revoked, Some(rule)) => Ok(Word::Refused(direction, rule)),
        (NotLoaded | NoFlow | Revoked, None) => Ok(Word::NotLoaded),
        _ => Err(format!("dropped: {reason}, {direction}, rule {rule:?}")),
    }
}

fn number(protocol: ProtocolClass, from: IpAddr) -> u8 {
    match protocol {
        // Echo requests stand for what has no ports: their identifier keeps their flows apart.
        ProtocolClass::Other if from.is_ipv6() => 58,
        ProtocolClass::Other => 1,
        ported => ported.number(),
    }
}

fn packet(asked: &Asked, shape: Shape) -> Packet {
    let Asked { question: Question { from, to, protocol, port, .. }, source_port } = *asked;
    let socket = |address: IpAddr, port: u16| SocketAddr::new(address, port).to_string();
    let (source, destination) = (socket(from, source_port), socket(to, port));
    let packet = match protocol {
        ProtocolClass::Tcp => match shape {
            Shape::MidStream => Packet::tcp(&source, &destination).ack(),
            _ => Packet::tcp(&source, &destination).syn(),
        },
        ProtocolClass::Udp => Packet::udp(&source, &destination).payload([7; 24]),
        ProtocolClass::Sctp => {
            let ports = [source_port.to_be_bytes(), port.to_be_bytes()].concat();
            Packet::other(&from.to_string(), &to.to_string(), 132).payload([&ports[..], &[0; 20]].concat())
        }
        ProtocolClass::Other => Packet::echo_request(&from.to_string(), &to.to_string(), source_port),
    };
    match (shape, protocol) {
        (Shape::FirstFragment, ProtocolClass::Udp) => packet.first_fragment(source_port.into()),
        (Shape::Options, _) if from.is_ipv4() => packet.ip_options(&[1; 40]),
        _ => packet,
    }
}
