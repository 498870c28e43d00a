use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::cgroup::Cgroup;
use crate::environment::{Sources, environment, expand};
use crate::logs::Log;
use crate::program::{Interior, NotFound, Place, Program, Root, exit_code, spawn_container};
use crate::services::Service;
use crate::volumes;

/// How long output is awaited after a container's first program has ended.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// Everything that it takes to run a container's command on this machine.
pub struct Plan {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container as declared.
    pub container: Container,
    /// The pod's hostname.
    pub hostname: String,
    /// The Services whose variables it gets.
    pub services: Vec<Arc<Service>>,
    /// The file of certificates that it trusts.
    pub trusted: Option<PathBuf>,
    /// The pod's namespaces and files.
    pub place: Place,
    /// The directory of the pod's state.
    pub dir: PathBuf,
    /// A cgroup of its own.
    pub cgroup: Cgroup,
    /// Where ConfigMaps and Secrets come from.
    pub client: kube::Client,
    /// What it prints.
    pub log: Arc<Log>,
}

/// Why a container could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStarted {
    /// As the kubelet names it: `CreateContainerConfigError`, `CreateContainerError`,
    /// `RunContainerError`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

const CONFIG: &str = "CreateContainerConfigError";

impl NotStarted {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whether something in the API is missing that may come.
    pub fn is_config(&self) -> bool {
        self.reason == CONFIG
    }
}

impl Plan {
    pub(super) async fn start(self) -> Result<Process, NotStarted> {
        let config = |message| NotStarted::new(CONFIG, message);
        let sources = Sources::fetch(&self.client, &self.pod, &self.container).await;
        let (environment, missing) =
            environment(&self.pod, &self.container, &self.hostname, &self.services, &sources, self.trusted.as_deref());
        if let Some(first) = missing.into_iter().next() {
            return Err(config(first));
        }
        let program = Program {
            command: command(&self.container, &environment)?,
            working_dir: self.container.working_dir.clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".into()).into(),
            user: user(&self.pod, &self.container),
            environment,
            stdin: false,
            tty: false,
        };
        let mounts = volumes::prepare(&self.client, &self.pod, &self.container, &self.dir).await;
        let root = Root {
            dir: self.dir.join("roots").join(&self.container.name),
            mounts: mounts.map_err(config)?,
            working_dir: program.working_dir.clone(),
            shares_pids: self.pod.spec.as_ref().and_then(|spec| spec.share_process_namespace) == Some(true),
            read_only: self.container.security_context.as_ref().and_then(|it| it.read_only_root_filesystem)
                == Some(true),
        };
        self.spawn(program, root).await
    }

    async fn spawn(self, program: Program, root: Root) -> Result<Process, NotStarted> {
        let place = Place { cgroup: Some(self.cgroup.path().to_owned()), ..self.place };
        let mut interior = Interior {
            place: place.clone(),
            environment: program.environment.clone(),
            working_dir: program.working_dir.clone(),
            user: program.user,
        };
        let spawned = tokio::task::spawn_blocking(move || spawn_container(program, &place, &root)).await;
        let spawned = spawned.unwrap_or_else(|panic| Err(panic.into()));
        let (spawned, entered) = spawned.map_err(|error| match error.is::<NotFound>() {
            true => NotStarted::new("RunContainerError", error.to_string()),
            false => NotStarted::new("CreateContainerError", format!("{error:#}")),
        })?;
        interior.place.container = Some(Arc::new(entered));
        let mut child = spawned.child;
        let mut output = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            output.spawn(print(stdout, self.log.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            output.spawn(print(stderr, self.log.clone()));
        }
        let stop_signal = stop_signal(&self.container);
        Ok(Process { child, output, interior: Arc::new(interior), cgroup: self.cgroup, stop_signal })
    }
}

/// The command and its arguments, with variables put in (core/v1 `Container.command`).
fn command(
    container: &Container,
    environment: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<String>, NotStarted> {
    let given = container.command.iter().flatten();
    if given.clone().next().is_none() {
        let name = &container.name;
        return Err(NotStarted::new(
            "CreateContainerError",
            format!(
                "container {name:?} has no command, and what its image would run is not known here: \
                 give it a command, or leave it to a stand-in (annotation kilter.dev/run.{name}: stand-in)"
            ),
        ));
    }
    Ok(given.chain(container.args.iter().flatten()).map(|part| expand(part, environment)).collect())
}

/// `runAsUser` and `runAsGroup`, the container's before the pod's.
fn user(pod: &Pod, container: &Container) -> Option<(u32, u32)> {
    let own = container.security_context.as_ref();
    let pods = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let user = own.and_then(|it| it.run_as_user).or(pods.and_then(|it| it.run_as_user));
    let group = own.and_then(|it| it.run_as_group).or(pods.and_then(|it| it.run_as_group));
    let number = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
    (user.is_some() || group.is_some()).then(|| (number(user).unwrap_or(0), number(group).unwrap_or(0)))
}

/// `lifecycle.stopSignal`, else SIGTERM (KEP-4960).
fn stop_signal(container: &Container) -> Signal {
    let declared = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    declared.and_then(|name| name.parse().ok()).unwrap_or(Signal::SIGTERM)
}

/// A container's first program, and with it all that it has started.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    output: JoinSet<()>,
    interior: Arc<Interior>,
    cgroup: Cgroup,
    stop_signal: Signal,
}

impl Process {
    pub(super) fn interior(&self) -> Arc<Interior> {
        self.interior.clone()
    }

    /// Waits for its end and for what it printed last; nothing of it is left then.
    pub(super) async fn ended(&mut self) -> i32 {
        let code = self.child.wait().await.map_or(-1, exit_code);
        self.cgroup.kill().await;
        let rest = async { while self.output.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_OUTPUT, rest).await;
        code
    }

    /// Asks it to end.
    pub(super) fn signal(&self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may just have ended.
            let _ = kill(Pid::from_raw(pid), self.stop_signal);
        }
    }

    /// Ends it, and everything that it has started.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.start_kill();
        self.cgroup.kill().await;
    }
}

async fn print(mut from: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut lines = log.lines();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        lines.push(&buffer[..length]);
    }
}
