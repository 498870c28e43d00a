//! Kilter as a subject: a twin of two nodes with policy in force, brought up for the benchmarks.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kilter_model::{Family, Routing};
use kilter_netns::NetNs;
use kilter_twin::Layout;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cni::Plugin;
use crate::datapath::PORT;
use crate::engine::Subject;
use crate::running::RunningTwin;
use crate::work::Target;

/// Services of the twin, the measured one included.
const SERVICES: usize = 10;
/// The measured Service's address; the others' follow it.
const FRONTEND: Ipv4Addr = Ipv4Addr::new(10, 96, 100, 1);
/// Its port.
const FRONTEND_PORT: u16 = 80;
/// The nodes that pods are bound to.
pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];
/// Seconds that a twin may take to be ready: thousands of Services are a lot.
const PATIENCE: u32 = 300;
/// The namespace of everything in the twin.
pub(crate) const NAMESPACE: &str = "bench";

/// A running twin with a client, a server on the same node and one on the other.
pub struct Lab {
    program: PathBuf,
    twin: RunningTwin,
    routing: Routing,
    families: Vec<Family>,
}

/// What a node was started with (`node.json`), as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) namespace: PathBuf,
    pub(crate) cgroup: PathBuf,
}

/// A pod's sandbox (`sandbox.json`), as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct Sandbox {
    uid: String,
    namespace: String,
    name: String,
    pid: u32,
    addresses: Vec<IpAddr>,
}

impl Lab {
    /// Brings the twin up with this very program, of these families. It goes down when the lab is dropped.
    pub async fn up(routing: Routing, families: &[Family], progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let mode = mode(routing);
        progress(&format!("bring up a twin to measure, {mode}"));
        // The tunnel is over IPv4 wherever there is any, so that families differ in the pods' packets alone.
        let family = match families {
            [Family::V4] => "ipv4",
            [Family::V6] => "ipv6",
            _ => "dual",
        };
        let options = ["--routing", mode, "--ip-family", family];
        let lab = Self::with(&format!("lab-{mode}"), &options, &manifests(families)).await?;
        Ok(Self { routing, families: families.to_vec(), ..lab })
    }

    /// Brings a twin of two nodes up, of IPv4; `label` tells the twins of one process apart.
    pub(crate) async fn of(label: &str, manifests: &str) -> Result<Self> {
        Self::with(label, &[], manifests).await
    }

    async fn with(label: &str, options: &[&str], manifests: &str) -> Result<Self> {
        let program = std::env::current_exe().context("find this program's own file")?;
        let directory = tempfile::tempdir().context("make a directory for the twin's manifests")?;
        let file = directory.path().join("bench.yaml");
        std::fs::write(&file, manifests).with_context(|| format!("write {}", file.display()))?;
        let patience = PATIENCE.to_string();
        let options = [&["--timeout", &patience], options].concat();
        let mut twin = RunningTwin::new(&program, label)?.with(&options);
        twin.up_async(NODES.len() as u32, &[file.display().to_string()]).await?;
        Ok(Self { program, twin, routing: Routing::Native, families: vec![Family::V4] })
    }

    /// For the data path: pod to pod on one node, across nodes, and through a Service.
    pub fn subjects(&self) -> Result<Vec<Subject>> {
        let client = self.pod(NODES[0], "client")?;
        let (near, far) = (self.pod(NODES[0], "near")?, self.pod(NODES[1], "far")?);
        let mut subjects = Vec::new();
        for family in &self.families {
            let name = |path: &str| format!("{path}{}", suffix(self.routing, *family));
            subjects.push(self.subject(&name("across-nodes"), &client, &far, far.socket(*family)?)?);
            // On one node nothing depends on the way between nodes.
            if self.routing == Routing::Native {
                subjects.push(self.subject(&name("same-node"), &client, &near, near.socket(*family)?)?);
            }
        }
        if self.routing == Routing::Native && self.families.contains(&Family::V4) {
            let service = SocketAddr::from((FRONTEND, FRONTEND_PORT));
            subjects.push(self.subject(&format!("service-of-{SERVICES}"), &client, &near, service)?);
        }
        Ok(subjects)
    }

    /// The twin itself.
    pub(crate) fn twin(&self) -> &RunningTwin {
        &self.twin
    }

