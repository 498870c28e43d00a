//! How a twin is.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use futures::future::{LocalBoxFuture, join_all};
use k8s_openapi::api::core::v1::Pod;
use kilter_model::{Cluster, PodPhase};
use kilter_wire::control::NodeStatus;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde::Serialize;
use tokio::time::timeout;

use crate::UsageError;
use crate::cgroup::CgroupTree;
use crate::client::NodeClient;
use crate::paths::Layout;
use crate::spec::{TwinSpec, check_name};
use crate::supervisor::{self, CONTROL_PLANE};

/// How long a node's process may take to say how it is.
const NODE_PATIENCE: Duration = Duration::from_secs(2);

/// A twin as it is now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What it was asked to be.
    pub spec: TwinSpec,
    /// Whether the API and the controllers run.
    pub control_plane: bool,
    /// How often their process died and was started again.
    pub control_plane_restarts: u32,
    /// Its nodes.
    pub nodes: Vec<NodeState>,
    /// Pods, with what keeps each from being ready.
    pub pods: Vec<PodState>,
    /// What is broken on purpose.
    pub faults: Vec<String>,
}

/// A node of a twin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Whether its process answers.
    pub running: bool,
    /// How often its process died and was started again.
    pub restarts: u32,
    /// Connections from it that one endpoint of a Service refused and another took.
    pub retried: u64,
    /// Pods scheduled to it.
    pub pods: usize,
    /// Its Ready condition, as far as the API can be asked, and whether its process says the same: the
    /// condition of a node that died stands for a while, and so it does while the next one starts.
    pub ready: Option<bool>,
}

/// A pod of a twin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// `namespace/name`.
    pub name: String,
    /// Where it runs.
    pub node: Option<String>,
    /// Its first address.
    pub address: Option<String>,
    /// `Running`, `Pending`...
    pub phase: String,
    /// The Ready condition.
    pub ready: bool,
    /// What keeps it from being ready, as far as its status and its latest warning tell.
    pub why: Option<String>,
    /// Its containers that run for real; all others are stand-ins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub real: Vec<String>,
}

impl Status {
    /// Whether everything runs.
    pub fn is_healthy(&self) -> bool {
        self.control_plane
            && self.nodes.iter().all(|n| n.running && n.ready == Some(true))
            && self.pods.iter().all(PodState::is_well)
    }
}

impl PodState {
    /// Whether it is as it should be: ready, or ended well.
    pub fn is_well(&self) -> bool {
        self.ready || self.phase == "Succeeded"
    }
}

/// Asks processes and API of a twin how they are. An API that does not answer is not an error: it
/// is the answer.
pub fn status(name: &str) -> LocalBoxFuture<'_, Result<Status>> {
    Box::pin(ask(name))
}

async fn ask(name: &str) -> Result<Status> {
    check_name(name)?;
    let layout = Layout::new(name);
    let Some(spec) = crate::read_spec(&layout) else { return Err(no_such_twin(name)) };
    let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await.ok();
    let cluster = match &client {
        Some(client) => kilter_cluster::snapshot(client).await.ok(),
        None => None,
    };
    let restarts = supervisor::restarts(&layout);
    let mut pods = cluster.as_ref().map_or_else(Vec::new, pods);
    if let Some(client) = &client {
        name_real_containers(client, &mut pods).await;
    }
    if let Some(client) = client
        && pods.iter().any(|pod| !pod.is_well())
    {
        crate::why::explain(&client, &mut pods).await;
    }
    let mut scheduled: BTreeMap<&str, usize> = BTreeMap::new();
    for node in cluster.iter().flat_map(Cluster::pods).filter_map(|pod| pod.node.as_deref()) {
        *scheduled.entry(node).or_default() += 1;
    }
    // All at once: one that hangs must not delay what the others say.
    let plans = spec.node_plans();
    let said = join_all(plans.iter().map(|node| node_says(&layout, &node.name))).await;
    let mut nodes = Vec::new();
    for (node, said) in plans.into_iter().zip(said) {
        let known = cluster.as_ref().and_then(|c| c.node(&node.name));
        nodes.push(NodeState {
            running: said.is_some(),
            retried: said.as_ref().map_or(0, |said| said.retried),
            restarts: restarts.get(&node.name).copied().unwrap_or_default(),
            pods: scheduled.get(node.name.as_str()).copied().unwrap_or_default(),
            ready: known.map(|n| n.ready && said.as_ref().is_some_and(|s| s.ready)),
            name: node.name,
        });
    }
    Ok(Status {
        control_plane: cluster.is_some(),
        control_plane_restarts: restarts.get(CONTROL_PLANE).copied().unwrap_or_default(),
        nodes,
        pods,
        faults: crate::chaos::faults(&spec)?.iter().map(ToString::to_string).collect(),
        spec,
    })
}

/// What a node's process says of itself; `None` where there is none, or none that answers.
async fn node_says(layout: &Layout, node: &str) -> Option<NodeStatus> {
    let ask = async { NodeClient::connect(node, &layout.control_socket(node)).await?.status().await };
    timeout(NODE_PATIENCE, ask).await.ok()?.ok()
}

fn pods(cluster: &Cluster) -> Vec<PodState> {
    let mut pods: Vec<_> = cluster
        .pods()
        .map(|pod| PodState {
            name: pod.name.to_string(),
            node: pod.node.as_deref().map(str::to_owned),
            address: pod.addresses.first().map(ToString::to_string),
            phase: phase(pod.phase).to_owned(),
            ready: pod.ready,
            why: None,
            real: Vec::new(),
        })
        .collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    pods
}

/// How `imageID` of a container begins whose command runs on this machine (`kilter-pods`).
const PROCESS: &str = "kilter://process";

/// Says which containers are no stand-ins; none when the API does not answer.
async fn name_real_containers(client: &kube::Client, pods: &mut [PodState]) {
    let Ok(listed) = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await else { return };
    let mut by_name: BTreeMap<String, &mut PodState> =
        pods.iter_mut().map(|pod| (pod.name.clone(), pod)).collect();
    for object in listed {
        let statuses = object.status.iter().flat_map(|status| {
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
        });
        let real: Vec<_> =
            statuses.filter(|status| status.image_id == PROCESS).map(|status| status.name.clone()).collect();
        let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        if let Some(pod) = by_name.get_mut(&name) {
            pod.real = real;
        }
    }
}

const fn phase(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
    }
}

/// Whether any process of this twin is alive.
pub fn is_running(name: &str) -> Result<bool> {
    Ok(CgroupTree::of(name)?.is_populated())
}

/// The specification of a twin that runs; an error that says what to do where it does not.
pub fn running(name: &str) -> Result<TwinSpec> {
    check_name(name)?;
    match crate::read_spec(&Layout::new(name)) {
        Some(spec) if is_running(name)? => Ok(spec),
        _ => Err(no_such_twin(name)),
    }
}

fn no_such_twin(name: &str) -> anyhow::Error {
    UsageError(format!(
        "no twin named {name} is up; `kilter list` shows those that are, `kilter up --name {name}` makes one"
    ))
    .into()
}
