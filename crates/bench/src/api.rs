//! What the embedded API does in a second: requests, events of watches, and `kubectl apply`. The
//! server and its clients are in this process, over TLS on loopback, with a journal. Needs no root.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kilter_apiserver::pki::{self, Pki};
use kilter_apiserver::{ApiServer, Handle, Kubelet, Token};
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::json;
use tempfile::TempDir;

use crate::figure::{Figure, Report};
use crate::statistics::Summary;

/// Objects that a run makes, reads and changes.
const OBJECTS: usize = 2000;
/// Requests in flight at once.
const AT_ONCE: usize = 32;
/// Watches that all hear of each change.
const WATCHES: usize = 100;
/// Changes that they hear of.
const CHANGES: usize = 200;
/// Objects in the file that kubectl applies.
const APPLIED: usize = 200;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to measure.
pub struct Options {
    /// How many runs.
    pub runs: usize,
    /// kubectl, where there is one.
    pub kubectl: Option<PathBuf>,
}

/// Figures of one run, in the order of [`CASES`].
type Run = Vec<f64>;

const CASES: [(&str, &str); 5] = [
    ("create, 32 at once", "req/s"),
    ("get, 32 at once", "req/s"),
    ("merge patch, 32 at once", "req/s"),
    ("watch events, 100 watches", "ev/s"),
    ("kubectl apply of 200 objects", "s"),
];

/// Measures.
///
/// # Errors
/// A server that cannot be started, or that refuses a request.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start a runtime")?;
    let mut runs: Vec<Run> = Vec::new();
    for number in 1..=options.runs {
        progress(&format!("requests and watches: run {number} of {}", options.runs));
        runs.push(runtime.block_on(once(options))?);
    }
    let mut report = Report::default();
    for (i, (case, unit)) in CASES.iter().enumerate() {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.get(i).copied()).collect();
        let Some(summary) = Summary::of_single_values(values.iter().copied(), *unit != "s") else { continue };
        let Summary { p50, p99, low, high } = summary;
        report.figures.push(Figure {
            bench: "api",
            case: (*case).into(),
            subject: "kilter".into(),
            unit,
            p50,
            p99,
            low,
            high,
            runs: values.len(),
        });
    }
    report.notes.push("server and clients in one process, TLS over loopback, every write in a journal".into());
    if options.kubectl.is_none() {
        report.notes.push("no kubectl in PATH or $KUBECTL: its apply was not measured".into());
    }
    Ok(report)
}

/// A server with a journal, and how to reach it.
struct Server {
    handle: Handle,
    directory: TempDir,
}

impl Server {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for the journal")?;
        let pki = pki::generate(["127.0.0.1".to_owned()])?;
        let (certificates, key) = pki.server.parse()?;
        let handle = ApiServer::start(kilter_apiserver::Config {
            listeners: vec![TcpListener::bind("127.0.0.1:0").context("listen on loopback")?],
            certificates,
            key,
            tokens: vec![Token { secret: pki.admin_token.clone(), user: "admin".into() }],
            service_cidrs: vec!["10.96.0.0/16".parse()?],
            advertise: "10.240.0.2:6443".parse()?,
            kubelet: Kubelet { ca: None, token: pki.node_token.clone() },
            history: kilter_apiserver::Config::HISTORY,
            journal: Some(directory.path().join("journal")),
        })?;
        let server = Self { handle, directory };
        server.write_kubeconfig(&pki)?;
        Ok(server)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    fn write_kubeconfig(&self, pki: &Pki) -> Result<()> {
        let url = format!("https://{}", self.handle.addresses[0]);
        let text = pki::kubeconfig(&url, &pki.ca_certificate, &pki.admin_token, "bench");
        std::fs::write(self.kubeconfig(), text).context("write a kubeconfig")
    }
}

