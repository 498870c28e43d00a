//! One node in namespaces: a fabric, an uplink, a cgroup, a bpffs, an agent fed by the test, and the
//! real plugin.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kilter_agent::{Agent, Config, Handle};
use kilter_cluster::{Resource, Update};
use kilter_model::{
    Endpoint, EndpointPort, EndpointSlice, Event, Labels, Namespace, NamespacedName, NetworkPolicy, Node,
    Origin, Peer, Pod, PodPhase, PolicyRule, Protocol, Selector, Service, ServicePort, ServiceType,
    TargetPort, WorkloadRef,
};
use kilter_netlink::{Netlink, Peer as VethPeer, Veth};
use kilter_netns::NetNs;
use kilter_testkit::{BpfFs, TempDir, TestCgroup, TestNetNs};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

pub const PATIENCE: Duration = Duration::from_secs(10);

/// See the module. Dropped in the order of its fields.
pub struct World {
    pub agent: Option<Handle>,
    updates: Option<mpsc::Sender<Vec<Update>>>,
    runtime: Runtime,
    version: u64,
    pub netlink: Netlink,
    pub node: TestNetNs,
    pub fabric: TestNetNs,
    cgroup: TestCgroup,
    pins: BpfFs,
    pub directory: TempDir,
}

impl World {
    /// A node `here` with uplink 10.240.0.11, pods from 10.244.1.0/24 and an agent that has seen an
    /// empty cluster.
    pub fn new(label: &str) -> Self {
        let (node, fabric) = (TestNetNs::new("node"), TestNetNs::new("fabric"));
        let inside = NetNs::open(node.path()).unwrap();
        // As in a real node process, every thread is in the node's namespace.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || inside.set().unwrap())
            .build()
            .unwrap();
        let netlink = runtime.block_on(uplink(&node, &fabric));
        let cgroup = TestCgroup::new(&format!("agent-{label}"));
        let mut world = Self {
            agent: None,
            updates: None,
            runtime,
            version: 0,
            netlink,
            node,
            fabric,
            cgroup,
            pins: BpfFs::mount(),
            directory: TempDir::new(label),
        };
        world.start();
        world
    }

    /// Starts an agent and hands it an empty, complete list of everything.
    pub fn start(&mut self) {
        self.start_unsynced();
        self.send(Resource::ALL.map(Update::Synced).into());
    }

