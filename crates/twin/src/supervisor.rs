//! Starts again what dies: the control plane and the node processes of a twin. Packets go on
//! meanwhile under the rows that are loaded; what is started again adopts what it finds.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::LocalBoxFuture;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

use crate::cgroup::CgroupTree;
use crate::paths::Layout;
use crate::process::{self, Starting};
use crate::signal::Termination;
use crate::spec::TwinSpec;

/// The name under which the control plane's restarts are counted; nodes have their own names.
pub const CONTROL_PLANE: &str = "control-plane";
/// The pause before the second restart in a row, which doubles from then on; the first is at once.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who has run so long is not failing in a row.
const STABLE: Duration = Duration::from_secs(30);

/// A process of a twin, and how it is started.
#[derive(Debug, Clone)]
pub struct Process {
    /// `control-plane`, or the node's name.
    pub name: String,
    arguments: Vec<String>,
    cgroup: PathBuf,
    log: PathBuf,
    pid: PathBuf,
}

impl Process {
    /// The control plane.
    pub fn control_plane(layout: &Layout, cgroups: &CgroupTree) -> Self {
        let spec = layout.spec().display().to_string();
        Self {
            name: CONTROL_PLANE.into(),
            arguments: ["run", "control-plane", "--spec", &spec].map(str::to_owned).to_vec(),
            cgroup: cgroups.group("control"),
            log: layout.control_log(),
            pid: layout.root().join("control-plane.pid"),
        }
    }

    /// A node's process.
    pub fn node(layout: &Layout, cgroups: &CgroupTree, node: &str) -> Self {
        let config = layout.node_config(node).display().to_string();
        Self {
            name: node.into(),
            arguments: ["run", "node", "--config", &config].map(str::to_owned).to_vec(),
            cgroup: cgroups.group(node),
            log: layout.node_log(node),
            pid: layout.node(node).join("pid"),
        }
    }

    /// Starts it, and notes its process id for whoever looks after it.
    pub fn start(&self) -> Result<Starting> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let starting = process::start(&self.name, &arguments, &self.cgroup, &self.log)?;
        fs::write(&self.pid, starting.pid().to_string())
            .with_context(|| format!("write {}", self.pid.display()))?;
        Ok(starting)
    }

    /// A handle to the process that was started last; `None` where it is gone.
    fn open(&self) -> Option<(Option<Pid>, OwnedFd)> {
        let number = fs::read_to_string(&self.pid).ok()?.trim().parse::<i32>().ok()?;
        let pid = Pid::from_raw(number)?;
        let handle = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
        // The number may be another's by now: the twin's processes are in the twin's cgroups.
        let members = fs::read_to_string(self.cgroup.join("cgroup.procs")).ok()?;
        members.lines().any(|line| line == number.to_string()).then_some((Some(pid), handle))
    }
}

/// How often each process of a twin was started again.
pub fn restarts(layout: &Layout) -> BTreeMap<String, u32> {
    let text = fs::read(layout.restarts()).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Looks after the processes of a twin until told to stop.
pub fn run(spec: &TwinSpec) -> LocalBoxFuture<'_, Result<()>> {
    Box::pin(supervise(spec))
}

async fn supervise(spec: &TwinSpec) -> Result<()> {
    let mut termination = Termination::catch()?;
    let layout = Layout::new(&spec.name);
    let cgroups = CgroupTree::of(&spec.name)?;
    let nodes = spec.node_plans().into_iter().map(|node| Process::node(&layout, &cgroups, &node.name));
    let processes = std::iter::once(Process::control_plane(&layout, &cgroups)).chain(nodes);
    let count = Arc::new(Count { layout: layout.clone(), restarts: Mutex::new(restarts(&layout)) });
    let mut keepers = tokio::task::JoinSet::new();
    for process in processes {
        keepers.spawn(keep(process, count.clone()));
    }
    process::say_ready("supervisor")?;
    termination.wait().await;
    Ok(())
}

async fn keep(process: Process, count: Arc<Count>) {
    let mut pause = Duration::ZERO;
    loop {
        let began = Instant::now();
        if let Some((pid, handle)) = process.open() {
            ended(handle).await;
            // Only those that were started here are this process's children.
            let _ = waitpid(pid, WaitOptions::NOHANG);
        }
        if began.elapsed() >= STABLE {
            pause = Duration::ZERO;
        }
        warn!(process = process.name, "it has ended; it is started again in {} ms", pause.as_millis());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        count.add(&process.name);
        let again = process.clone();
        let started = tokio::task::spawn_blocking(move || again.start().and_then(Starting::wait)).await;
        match started.map_err(anyhow::Error::from).and_then(|started| started) {
            Ok(()) => info!(process = process.name, "it serves again"),
            Err(error) => warn!(process = process.name, "it does not start: {error:#}"),
        }
    }
}

/// Waits until a process has ended.
async fn ended(handle: OwnedFd) {
    // SAFETY: an `OwnedFd` keeps one descriptor open until it is dropped, which happens with the
    // `AsyncFd` that owns it.
    match unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) } {
        // A pidfd is readable once its process has ended.
        Ok(handle) => drop(handle.readable().await),
        Err(error) => {
            warn!(%error, "a process cannot be watched");
            std::future::pending::<()>().await;
        }
    }
}

struct Count {
    layout: Layout,
    restarts: Mutex<BTreeMap<String, u32>>,
}

impl Count {
    fn add(&self, process: &str) {
        let mut restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        *restarts.entry(process.to_owned()).or_default() += 1;
        let written = serde_json::to_vec(&*restarts).map(|text| fs::write(self.layout.restarts(), text));
        if let Ok(Err(error)) = written {
            warn!(%error, "the count of restarts cannot be written");
        }
    }
}
