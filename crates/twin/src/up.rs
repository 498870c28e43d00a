//! Bringing a twin up.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kilter_apiserver::pki::Pki;
use kilter_cluster::Update;
use k8s_openapi::api::core::v1::{Node, Pod};
use kilter_model::Cluster;
use futures::future::LocalBoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cgroup::CgroupTree;
use crate::fabric::create_fabric;
use crate::lock::Lock;
use crate::paths::Layout;
use crate::down::clear;
use crate::ready::{Readiness, WorkloadState};
use crate::signal::Termination;
use crate::spec::TwinSpec;
use crate::supervisor::Process;
use crate::{UsageError, host, kubeconfig, mounts, nodes, pki, system};

/// Requests in flight at once.
const AT_ONCE: usize = 32;

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
    /// The state of the API is an earlier run's, whose processes have died.
    Resuming,
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
pub fn up(options: UpOptions, progress: &mut (dyn FnMut(Step) + Send)) -> LocalBoxFuture<'_, Result<Summary>> {
    Box::pin(bring_up(options, progress))
}

async fn bring_up(mut options: UpOptions, progress: &mut (dyn FnMut(Step) + Send)) -> Result<Summary> {
    // Before anything is made, so that nothing is made that an interruption would leave.
    let mut termination = Termination::catch()?;
    options.spec.validate(&host::addresses())?;
    host::check()?;
    let layout = Layout::new(&options.spec.name);
    let lock = Lock::take(&layout)?;
    let earlier = resumes(&layout, &options.spec)?;
    let resumes = earlier.is_some();
    if let Some(earlier) = earlier {
        progress(Step::Resuming);
        if earlier.nodes != options.spec.nodes || !earlier.removed.is_empty() {
            let nodes: Vec<String> = earlier.node_plans().into_iter().map(|plan| plan.name).collect();
            progress(Step::Warning(format!("goes on with the nodes that it had: {}", nodes.join(", "))));
        }
        (options.spec.nodes, options.spec.removed) = (earlier.nodes, earlier.removed);
        clear(&layout)?;
    }
    let made = tokio::select! {
        made = make(&layout, &options, resumes, progress) => made,
        () = termination.wait() => Err(anyhow::anyhow!("interrupted")),
    };
    let cleared = match (&made, resumes) {
        (Ok(_), _) => Ok(()),
        // What it was to go on with is still there for the next attempt.
        (Err(_), true) => clear(&layout),
        (Err(_), false) => {
            drop(lock);
            crate::down(&options.spec.name).map(drop)
        }
    };
    if let Err(error) = cleared {
        progress(Step::Warning(format!("cleaning up failed: {error:#}")));
    }
    made
}

/// What an earlier run of this twin was, where it has left the state of its API to go on with.
fn resumes(layout: &Layout, spec: &TwinSpec) -> Result<Option<TwinSpec>> {
    let name = layout.name();
    if !layout.root().exists() {
        return Ok(None);
    }
    let earlier = crate::read_spec(layout);
    let problem = if CgroupTree::of(name)?.is_populated() {
        "is already up"
    } else if !layout.journal().exists() || !layout.pki().exists() {
        "has left things behind that cannot be gone on with (a crash while it was made?)"
    } else if let Some(earlier) = earlier {
        if earlier.has_addresses_of(spec) {
            return Ok(Some(earlier));
        }
        "has ended and had other addresses, or another routing"
    } else {
        "has left things behind that cannot be gone on with (its specification cannot be read)"
    };
    Err(UsageError(format!(
        "a twin named {name} {problem}; take it down with `kilter down --name {name}`, or choose another with --name"
    ))
    .into())
}

