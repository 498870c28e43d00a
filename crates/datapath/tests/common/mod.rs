//! Nodes and pods of a test: namespaces joined by veth pairs, wired as the agent wires them.

#![allow(dead_code, reason = "each test program uses a part of it")]

mod edge;
mod inside;
mod sockets;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kilter_datapath::{
    Config, Datapath, DropReason, Endpoint, Event, EventSource, GATEWAY_MAC, NodeRoute, Overlay,
};
use kilter_model::{Direction, PortRange};
use kilter_netns::NetNs;
use kilter_policy::{
    ClassId, Decision, Interval, Plan, PostureId, ProtocolClass, RuleId, SetId, Verdict, Write,
};
use kilter_testkit::{BpfFs, TestCgroup, TestNetNs};

#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use edge::*;
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use inside::*;
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use sockets::*;

/// How long anything may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must happen, where nothing is what is expected.
pub const SILENCE: Duration = Duration::from_millis(300);

/// Runs a command in a namespace; its words are separated by spaces.
#[track_caller]
pub fn command(netns: &NetNs, line: &str) {
    let output = netns
        .run(|| {
            let mut words = line.split(' ');
            Command::new(words.next().unwrap()).args(words).output()
        })
        .unwrap()
        .unwrap_or_else(|error| panic!("run `{line}`: {error}"));
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
}

/// Sets a sysctl in a namespace: /proc/sys/net is the reading thread's.
#[track_caller]
pub fn sysctl(netns: &NetNs, key: &str, value: &str) {
    let path = format!("/proc/sys/net/{key}");
    let written = netns.run(|| std::fs::write(&path, value)).unwrap();
    written.unwrap_or_else(|error| panic!("write {path}: {error}"));
}

/// Waits until the kernel has activated links: a busy one takes its time after they are up, and until
/// then drops what they send.
#[track_caller]
fn await_active(links: &[(&NetNs, &str)]) {
    let deadline = Instant::now() + PATIENCE;
    for (netns, link) in links {
        let shown = || {
            let shown = netns.run(|| Command::new("ip").args(["-o", "link", "show", "dev", link]).output());
            String::from_utf8(shown.unwrap().unwrap().stdout).unwrap()
        };
        while !shown().contains("qdisc noqueue") {
            assert!(Instant::now() < deadline, "{link} is not active: {}", shown());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn ifindex(netns: &NetNs, name: &str) -> u32 {
    let index = netns.run(|| nix::net::if_::if_nametoindex(name)).unwrap();
    index.unwrap_or_else(|error| panic!("index of {name}: {error}"))
}

/// The network between the nodes; its addresses stand for everything outside the cluster.
pub struct Fabric {
    pub netns: TestNetNs,
}

/// What `both()` of pods and nodes has at which place: IPv4, IPv6.
pub const FAMILIES: [usize; 2] = [0, 1];
/// The fabric's addresses.
pub const OUTSIDES: [IpAddr; 2] = [OUTSIDE, OUTSIDE6];

pub const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 240, 0, 1));
pub const OUTSIDE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x240, 0, 0, 0, 0, 0, 1));

impl Fabric {
    pub fn new() -> Self {
        let netns = TestNetNs::new("fabric");
        command(&netns, "ip link add br0 type bridge");
        command(&netns, "ip addr add 10.240.0.1/24 dev br0");
        command(&netns, "ip addr add fd00:240::1/64 dev br0 nodad");
        command(&netns, "ip link set br0 up");
        Self { netns }
    }
}

/// A node with its data plane; everything is gone when it is dropped.
pub struct Node {
    pub datapath: Option<Datapath>,
    pub config: Config,
    pub netns: TestNetNs,
    events: EventSource,
    _bpffs: BpfFs,
    _cgroup: TestCgroup,
}

/// A pod on a node.
pub struct Pod {
    pub netns: TestNetNs,
    pub address: IpAddr,
    pub address6: IpAddr,
    pub ifindex: u32,
}

