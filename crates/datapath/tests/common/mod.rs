//! Nodes and pods of a test: namespaces joined by veth pairs, wired as the agent wires them.

#![allow(dead_code, reason = "each test program uses a part of it")]

mod sockets;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use kilter_datapath::{Config, Datapath, DropReason, Endpoint, Event, EventSource, GATEWAY_MAC, NodeRoute};
use kilter_model::{Direction, PortRange};
use kilter_netns::NetNs;
use kilter_policy::{
    ClassId, Decision, Interval, Plan, PostureId, ProtocolClass, RuleId, SetId, Verdict, Write,
};
use kilter_testkit::{BpfFs, TestNetNs, cgroup2_root};

#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use sockets::*;

/// How long anything may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must happen, where nothing is what is expected.
pub const SILENCE: Duration = Duration::from_millis(300);

/// A cgroup of its own, removed when dropped.
pub struct TestCgroup(pub PathBuf);

impl TestCgroup {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = cgroup2_root().join(format!("kilter-test-datapath-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("make cgroup {}: {error}", path.display()));
        Self(path)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

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

fn ifindex(netns: &NetNs, name: &str) -> u32 {
    let index = netns.run(|| nix::net::if_::if_nametoindex(name)).unwrap();
    index.unwrap_or_else(|error| panic!("index of {name}: {error}"))
}

/// The network between the nodes; its address stands for everything outside the cluster.
pub struct Fabric {
    pub netns: TestNetNs,
}

pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 240, 0, 1);

impl Fabric {
    pub fn new() -> Self {
        let netns = TestNetNs::new("fabric");
        command(&netns, "ip link add br0 type bridge");
        command(&netns, "ip addr add 10.240.0.1/24 dev br0");
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
    pub address: Ipv4Addr,
    pub ifindex: u32,
}

pub const ALLOW: RuleId = RuleId(1);
pub const DENY: RuleId = RuleId(2);

impl Node {
    /// Node `number` of a fabric: 10.240.0.(10 + number), pods 10.244.number.0/24.
    pub fn new(fabric: &Fabric, number: u8) -> Self {
        Self::with(fabric, number, |_| {})
    }

    pub fn with(fabric: &Fabric, number: u8, change: impl FnOnce(&mut Config)) -> Self {
        let netns = TestNetNs::new("node");
        let host = format!("n{number}");
        command(&netns, "ip link add eth0 type veth peer name up0");
        command(&netns, &format!("ip link set up0 netns {}", fabric.netns.path().display()));
        command(&fabric.netns, &format!("ip link set up0 name {host} master br0 up"));
        command(&netns, &format!("ip addr add 10.240.0.{}/24 dev eth0", 10 + number));
        command(&netns, "ip link set eth0 up");
        command(&netns, "ip route add default via 10.240.0.1");
        for (key, value) in [("ipv4/ip_forward", "1"), ("ipv4/conf/all/rp_filter", "0")] {
            sysctl(&netns, key, value);
        }
        for other in (1..=2u8).filter(|other| *other != number) {
            let route = format!("ip route add 10.244.{other}.0/24 via 10.240.0.{}", 10 + other);
            command(&netns, &route);
        }
        let bpffs = BpfFs::mount();
        let cgroup = TestCgroup::new();
        let mut config = Config {
            pin_dir: bpffs.path().join("node"),
            node_name: format!("node-{number}"),
            node_ip: Ipv4Addr::new(10, 240, 0, 10 + number),
            uplink_ifindex: ifindex(&netns, "eth0"),
            pod_cidr: format!("10.244.{number}.0/24").parse().unwrap(),
            cluster_pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            cgroup: cgroup.0.clone(),
            max_flows: 4096,
        };
        change(&mut config);
        let (datapath, events) = open(&netns, &config);
        let mut node =
            Self { datapath: Some(datapath), config, netns, events, _bpffs: bpffs, _cgroup: cgroup };
        let other = 3 - number;
        node.datapath()
            .set_routes(&[NodeRoute {
                prefix: format!("10.244.{other}.0/24").parse().unwrap(),
                next_hop: Ipv4Addr::new(10, 240, 0, 10 + other),
            }])
            .unwrap();
        node.apply(base_rows());
        node
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
        let [a, b, c, _] = self.config.pod_cidr.network().octets();
        let address = Ipv4Addr::new(a, b, c, last);
        let host = format!("p{last}");
        let gateway = mac(GATEWAY_MAC);
        command(&self.netns, &format!("ip link add {host} address {gateway} type veth peer name tmp{last}"));
        command(&self.netns, &format!("ip link set tmp{last} netns {}", netns.path().display()));
        command(&netns, &format!("ip link set tmp{last} name eth0 address {}", mac(pod_mac(address))));
        command(&netns, &format!("ip addr add {address}/32 dev eth0"));
        sysctl(&self.netns, &format!("ipv4/conf/{host}/rp_filter"), "0");
        sysctl(&self.netns, &format!("ipv6/conf/{host}/disable_ipv6"), "1");
        sysctl(&netns, "ipv6/conf/eth0/disable_ipv6", "1");
        command(&netns, "ip link set eth0 up");
        command(&netns, &format!("ip neigh add 169.254.1.1 lladdr {gateway} nud permanent dev eth0"));
        command(&netns, "ip route add default via 169.254.1.1 dev eth0 onlink");
        command(&self.netns, &format!("ip link set {host} up"));
        command(&self.netns, &format!("ip route add {address}/32 dev {host}"));
        let neighbour = mac(pod_mac(address));
        command(&self.netns, &format!("ip neigh add {address} lladdr {neighbour} nud permanent dev {host}"));
        let ifindex = ifindex(&self.netns, &host);
        Pod { netns, address, ifindex }
    }

    /// Hooks and rows of a pod.
    pub fn load(&mut self, pod: &Pod) {
        let endpoint = Endpoint { address: pod.address, ifindex: pod.ifindex, mac: pod_mac(pod.address) };
        let netns = NetNs::open(self.netns.path()).unwrap();
        let datapath = self.datapath.as_mut().unwrap();
        netns.run(|| datapath.attach_pod(endpoint)).unwrap().unwrap();
        self.apply(vec![
            Write::PutClass { prefix: IpNet::from(IpAddr::V4(pod.address)), class: ClassId(1) },
            Write::PutPosture { address: IpAddr::V4(pod.address), posture: OPEN },
        ]);
    }

    /// Rows written as the switching part of a plan.
    pub fn apply(&mut self, switch: Vec<Write>) {
        let plan = Plan { switch, ..Plan::default() };
        self.datapath().apply_policy(&plan).unwrap();
    }

    pub fn posture(&mut self, pod: &Pod, posture: PostureId) {
        self.apply(vec![Write::PutPosture { address: IpAddr::V4(pod.address), posture }]);
    }

    pub fn class(&mut self, address: Ipv4Addr, class: ClassId) {
        self.apply(vec![Write::PutClass { prefix: IpNet::from(IpAddr::V4(address)), class }]);
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
    pub fn dropped(&mut self, from: Ipv4Addr, to: Ipv4Addr) -> (DropReason, Direction, Option<RuleId>) {
        let event = self.event(
            |event| matches!(event, Event::Drop { from: f, to: t, .. } if f.ip() == from && t.ip() == to),
        );
        let Event::Drop { reason, direction, rule, .. } = event else { unreachable!() };
        (reason, direction, rule)
    }

    /// Events so far, forgotten.
    pub fn forget_events(&mut self) {
        self.events.drain().unwrap();
    }
}

fn open(netns: &NetNs, config: &Config) -> (Datapath, EventSource) {
    let datapath = netns.run(|| Datapath::open(config.clone())).unwrap();
    let datapath = datapath.unwrap_or_else(|error| panic!("open the data plane: {error:?}"));
    let events = datapath.events().unwrap();
    (datapath, events)
}

/// 02:6b: and the address, as the agent makes it.
pub fn pod_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6b, a, b, c, d]
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
    let everywhere: Ipv4Net = "0.0.0.0/0".parse().unwrap();
    let mut rows = vec![
        Write::PutSet { set: all, default: allow },
        Write::PutSet { set: none, default: deny },
        Write::PutSet { set: friends, default: deny },
        Write::PutException { set: friends, class: FRIEND, decision: allow },
        Write::PutClass { prefix: everywhere.into(), class: ClassId(1) },
    ];
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
        "table ip t {{\nchain c {{\ntype nat hook postrouting priority 100;\n\
         oifname \"eth0\" meta mark {:#x} masquerade\n}}\n}}\n",
        kilter_datapath::EGRESS_MARK
    );
    let dir = kilter_testkit::TempDir::new("nft");
    let file = dir.path().join("rules");
    std::fs::write(&file, rules).unwrap();
    command(&node.netns, &format!("nft -f {}", file.display()));
}