    pub fn start_unsynced(&mut self) {
        let (updates, feed) = mpsc::channel(64);
        let config = Config {
            node: "here".into(),
            addresses: vec!["10.240.0.11".parse().unwrap()],
            uplink: "eth0".into(),
            routing: Default::default(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            cluster_pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            lb_pools: vec!["10.240.255.0/24".parse().unwrap(), "fd00:240::ff00/120".parse().unwrap()],
            cgroup: self.cgroup.0.clone(),
            pins: self.pins.path().join("here"),
            ipam: self.directory.path().join("ipam"),
            socket: self.socket(),
            retry_refused: true,
            max_flows: 4096,
        };
        let started =
            self.runtime.block_on(async { tokio::spawn(Agent::start(config, feed)).await.unwrap() });
        self.agent = Some(started.unwrap_or_else(|error| panic!("{error:?}")));
        self.updates = Some(updates);
    }

    /// Stops the agent; pods go on.
    pub fn stop(&mut self) {
        let agent = self.agent.take().unwrap();
        self.runtime.block_on(agent.shutdown());
        self.updates = None;
    }

    pub fn agent(&self) -> &Handle {
        self.agent.as_ref().unwrap()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("not in time") })
    }

    pub fn send(&self, updates: Vec<Update>) {
        self.block_on(self.updates.as_ref().unwrap().send(updates)).unwrap();
    }

    /// Sends events without waiting for their effect.
    pub fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut updates = Vec::new();
        for event in events {
            self.version += 1;
            updates.push(Update::Event {
                resource: resource(&event),
                resource_version: self.version.to_string(),
                event,
            });
        }
        self.send(updates);
    }

    /// Sends events and waits until the kernel holds their effect.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        self.tell(events);
        let version = self.version.to_string();
        let mut applied = self.agent().applied();
        self.block_on(applied.wait_for(|applied| applied.values().any(|v| *v == version))).unwrap();
    }

    /// What a server says to a shell in a pod's namespace and in the node's cgroup, as its containers
    /// are; `None` when the connection is refused.
    pub fn read_from(&self, pod: &Wired, to: &str) -> Option<String> {
        let output = self.client(pod, to).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// What reads from there until it ends, in a pod and the node's cgroup.
    pub fn client(&self, pod: &Wired, to: &str) -> Command {
        let (host, port) = to.split_once(':').unwrap();
        let join = format!("echo $$ > {}/cgroup.procs", self.cgroup.0.display());
        let script = format!("{join} && exec 3<>/dev/tcp/{host}/{port} && exec timeout 5 cat <&3");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", pod.netns.path().display())).args(["bash", "-c", &script]);
        command
    }

    /// Where a map of the data plane is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        let versions = std::fs::read_dir(self.pins.path().join("here")).unwrap();
        let version = versions.map(|entry| entry.unwrap().path()).max().unwrap();
        version.join("maps").join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// Calls the real plugin.
    pub fn plugin(&self, command: &str, container: &str, netns: &Path, pod: &str) -> Result<Value, Value> {
        self.caller()(command, container, netns, pod)
    }

    /// What calls the plugin, for other threads.
    pub fn caller(&self) -> impl Fn(&str, &str, &Path, &str) -> Result<Value, Value> + Send + use<> {
        let socket = self.socket();
        move |command, container, netns, pod| call(&socket, command, container, netns, pod)
    }

    /// Wires a pod in a namespace of its own; its container is `c-NAME`.
    pub fn add(&self, pod: &str) -> Wired {
        let netns = TestNetNs::new(pod);
        let answer = self
            .plugin("ADD", &format!("c-{pod}"), netns.path(), pod)
            .unwrap_or_else(|e| panic!("{pod}: {e}"));
        let address = answer["ips"][0]["address"].as_str().unwrap();
        let address = address.strip_suffix("/32").unwrap().parse().unwrap();
        let link = answer["interfaces"][0]["name"].as_str().unwrap().to_owned();
        Wired { netns, address, link }
    }

    pub fn del(&self, pod: &str) {
        self.plugin("DEL", &format!("c-{pod}"), Path::new(""), pod).unwrap_or_else(|e| panic!("{pod}: {e}"));
    }

    /// Names of links of pods that are there.
    pub fn pod_links(&self) -> Vec<String> {
        let links = self.block_on(self.netlink.links()).unwrap();
        links.into_iter().map(|link| link.name).filter(|name| name.starts_with("klt")).collect()
    }

    pub fn records(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path().join("ipam")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "freed.json");
        names.sort();
        names
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.agent.is_some() {
            self.stop();
        }
    }
}

/// A pod that has its network.
pub struct Wired {
    pub netns: TestNetNs,
    pub address: Ipv4Addr,
    pub link: String,
}

impl Wired {
    pub fn listen(&self, port: u16) -> TcpListener {
        self.netns.run(|| TcpListener::bind((self.address, port)).unwrap()).unwrap()
    }

    pub fn connect(&self, to: (Ipv4Addr, u16)) -> std::io::Result<TcpStream> {
        self.connect_within(to, Duration::from_secs(5))
    }

    pub fn connect_within(&self, to: (Ipv4Addr, u16), deadline: Duration) -> std::io::Result<TcpStream> {
        self.netns.run(|| TcpStream::connect_timeout(&SocketAddr::from(to), deadline)).unwrap()
    }
}

fn call(socket: &Path, command: &str, container: &str, netns: &Path, pod: &str) -> Result<Value, Value> {
    let configuration =
        json!({ "cniVersion": "1.1.0", "name": "kilter", "type": "kilter-cni", "agentSocket": socket });
    let arguments = format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID=uid-{pod}");
    let mut child = Command::new(plugin_program())
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(configuration.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if output.status.success() { Ok(answer) } else { Err(answer) }
}

async fn uplink(node: &NetNs, fabric: &NetNs) -> Netlink {
    let (inner, outer) = (Netlink::new(node).unwrap(), Netlink::new(fabric).unwrap());
    let peer = VethPeer { name: "eth0", mac: None, namespace: node };
    outer.create_veth(&Veth { name: "node", mac: None, mtu: 1500, peer }).await.unwrap();
    for (netlink, name, address) in [(&inner, "eth0", "10.240.0.11/24"), (&outer, "node", "10.240.0.1/24")] {
        let link = netlink.link_index(name).await.unwrap();
        netlink.add_address(link, address.parse().unwrap()).await.unwrap();
        netlink.set_up(link).await.unwrap();
    }
    inner
}

/// Cargo knows the path of a package's own programs only; this one lies where ours does.
pub fn plugin_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("kilter-cni");
    if !program.exists() {
        let built =
            Command::new(env!("CARGO")).args(["build", "--release", "-p", "kilter-cni"]).status().unwrap();
        assert!(built.success(), "kilter-cni cannot be built");
    }
    program
}

