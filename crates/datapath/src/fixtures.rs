//! What each program does with one packet, as tables: `BPF_PROG_TEST_RUN` of the loaded programs, in
//! the namespace of a wired node. The path table in `bpf/README.md` is checked here row by row.

use std::mem::offset_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use kilter_policy::PostureId;
use kilter_testkit::Packet;

use crate::common::{FRIENDS, Fabric, NO_EGRESS, NO_INGRESS, Node, OPEN, Pod, pod_mac};
use crate::skel::types;
use crate::{Datapath, DropReason, EGRESS_MARK, GATEWAY_MAC};

/// Addresses of the fixtures. A and B are pods of the node, C is one of another node.
const A: &str = "10.244.1.5";
const B: &str = "10.244.1.6";
const C: &str = "10.244.2.5";
const OUTSIDE: &str = "203.0.113.9";
const NODE: &str = "10.240.0.11";

/// Where a packet enters.
#[derive(Debug, Clone, Copy)]
enum At {
    /// Sent by pod A or B.
    FromA,
    FromB,
    /// Into A or B, by a socket of the node.
    ToAOwn,
    /// Into A, forwarded from the uplink or from pod B's link.
    ToAFromUplink,
    ToAFromB,
    /// From the uplink.
    Uplink,
}

/// What must become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Redirected into this pod, with its MAC addresses.
    Into(&'static str),
    /// Redirected to another node, its TTL one less.
    Away,
    /// Given to the stack as it is, marked for masquerading or not.
    Stack,
    Marked,
    /// Left to whoever comes next on the uplink.
    PassOn,
    /// Answered at once, to the pod that asked.
    Answered,
    /// Dropped, and counted so.
    Drop(DropReason),
}

struct Case {
    name: &'static str,
    /// The postures of A and B; everything is allowed where none is said.
    postures: [PostureId; 2],
    steps: Vec<(At, Vec<u8>, Then)>,
}

struct World {
    node: Node,
    a: Pod,
    b: Pod,
    uplink_mac: [u8; 6],
    _fabric: Fabric,
}

impl World {
    fn new(max_flows: u32) -> Self {
        let fabric = Fabric::new();
        let mut node = Node::with(&fabric, 1, |config| config.max_flows = max_flows);
        let (a, b) = (node.pod(5), node.pod(6));
        let address =
            node.netns.run(|| std::fs::read_to_string("/proc/net/arp").map(|_| link_address("eth0")));
        let uplink_mac = address.unwrap().unwrap();
        Self { node, a, b, uplink_mac, _fabric: fabric }
    }

    fn run(&mut self, case: &Case) {
        let [a, b] = case.postures;
        self.node.posture(&self.a, a);
        self.node.posture(&self.b, b);
        for pod in [&self.a, &self.b] {
            self.node.datapath.as_ref().unwrap().run_sweep(crate::loader::wire(pod.address)).unwrap();
        }
        for (number, (at, frame, then)) in case.steps.iter().enumerate() {
            self.step(&format!("{}, step {}", case.name, number + 1), *at, frame, *then);
        }
    }

    fn step(&mut self, name: &str, at: At, frame: &[u8], then: Then) {
        let uplink = self.node.config.uplink_ifindex;
        let (program, ifindex, ingress_ifindex) = match at {
            At::FromA => ("from_pod", self.a.ifindex, 0),
            At::FromB => ("from_pod", self.b.ifindex, 0),
            At::ToAOwn => ("to_pod", self.a.ifindex, 0),
            At::ToAFromUplink => ("to_pod", self.a.ifindex, uplink),
            At::ToAFromB => ("to_pod", self.a.ifindex, self.b.ifindex),
            At::Uplink => ("from_uplink", uplink, 0),
        };
        let mut frame = frame.to_vec();
        match at {
            At::Uplink if frame[..6] == GATEWAY_MAC => frame[..6].copy_from_slice(&self.uplink_mac),
            _ => {}
        }
        let before = self.node.datapath().stats().unwrap().drops;
        let netns = &self.node.netns;
        let datapath = self.node.datapath.as_ref().unwrap();
        let ran = netns.run(|| test_run(datapath, program, &frame, ifindex, ingress_ifindex)).unwrap();
        let after = self.node.datapath().stats().unwrap().drops;
        let counted = after.iter().filter(|(reason, count)| before.get(reason).unwrap_or(&0) < count);
        let counted: Vec<_> = counted.map(|(reason, _)| *reason).collect();
        let became = ran.read(&frame, &counted);
        assert_eq!(became, Some(then), "{name}: {at:?} returned {} {counted:?}", ran.returned as i32);
    }
}