    pub(crate) fn subject(&self, path: &str, client: &Sandbox, server: &Sandbox, to: SocketAddr) -> Result<Subject> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let target = Target {
            client_netns: Arc::new(client.netns()?),
            client_cgroup: Some(self.node(NODES[0])?.cgroup),
            server_netns: Arc::new(server.netns()?),
            server_addr: SocketAddr::new(any, PORT),
            connect_to: to,
        };
        let bypasses = NODES.iter().map(|node| Ok(Arc::new(NetNs::open(self.node(node)?.namespace)?)));
        let bypasses = bypasses.collect::<Result<_>>()?;
        Ok(Subject { name: "kilter".into(), path: path.into(), target, bypasses })
    }

    /// For CNI: new sandboxes of a pod that the node knows and that policies select. Each ADD answers
    /// when the policies are in force for its address.
    pub fn plugin(&self) -> Result<Plugin> {
        let pod = self.pod(NODES[0], "client")?;
        let config = json!({
            "cniVersion": "1.1.0",
            "name": "kilter",
            "type": "kilter-cni",
            "agentSocket": self.directory(NODES[0]).join("agent.sock"),
        });
        Ok(Plugin {
            subject: "kilter".into(),
            program: self.program.with_file_name("kilter-cni"),
            config,
            args: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
                pod.namespace, pod.name, pod.uid
            ),
            node: Arc::new(NetNs::open(self.node(NODES[0])?.namespace)?),
        })
    }

    fn directory(&self, node: &str) -> PathBuf {
        Layout::new(self.twin.name()).node(node)
    }

    /// Fails while the node is not there yet.
    pub(crate) fn node(&self, node: &str) -> Result<Node> {
        read(&self.directory(node).join("node.json"))
    }

    /// A pod of the benchmark's namespace.
    pub(crate) fn pod(&self, node: &str, name: &str) -> Result<Sandbox> {
        let pods = self.directory(node).join("pods");
        let entries = std::fs::read_dir(&pods).with_context(|| format!("list {}", pods.display()))?;
        for entry in entries {
            let sandbox: Sandbox = read(&entry?.path().join("sandbox.json"))?;
            if (sandbox.namespace.as_str(), sandbox.name.as_str()) == (NAMESPACE, name) {
                return Ok(sandbox);
            }
        }
        bail!("pod {NAMESPACE}/{name} does not run on {node} of twin {}", self.twin.name())
    }
}

impl Sandbox {
    pub(crate) fn netns(&self) -> Result<NetNs> {
        Ok(NetNs::open(format!("/proc/{}/ns/net", self.pid))?)
    }

    pub(crate) fn socket(&self, family: Family) -> Result<SocketAddr> {
        let address = self.addresses.iter().find(|address| Family::of(address) == family);
        let address = address.with_context(|| format!("pod {} has no address of {family}", self.name))?;
        Ok(SocketAddr::new(*address, PORT))
    }
}

/// As `kilter up --routing` takes it.
fn mode(routing: Routing) -> &'static str {
    match routing {
        Routing::Native => "native",
        Routing::Vxlan => "vxlan",
    }
}

/// What a path's name ends with; IPv4 and native routing go without saying.
fn suffix(routing: Routing, family: Family) -> &'static str {
    match (routing, family) {
        (Routing::Native, Family::V4) => "",
        (Routing::Native, Family::V6) => "-ipv6",
        (Routing::Vxlan, Family::V4) => "-vxlan",
        (Routing::Vxlan, Family::V6) => "-vxlan-ipv6",
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is malformed", file.display()))
}

/// A pod whose stand-in leaves the port to the benchmark's own server.
pub(crate) fn pod(name: &str, role: &str, node: &str) -> String {
    format!(
        "---\n\
         apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n  name: {name}\n  namespace: {NAMESPACE}\n  labels: {{role: {role}}}\n  \
         annotations: {{kilter.dev/fail: \"tcp,udp\"}}\n\
         spec:\n  nodeName: {node}\n  containers:\n  - name: main\n    image: bench\n    ports:\n    \
         - {{containerPort: {PORT}, protocol: TCP}}\n    - {{containerPort: {PORT}, protocol: UDP}}\n"
    )
}

/// Default deny both ways, and one policy a side that lets the client reach the servers' port; what
/// nodes themselves ask reaches them too.
fn manifests(families: &[Family]) -> String {
    let mut text = String::from(POLICIES);
    for (name, role, node) in
        [("client", "client", NODES[0]), ("near", "near", NODES[0]), ("far", "far", NODES[1])]
    {
        text.push_str(&pod(name, role, node));
    }
    // Their addresses are of IPv4.
    let services = if families.contains(&Family::V4) { SERVICES } else { 0 };
    for number in 0..services as u32 {
        let address = Ipv4Addr::from(u32::from(FRONTEND) + number);
        let _ = write!(
            text,
            "---\n\
             apiVersion: v1\n\
             kind: Service\n\
             metadata: {{name: service-{number}, namespace: {NAMESPACE}}}\n\
             spec:\n  clusterIP: {address}\n  selector: {{role: near}}\n  ports:\n  \
             - {{name: tcp, port: {FRONTEND_PORT}, targetPort: {PORT}, protocol: TCP}}\n  \
             - {{name: udp, port: {FRONTEND_PORT}, targetPort: {PORT}, protocol: UDP}}\n"
        );
    }
    text
}

pub(crate) const POLICIES: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny, namespace: bench}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: bench}
spec:
  podSelector: {matchLabels: {role: client}}
  policyTypes: [Egress]
  egress:
  - to:
    - podSelector:
        matchExpressions:
        - {key: role, operator: In, values: [near, far]}
    ports:
    - {port: 7000, protocol: TCP}
    - {port: 7000, protocol: UDP}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: servers, namespace: bench}
spec:
  podSelector:
    matchExpressions:
    - {key: role, operator: In, values: [near, far]}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {matchLabels: {role: client}}
    - ipBlock: {cidr: 10.240.0.0/16}
    ports:
    - {port: 7000, protocol: TCP}
    - {port: 7000, protocol: UDP}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_name_the_port_that_the_server_listens_on() {
        assert_eq!(POLICIES.matches(&format!("port: {PORT},")).count(), 4);
        assert_eq!(manifests(&[Family::V4]).matches("kind: Service").count(), SERVICES);
    }
}