impl Pod {
    /// Gives its link, of its node, another MTU.
    pub fn narrow(&self, node: &Node, mtu: u32) {
        command(&self.netns, &format!("ip link set eth0 mtu {mtu}"));
        command(&node.netns, &format!("ip link set p{} mtu {mtu}", net_host(self.address)));
    }

    /// Its addresses, one of each family, in the order of [`FAMILIES`].
    pub fn both(&self) -> [IpAddr; 2] {
        [self.address, self.address6]
    }

    pub fn endpoint(&self) -> Endpoint {
        let addresses = BTreeSet::from(self.both());
        Endpoint { ifindex: self.ifindex, addresses, mac: pod_mac(self.address) }
    }
}

pub const ALLOW: RuleId = RuleId(1);
pub const DENY: RuleId = RuleId(2);

impl Node {
    /// Node `number` of a fabric: 10.240.0.(10 + number), pods 10.244.number.0/24, and the same in
    /// fd00:240:: and fd00:244:number::.
    pub fn new(fabric: &Fabric, number: u8) -> Self {
        Self::with(fabric, number, |_| {})
    }

    pub fn with(fabric: &Fabric, number: u8, change: impl FnOnce(&mut Config)) -> Self {
        Self::make(fabric, number, None, change)
    }

    /// The same with a tunnel to the other node, between the nodes' addresses of this one of
    /// [`FAMILIES`]. The fabric knows nothing of pods either way.
    pub fn tunnelled(fabric: &Fabric, number: u8, family: usize) -> Self {
        Self::tunnelled_with(fabric, number, family, |_| {})
    }

    pub fn tunnelled_with(fabric: &Fabric, number: u8, family: usize, change: impl FnOnce(&mut Config)) -> Self {
        Self::make(fabric, number, Some(family), change)
    }

