//! The nodes of a twin: their processes, and nodes that come and go while it runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::Node;
use kilter_apiserver::pki::Pki;
use kilter_model::Cluster;
use kube::api::DeleteParams;

use crate::cgroup::CgroupTree;
use crate::fabric::Fabric;
use crate::lock::Lock;
use crate::paths::Layout;
use crate::process::{Starting, start};
use crate::spec::{NodePlan, TwinSpec};
use crate::supervisor::Process;
use crate::{UsageError, host, internet, mounts, pki, up};

/// How long nodes may take to register.
const NODES_READY: Duration = Duration::from_secs(30);

/// Adds a node to a twin that runs, and waits until it is ready. The number of one that was removed is
/// used again, so its addresses are too.
pub fn add(name: &str) -> LocalBoxFuture<'_, Result<NodePlan>> {
    Box::pin(add_node(name))
}

async fn add_node(name: &str) -> Result<NodePlan> {
    let spec = crate::running(name)?;
    let layout = Layout::new(name);
    let _lock = Lock::take(&layout)?;
    let (spec, node) = spec.with_another_node();
    spec.validate(&host::addresses())?;
    let made = make(&layout, &spec, &node).await;
    if made.is_err() {
        // What was made of it must not be in the way of the next attempt.
        end(&layout, &spec, &node).await.context("clean up after a node that could not be added")?;
    }
    made.map(|()| node)
}

async fn make(layout: &Layout, spec: &TwinSpec, node: &NodePlan) -> Result<()> {
    let cgroups = CgroupTree::of(layout.name())?;
    Fabric::open(layout, spec).await?.add_node(layout, node).await?;
    fs::create_dir_all(layout.node(&node.name))?;
    wait(vec![start_node(layout, spec, &cgroups, &pki::read(layout)?, node)?]).await?;
    let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await?;
    wait_for_nodes(&client, std::slice::from_ref(node)).await?;
    record(layout, spec)?;
    restart_supervisor(layout, &cgroups).await
}

/// Removes a node from a twin that runs: its pods end, and those that belong to a workload are made anew
/// elsewhere.
pub fn remove<'a>(name: &'a str, node: &'a str) -> LocalBoxFuture<'a, Result<()>> {
    Box::pin(remove_node(name, node))
}

async fn remove_node(name: &str, node: &str) -> Result<()> {
    let spec = crate::running(name)?;
    let layout = Layout::new(name);
    let _lock = Lock::take(&layout)?;
    let plan = spec.node_plan(node)?;
    if spec.node_plans().len() == 1 {
        let text = format!("{node} is the only node of twin {name}; `kilter down --name {name}` removes the twin");
        return Err(UsageError(text).into());
    }
    let spec = spec.without_node(node);
    // First, so that nobody starts again what ends now.
    record(&layout, &spec)?;
    restart_supervisor(&layout, &CgroupTree::of(name)?).await?;
    end(&layout, &spec, &plan).await
}

