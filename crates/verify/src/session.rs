//! A twin whose refused packets are followed, so that trials can be made against it again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kilter_cluster::Client;
use kilter_model::{Cluster, Origin, Routing};
use kilter_policy::Verdict;
use kilter_twin::{Layout, NodeClient, TwinSpec, internet};
use kilter_wire::control::{Drop, NodeStatus, Outcome, Probe, ProbeResult};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::judge::{Judged, find_drop, judge};
use crate::plan::Trial;

/// How to verify.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long an expected answer may take.
    pub patience: Duration,
    /// How long an expected refusal is given to turn out an answer after all.
    pub suspicion: Duration,
    /// How long the event of a packet that was refused in silence may take to come.
    pub explanation: Duration,
    /// How long the nodes may take to catch up with the API.
    pub catch_up: Duration,
    /// So many pods alone, and as many Services; `None`: all.
    pub sample: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        let catch_up = Duration::from_secs(10);
        Self { patience: second, suspicion: second, explanation: second, catch_up, sample: None }
    }
}

/// See the module.
pub struct Session {
    spec: TwinSpec,
    layout: Layout,
    client: Client,
    options: Options,
    dropped: mpsc::UnboundedReceiver<Drop>,
}

impl Session {
    /// Begins to follow the drops of every node of a twin.
    pub async fn open(spec: &TwinSpec, options: &Options) -> Result<Self> {
        let layout = Layout::new(&spec.name);
        let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await?;
        let (drops, dropped) = mpsc::unbounded_channel();
        for node in spec.node_plans() {
            let follower = NodeClient::connect(&node.name, &layout.control_socket(&node.name)).await?;
            follower.follow_drops(drops.clone()).await?;
        }
        Ok(Self { spec: spec.clone(), layout, client, options: options.clone(), dropped })
    }

    /// The twin's API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How the twin's nodes reach each other's pods.
    pub fn routing(&self) -> Routing {
        self.spec.routing
    }

    /// A fresh list of the API, once every node has in its kernel what the list shows.
    pub async fn settled(&self) -> Result<Cluster> {
        let cluster = kilter_cluster::snapshot(&self.client).await?;
        let wanted = newest(&cluster);
        let deadline = Instant::now() + self.options.catch_up;
        for node in self.spec.node_plans() {
            let mut client = NodeClient::connect(&node.name, &self.layout.control_socket(&node.name)).await?;
            loop {
                let status = client.status().await?;
                let Some(behind) = behind(&status, &wanted) else { break };
                if Instant::now() > deadline {
                    bail!("{} is behind the API: {behind}", node.name);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(cluster)
    }

    /// Tries everything once, on all nodes at the same time.
    pub async fn attempt(&mut self, trials: Vec<Trial>) -> Result<Vec<Judged>> {
        // What was refused before explains nothing now.
        while self.dropped.try_recv().is_ok() {}
        let mut by_node: BTreeMap<String, Vec<Trial>> = BTreeMap::new();
        for trial in trials {
            by_node.entry(trial.node.clone()).or_default().push(trial);
        }
        let mut running = JoinSet::new();
        for (node, trials) in by_node {
            let socket = self.layout.control_socket(&node);
            let outside = self.layout.internet();
            let probes = trials.iter().map(|trial| probe(trial, &self.options)).collect();
            running.spawn(async move {
                let outcomes = match node.as_str() {
                    internet::NAME => kilter_pods::dial(&outside, &[], probes).await,
                    _ => NodeClient::connect(&node, &socket).await?.probe(probes).await?,
                };
                anyhow::Ok(trials.into_iter().zip(outcomes).collect::<Vec<(Trial, Outcome)>>())
            });
        }
        let mut tried = Vec::new();
        while let Some(done) = running.join_next().await {
            tried.extend(done.context("a probe task ended")??);
        }
        let drops = self.drops_of(&tried).await;
        Ok(tried.into_iter().map(|(trial, outcome)| judge(trial, outcome, &drops)).collect())
    }

    /// The drops that have come; those of trials that were refused in silence are waited for.
    async fn drops_of(&mut self, tried: &[(Trial, Outcome)]) -> Vec<Drop> {
        let mut awaited: BTreeSet<_> = tried.iter().filter_map(|(trial, outcome)| awaited(trial, outcome)).collect();
        // A node on the way has changed the source: only the trial itself knows its drop.
        let mut translated: Vec<_> = tried.iter().filter_map(|(trial, outcome)| awaited_elsewhere(trial, outcome)).collect();
        let deadline = tokio::time::Instant::now() + self.options.explanation;
        let mut drops = Vec::new();
        loop {
            let more = !(awaited.is_empty() && translated.is_empty());
            // Those that have come already are taken in any case.
            let drop = match self.dropped.try_recv() {
                Ok(drop) => drop,
                Err(_) if !more => break,
                Err(_) => match tokio::time::timeout_at(deadline, self.dropped.recv()).await {
                    Ok(Some(drop)) => drop,
                    _ => break,
                },
            };
            awaited.remove(&(drop.from, drop.protocol.clone()));
            translated.retain(|(trial, local)| find_drop(trial, *local, std::slice::from_ref(&drop)).is_none());
            drops.push(drop);
        }
        drops
    }
}

/// The source and protocol of the drop that must explain why nobody answered.
fn awaited(trial: &Trial, outcome: &Outcome) -> Option<((std::net::IpAddr, u16), String)> {
    let local = to_explain(trial, outcome).filter(|_| trial.node != internet::NAME)?;
    Some(((local.ip(), local.port()), trial.protocol.to_string()))
}

/// The same for a trial from outside, by its local address.
fn awaited_elsewhere<'a>(trial: &'a Trial, outcome: &Outcome) -> Option<(&'a Trial, SocketAddr)> {
    Some((trial, to_explain(trial, outcome).filter(|_| trial.node == internet::NAME)?))
}

/// The local address of a trial that met the silence which the model expects.
fn to_explain(trial: &Trial, outcome: &Outcome) -> Option<SocketAddr> {
    let refused = |it: &crate::plan::Expected| it.answer.verdict() == Verdict::Deny;
    let silent = outcome.result == ProbeResult::TimedOut;
    let explained = !trial.expected.is_empty() && trial.expected.iter().all(refused);
    outcome.local.filter(|_| silent && explained)
}

fn probe(trial: &Trial, options: &Options) -> Probe {
    let timeout = if trial.may_be_answered() { options.patience } else { options.suspicion };
    Probe {
        from: trial.from.to_string(),
        to: trial.to,
        protocol: trial.protocol.to_string(),
        timeout_ms: timeout.as_millis() as u64,
    }
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
    // Of a pod that has no address yet, other nodes are told nothing.
    cluster.pods().filter(|it| !it.addresses.is_empty()).for_each(|it| see("pods", &it.origin));
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
