//! Bringing a twin up.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kilter_apiserver::pki::Pki;
use kilter_cluster::Update;
use kilter_model::Cluster;
use serde_json::{Value, json};

use crate::cgroup::CgroupTree;
use crate::fabric::create_fabric;
use crate::lock::Lock;
use crate::paths::Layout;
use crate::process::{Starting, start};
use crate::ready::{Readiness, WorkloadState};
use crate::signal::Termination;
use crate::spec::{NodePlan, TwinSpec};
use crate::{UsageError, host, kubeconfig, mounts, pki, system};

/// How long nodes may take to register.
const NODES_READY: Duration = Duration::from_secs(30);

/// What to bring up, and how.
#[derive(Debug)]
pub struct UpOptions {
    /// Names and addresses.
    pub spec: TwinSpec,
    /// The objects to apply, as loaded.
    pub objects: Vec<Value>,
    /// Make the twin kubectl's current context.
    pub switch_context: bool,
    /// How long pods may take to be ready.
    pub timeout: Duration,
}

/// What is being done; told as it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Namespaces, links and routes of the fabric and its nodes.
    Fabric,
    /// The API and the controllers.
    ControlPlane,
    /// The node processes.
    Nodes(u32),
    /// The objects.
    Objects(usize),
    /// Something worth knowing that does not stop anything.
    Warning(String),
    /// So many of so many pods are ready.
    Pods {
        /// Ready now.
        ready: usize,
        /// Wanted.
        wanted: usize,
    },
}

/// A twin that is up.
#[derive(Debug, Clone)]
pub struct Summary {
    /// What it is.
    pub spec: TwinSpec,
    /// Its workloads.
    pub workloads: Vec<WorkloadState>,
    /// Objects that the API refused, each with why.
    pub refused: Vec<String>,
    /// From the call to the last pod ready (or to giving up).
    pub took: Duration,
}

impl Summary {
    /// Whether everything that was asked for runs.
    pub fn is_complete(&self) -> bool {
        self.refused.is_empty() && self.workloads.iter().all(WorkloadState::is_ready)
    }
}

/// Brings a twin up. Where that fails before the objects are applied, or is interrupted, nothing
/// is left behind; where pods are not ready in time the twin stays, for a person to look at.
pub async fn up(options: UpOptions, progress: &mut (dyn FnMut(Step) + Send)) -> Result<Summary> {
    // Before anything is made, so that nothing is made that an interruption would leave.
    let mut termination = Termination::catch()?;
    options.spec.validate(&host::addresses())?;
    host::check()?;
    let layout = Layout::new(&options.spec.name);
    let lock = Lock::take(&layout)?;
    refuse_taken_name(&layout)?;
    let made = tokio::select! {
        made = make(&layout, &options, progress) => made,
        () = termination.wait() => Err(anyhow::anyhow!("interrupted")),
    };
    drop(lock);
    if made.is_err()
        && let Err(error) = crate::down(&options.spec.name)
    {
        progress(Step::Warning(format!("cleaning up failed: {error:#}")));
    }
    made
}

fn refuse_taken_name(layout: &Layout) -> Result<()> {
    let name = layout.name();
    if !layout.root().exists() {
        return Ok(());
    }
    let state = match CgroupTree::of(name)?.is_populated() {
        true => "is already up",
        false => "has left things behind (a crash?)",
    };
    Err(UsageError(format!(
        "a twin named {name} {state}; take it down with `kilter down --name {name}`, or choose another with --name"
    ))
    .into())
}

async fn make(
    layout: &Layout,
    options: &UpOptions,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Summary> {
    let started = Instant::now();
    let mut spec = options.spec.clone();
    let pki = prepare(layout, &spec)?;
    let cgroups = CgroupTree::of(&spec.name)?;

    progress(Step::Fabric);
    let fabric = create_fabric(layout, &spec).await?;
    progress(Step::ControlPlane);
    let spec_file = layout.spec().display().to_string();
    let control_group = cgroups.create("control")?;
    let control = start(
        "the control plane",
        &["run", "control-plane", "--spec", &spec_file],
        &control_group,
        &layout.control_log(),
    )?;
    let plans = spec.node_plans();
    for node in &plans {
        fabric.add_node(layout, node).await?;
        fs::create_dir_all(layout.node(&node.name))?;
    }
    wait(vec![control]).await?;

    progress(Step::Nodes(spec.nodes));
    let mut starting = Vec::new();
    for node in &plans {
        starting.push(start_node(layout, &spec, &cgroups, &pki, node)?);
    }
    spec.kubeconfig = add_context(layout, &spec, options.switch_context, progress);
    fs::write(layout.spec(), serde_json::to_vec_pretty(&spec)?)?;

    let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await?;
    wait(starting).await?;
    wait_for_nodes(&client, &plans).await?;
    progress(Step::Objects(options.objects.len()));
    let mut objects = system::objects(&spec);
    objects.extend(options.objects.iter().cloned());
    objects.extend(missing_namespaces(&objects, progress));
    let refused = apply(&client, &objects).await?;
    let readiness = Readiness::of(&objects, plans.len());
    let workloads = wait_ready(&client, &readiness, options.timeout, progress).await?;
    Ok(Summary { spec, workloads, refused, took: started.elapsed() })
}

/// Directories, the specification and the BPF file system: from here on `down` finds everything.
fn prepare(layout: &Layout, spec: &TwinSpec) -> Result<Pki> {
    use std::os::unix::fs::DirBuilderExt;
    let mut private = fs::DirBuilder::new();
    private.mode(0o700);
    private.create(layout.root()).with_context(|| format!("make {}", layout.root().display()))?;
    fs::write(layout.spec(), serde_json::to_vec_pretty(spec)?)?;
    fs::create_dir(layout.namespaces())?;
    mounts::mount_bpf(&layout.bpf())?;
    pki::create(layout, spec)
}

fn start_node(
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
    let file = file.display().to_string();
    start(&node.name, &["run", "node", "--config", &file], &cgroup, &layout.node_log(&node.name))
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
        address: node.address,
        uplink: crate::UPLINK.to_owned(),
        namespace: layout.node_namespace(&node.name),
        cgroup,
        directory: layout.node(&node.name),
        pins: layout.bpf().join(&node.name),
        kubeconfig: layout.node_kubeconfig(),
        kubelet_token: pki.node_token.clone(),
        cni_plugin: beside("kilter-cni"),
        pause: beside("kilter-pause"),
        pod_cidr: node.pod_cidr,
        cluster_pod_cidr: spec.pod_cidr,
        service_cidr: spec.service_cidr,
        dns_address: spec.dns_service_ip(),
        cluster_domain: spec.cluster_domain.clone(),
        honour_initial_delay: spec.honour_initial_delay,
    })
}