async fn once(options: &Options) -> Result<Run> {
    kilter_cluster::install_crypto();
    let server = Server::start()?;
    let client = kilter_cluster::connect(&server.kubeconfig()).await?;
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let mut run = requests(&maps).await?;
    run.push(tokio::time::timeout(PATIENCE, events(&client, &maps)).await.context("the watches heard too little")??);
    if let Some(kubectl) = options.kubectl.clone() {
        let (kubeconfig, directory) = (server.kubeconfig(), server.directory.path().to_owned());
        run.push(tokio::task::spawn_blocking(move || apply(&kubectl, &kubeconfig, &directory)).await??);
    }
    server.handle.shutdown().await;
    Ok(run)
}

/// Creates, reads and changes, each as many in a second.
async fn requests(maps: &Api<ConfigMap>) -> Result<Run> {
    let object = |i: usize| -> Result<ConfigMap> {
        Ok(serde_json::from_value(json!({"metadata": {"name": format!("m-{i}")}, "data": {"k": "x".repeat(500)}}))?)
    };
    let began = Instant::now();
    stream::iter((0..OBJECTS).map(|i| async move {
        maps.create(&PostParams::default(), &object(i)?).await.context("create")
    }))
    .buffer_unordered(AT_ONCE)
    .try_for_each(|_| async { Ok(()) })
    .await?;
    let created = rate(OBJECTS, began);
    let began = Instant::now();
    stream::iter((0..OBJECTS).map(|i| async move { maps.get(&format!("m-{i}")).await.context("get") }))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    let read = rate(OBJECTS, began);
    let began = Instant::now();
    let patch = Arc::new(Patch::Merge(json!({"data": {"k": "changed"}})));
    stream::iter((0..OBJECTS).map(|i| {
        let patch = patch.clone();
        async move { maps.patch(&format!("m-{i}"), &PatchParams::default(), &*patch).await.context("patch") }
    }))
    .buffer_unordered(AT_ONCE)
    .try_for_each(|_| async { Ok(()) })
    .await?;
    let listed = maps.list(&ListParams::default()).await?.items.len();
    ensure!(listed >= OBJECTS, "{listed} of {OBJECTS} objects are there");
    Ok(vec![created, read, rate(OBJECTS, began)])
}

fn rate(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

/// How many events arrive in a second, over all watches.
async fn events(client: &Client, maps: &Api<ConfigMap>) -> Result<f64> {
    let from = maps.list(&ListParams::default().limit(1)).await?.metadata.resource_version.unwrap_or_default();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WATCHES {
        let maps = Api::<ConfigMap>::default_namespaced(client.clone());
        let mut events = Box::pin(maps.watch(&WatchParams::default(), &from).await.context("watch")?);
        tasks.spawn(async move {
            let mut heard = 0;
            while heard < CHANGES {
                match events.next().await.context("a watch ended")?? {
                    WatchEvent::Modified(_) => heard += 1,
                    other => anyhow::bail!("a watch told {other:?}"),
                }
            }
            anyhow::Ok(())
        });
    }
    let began = Instant::now();
    for i in 0..CHANGES {
        let patch = Patch::Merge(json!({"data": {"n": i.to_string()}}));
        maps.patch("m-0", &PatchParams::default(), &patch).await.context("patch")?;
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(rate(WATCHES * CHANGES, began))
}

/// How long kubectl takes for a file.
fn apply(kubectl: &Path, kubeconfig: &Path, directory: &Path) -> Result<f64> {
    let object = |i: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("applied-{i}")}, "data": {"k": "v"}});
    let documents: Vec<String> = (0..APPLIED).map(|i| object(i).to_string()).collect();
    let file = directory.join("applied.yaml");
    std::fs::write(&file, documents.join("\n---\n"))?;
    let began = Instant::now();
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).args(["apply", "-f"]).arg(&file).env("HOME", directory);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {}", kubectl.display()))?;
    let took = began.elapsed().as_secs_f64();
    ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// kubectl: `$KUBECTL`, or the one in PATH.
pub fn kubectl() -> Option<PathBuf> {
    let given = std::env::var_os("KUBECTL").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join("kubectl"));
    given.into_iter().chain(in_path).find(|candidate| candidate.is_file())
}