    fn make(fabric: &Fabric, number: u8, tunnel: Option<usize>, change: impl FnOnce(&mut Config)) -> Self {
        let netns = TestNetNs::new("node");
        let host = format!("n{number}");
        command(&netns, "ip link add eth0 type veth peer name up0");
        command(&netns, &format!("ip link set up0 netns {}", fabric.netns.path().display()));
        command(&fabric.netns, &format!("ip link set up0 name {host} master br0 up"));
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv6/conf/eth0/accept_dad", "0"),
        ] {
            sysctl(&netns, key, value);
        }
        let own = u16::from(10 + number);
        command(&netns, &format!("ip addr add 10.240.0.{own}/24 dev eth0"));
        command(&netns, &format!("ip addr add fd00:240::{own}/64 dev eth0 nodad"));
        command(&netns, "ip link set eth0 up");
        await_active(&[(&netns, "eth0"), (&fabric.netns, &host)]);
        command(&netns, "ip route add default via 10.240.0.1");
        command(&netns, "ip route add default via fd00:240::1");
        let other = 3 - number;
        let own_routes = routes(other);
        let mut nodes = own_routes.map(|route| NodeRoute { prefix: route.next_hop.into(), ..route });
        let mut routes = own_routes;
        let overlay = tunnel.map(|family| {
            let end = routes[family].next_hop;
            routes.iter_mut().chain(&mut nodes).for_each(|route| route.next_hop = end);
            make_overlay(&netns, family)
        });
        for NodeRoute { prefix, next_hop } in &routes {
            match tunnel {
                None => command(&netns, &format!("ip route add {prefix} via {next_hop}")),
                Some(family) => {
                    // Over IPv6 a UDP header without a checksum is refused.
                    let (kind, sum) = [("ip", ""), ("ip6", " csum")][family];
                    let encap = format!("encap {kind} id {VNI} dst {next_hop}{sum}");
                    command(&netns, &format!("ip route add {prefix} {encap} dev {OVERLAY}"));
                }
            }
        }
        let bpffs = BpfFs::mount();
        let cgroup = TestCgroup::new("datapath");
        let mut config = Config {
            pin_dir: bpffs.path().join("node"),
            node_name: format!("node-{number}"),
            node_ips: vec![
                Ipv4Addr::new(10, 240, 0, 10 + number).into(),
                format!("fd00:240::{own}").parse().unwrap(),
            ],
            uplink_ifindex: ifindex(&netns, "eth0"),
            overlay,
            pod_cidrs: nets(&[&format!("10.244.{number}.0/24"), &format!("fd00:244:{number}::/64")]),
            cluster_pod_cidrs: nets(&["10.244.0.0/16", "fd00:244::/32"]),
            service_cidrs: nets(&["10.96.0.0/16", "fd00:96::/112"]),
            masquerade_ports: (40_000, 59_999),
            cgroup: cgroup.0.clone(),
            retry_refused: false,
            max_flows: 4096,
        };
        // The first is the node's end of the tunnel.
        config.node_ips.rotate_left(tunnel.unwrap_or(0));
        change(&mut config);
        let (datapath, events) = open(&netns, &config);
        let mut node =
            Self { datapath: Some(datapath), config, netns, events, _bpffs: bpffs, _cgroup: cgroup };
        node.datapath().set_routes(&[routes, nodes].concat()).unwrap();
        node.apply(base_rows());
        node
    }

    /// Its addresses, one of each family.
    pub fn both(&self) -> [IpAddr; 2] {
        let mut both = [self.config.node_ips[0], self.config.node_ips[1]];
        both.sort();
        both
    }

    pub fn datapath(&mut self) -> &mut Datapath {
        self.datapath.as_mut().unwrap()
    }

    /// What a restart of the agent does.
    pub fn reopen(&mut self) {
        self.datapath = None;
        let (datapath, events) = open(&self.netns, &self.config);
        (self.datapath, self.events) = (Some(datapath), events);
    }

    /// Adds a pod whose policy allows everything.
    pub fn pod(&mut self, last: u8) -> Pod {
        let pod = self.wire(last);
        self.load(&pod);
        pod
    }

    /// A pod's namespace and link, up, but with no hooks yet.
    pub fn wire(&mut self, last: u8) -> Pod {
        let netns = TestNetNs::new("pod");
        let inside = |net: IpNet| net.hosts().find(|ip| net_host(*ip) == u16::from(last)).unwrap();
        let [address, address6] = [inside(self.config.pod_cidrs[0]), inside(self.config.pod_cidrs[1])];
        let host = format!("p{last}");
        let (gateway, own) = (mac(GATEWAY_MAC), mac(pod_mac(address)));
        command(&self.netns, &format!("ip link add {host} address {gateway} type veth peer name tmp{last}"));
        command(&self.netns, &format!("ip link set tmp{last} netns {}", netns.path().display()));
        command(&netns, &format!("ip link set tmp{last} name eth0 address {own}"));
        sysctl(&self.netns, &format!("ipv4/conf/{host}/rp_filter"), "0");
        sysctl(&self.netns, &format!("ipv6/conf/{host}/addr_gen_mode"), "1");
        for (key, value) in [("accept_dad", "0"), ("accept_ra", "0")] {
            sysctl(&netns, &format!("ipv6/conf/eth0/{key}"), value);
        }
        command(&netns, "ip link set eth0 up");
        command(&self.netns, &format!("ip link set {host} up"));
        for (gateway_ip, address) in [("169.254.1.1", address), ("fe80::1", address6)] {
            add_address(&netns, address, "eth0");
            command(&netns, &format!("ip neigh add {gateway_ip} lladdr {gateway} nud permanent dev eth0"));
            command(&netns, &format!("ip route add default via {gateway_ip} dev eth0 onlink"));
            command(&self.netns, &format!("ip route add {address} dev {host}"));
            command(&self.netns, &format!("ip neigh add {address} lladdr {own} nud permanent dev {host}"));
        }
        await_active(&[(&netns, "eth0"), (&self.netns, &host)]);
        let ifindex = ifindex(&self.netns, &host);
        Pod { netns, address, address6, ifindex }
    }

    /// Hooks and rows of a pod.
    pub fn load(&mut self, pod: &Pod) {
        let netns = NetNs::open(self.netns.path()).unwrap();
        let datapath = self.datapath.as_mut().unwrap();
        netns.run(|| datapath.attach_pod(pod.endpoint())).unwrap().unwrap();
        for address in pod.both() {
            self.class(address, ClassId(1));
        }
        self.posture(pod, OPEN);
    }

    /// Rows written as the switching part of a plan.
    pub fn apply(&mut self, switch: Vec<Write>) {
        let plan = Plan { switch, ..Plan::default() };
        self.datapath().apply_policy(&plan).unwrap();
    }

    pub fn posture(&mut self, pod: &Pod, posture: PostureId) {
        self.apply(pod.both().map(|address| Write::PutPosture { address, posture }).into());
    }

    pub fn class(&mut self, address: IpAddr, class: ClassId) {
        self.apply(vec![Write::PutClass { prefix: address.into(), class }]);
    }

    /// Waits for an event that `wanted` accepts, and returns it.
    #[track_caller]
    pub fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            for event in self.events.wait(Duration::from_millis(100)).unwrap() {
                if wanted(&event) {
                    return event;
                }
                seen.push(event);
            }
        }
        panic!("no such event; there were {seen:#?}\n{:?}", self.datapath().stats());
    }

    /// Waits for a drop from one address to another.
    #[track_caller]
    pub fn dropped(&mut self, from: IpAddr, to: IpAddr) -> (DropReason, Direction, Option<RuleId>) {
        let event = self.event(
            |event| matches!(event, Event::Drop { from: f, to: t, .. } if f.ip() == from && t.ip() == to),
        );
        let Event::Drop { reason, direction, rule, .. } = event else { unreachable!() };
        (reason, direction, rule)
    }

    /// Events so far.
    pub fn drain(&mut self) -> Vec<Event> {
        self.events.drain().unwrap()
    }

    /// Events so far, forgotten.
    pub fn forget_events(&mut self) {
        self.drain();
    }
}