/// A kubeconfig that cannot be written does not stop a twin: its own file does as well.
fn add_context(
    layout: &Layout,
    spec: &TwinSpec,
    switch: bool,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Option<PathBuf> {
    match kubeconfig::add_context(&layout.admin_kubeconfig(), &spec.context(), switch) {
        Ok(path) => Some(path),
        Err(error) => {
            let own = layout.admin_kubeconfig();
            progress(Step::Warning(format!(
                "no context was added to your kubeconfig ({error:#}); use --kubeconfig {}",
                own.display()
            )));
            None
        }
    }
}

/// Namespaces that objects are in and nobody declares. `kubectl apply` would refuse the objects; a
/// twin is for looking at the network, so it makes them and says so.
fn missing_namespaces(objects: &[Value], progress: &mut (dyn FnMut(Step) + Send)) -> Vec<Value> {
    const GIVEN: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
    let declared = |name: &str| {
        GIVEN.contains(&name) || objects.iter().any(|o| o["kind"] == "Namespace" && o["metadata"]["name"] == name)
    };
    let mut missing: Vec<&str> = objects
        .iter()
        .filter_map(|o| o["metadata"]["namespace"].as_str())
        .filter(|name| !declared(name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        progress(Step::Warning(format!("made namespaces that no source declares: {}", missing.join(", "))));
    }
    let namespace = |name: &&str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    missing.iter().map(namespace).collect()
}

/// Applies everything; what the API refuses is returned, not fatal.
async fn apply(client: &kube::Client, objects: &[Value]) -> Result<Vec<String>> {
    let results = kilter_cluster::apply(client, objects).await?;
    Ok(results.into_iter().filter_map(|r| r.err()).map(|e| format!("{:#}", anyhow::Error::from(e))).collect())
}

async fn wait(starting: Vec<Starting>) -> Result<()> {
    tokio::task::spawn_blocking(|| starting.into_iter().try_for_each(Starting::wait)).await?
}

/// Waits until every node is there: a scheduler that sees one node puts everything on it.
async fn wait_for_nodes(client: &kube::Client, plans: &[NodePlan]) -> Result<()> {
    let mut feed = kilter_cluster::watch(client.clone());
    let mut cluster = Cluster::default();
    let deadline = tokio::time::Instant::now() + NODES_READY;
    while let Some(missing) = plans.iter().find(|p| !cluster.node(&p.name).is_some_and(|n| n.ready)) {
        let updates = tokio::time::timeout_at(deadline, feed.next())
            .await
            .with_context(|| format!("{} is not ready after {} s", missing.name, NODES_READY.as_secs()))?;
        see(&mut cluster, updates)?;
    }
    Ok(())
}

fn see(cluster: &mut Cluster, updates: Option<Vec<Update>>) -> Result<()> {
    for update in updates.context("the API went away")? {
        if let Update::Event { event, .. } = update {
            cluster.apply(event);
        }
    }
    Ok(())
}

async fn wait_ready(
    client: &kube::Client,
    readiness: &Readiness,
    timeout: Duration,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Vec<WorkloadState>> {
    let mut feed = kilter_cluster::watch(client.clone());
    let mut cluster = Cluster::default();
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let states = readiness.judge(&cluster);
        let wanted = states.iter().map(|s| s.wanted).sum();
        let ready = states.iter().map(|s| s.ready.min(s.wanted)).sum();
        progress(Step::Pods { ready, wanted });
        if ready == wanted {
            return Ok(states);
        }
        match tokio::time::timeout_at(deadline, feed.next()).await {
            Err(_) => return Ok(states),
            Ok(updates) => see(&mut cluster, updates)?,
        }
    }
}
