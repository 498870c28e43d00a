//! Breaking things on purpose, and mending them.
//!
//! What is broken is kept in the twin's `chaos.json`, so that one command can break and another,
//! later, can mend; what the fabric loses is one nftables table, replaced as a whole.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kilter_model::NamespacedName;
use kilter_netlink::{Impairment, Netlink};
use kilter_netns::NetNs;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cgroup::CgroupTree;
use crate::fabric::UPLINK;
use crate::paths::Layout;
use crate::spec::TwinSpec;
use crate::{MachineError, UsageError, pki};

/// The annotation by which stand-ins fail on purpose.
const FAIL: &str = "kilter.dev/fail";
/// Beyond a minute nothing that is tried here would wait, milliseconds.
const MOST_DELAY: u32 = 60_000;

/// Something broken on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// A node's link into the fabric is down: neither pods nor the API hear of it.
    CutNode {
        /// Which node.
        node: String,
    },
    /// Two nodes lose every frame between them, and reach everybody else.
    CutLink {
        /// One node.
        from: String,
        /// The other.
        to: String,
    },
    /// A node loses some of the frames it exchanges with other nodes, at random.
    Loss {
        /// Which node.
        node: String,
        /// How many of a hundred.
        percent: u32,
    },
    /// What a node sends to other nodes and what they send to it comes later.
    Delay {
        /// Which node.
        node: String,
        /// By how many milliseconds, each way.
        milliseconds: u32,
    },
    /// A pod's stand-ins fail a probe.
    FailProbe {
        /// `namespace/name`.
        pod: String,
        /// `readiness`, `liveness` or `startup`.
        probe: String,
    },
    /// A pod's pause process is killed, and its network namespace with it. Heals by itself.
    KillPod {
        /// `namespace/name`.
        pod: String,
    },
    /// A node's Kilter process is killed; its pods and their connections stay.
    KillNode {
        /// Which node.
        node: String,
    },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::CutNode { node } => write!(f, "{node} is cut off"),
            Fault::CutLink { from, to } => write!(f, "{from} and {to} do not reach each other"),
            Fault::Loss { node, percent } => write!(f, "{node} loses {percent} % of its frames"),
            Fault::Delay { node, milliseconds } => write!(f, "{node} is {milliseconds} ms away, each way"),
            Fault::FailProbe { pod, probe } => write!(f, "{pod} fails its {probe} probe"),
            Fault::KillPod { pod } => write!(f, "{pod} was killed"),
            Fault::KillNode { node } => write!(f, "the process of {node} was killed"),
        }
    }
}

impl Fault {
    /// Whether it stays until somebody mends it.
    pub fn lasts(&self) -> bool {
        !matches!(self, Fault::KillPod { .. } | Fault::KillNode { .. })
    }
}