/// Adds an address that can be used at once: without `nodad`, one of IPv6 is tentative until the kernel's
/// worker gets round to it, even where no duplicates are looked for.
#[track_caller]
pub fn add_address(netns: &NetNs, address: IpAddr, link: &str) {
    let flag = if address.is_ipv6() { " nodad" } else { "" };
    command(netns, &format!("ip addr add {address} dev {link}{flag}"));
}

/// The VXLAN device of a node, the number of the network in it, and its port of UDP.
pub const OVERLAY: &str = "overlay0";
pub const VNI: u32 = 1;
pub const OVERLAY_PORT: u16 = 8472;
/// By family of the nodes' addresses: what of a link's 1500 bytes VXLAN leaves.
pub const OVERLAY_MTU: [u32; 2] = [1450, 1430];

fn make_overlay(netns: &NetNs, family: usize) -> Overlay {
    command(netns, &format!("ip link add {OVERLAY} type vxlan external dstport {OVERLAY_PORT} nolearning"));
    sysctl(netns, &format!("ipv4/conf/{OVERLAY}/rp_filter"), "0");
    command(netns, &format!("ip link set {OVERLAY} mtu {} arp off up", OVERLAY_MTU[family]));
    Overlay { ifindex: ifindex(netns, OVERLAY), vni: VNI, port: OVERLAY_PORT }
}

fn open(netns: &NetNs, config: &Config) -> (Datapath, EventSource) {
    let datapath = netns.run(|| Datapath::open(config.clone())).unwrap();
    let datapath = datapath.unwrap_or_else(|error| panic!("open the data plane: {error:?}"));
    let events = datapath.events().unwrap();
    (datapath, events)
}

