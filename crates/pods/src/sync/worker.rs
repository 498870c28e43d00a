use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Command, Shared};
use crate::config::Stop;
use crate::container::Container;
use crate::life::{Life, Report};
use crate::probe::{ProbeTasks, Seen};
use crate::run::Runs;
use crate::sandbox::{Record, Sandbox, sysctls};
use crate::standin::{Behaviour, PodServer, Port};
use kilter_cluster::Severity;

/// The task of one pod: owns everything that this machine holds of it.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) uid: Arc<str>,
    pub(super) pod: Arc<Pod>,
    /// The sandbox of an earlier life of the node, until it is adopted or cleaned up.
    pub(super) record: Option<Record>,
    /// A sandbox that is not wired yet.
    pub(super) unwired: Option<Sandbox>,
    pub(super) running: Option<Running>,
    pub(super) containers: Vec<Container>,
    pub(super) seen: mpsc::Receiver<Seen>,
    pub(super) report: mpsc::Sender<Seen>,
    /// What happens to the runs of containers.
    pub(super) happened: mpsc::Receiver<Report>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) first_seen: Timestamp,
    pub(super) written: Option<PodStatus>,
    pub(super) due: Due,
    /// How often setting up failed in a row.
    pub(super) failed_setups: u32,
    /// Who waits until stand-ins listen.
    pub(super) listens: Vec<oneshot::Sender<()>>,
    /// All that the pod is there for has ended; its sidecars are told to.
    pub(super) ending: bool,
    /// The pod has ended for good (Succeeded or Failed) and holds nothing any more.
    pub(super) finished: bool,
    pub(super) told_ports: BTreeSet<Port>,
    told_misused: Vec<String>,
}

/// A pod that is wired.
pub(super) struct Running {
    pub(super) sandbox: Sandbox,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) hostname: String,
    pub(super) server: PodServer,
    pub(super) builtin: Option<Stop>,
    pub(super) probes: HashMap<Arc<str>, ProbeTasks>,
    pub(super) lives: HashMap<Arc<str>, Life>,
}

/// When something is to be tried or done at the latest.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) setup: Option<Instant>,
    pub(super) ports: Option<Instant>,
    pub(super) publish: Option<Instant>,
}

/// Probes of one pod that wait to be looked at; a probe that cannot deliver waits.
const SEEN: usize = 64;

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, uid: Arc<str>, pod: Arc<Pod>, record: Option<Record>) -> Self {
        let (report, seen) = mpsc::channel(SEEN);
        let (reports, happened) = mpsc::channel(SEEN);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let finished = matches!(phase, Some("Succeeded" | "Failed"));
        Self {
            containers: crate::container::containers(&pod, false),
            shared,
            uid,
            pod,
            record,
            unwired: None,
            running: None,
            seen,
            report,
            happened,
            reports,
            listens: Vec::new(),
            ending: false,
            first_seen: Timestamp::now(),
            written: None,
            due: Due::default(),
            failed_setups: 0,
            finished,
            told_ports: BTreeSet::new(),
            told_misused: Vec::new(),
        }
    }

    /// Runs until the pod is gone and nothing of it is left; or until the node process stops,
    /// which leaves everything as it is for the next one.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut services = self.shared.services.changes();
        self.tell_misused();
        loop {
            if self.pod.metadata.deletion_timestamp.is_some() {
                self.delete(inbox).await;
                return;
            }
            self.step().await;
            let next = self.next_due();
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Update(pod)) => self.take(pod),
                    Some(Command::Gone) => {
                        self.release().await;
                        self.shared.registry.remove(&self.uid);
                        return;
                    }
                    None => return,
                },
                Some(seen) = self.seen.recv() => self.on_seen(seen),
                Some(report) = self.happened.recv() => self.on_report(report),
                Ok(()) = services.changed() => {}
                () = sandbox_ended(&self.running) => self.sandbox_vanished().await,
                () = at(next) => {}
            }
        }
    }

    /// Does what can be done now.
    async fn step(&mut self) {
        if self.finished {
            self.publish_entry();
            return;
        }
        if self.running.is_none()
            && !self.ending
            && self.written.is_none()
            && let Err(why) = sysctls(self.spec())
        {
            self.reject("SysctlForbidden", &why).await;
            return;
        }
        if self.running.is_none() && !self.ending && self.due.setup.is_none_or(|at| at <= Instant::now()) {
            self.set_up().await;
        }
        if self.running.is_some() {
            if !self.ending {
                self.run_containers();
            }
            self.open_ports().await;
            self.listens.clear();
            self.update_probes();
        }
        self.publish_entry();
        self.finish_if_over().await;
        if !self.finished {
            self.publish_status().await;
        }
    }

    /// A newer state of the pod. What comes late from the watch does not undo what an answer to
    /// an own write has told already.
    pub(super) fn take(&mut self, pod: Arc<Pod>) {
        let version = |pod: &Pod| pod.resource_version().and_then(|version| version.parse::<u64>().ok());
        match (version(&pod), version(&self.pod)) {
            (Some(new), Some(known)) if new < known => {}
            _ => self.pod = pod,
        }
        self.tell_misused();
    }

    /// Annotations that mean nothing are told once, so that nobody waits for them.
    fn tell_misused(&mut self) {
        let mut misused = Runs::of(&self.pod).strangers().to_vec();
        misused.extend(Behaviour::from_annotations(self.pod.annotations()).1);
        for message in misused.iter().filter(|message| !self.told_misused.contains(message)) {
            self.event(Severity::Warning, "UnknownAnnotation", message.clone());
        }
        self.told_misused = misused;
    }

    fn next_due(&self) -> Option<Instant> {
        let restarts =
            self.containers.iter().filter_map(|container| container.restart_at).map(Instant::from_std);
        let due = [self.due.setup, self.due.ports, self.due.publish];
        restarts.chain(due.into_iter().flatten()).min()
    }

    pub(super) fn event(&self, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.shared.recorder.record(&*self.pod, severity, reason, message);
    }

    pub(super) fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        Behaviour::from_annotations(self.pod.annotations()).0
    }

    /// As the kubelet names pods in messages: `name_namespace(uid)`.
    pub(super) fn title(&self) -> String {
        let namespace = self.pod.namespace().unwrap_or_default();
        format!("{}_{namespace}({})", self.pod.name_any(), self.uid)
    }

    /// How long a deletion may take.
    pub(super) fn grace(&self) -> Duration {
        let seconds = self.pod.metadata.deletion_grace_period_seconds;
        let seconds = seconds.or(self.spec().termination_grace_period_seconds).unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

pub(super) async fn sandbox_ended(running: &Option<Running>) {
    match running {
        Some(running) => running.sandbox.process.ended().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
