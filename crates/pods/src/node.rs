//! The Node object: registered at start, its status renewed now and then, its Lease often.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::config::Config;
use crate::lease;
use crate::version::KUBELET_VERSION;

/// Far more pods than a real node takes: stand-ins cost little.
const MAX_PODS: u32 = 1000;

/// A status that has not changed is written after this all the same (the kubelet's `nodeStatusReportFrequency`).
/// That the node lives its Lease says; of each write all nodes are told.
const REPORT: Duration = Duration::from_mins(5);

/// Registers the node and keeps its status fresh, for ever.
pub async fn keep(config: &Config, kubelet_api: SocketAddr) {
    let since = Time(Timestamp::now());
    let mut backoff = kilter_cluster::Backoff::default();
    while let Err(error) = register(config).await {
        tracing::warn!(%error, "register the node; trying again");
        tokio::time::sleep(backoff.next().unwrap_or(config.heartbeat)).await;
    }
    tokio::join!(keep_status(config, kubelet_api, &since), lease::keep(&config.client, &config.node));
}

async fn keep_status(config: &Config, kubelet_api: SocketAddr, since: &Time) {
    let mut backoff = kilter_cluster::Backoff::default();
    let mut written: Option<Instant> = None;
    loop {
        let status = status(config, kubelet_api, since);
        let due = written.is_none_or(|at| at.elapsed() >= REPORT);
        match renew(config, &status, due).await {
            Ok(was_written) => {
                if was_written {
                    written = Some(Instant::now());
                }
                backoff = kilter_cluster::Backoff::default();
                tokio::time::sleep(config.heartbeat).await;
            }
            Err(error) => {
                tracing::warn!(%error, "renew the node's status; trying again");
                written = None;
                tokio::time::sleep(backoff.next().unwrap_or(config.heartbeat)).await;
                // Somebody may have deleted it.
                if let Err(error) = register(config).await {
                    tracing::debug!(%error, "register the node again");
                }
            }
        }
    }
}

/// Writes the status if it is due, or if somebody has written another. Whether it was written.
async fn renew(config: &Config, status: &NodeStatus, due: bool) -> anyhow::Result<bool> {
    if !due {
        let there = Api::<Node>::all(config.client.clone()).get(&config.node).await;
        let there = there.with_context(|| format!("read node {}", config.node))?.status.unwrap_or_default();
        if without_times(&there) == without_times(status) {
            return Ok(false);
        }
    }
    kilter_cluster::patch_node_status(&config.client, &config.node, status).await?;
    Ok(true)
}

fn without_times(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
        condition.last_transition_time = None;
    }
    status
}

async fn register(config: &Config) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(config.client.clone());
    let node = Node {
        metadata: ObjectMeta {
            name: Some(config.node.clone()),
            labels: Some(labels(config)),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: config.pod_cidrs.first().map(ToString::to_string),
            pod_cidrs: Some(config.pod_cidrs.iter().map(ToString::to_string).collect()),
            ..Default::default()
        }),
        status: None,
    };
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({"metadata": {"labels": labels(config)}, "spec": node.spec});
            api.patch(&config.node, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .with_context(|| format!("update node {}", config.node))?;
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("create node {}", config.node)),
    }
}

fn labels(config: &Config) -> BTreeMap<String, String> {
    let known = [
        ("kubernetes.io/hostname", config.node.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    let known = known.map(|(key, value)| (key.to_owned(), value.to_owned()));
    known.into_iter().chain(config.labels.clone()).collect()
}

fn status(config: &Config, kubelet_api: SocketAddr, since: &Time) -> NodeStatus {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    let resources = capacity();
    NodeStatus {
        addresses: Some(
            config
                .node_ips
                .iter()
                .map(|ip| address("InternalIP", ip.to_string()))
                .chain([address("Hostname", config.node.clone())])
                .collect(),
        ),
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        conditions: Some(conditions(since)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: kubelet_api.port().into() }),
        }),
        node_info: Some(info()),
        ..Default::default()
    }
}

fn conditions(since: &Time) -> Vec<NodeCondition> {
    let condition = |type_: &str, status: &str, reason: &str, message: &str| NodeCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(Time(Timestamp::now())),
        last_transition_time: Some(since.clone()),
    };
    let enough = |type_, reason, message| condition(type_, "False", reason, message);
    vec![
        enough("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        enough("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        enough("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "the node of this twin takes pods"),
    ]
}

fn capacity() -> BTreeMap<String, Quantity> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpus.to_string())),
        ("memory".to_owned(), Quantity(format!("{}Ki", memory_kib()))),
        ("pods".to_owned(), Quantity(MAX_PODS.to_string())),
    ])
}

/// `MemTotal` of proc(5) `meminfo`, in KiB; 0 where it cannot be read.
fn memory_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn info() -> NodeSystemInfo {
    let first_line = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    NodeSystemInfo {
        architecture: architecture().into(),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("kilter://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: first_line("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.into(),
        machine_id: first_line("/etc/machine-id"),
        operating_system: "linux".into(),
        os_image: "Kilter twin".into(),
        system_uuid: first_line("/etc/machine-id"),
        ..Default::default()
    }
}

/// In Go's words, which labels use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