/// 02:6b: and the pod's IPv4 address, as the agent makes it.
pub fn pod_mac(address: IpAddr) -> [u8; 6] {
    let IpAddr::V4(v4) = address else { panic!("named after the IPv4 address, not {address}") };
    let [a, b, c, d] = v4.octets();
    [0x02, 0x6b, a, b, c, d]
}

fn net_host(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3].into(),
        IpAddr::V6(v6) => v6.segments()[7],
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The routes to the pods of node `number`.
fn routes(number: u8) -> [NodeRoute; 2] {
    [("10.244.N.0/24", "10.240.0.M"), ("fd00:244:N::/64", "fd00:240::M")].map(|(prefix, next_hop)| {
        let (n, m) = (number.to_string(), (10 + number).to_string());
        NodeRoute {
            prefix: prefix.replace('N', &n).parse().unwrap(),
            next_hop: next_hop.replace('M', &m).parse().unwrap(),
        }
    })
}

pub fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Everything allowed.
pub const OPEN: PostureId = PostureId(1);
/// Nothing may come in.
pub const NO_INGRESS: PostureId = PostureId(2);
/// Nothing may go out.
pub const NO_EGRESS: PostureId = PostureId(3);
/// Only class 7 may come in, over TCP to port 80 and with what has no ports.
pub const FRIENDS: PostureId = PostureId(4);
/// The class that [`FRIENDS`] lets in.
pub const FRIEND: ClassId = ClassId(7);

/// Rows of the four postures, and class 1 for everybody.
fn base_rows() -> Vec<Write> {
    let allow = Decision { verdict: Verdict::Allow, rule: ALLOW };
    let deny = Decision { verdict: Verdict::Deny, rule: DENY };
    let (all, none, friends) = (SetId(1), SetId(2), SetId(3));
    let mut rows = vec![
        Write::PutSet { set: all, default: allow },
        Write::PutSet { set: none, default: deny },
        Write::PutSet { set: friends, default: deny },
        Write::PutException { set: friends, class: FRIEND, decision: allow },
    ];
    rows.extend(
        nets(&["0.0.0.0/0", "::/0"]).into_iter().map(|prefix| Write::PutClass { prefix, class: ClassId(1) }),
    );
    let mut interval = |posture, direction, protocol, first, last, set| {
        let ports = PortRange { first, last };
        rows.push(Write::PutInterval { interval: Interval { posture, direction, protocol, ports }, set });
    };
    for protocol in ProtocolClass::ALL {
        for (posture, ingress, egress) in
            [(OPEN, all, all), (NO_INGRESS, none, all), (NO_EGRESS, all, none), (FRIENDS, none, all)]
        {
            interval(posture, Direction::Egress, protocol, 0, u16::MAX, egress);
            match (posture, protocol) {
                (FRIENDS, ProtocolClass::Tcp) => {
                    interval(posture, Direction::Ingress, protocol, 0, 79, none);
                    interval(posture, Direction::Ingress, protocol, 80, 80, friends);
                    interval(posture, Direction::Ingress, protocol, 81, u16::MAX, none);
                }
                (FRIENDS, ProtocolClass::Other) => {
                    interval(posture, Direction::Ingress, protocol, 0, u16::MAX, friends);
                }
                _ => interval(posture, Direction::Ingress, protocol, 0, u16::MAX, ingress),
            }
        }
    }
    rows
}

/// What the agent has nftables do: masquerade marked packets where they leave the node.
#[track_caller]
pub fn masquerade(node: &Node) {
    let rules = format!(
        "table inet t {{\nchain c {{\ntype nat hook postrouting priority 100;\n\
         oifname \"eth0\" meta mark {:#x} masquerade\n}}\n}}\n",
        kilter_datapath::EGRESS_MARK
    );
    let dir = kilter_testkit::TempDir::new("nft");
    let file = dir.path().join("rules");
    std::fs::write(&file, rules).unwrap();
    command(&node.netns, &format!("nft -f {}", file.display()));
}
