//! The run itself: wait until the nodes have caught up with the API, try everything at once, judge.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kilter_model::{Cluster, Origin};
use kilter_twin::{Layout, NodeClient, TwinSpec};
use kilter_wire::control::{Drop, NodeStatus, Outcome, Probe};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::judge::{Judged, judge};
use crate::plan::{Trial, plan};
use crate::report::Report;

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long an expected refusal is given to turn out an answer after all.
    pub patience: Duration,
    /// How long the nodes may take to catch up with the API.
    pub catch_up: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_millis(1000), catch_up: Duration::from_secs(10) }
    }
}

/// Tries every pair and Service of a twin and compares with the model of a fresh list of its API.
///
/// Disagreements are tried once more against another fresh list: between list and packet the
/// cluster may have changed under the run, and what persists is what counts.
pub async fn verify(spec: &TwinSpec, options: &Options) -> Result<Report> {
    let started = Instant::now();
    let layout = Layout::new(&spec.name);
    let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await?;
    let (drops, mut dropped) = mpsc::unbounded_channel();
    for node in spec.node_plans() {
        let follower = NodeClient::connect(&node.name, &layout.control_socket(&node.name)).await?;
        follower.follow_drops(drops.clone()).await?;
    }
    let cluster = kilter_cluster::snapshot(&client).await?;
    wait_for_nodes(spec, &layout, &cluster, options).await?;
    let mut seen = Vec::new();
    let mut judged = attempt(&layout, plan(&cluster), options, &mut dropped, &mut seen).await?;

    if judged.iter().any(|j| j.finding.is_some()) {
        let cluster = kilter_cluster::snapshot(&client).await?;
        wait_for_nodes(spec, &layout, &cluster, options).await?;
        judged = again(&layout, &cluster, judged, options, &mut dropped, &mut seen).await?;
    }
    Ok(Report::new(&spec.name, judged, started.elapsed()))
}

async fn again(
    layout: &Layout,
    cluster: &Cluster,
    judged: Vec<Judged>,
    options: &Options,
    dropped: &mut mpsc::UnboundedReceiver<Drop>,
    seen: &mut Vec<Drop>,
) -> Result<Vec<Judged>> {
    let (mut settled, doubtful): (Vec<_>, Vec<_>) = judged.into_iter().partition(|j| j.finding.is_none());
    let same = |a: &Trial, b: &Trial| (&a.from, a.to, a.protocol) == (&b.from, b.to, b.protocol);
    let trials = plan(cluster).into_iter().filter(|t| doubtful.iter().any(|d| same(&d.trial, t))).collect();
    settled.extend(attempt(layout, trials, options, dropped, seen).await?);
    Ok(settled)
}

/// Tries everything once, on all nodes at the same time.
async fn attempt(
    layout: &Layout,
    trials: Vec<Trial>,
    options: &Options,
    dropped: &mut mpsc::UnboundedReceiver<Drop>,
    seen: &mut Vec<Drop>,
) -> Result<Vec<Judged>> {
    let mut by_node: BTreeMap<String, Vec<Trial>> = BTreeMap::new();
    for trial in trials {
        by_node.entry(trial.node.clone()).or_default().push(trial);
    }
    let mut running = JoinSet::new();
    for (node, trials) in by_node {
        let socket = layout.control_socket(&node);
        let probes = trials.iter().map(|t| probe(t, options)).collect();
        running.spawn(async move {
            let outcomes = NodeClient::connect(&node, &socket).await?.probe(probes).await?;
            anyhow::Ok(trials.into_iter().zip(outcomes).collect::<Vec<(Trial, Outcome)>>())
        });
    }
    let mut tried = Vec::new();
    while let Some(done) = running.join_next().await {
        tried.extend(done.context("a probe task ended")??);
    }
    // Every drop event was put on its way while its probe still waited for an answer.
    while let Ok(drop) = dropped.try_recv() {
        seen.push(drop);
    }
    Ok(tried.into_iter().map(|(trial, outcome)| judge(trial, outcome, seen)).collect())
}

fn probe(trial: &Trial, options: &Options) -> Probe {
    Probe {
        from: trial.from.to_string(),
        to: trial.to,
        protocol: trial.protocol.to_string(),
        timeout_ms: options.patience.as_millis() as u64,
    }
}

/// Waits until every node has in its kernel what the list shows.
async fn wait_for_nodes(spec: &TwinSpec, layout: &Layout, cluster: &Cluster, options: &Options) -> Result<()> {
    let wanted = newest(cluster);
    let deadline = Instant::now() + options.catch_up;
    for node in spec.node_plans() {
        let mut client = NodeClient::connect(&node.name, &layout.control_socket(&node.name)).await?;
        loop {
            let status = client.status().await?;
            let Some(behind) = behind(&status, &wanted) else { break };
            if Instant::now() > deadline {
                bail!("{} is behind the API: {behind}", node.name);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// The newest resourceVersion of each resource in the list. Kilter's API, and Kubernetes' since
/// 1.35 (KEP-5504), promise that they can be compared as numbers.
fn newest(cluster: &Cluster) -> BTreeMap<&'static str, u64> {
    let mut newest = BTreeMap::new();
    let mut see = |resource: &'static str, origin: &Origin| {
        if let Origin::Api { resource_version } = origin
            && let Ok(version) = resource_version.parse::<u64>()
        {
            let entry = newest.entry(resource).or_insert(0);
            *entry = version.max(*entry);
        }
    };
    cluster.pods().for_each(|it| see("pods", &it.origin));
    cluster.namespaces().for_each(|it| see("namespaces", &it.origin));
    cluster.policies().for_each(|it| see("networkpolicies", &it.origin));
    cluster.cluster_policies().for_each(|it| see("clusternetworkpolicies", &it.origin));
    cluster.services().for_each(|it| see("services", &it.origin));
    newest
}

fn behind(status: &NodeStatus, wanted: &BTreeMap<&'static str, u64>) -> Option<String> {
    if !status.ready {
        return Some("its watches have not synced".into());
    }
    wanted.iter().find_map(|(resource, version)| {
        let applied: u64 = status.applied.get(*resource).and_then(|v| v.parse().ok()).unwrap_or(0);
        (applied < *version).then(|| format!("{resource} at {applied}, the API at {version}"))
    })
}