/// What is broken now.
pub fn faults(spec: &TwinSpec) -> Result<Vec<Fault>> {
    let file = Layout::new(&spec.name).chaos();
    match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

/// Breaks one thing more. What lasts is recorded before it is done: an interrupted command leaves
/// nothing that [`heal`] would not find.
pub async fn inject(spec: &TwinSpec, fault: Fault) -> Result<()> {
    let mut all = faults(spec)?;
    check(spec, &fault)?;
    if let Fault::Delay { .. } = fault {
        check_delays(spec).await?;
        all.retain(|other| !is_delay_of(other, &fault));
    }
    if fault.lasts() && !all.contains(&fault) {
        all.push(fault.clone());
        record(spec, &all)?;
    }
    match &fault {
        Fault::CutNode { node } => set_link(spec, node, false).await,
        Fault::CutLink { .. } | Fault::Loss { .. } => impair(spec, &all).await,
        Fault::Delay { node, milliseconds } => set_delay(spec, node, *milliseconds).await,
        Fault::FailProbe { pod, probe } => set_failing(spec, pod, Some(probe)).await,
        Fault::KillPod { pod } => kill_pod(spec, pod),
        Fault::KillNode { node } => kill_node(spec, node),
    }
}

/// Mends everything that was broken on purpose. Returns what it was.
pub async fn heal(spec: &TwinSpec) -> Result<Vec<Fault>> {
    let all = faults(spec)?;
    impair(spec, &[]).await?;
    for fault in &all {
        match fault {
            Fault::CutNode { node } => set_link(spec, node, true).await?,
            Fault::Delay { node, .. } => set_delay(spec, node, 0).await?,
            Fault::FailProbe { pod, .. } => set_failing(spec, pod, None).await?,
            _ => {}
        }
    }
    record(spec, &[])?;
    Ok(all)
}

fn record(spec: &TwinSpec, faults: &[Fault]) -> Result<()> {
    pki::write_private(&Layout::new(&spec.name).chaos(), &serde_json::to_string_pretty(faults)?)
}

fn check(spec: &TwinSpec, fault: &Fault) -> Result<()> {
    let named: Vec<&String> = match fault {
        Fault::CutNode { node } | Fault::Loss { node, .. } | Fault::Delay { node, .. } | Fault::KillNode { node } => {
            vec![node]
        }
        Fault::CutLink { from, to } => vec![from, to],
        Fault::FailProbe { .. } | Fault::KillPod { .. } => vec![],
    };
    for node in named {
        spec.node_plan(node)?;
    }
    match fault {
        Fault::CutLink { from, to } if from == to => {
            Err(UsageError(format!("{from} cannot be cut from itself; `kilter chaos cut-node {from}` cuts it off")).into())
        }
        Fault::Loss { percent, .. } if !(1..=100).contains(percent) => {
            Err(UsageError(format!("a loss of {percent} % makes no sense: use 1 to 100")).into())
        }
        Fault::Delay { milliseconds, .. } if !(1..=MOST_DELAY).contains(milliseconds) => {
            let text = format!("a delay of {milliseconds} ms makes no sense: use 1 to {MOST_DELAY}");
            Err(UsageError(text).into())
        }
        _ => Ok(()),
    }
}

/// A later delay of a node replaces the one before.
fn is_delay_of(one: &Fault, other: &Fault) -> bool {
    match (one, other) {
        (Fault::Delay { node: one, .. }, Fault::Delay { node: other, .. }) => one == other,
        _ => false,
    }
}

/// Tries it on the fabric's loopback, where nothing is sent: some kernels are built without.
async fn check_delays(spec: &TwinSpec) -> Result<()> {
    let netlink = Netlink::new(&NetNs::open(Layout::new(&spec.name).fabric())?)?;
    let loopback = netlink.link_index("lo").await?;
    match netlink.set_delay(loopback, Duration::from_millis(1)).await {
        Ok(()) => Ok(netlink.set_delay(loopback, Duration::ZERO).await?),
        Err(error) if error.is_missing() => Err(MachineError {
            what: "this kernel cannot delay packets: it has no netem (CONFIG_NET_SCH_NETEM)".into(),
            remedy: "`modprobe sch_netem`, or a kernel that has it; `kilter chaos loss` works without".into(),
        }
        .into()),
        Err(error) => Err(error.into()),
    }
}

/// Both ends of a node's link into the fabric send later, or at once again.
async fn set_delay(spec: &TwinSpec, node: &str, milliseconds: u32) -> Result<()> {
    let layout = Layout::new(&spec.name);
    for (namespace, link) in [(layout.fabric(), node), (layout.node_namespace(node), UPLINK)] {
        let netlink = Netlink::new(&NetNs::open(namespace)?)?;
        let link = netlink.link_index(link).await?;
        netlink.set_delay(link, Duration::from_millis(milliseconds.into())).await?;
    }
    Ok(())
}

/// A node's port of the fabric's bridge, up or down.
async fn set_link(spec: &TwinSpec, node: &str, up: bool) -> Result<()> {
    let fabric = NetNs::open(Layout::new(&spec.name).fabric())?;
    let netlink = Netlink::new(&fabric)?;
    let port = netlink.link_index(node).await?;
    match up {
        true => netlink.set_up(port).await?,
        false => netlink.set_down(port).await?,
    }
    Ok(())
}

/// Puts the losses among `faults` in force, and no others.
async fn impair(spec: &TwinSpec, faults: &[Fault]) -> Result<()> {
    let mut all = Vec::new();
    for fault in faults {
        match fault {
            Fault::CutLink { from, to } => all.push(Impairment {
                from: uplink_mac(spec, from).await?,
                to: Some(uplink_mac(spec, to).await?),
                percent: 100,
            }),
            Fault::Loss { node, percent } => all.push(Impairment {
                from: uplink_mac(spec, node).await?,
                to: None,
                percent: *percent,
            }),
            _ => {}
        }
    }
    let fabric = NetNs::open(Layout::new(&spec.name).fabric())?;
    Ok(Impairment::replace_all(&fabric, &all)?)
}

async fn uplink_mac(spec: &TwinSpec, node: &str) -> Result<kilter_netlink::Mac> {
    let namespace = NetNs::open(Layout::new(&spec.name).node_namespace(node))?;
    let link = Netlink::new(&namespace)?.link(UPLINK).await?;
    link.and_then(|link| link.mac).with_context(|| format!("{node} has no {UPLINK} with an address"))
}

async fn set_failing(spec: &TwinSpec, pod: &str, probe: Option<&str>) -> Result<()> {
    let client = kilter_cluster::connect(&Layout::new(&spec.name).admin_kubeconfig()).await?;
    let name = pod_name(pod);
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let api: Api<DynamicObject> = Api::namespaced_with(client, &name.namespace, &kind);
    let patch = json!({"metadata": {"annotations": {FAIL: probe}}});
    match api.patch(&name.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        // Whoever deleted the pod has mended it.
        Err(kube::Error::Api(status)) if probe.is_none() && status.code == 404 => Ok(()),
        patched => patched.map(drop).with_context(|| format!("annotate pod {name}")),
    }
}

/// A pod without a namespace is of `default`, as for kubectl.
fn pod_name(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    NamespacedName::new(namespace, name)
}

/// The pause process says in its arguments whose it is.
fn kill_pod(spec: &TwinSpec, pod: &str) -> Result<()> {
    let name = pod_name(pod).to_string();
    let cgroups = CgroupTree::of(&spec.name)?;
    for node in spec.node_plans() {
        for pid in cgroups.processes(&node.name)? {
            if arguments(pid).is_some_and(|args| args[0].ends_with(b"kilter-pause") && args.iter().any(|a| a == name.as_bytes())) {
                return kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill the pause of {name}"));
            }
        }
    }
    Err(UsageError(format!("no pod {name} runs in twin {}; `kubectl get pods -A` shows those that do", spec.name)).into())
}

fn kill_node(spec: &TwinSpec, node: &str) -> Result<()> {
    let config = Layout::new(&spec.name).node_config(node);
    for pid in CgroupTree::of(&spec.name)?.processes(node)? {
        if arguments(pid).is_some_and(|args| args.iter().any(|a| a == config.as_os_str().as_bytes())) {
            return kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill the process of {node}"));
        }
    }
    bail!("the process of {node} does not run")
}

/// A process's arguments; none where it has ended.
fn arguments(pid: i32) -> Option<Vec<Vec<u8>>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let args: Vec<Vec<u8>> = line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    (!line.is_empty()).then_some(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_make_no_sense_are_refused_with_what_would() {
        let spec = TwinSpec::named("shop", &[kilter_model::Family::V4]);
        let refused = |fault: Fault| check(&spec, &fault).unwrap_err().to_string();
        assert_eq!(
            refused(Fault::CutNode { node: "node-9".into() }),
            "twin shop has no node node-9; it has node-1, node-2, node-3"
        );
        assert!(refused(Fault::CutLink { from: "node-1".into(), to: "node-1".into() }).contains("from itself"));
        assert!(refused(Fault::Loss { node: "node-1".into(), percent: 0 }).contains("1 to 100"));
        assert!(check(&spec, &Fault::Loss { node: "node-1".into(), percent: 100 }).is_ok());
        assert!(refused(Fault::Delay { node: "node-1".into(), milliseconds: 0 }).contains("1 to 60000"));
    }

    #[test]
    fn a_pod_without_namespace_is_of_default() {
        assert_eq!(pod_name("web").to_string(), "default/web");
        assert_eq!(pod_name("shop/web").to_string(), "shop/web");
    }
}