/// Ends a node's processes and removes what it has, however much of it there is.
async fn end(layout: &Layout, spec: &TwinSpec, node: &NodePlan) -> Result<()> {
    let cgroups = CgroupTree::of(layout.name())?;
    let killed = cgroups.kill_group(&node.name);
    let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await?;
    match kube::Api::<Node>::all(client).delete(&node.name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        deleted => deleted.map(drop).with_context(|| format!("delete node {}", node.name))?,
    }
    Fabric::open(layout, spec).await?.remove_node(node).await?;
    mounts::unmount_below(&layout.node_namespace(&node.name))?;
    for path in [layout.node_namespace(&node.name), layout.node(&node.name), layout.bpf().join(&node.name)] {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    killed.and(cgroups.remove_group(&node.name))
}

fn record(layout: &Layout, spec: &TwinSpec) -> Result<()> {
    fs::write(layout.spec(), serde_json::to_vec_pretty(spec)?)
        .with_context(|| format!("write {}", layout.spec().display()))
}

/// The supervisor knows the nodes of its start.
async fn restart_supervisor(layout: &Layout, cgroups: &CgroupTree) -> Result<()> {
    cgroups.kill_group(SUPERVISOR)?;
    start_supervisor(layout, cgroups).await
}

const SUPERVISOR: &str = "supervisor";

/// Starts the process that starts the others again.
pub(crate) async fn start_supervisor(layout: &Layout, cgroups: &CgroupTree) -> Result<()> {
    let spec = layout.spec().display().to_string();
    let arguments = ["run", "supervisor", "--spec", &spec];
    let group = cgroups.create(SUPERVISOR)?;
    wait(vec![start("the supervisor", &arguments, &group, &layout.supervisor_log())?]).await
}

/// Starts a node's process, with its own certificate and configuration.
pub(crate) fn start_node(
    layout: &Layout,
    spec: &TwinSpec,
    cgroups: &CgroupTree,
    pki: &Pki,
    node: &NodePlan,
) -> Result<Starting> {
    let cgroup = cgroups.create(&node.name)?;
    let certificate = pki::issue_kubelet(pki, node)?;
    pki::write_private(&layout.node(&node.name).join("kubelet.crt"), &certificate.certificate)?;
    pki::write_private(&layout.node(&node.name).join("kubelet.key"), &certificate.key)?;
    let config = node_config(layout, spec, pki, node, cgroup.clone())?;
    let file = layout.node_config(&node.name);
    pki::write_private(&file, &serde_json::to_string_pretty(&config)?)?;
    Process::node(layout, cgroups, &node.name).start()
}

fn node_config(
    layout: &Layout,
    spec: &TwinSpec,
    pki: &Pki,
    node: &NodePlan,
    cgroup: PathBuf,
) -> Result<kilter_node::Config> {
    let own = std::env::current_exe().context("find this program's own file")?;
    let beside = |name: &str| own.with_file_name(name);
    Ok(kilter_node::Config {
        node: node.name.clone(),
        addresses: node.addresses.clone(),
        uplink: crate::UPLINK.to_owned(),
        routing: spec.routing,
        namespace: layout.node_namespace(&node.name),
        cgroup,
        directory: layout.node(&node.name),
        pins: layout.bpf().join(&node.name),
        kubeconfig: layout.node_kubeconfig(),
        kubelet_token: pki.node_token.clone(),
        stand_in_certificate: layout.stand_in_certificate(),
        stand_in_key: layout.stand_in_key(),
        cni_plugin: beside("kilter-cni"),
        pause: beside("kilter-pause"),
        pod_cidrs: node.pod_cidrs.clone(),
        cluster_pod_cidrs: spec.pod_cidrs.clone(),
        service_cidrs: spec.service_cidrs.clone(),
        lb_pools: spec.lb_pools.clone(),
        dns_addresses: spec.dns_service_ips(),
        upstream_dns: internet::dns_servers(spec),
        cluster_domain: spec.cluster_domain.clone(),
        honour_initial_delay: spec.honour_initial_delay,
    })
}

/// Waits until all of them serve.
pub(crate) async fn wait(starting: Vec<Starting>) -> Result<()> {
    tokio::task::spawn_blocking(|| starting.into_iter().try_for_each(Starting::wait)).await?
}

/// Waits until every node is there: a scheduler that sees one node puts everything on it.
pub(crate) async fn wait_for_nodes(client: &kube::Client, plans: &[NodePlan]) -> Result<()> {
    let mut feed = kilter_cluster::watch(client.clone());
    let mut cluster = Cluster::default();
    let deadline = tokio::time::Instant::now() + NODES_READY;
    while let Some(missing) = plans.iter().find(|p| !cluster.node(&p.name).is_some_and(|n| n.ready)) {
        let updates = tokio::time::timeout_at(deadline, feed.next())
            .await
            .with_context(|| format!("{} is not ready after {} s", missing.name, NODES_READY.as_secs()))?;
        up::see(&mut cluster, updates)?;
    }
    Ok(())
}