fn resource(event: &Event) -> Resource {
    match event {
        Event::Pod(_) | Event::PodGone(_) => Resource::Pods,
        Event::Namespace(_) | Event::NamespaceGone(_) => Resource::Namespaces,
        Event::Node(_) | Event::NodeGone(_) => Resource::Nodes,
        Event::NetworkPolicy(_) | Event::NetworkPolicyGone(_) => Resource::NetworkPolicies,
        Event::ClusterNetworkPolicy(_) | Event::ClusterNetworkPolicyGone(_) => {
            Resource::ClusterNetworkPolicies
        }
        Event::Ingress(_) | Event::IngressGone(_) => unreachable!("no agent watches them"),
        Event::Service(_) | Event::ServiceGone(_) => Resource::Services,
        Event::EndpointSlice(_) | Event::EndpointSliceGone(_) => Resource::EndpointSlices,
    }
}

pub fn namespace(name: &str) -> Event {
    Event::Namespace(Namespace { name: name.into(), labels: Labels::new(), origin: Origin::Builtin })
}

pub fn node(name: &str, address: &str, block: &str) -> Event {
    Event::Node(Node {
        name: name.into(),
        labels: Labels::new(),
        addresses: vec![address.parse().unwrap()],
        pod_cidrs: vec![block.parse().unwrap()],
        ready: true,
        origin: Origin::Builtin,
    })
}

/// Pod `shop/NAME` of this node with label `app=NAME` and UID `uid-NAME`.
pub fn pod(name: &str) -> Event {
    let named = NamespacedName::new("shop", name);
    Event::Pod(Pod {
        uid: format!("uid-{name}").into(),
        name: named.clone(),
        labels: [("app".into(), name.into())].into(),
        node: Some("here".into()),
        addresses: vec![],
        host_network: false,
        ports: vec![],
        owner: WorkloadRef { kind: "Pod".into(), name: named },
        phase: PodPhase::Pending,
        ready: false,
        terminating: false,
        origin: Origin::Builtin,
    })
}

/// Service `shop/NAME` at 10.96.0.10:80, and its endpoints.
pub fn service(name: &str, endpoints: &[(Ipv4Addr, u16)]) -> [Event; 2] {
    let named = NamespacedName::new("shop", name);
    let port = endpoints.first().map_or(1, |(_, port)| *port);
    let service = Service {
        name: named.clone(),
        service_type: ServiceType::ClusterIp,
        selector: None,
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        headless: false,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            target: TargetPort::Number(port),
            node_port: None,
        }],
        families: vec![],
        locality: Default::default(),
        exposure: Default::default(),
        retry_refused: None,
        forwarding: Default::default(),
        publish_not_ready: false,
        distribution: Default::default(),
        affinity: None,
        external_name: None,
        origin: Origin::Builtin,
    };
    let endpoint = |address: &Ipv4Addr| Endpoint {
        address: (*address).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        pod: None,
        zone: None,
        hints: Default::default(),
        hostname: None,
    };
    let slice = EndpointSlice {
        name: NamespacedName::new("shop", format!("{name}-1")),
        service: named,
        ports: vec![EndpointPort { name: "".into(), protocol: Protocol::Tcp, port }],
        endpoints: endpoints.iter().map(|(address, _)| endpoint(address)).collect(),
    };
    [Event::Service(service), Event::EndpointSlice(slice)]
}

/// Only these pods may open connections to `to`.
pub fn only_from(to: &str, from: &[&str]) -> Event {
    let peers = from
        .iter()
        .map(|name| Peer::Pods { namespaces: None, pods: Selector::from_labels([("app", *name)]) });
    Event::NetworkPolicy(NetworkPolicy {
        name: NamespacedName::new("shop", format!("only-to-{to}")),
        pod_selector: Selector::from_labels([("app", to)]),
        ingress: Some(vec![PolicyRule {
            peers: Some(peers.collect()),
            ports: None,
            origin: Origin::Builtin,
        }]),
        egress: None,
        origin: Origin::Builtin,
    })
}