/// The MAC address of an interface of the calling thread's namespace.
fn link_address(name: &str) -> [u8; 6] {
    let output = std::process::Command::new("ip").args(["-o", "link", "show", name]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let hex = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    let bytes: Vec<u8> = hex.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

struct Ran {
    returned: u32,
    mark: u32,
    frame: Vec<u8>,
}

impl Ran {
    /// In the words of the table, or `None` where it has none.
    fn read(&self, sent: &[u8], counted: &[DropReason]) -> Option<Then> {
        let unchanged = self.frame == sent;
        match (self.returned as i32, counted) {
            (-1, []) if unchanged => Some(Then::PassOn),
            (0, []) if unchanged && self.mark == EGRESS_MARK => Some(Then::Marked),
            (0, []) if unchanged && self.mark == 0 => Some(Then::Stack),
            (2, [reason]) => Some(Then::Drop(*reason)),
            (7, []) if self.frame[12..14] == [8, 6] => Some(Then::Answered),
            (7, []) => self.redirected(sent),
            _ => None,
        }
    }

    fn redirected(&self, sent: &[u8]) -> Option<Then> {
        if self.frame[6..12] == GATEWAY_MAC && self.frame[12..] == sent[12..] {
            let pods = [A, B].into_iter();
            let mut found = pods.filter(|pod| self.frame[..6] == pod_mac(pod.parse().unwrap()));
            return found.next().map(Then::Into);
        }
        // Only the TTL and the checksum differ, and the checksum is right.
        let mut expected = sent.to_vec();
        expected[22] -= 1;
        let header = &mut expected[14..14 + usize::from(sent[14] & 15) * 4];
        header[10..12].fill(0);
        let sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let check = !((sum & 0xffff) + (sum >> 16)) as u16;
        expected[24..26].copy_from_slice(&check.to_be_bytes());
        (self.frame == expected).then_some(Then::Away)
    }
}

fn test_run(
    datapath: &Datapath,
    program: &'static str,
    frame: &[u8],
    ifindex: u32,
    ingress_ifindex: u32,
) -> Ran {
    // As bytes: the kernel wants the struct's padding to be zero.
    let mut bytes = [0; size_of::<types::__sk_buff>()];
    for (offset, value) in [
        (offset_of!(types::__sk_buff, ifindex), ifindex),
        (offset_of!(types::__sk_buff, ingress_ifindex), ingress_ifindex),
    ] {
        bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    let mut out = vec![0; frame.len() + 256];
    let (size, context) = (bytes.len() as u32, bytes.as_mut_ptr());
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        data_out: out.as_mut_ptr().cast(),
        data_size_out: out.len() as u32,
        ctx_in: context.cast(),
        ctx_size_in: size,
        ctx_out: context.cast(),
        ctx_size_out: size,
        ..Default::default()
    };
    let program = datapath.programs.get(program).unwrap();
    // SAFETY: the options say their size; every buffer in them lives during the call and has the
    // size that is given with it.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_fd().as_raw_fd(), &mut options) };
    assert_eq!(result, 0, "test run: {}", std::io::Error::from_raw_os_error(-result));
    out.truncate(options.data_size_out as usize);
    let mark = offset_of!(types::__sk_buff, mark);
    let mark = u32::from_ne_bytes(bytes[mark..mark + 4].try_into().unwrap());
    Ran { returned: options.retval, mark, frame: out }
}

fn socket(address: &str, port: u16) -> String {
    format!("{address}:{port}")
}

/// With the MAC addresses that it has where it enters.
fn frame(packet: Packet, from: &str) -> Vec<u8> {
    let source: Ipv4Addr = from.parse().unwrap();
    packet.macs(pod_mac(source), GATEWAY_MAC).build()
}

fn tcp(from: (&str, u16), to: (&str, u16), flags: fn(Packet) -> Packet) -> Vec<u8> {
    frame(flags(Packet::tcp(&socket(from.0, from.1), &socket(to.0, to.1))), from.0)
}

fn udp(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    frame(udp_packet(from, to), from.0)
}

fn udp_packet(from: (&str, u16), to: (&str, u16)) -> Packet {
    Packet::udp(&socket(from.0, from.1), &socket(to.0, to.1)).payload([7; 24])
}

fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mac = pod_mac(A.parse().unwrap());
    let header = [0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &mac, &[8, 6], &header, &mac, &sender, &[0; 6], &target].concat()
}

const SYN: fn(Packet) -> Packet = Packet::syn;
const SYN_ACK: fn(Packet) -> Packet = Packet::syn_ack;
const ACK: fn(Packet) -> Packet = Packet::ack;
const RST: fn(Packet) -> Packet = Packet::rst;

fn case<const N: usize>(name: &'static str, steps: [(At, Vec<u8>, Then); N]) -> Case {
    Case { name, postures: [OPEN, OPEN], steps: steps.into() }
}

fn with<const N: usize>(
    name: &'static str,
    postures: [PostureId; 2],
    steps: [(At, Vec<u8>, Then); N],
) -> Case {
    Case { name, postures, steps: steps.into() }
}

/// Destinations of a pod's packets: each row of the path table.
fn paths() -> Vec<Case> {
    use At::*;
    use Then::*;
    let to = |to: &'static str, then| (FromA, tcp((A, 40_000), (to, 80), SYN), then);
    vec![
        case("to a pod of the node", [to(B, Into(B))]),
        case("to a pod of another node", [to(C, Away)]),
        case("to the outside", [to(OUTSIDE, Marked)]),
        case("to another node", [to("10.240.0.12", Marked)]),
        case("to the own node", [to(NODE, Stack)]),
        case("to no pod of the own block", [to("10.244.1.9", Drop(DropReason::NoEndpoint))]),
        case("to a block that no route leads to", [to("10.244.9.1", Drop(DropReason::NoRoute))]),
        case("to a Service, untranslated", [to("10.96.0.10", Drop(DropReason::NoService))]),
        case("to a group", [to("224.0.0.1", Drop(DropReason::NotUnicast))]),
        case("to everybody", [to("255.255.255.255", Drop(DropReason::NotUnicast))]),
        case("to itself, over the link", [to(A, Drop(DropReason::Malformed))]),
        case(
            "at the end of its life, to another node",
            [(FromA, frame(Packet::tcp("10.244.1.5:40000", "10.244.2.5:80").syn().ttl(1), A), Stack)],
        ),
        case(
            "too big for the uplink",
            [(FromA, frame(udp_packet((A, 1), (C, 2)).payload([0; 1_600]), A), Stack)],
        ),
        case("with IP options", [(FromA, frame(udp_packet((A, 1), (C, 2)).ip_options(&[1; 40]), A), Away)]),
        case(
            "of a protocol without ports",
            [
                (FromA, frame(Packet::other(A, B, 47), A), Into(B)),
                (FromB, frame(Packet::other(B, A, 47), B), Into(A)),
            ],
        ),
    ]
}

/// Who a packet says it is from.
fn sources() -> Vec<Case> {
    use At::*;
    use Then::*;
    let syn = || Packet::tcp("10.244.1.5:40000", "10.244.1.6:80").syn();
    vec![
        case(
            "another pod's address",
            [(FromA, tcp((B, 40_000), (C, 80), SYN), Drop(DropReason::SourceAddress))],
        ),
        case(
            "another MAC",
            [(FromA, syn().macs([2, 0, 0, 0, 0, 9], GATEWAY_MAC).build(), Drop(DropReason::SourceMac))],
        ),
        case(
            "not to the gateway's MAC",
            [(
                FromA,
                syn().macs(pod_mac(A.parse().unwrap()), [2, 0, 0, 0, 0, 9]).build(),
                Drop(DropReason::Link),
            )],
        ),
        case(
            "another pod's flow",
            [
                (FromB, udp((B, 4_000), (C, 80)), Away),
                (FromA, udp((B, 4_000), (C, 80)), Drop(DropReason::SourceAddress)),
            ],
        ),
        case("ARP for the gateway", [(FromA, arp([10, 244, 1, 5], [169, 254, 1, 1]), Answered)]),
        case("ARP for another pod", [(FromA, arp([10, 244, 1, 5], [10, 244, 1, 6]), Drop(DropReason::Link))]),
        case(
            "ARP as another pod",
            [(FromA, arp([10, 244, 1, 6], [169, 254, 1, 1]), Drop(DropReason::SourceAddress))],
        ),
        case(
            "IPv6",
            [(
                FromA,
                [&GATEWAY_MAC[..], &pod_mac(A.parse().unwrap()), &[0x86, 0xdd], &[0x60; 40]].concat(),
                Drop(DropReason::Link),
            )],
        ),
        case(
            "a header that is too short",
            [(FromA, frame(Packet::other(A, B, 6).payload([0; 12]), A), Drop(DropReason::Malformed))],
        ),
    ]
}

/// Which packet may open a connection, and which only belongs to one.
fn connections() -> Vec<Case> {
    use At::*;
    use Then::*;
    let policy = Drop(DropReason::Policy);
    let no_flow = Drop(DropReason::NoFlow);
    vec![
        with(
            "a reply needs no permission",
            [NO_INGRESS, NO_EGRESS],
            [
                (FromA, tcp((A, 40_000), (B, 80), SYN), Into(B)),
                (FromB, tcp((B, 80), (A, 40_000), SYN_ACK), Into(A)),
                (FromA, tcp((A, 40_000), (B, 80), ACK), Into(B)),
            ],
        ),
        with(
            "an entry does not let the other end open",
            [NO_INGRESS, OPEN],
            [
                (FromA, tcp((A, 40_000), (B, 80), SYN), Into(B)),
                (FromB, tcp((B, 80), (A, 40_000), SYN), policy),
                (FromB, tcp((B, 80), (A, 40_000), SYN_ACK), Into(A)),
            ],
        ),
        with("egress of the sender", [NO_EGRESS, OPEN], [(FromA, tcp((A, 40_000), (B, 80), SYN), policy)]),
        with("ingress of the receiver", [OPEN, NO_INGRESS], [(FromA, udp((A, 40_000), (B, 80)), policy)]),
        with("a class that is no friend", [OPEN, FRIENDS], [(FromA, tcp((A, 1), (B, 80), SYN), policy)]),
        case(
            "an answer to nothing",
            [
                (FromB, tcp((B, 80), (A, 40_000), SYN_ACK), no_flow),
                (FromB, tcp((B, 80), (A, 40_000), RST), no_flow),
            ],
        ),
        case(
            "the middle of a connection whose entry is lost",
            [
                (FromA, tcp((A, 40_000), (B, 80), ACK), Into(B)),
                (FromB, tcp((B, 80), (A, 40_000), ACK), Into(A)),
            ],
        ),
        with(
            "the middle of one that policy forbids",
            [OPEN, NO_INGRESS],
            [(FromA, tcp((A, 40_000), (B, 80), ACK), no_flow)],
        ),
        with(
            "pings both ways with one identifier",
            [NO_INGRESS, OPEN],
            [
                (FromA, frame(Packet::echo_request(A, B, 7), A), Into(B)),
                (FromB, frame(Packet::echo_reply(B, A, 7), B), Into(A)),
                (FromB, frame(Packet::echo_request(B, A, 7), B), policy),
            ],
        ),
        case("an echo that nobody asked for", [(FromA, frame(Packet::echo_reply(A, B, 7), A), no_flow)]),
        case(
            "an error about a known packet",
            [
                (FromA, udp((A, 4_000), (B, 53)), Into(B)),
                (
                    FromB,
                    frame(Packet::fragmentation_needed(B, &udp_packet((A, 4_000), (B, 53)), 1_400), B),
                    Into(A),
                ),
            ],
        ),
        case(
            "an error about a packet that never was",
            [(
                FromB,
                frame(Packet::fragmentation_needed(B, &udp_packet((A, 4_000), (B, 53)), 1_400), B),
                no_flow,
            )],
        ),
        case(
            "an error about somebody else's packet",
            [
                (FromA, udp((A, 4_000), (C, 53)), Away),
                (
                    FromB,
                    frame(Packet::fragmentation_needed(B, &udp_packet((A, 4_000), (C, 53)), 1_400), B),
                    Drop(DropReason::SourceAddress),
                ),
            ],
        ),
        with(
            "fragments follow their first",
            [OPEN, OPEN],
            [
                (FromA, frame(udp_packet((A, 4_000), (B, 53)).first_fragment(9), A), Into(B)),
                (FromA, frame(udp_packet((A, 4_000), (B, 53)).later_fragment(9, 4, false), A), Into(B)),
                (
                    FromA,
                    frame(udp_packet((A, 4_000), (B, 53)).later_fragment(10, 4, false), A),
                    Drop(DropReason::Fragment),
                ),
            ],
        ),
        with(
            "a first fragment that is refused admits no others",
            [OPEN, NO_INGRESS],
            [
                (FromA, frame(udp_packet((A, 4_000), (B, 53)).first_fragment(11), A), policy),
                (
                    FromA,
                    frame(udp_packet((A, 4_000), (B, 53)).later_fragment(11, 4, false), A),
                    Drop(DropReason::Fragment),
                ),
            ],
        ),
        case(
            "a fragment over the TCP flags",
            [(
                FromA,
                frame(
                    Packet::tcp("10.244.1.5:1", "10.244.1.6:2").payload([0; 16]).later_fragment(12, 1, false),
                    A,
                ),
                Drop(DropReason::Malformed),
            )],
        ),
    ]
}

/// What the stack sends into a pod.
fn into_pods() -> Vec<Case> {
    use At::*;
    use Then::*;
    let policy = Drop(DropReason::Policy);
    vec![
        with(
            "a socket of the node, always",
            [NO_INGRESS, OPEN],
            [
                (ToAOwn, tcp((NODE, 5_000), (A, 80), SYN), Stack),
                (FromA, tcp((A, 80), (NODE, 5_000), SYN_ACK), Stack),
            ],
        ),
        with(
            "its reply passes whatever egress says",
            [NO_EGRESS, OPEN],
            [
                (ToAOwn, udp((NODE, 5_000), (A, 80)), Stack),
                (FromA, udp((A, 80), (NODE, 5_000)), Stack),
                (FromA, udp((A, 80), (NODE, 5_001)), policy),
            ],
        ),
        with(
            "forwarded, judged like anybody",
            [NO_INGRESS, OPEN],
            [(ToAFromUplink, tcp((OUTSIDE, 5_000), (A, 80), SYN), policy)],
        ),
        case(
            "forwarded, its replies unmarked",
            [
                (ToAFromUplink, tcp((OUTSIDE, 5_000), (A, 80), SYN), Stack),
                (FromA, tcp((A, 80), (OUTSIDE, 5_000), SYN_ACK), Stack),
            ],
        ),
        with(
            "the reply from outside",
            [NO_INGRESS, OPEN],
            [
                (FromA, tcp((A, 40_000), (OUTSIDE, 80), SYN), Marked),
                (ToAFromUplink, tcp((OUTSIDE, 80), (A, 40_000), SYN_ACK), Stack),
            ],
        ),
        case(
            "a pod's packet that was too big for the redirect",
            [
                (FromB, udp((B, 1), (A, 2)), Into(A)),
                (ToAFromB, udp((B, 1), (A, 2)), Stack),
                (ToAFromUplink, udp((B, 1), (A, 2)), Drop(DropReason::WrongPath)),
            ],
        ),
        case(
            "forwarded under a pod's address",
            [(ToAFromUplink, udp((B, 1), (A, 3)), Drop(DropReason::SourceAddress))],
        ),
        case(
            "forwarded under the node's address",
            [(ToAFromUplink, udp((NODE, 1), (A, 3)), Drop(DropReason::SourceAddress))],
        ),
        case("for another pod", [(ToAOwn, udp((NODE, 1), (B, 3)), Drop(DropReason::NoEndpoint))]),
    ]
}

/// What arrives on the uplink.
fn from_outside() -> Vec<Case> {
    use At::*;
    use Then::*;
    vec![
        with(
            "a pod of another node",
            [OPEN, OPEN],
            [
                (Uplink, tcp((C, 40_000), (A, 80), SYN), Into(A)),
                (FromA, tcp((A, 80), (C, 40_000), SYN_ACK), Away),
                (Uplink, tcp((C, 40_000), (A, 80), ACK), Into(A)),
            ],
        ),
        with(
            "denied",
            [NO_INGRESS, OPEN],
            [(Uplink, tcp((C, 40_000), (A, 80), SYN), Drop(DropReason::Policy))],
        ),
        with(
            "a reply",
            [NO_INGRESS, OPEN],
            [
                (FromA, tcp((A, 40_000), (C, 80), SYN), Away),
                (Uplink, tcp((C, 80), (A, 40_000), SYN_ACK), Into(A)),
            ],
        ),
        case("for the node itself", [(Uplink, tcp((OUTSIDE, 1), (NODE, 22), SYN), PassOn)]),
        case("as the node itself", [(Uplink, tcp((NODE, 1), (A, 80), SYN), Drop(DropReason::SourceAddress))]),
        case("as a pod of this node", [(Uplink, tcp((B, 1), (A, 80), SYN), Drop(DropReason::SourceAddress))]),
        case(
            "as a pod of this node, to the node",
            [(Uplink, tcp((B, 1), (NODE, 80), SYN), Drop(DropReason::SourceAddress))],
        ),
        case("for nobody", [(Uplink, tcp((C, 1), ("10.244.1.9", 80), SYN), Drop(DropReason::NoEndpoint))]),
        case(
            "for another node's pod",
            [(Uplink, tcp((OUTSIDE, 1), (C, 80), SYN), Drop(DropReason::NoRoute))],
        ),
        case(
            "a frame for somebody else",
            [(
                Uplink,
                Packet::tcp("10.244.2.5:1", "10.244.1.5:80").syn().macs([2; 6], [4; 6]).build(),
                PassOn,
            )],
        ),
        case(
            "past the masquerade",
            [
                (FromA, udp((A, 4_000), (OUTSIDE, 53)), Marked),
                (Uplink, udp((OUTSIDE, 53), (A, 4_000)), Drop(DropReason::WrongPath)),
            ],
        ),
        case("ARP", [(Uplink, arp([10, 240, 0, 1], [10, 240, 0, 11]), PassOn)]),
    ]
}

#[test]
fn every_packet_goes_where_its_table_says() {
    let mut world = World::new(4_096);
    let tables = [paths(), sources(), connections(), into_pods(), from_outside()];
    for case in tables.iter().flatten() {
        world.run(case);
    }
}

#[test]
fn a_pod_fills_its_quota_and_not_the_table() {
    use At::*;
    // A pod may cause a quarter: two flows.
    let mut world = World::new(8);
    let opened = |from, port, then| {
        let at = if from == A { FromA } else { FromB };
        (at, udp((from, 1), (C, port)), then)
    };
    world.run(&case(
        "quota",
        [
            opened(A, 1, Then::Away),
            opened(A, 2, Then::Away),
            opened(A, 3, Then::Drop(DropReason::Quota)),
            opened(A, 2, Then::Away),
            opened(B, 1, Then::Away),
            (Uplink, udp((C, 9), (A, 9)), Then::Drop(DropReason::Quota)),
            (Uplink, udp((C, 9), (B, 9)), Then::Into(B)),
            (Uplink, udp((C, 10), (B, 9)), Then::Drop(DropReason::Quota)),
        ],
    ));
    let swept = world.node.datapath().sweep_flows().unwrap();
    assert_eq!((swept.live, swept.removed), (4, 0));
}
