use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::send::{Outcome, Prober, Subject};
use super::spec::{Kind, ProbeSpec};
use super::state::{Container, Machine, Pace, Report, Tick};

/// How soon a stand-in that is not up yet is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// What a probe found out about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The container.
    pub container: Arc<str>,
    /// The run of the container that was probed.
    pub run: u64,
    /// Which probe.
    pub kind: Kind,
    /// The new result in force, if it changed.
    pub result: Option<bool>,
    /// What an attempt found that somebody should know of.
    pub told: Option<Told>,
    /// When the container is to end because of this, how long it gets; else the pod's time.
    pub grace: Option<Duration>,
}

/// Why an attempt is worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It failed.
    Failed(String),
    /// It succeeded, with a warning.
    Warning(String),
    /// It could not be made.
    Errored(String),
}

/// What the probes of one container must know, as it changes.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The container.
    pub container: Container,
    /// Whom to ask. The inside of a container changes only when it runs anew.
    pub subject: Subject,
}

impl Situation {
    fn differs(&self, from: &Self) -> bool {
        self.container != from.container
            || self.subject.address != from.subject.address
            || self.subject.failures != from.subject.failures
            || self.subject.interior.is_some() != from.subject.interior.is_some()
    }
}

/// The running probes of one container; they end when this is dropped.
#[derive(Debug)]
pub struct ProbeTasks {
    situation: watch::Sender<Situation>,
    _tasks: JoinSet<()>,
}

impl ProbeTasks {
    /// Starts the probes of a container; what they find goes to `seen`.
    pub fn start(
        name: &Arc<str>,
        specs: Vec<ProbeSpec>,
        situation: Situation,
        prober: &Prober,
        pace: Pace,
        seen: &mpsc::Sender<Seen>,
    ) -> Self {
        let situation = watch::Sender::new(situation);
        let mut tasks = JoinSet::new();
        for spec in specs {
            let worker = Worker {
                container: name.clone(),
                machine: Machine::new(&spec, pace),
                spec,
                prober: prober.clone(),
                situation: situation.subscribe(),
                seen: seen.clone(),
            };
            tasks.spawn(worker.run());
        }
        Self { situation, _tasks: tasks }
    }

    /// Says how the container is now. A change is acted upon at once: the kubelet, too, asks for
    /// readiness as soon as the startup probe has succeeded.
    pub fn update(&self, now: Situation) {
        self.situation.send_if_modified(|before| {
            let differs = now.differs(before);
            *before = now;
            differs
        });
    }
}

struct Worker {
    container: Arc<str>,
    machine: Machine,
    spec: ProbeSpec,
    prober: Prober,
    situation: watch::Receiver<Situation>,
    seen: mpsc::Sender<Seen>,
}

impl Worker {
    async fn run(mut self) {
        let mut next = Instant::now();
        loop {
            let situation = self.situation.borrow_and_update().clone();
            let now = Instant::now();
            let probe = self.machine.tick(situation.container, now.into_std()) == Tick::Probe;
            // A change of the situation ends a wait, but does not make probes more frequent.
            if probe && now >= next {
                let Some(pause) = self.attempt(&situation).await else { return };
                next = now + pause;
                continue;
            }
            let until = if next > now { next } else { now + self.spec.period };
            tokio::select! {
                changed = self.situation.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if self.starts_anew(&situation) {
                        next = Instant::now();
                    }
                }
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Whether the container runs anew, or was let through by its startup probe just now, or was
    /// told to fail or to stop failing: then the next attempt is due at once.
    fn starts_anew(&self, before: &Situation) -> bool {
        let now = self.situation.borrow();
        now.container.run != before.container.run
            || now.container.started != before.container.started
            || now.container.running_since != before.container.running_since
            || now.subject.failures != before.subject.failures
    }

    /// One attempt; how long to wait before the next. `None` when nobody listens any more.
    async fn attempt(&mut self, situation: &Situation) -> Option<Duration> {
        let outcome = self.prober.probe(&self.spec, &situation.subject).await;
        let (success, told) = match outcome {
            Outcome::Success => (Some(true), None),
            Outcome::Warning(what) => (Some(true), Some(Told::Warning(what))),
            Outcome::Failure(why) => (Some(false), Some(Told::Failed(why))),
            Outcome::Error(why) => (None, Some(Told::Errored(why))),
        };
        let report = self.machine.observe(situation.container, success, Instant::now().into_std());
        if report == Report::Again {
            return Some(AGAIN);
        }
        let result = match report {
            Report::Result(result) => Some(result),
            Report::Unchanged | Report::Again => None,
        };
        if result.is_some() || told.is_some() {
            let seen = Seen {
                container: self.container.clone(),
                run: situation.container.run,
                kind: self.spec.kind,
                result,
                told,
                grace: self.spec.grace,
            };
            self.seen.send(seen).await.ok()?;
        }
        Some(self.spec.period)
    }
}