async fn make(
    layout: &Layout,
    options: &UpOptions,
    resumes: bool,
    progress: &mut (dyn FnMut(Step) + Send),
) -> Result<Summary> {
    let started = Instant::now();
    let mut spec = options.spec.clone();
    let pki = prepare(layout, &spec)?;
    let cgroups = CgroupTree::of(&spec.name)?;

    progress(Step::Fabric);
    let fabric = create_fabric(layout, &spec).await?;
    fabric.add_internet(layout, &spec).await?;
    progress(Step::ControlPlane);
    cgroups.create("control")?;
    let control = Process::control_plane(layout, &cgroups).start()?;
    let plans = spec.node_plans();
    for node in &plans {
        fabric.add_node(layout, node).await?;
        fs::create_dir_all(layout.node(&node.name))?;
    }
    nodes::wait(vec![control]).await?;

    let client = kilter_cluster::connect(&layout.admin_kubeconfig()).await?;
    if resumes {
        forget_running(&client).await?;
    }
    progress(Step::Nodes(spec.nodes));
    let mut starting = Vec::new();
    for node in &plans {
        starting.push(nodes::start_node(layout, &spec, &cgroups, &pki, node)?);
    }
    spec.kubeconfig = add_context(layout, &spec, options.switch_context, progress);
    fs::write(layout.spec(), serde_json::to_vec_pretty(&spec)?)?;

    nodes::wait(starting).await?;
    nodes::start_supervisor(layout, &cgroups).await?;
    nodes::wait_for_nodes(&client, &plans).await?;
    progress(Step::Objects(options.objects.len()));
    let mut objects = system::objects(&spec);
    objects.extend(options.objects.iter().cloned());
    let missing = missing_namespaces(&objects, &[]);
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().filter_map(|n| n["metadata"]["name"].as_str()).collect();
        progress(Step::Warning(format!("made namespaces that no source declares: {}", names.join(", "))));
    }
    objects.extend(missing);
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
    private.recursive(true);
    private.create(layout.root()).with_context(|| format!("make {}", layout.root().display()))?;
    fs::write(layout.spec(), serde_json::to_vec_pretty(spec)?)?;
    fs::create_dir(layout.namespaces())?;
    mounts::mount_bpf(&layout.bpf())?;
    if layout.pki().exists() { pki::read(layout) } else { pki::create(layout, spec) }
}

/// Of what ran before its processes died nothing runs: pods and nodes are as they were before a
/// kubelet spoke of them, until one does again.
async fn forget_running(client: &kube::Client) -> Result<()> {
    let pod = json!({"status": {"phase": "Pending", "conditions": null, "containerStatuses": null,
        "initContainerStatuses": null, "podIP": null, "podIPs": null, "startTime": null}});
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let mut pods = kube::Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?.items;
    pods.retain(|found| !ended(found));
    let forgotten = pods.iter().map(|found| {
        let api = kube::Api::<Pod>::namespaced(client.clone(), &found.namespace().unwrap_or_default());
        let (name, patch) = (found.name_any(), Patch::Merge(&pod));
        async move { api.patch_status(&name, &PatchParams::default(), &patch).await.map(drop) }
    });
    stream::iter(forgotten).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let node = json!({"status": {"conditions": null}});
    let nodes = kube::Api::<Node>::all(client.clone());
    let known = nodes.list(&ListParams::default()).await?;
    let forgotten = known.iter().map(|found| {
        let (api, name, patch) = (nodes.clone(), found.name_any(), Patch::Merge(&node));
        async move { api.patch_status(&name, &PatchParams::default(), &patch).await.map(drop) }
    });
    Ok(stream::iter(forgotten).buffer_unordered(AT_ONCE).try_collect().await?)
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
/// `known` are there already.
pub(crate) fn missing_namespaces(objects: &[Value], known: &[String]) -> Vec<Value> {
    const GIVEN: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
    let declared = |name: &str| {
        GIVEN.contains(&name)
            || known.iter().any(|it| it == name)
            || objects.iter().any(|o| o["kind"] == "Namespace" && o["metadata"]["name"] == name)
    };
    let mut missing: Vec<&str> = objects
        .iter()
        .filter_map(|o| o["metadata"]["namespace"].as_str())
        .filter(|name| !declared(name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    let namespace = |name: &&str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    missing.iter().map(namespace).collect()
}

/// Applies everything; what the API refuses is returned, not fatal.
async fn apply(client: &kube::Client, objects: &[Value]) -> Result<Vec<String>> {
    let results = kilter_cluster::apply(client, objects).await?;
    Ok(results.into_iter().filter_map(|r| r.err()).map(|e| format!("{:#}", anyhow::Error::from(e))).collect())
}

pub(crate) fn see(cluster: &mut Cluster, updates: Option<Vec<Update>>) -> Result<()> {
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
