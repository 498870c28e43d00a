//! Every node of a twin, proved against a fresh list of its API.
//!
//! A list and what a node has loaded are never of the very same moment. That a node equals a list
//! proves it. That it differs may only mean that something changed in between, so a difference
//! counts only when it is the same in several readings, between which neither the list nor the
//! versions that the node has applied have changed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;
use kilter_model::{Cluster, Routing};
use kilter_reach::proof::{Expected, Finding, Proof};
use kilter_twin::{Layout, MTU, NodeClient, TwinSpec, UPLINK, UsageError};
use kilter_wire::loaded::Loaded;
use serde::Serialize;

use crate::Options;

/// How often a difference must be seen before it counts, and how long between two readings.
const READINGS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(60);

/// What a proof rests on without proving it.
pub const TRUSTED: [&str; 4] = [
    "that the programs decide as the interpreter of their rows does: `make witnesses` compares them",
    "that the compilers decide as the rules do: compared with the naive evaluator by the same tests",
    "that the kernel runs what is attached, and that the node process reads and passes on what the kernel holds",
    "that the API's list is what was asked for",
];

/// All nodes of a twin, proved or not.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofReport {
    /// The twin.
    pub twin: String,
    /// Whether every node equals the model.
    pub proved: bool,
    /// Its nodes.
    pub nodes: Vec<NodeProof>,
    /// What is taken for granted.
    pub trusted: [&'static str; 4],
}

/// One node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeProof {
    /// What was found.
    #[serde(flatten)]
    pub proof: Proof,
    /// How long reading back and comparing took, milliseconds.
    pub millis: u128,
}

/// Proves the nodes of a twin, or one of them.
pub fn prove<'a>(
    spec: &'a TwinSpec,
    only: Option<&'a str>,
    options: &'a Options,
) -> LocalBoxFuture<'a, Result<ProofReport>> {
    Box::pin(run(spec, only, options))
}

async fn run(spec: &TwinSpec, only: Option<&str>, options: &Options) -> Result<ProofReport> {
    let layout = Layout::new(&spec.name);
    let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await?;
    let names: Vec<String> = spec.node_plans().into_iter().map(|node| node.name).collect();
    if let Some(unknown) = only.filter(|name| names.iter().all(|it| it != name)) {
        let text = format!("twin {} has no node {unknown}; its nodes are {}", spec.name, names.join(", "));
        return Err(UsageError(text).into());
    }
    let mut nodes = Vec::new();
    for name in names.iter().filter(|name| only.is_none_or(|only| only == *name)) {
        let socket = layout.control_socket(name);
        let node = Node { spec, name, control: NodeClient::connect(name, &socket).await? };
        nodes.push(node.prove(&client, options).await?);
    }
    let proved = nodes.iter().all(|node| node.proof.findings.is_empty());
    Ok(ProofReport { twin: spec.name.clone(), proved, nodes, trusted: TRUSTED })
}

/// A node that is asked.
struct Node<'a> {
    spec: &'a TwinSpec,
    name: &'a str,
    control: NodeClient,
}

/// A difference and all that must stay the same for it to count.
struct Seen {
    cluster: Cluster,
    applied: BTreeMap<String, String>,
    findings: Vec<Finding>,
    times: u32,
}

impl Node<'_> {
    async fn prove(mut self, client: &kilter_cluster::Client, options: &Options) -> Result<NodeProof> {
        let deadline = Instant::now() + options.catch_up;
        let mut seen: Option<Seen> = None;
        loop {
            let cluster = kilter_cluster::snapshot(client).await?;
            let began = Instant::now();
            let loaded = self.control.loaded().await.context("read back what is loaded")?;
            let proof = kilter_reach::proof::prove(&cluster, &self.expected(&cluster), &loaded);
            let millis = began.elapsed().as_millis();
            if proof.findings.is_empty() {
                return Ok(NodeProof { proof, millis });
            }
            let times = repeated(&seen, &cluster, &loaded, &proof);
            if times >= READINGS {
                return Ok(NodeProof { proof, millis });
            }
            if Instant::now() > deadline {
                bail!(
                    "{} differs from the API's list, which keeps changing: after {} s no two readings were of \
                     one state; try again when less is going on (first difference: {})",
                    self.name,
                    options.catch_up.as_secs(),
                    proof.findings[0]
                );
            }
            seen = Some(Seen { cluster, applied: loaded.applied, findings: proof.findings, times });
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn expected(&self, cluster: &Cluster) -> Expected {
        let routing = self.spec.routing;
        let routes = kilter_agent::expected_routes(cluster, self.name, routing).into_iter();
        let nodes = self.spec.node_subnets.first().map(|net| net.addr());
        let pod_mtu = kilter_agent::pod_mtu(MTU, routing, nodes.as_ref());
        let tunnelled = routing == Routing::Vxlan;
        Expected {
            node: self.name.to_owned(),
            pod_cidrs: self.spec.pod_cidrs.clone(),
            lb_pools: self.spec.lb_pools.clone(),
            routes: routes.map(|route| (route.prefix, route.next_hop)).collect(),
            tunnel: tunnelled.then_some(kilter_agent::VNI),
            pod_mtu,
            settings: kilter_agent::expected_settings(
                UPLINK,
                &self.spec.pod_cidrs,
                tunnelled.then_some(pod_mtu),
            ),
            links: kilter_agent::expected_links(cluster, self.name),
        }
    }
}

/// How often these findings have been seen in a row, now included.
fn repeated(seen: &Option<Seen>, cluster: &Cluster, loaded: &Loaded, proof: &Proof) -> u32 {
    let before = seen.as_ref().filter(|seen| {
        seen.cluster == *cluster && seen.applied == loaded.applied && seen.findings == proof.findings
    });
    before.map_or(1, |seen| seen.times + 1)
}

impl fmt::Display for ProofReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            writeln!(f, "{node}")?;
        }
        writeln!(f, "\ntrusted:")?;
        self.trusted.iter().try_for_each(|what| writeln!(f, "  {what}"))
    }
}

/// Findings of one kind that are printed; `-o json` has all of them.
const SHOWN: usize = 10;

impl fmt::Display for NodeProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proof { node, findings, compared } = &self.proof;
        let counts: Vec<String> = compared.iter().map(|(what, count)| format!("{count} {what}")).collect();
        match findings.len() {
            0 => write!(f, "{node}: equal to the model for every packet")?,
            1 => write!(f, "{node}: 1 difference")?,
            more => write!(f, "{node}: {more} differences")?,
        }
        write!(f, " ({} ms; {})", self.millis, counts.join(", "))?;
        findings.iter().take(SHOWN).try_for_each(|finding| write!(f, "\n  {finding}"))?;
        match findings.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more (-o json shows all)"),
        }
    }
}
