//! One container of a pod, as its stand-in: its state, restarts and back-off. Pure; time comes in.

mod backoff;
mod set;

pub use backoff::Backoff;
pub use set::containers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container as Declared, ContainerStateTerminated, ContainerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::logs::Log;

/// Part of the exit code of a program that a signal ended: 128 and SIGTERM (signal(7)).
const TERMINATED: i32 = 143;
/// 128 and SIGKILL: what a sandbox that vanished did to its containers.
const KILLED: i32 = 137;

/// When in a pod's life a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Before the others, to its end.
    Init,
    /// Started before the others, and stays (`initContainers` with `restartPolicy: Always`).
    Sidecar,
    /// An ordinary one.
    App,
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An init container's stand-in has nothing to do.
    Completed,
    /// It was told to (liveness, or its pod is deleted).
    Stopped,
    /// The sandbox went away under it.
    SandboxGone,
}

/// An ended run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub exit_code: i32,
    /// `Completed` or `Error`.
    pub reason: String,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Its container ID.
    pub id: String,
}

impl Ended {
    fn from_status(status: &ContainerStateTerminated) -> Self {
        let time = |time: &Option<Time>| time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let id = status.container_id.as_deref().unwrap_or_default();
        Self {
            exit_code: status.exit_code,
            reason: status.reason.clone().unwrap_or_default(),
            started: time(&status.started_at),
            finished: time(&status.finished_at),
            id: id.strip_prefix(ID_SCHEME).unwrap_or(id).to_owned(),
        }
    }
}

/// What a container does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is to run, but does not yet or not now.
    Waiting {
        /// In CamelCase.
        reason: &'static str,
        /// For people.
        message: Option<String>,
    },
    /// It runs.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// It has ended and stays so.
    Terminated(Ended),
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// As declared.
    pub declared: Declared,
    /// Its name.
    pub name: Arc<str>,
    /// When it runs.
    pub role: Role,
    /// What it does now.
    pub state: State,
    /// How its last run but this one ended.
    pub last: Option<Ended>,
    /// How often it was started again.
    pub restarts: i32,
    /// The ID of the present or last run.
    pub id: Option<String>,
    /// Counts runs, for the probes.
    pub run: u64,
    /// Since when it runs, on the clock that probes use.
    pub running_since: Option<Instant>,
    /// The startup probe's verdict; true without one.
    pub started: bool,
    /// The readiness probe's verdict; true without one.
    pub probed_ready: bool,
    /// When it is to be started again.
    pub restart_at: Option<Instant>,
    /// What it prints.
    pub log: Arc<Log>,
    /// What its last run printed.
    pub previous_log: Option<Arc<Log>>,
    backoff: Backoff,
}

impl Container {
    /// A container that was never started.
    pub fn new(declared: Declared, role: Role) -> Self {
        Self {
            name: declared.name.as_str().into(),
            declared,
            role,
            state: State::Waiting { reason: "ContainerCreating", message: None },
            last: None,
            restarts: 0,
            id: None,
            run: 0,
            running_since: None,
            started: false,
            probed_ready: false,
            restart_at: None,
            log: Arc::default(),
            previous_log: None,
            backoff: Backoff::default(),
        }
    }

    /// Takes over what the API says about the container from an earlier life of the node. With
    /// `same_sandbox` it ran on all the while, else its first start here is a restart.
    pub fn resume(&mut self, status: &ContainerStatus, same_sandbox: bool) {
        let was_started = status.container_id.is_some() && self.role != Role::Init;
        self.restarts = status.restart_count + i32::from(!same_sandbox && was_started);
        self.last =
            status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(Ended::from_status);
        let Some(state) = status.state.as_ref().filter(|_| same_sandbox) else { return };
        if let (Some(running), Some(id)) = (&state.running, &status.container_id) {
            self.id = id.strip_prefix(ID_SCHEME).map(str::to_owned);
            if let Some(since) = &running.started_at {
                self.state = State::Running { since: since.0 };
            }
        }
        if let Some(terminated) = &state.terminated {
            let ended = Ended::from_status(terminated);
            self.id = Some(ended.id.clone());
            self.state = State::Terminated(ended);
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running_since.is_some()
    }

    /// Whether its Ready is true: it runs, has started up, and its readiness probe agrees.
    pub fn is_ready(&self) -> bool {
        match (&self.state, self.role) {
            (State::Terminated(ended), Role::Init) => ended.exit_code == 0,
            (State::Running { .. }, _) => self.is_running() && self.started && self.probed_ready,
            _ => false,
        }
    }

    /// Starts it, for the first time or again; a container that was resumed goes on with its ID.
    pub fn start(&mut self, now: Instant) {
        let resumed = self.run == 0 && matches!(self.state, State::Running { .. }) && self.id.is_some();
        if self.run > 0 {
            self.restarts += 1;
        }
        if !resumed {
            self.id = Some(new_id());
            self.state = State::Running { since: Timestamp::now() };
        }
        self.run += 1;
        self.running_since = Some(now);
        self.started = self.declared.startup_probe.is_none();
        self.probed_ready = self.declared.readiness_probe.is_none();
        self.restart_at = None;
    }

    /// Ends the present run. What follows (nothing, or a restart) is the caller's to say.
    pub fn end(&mut self, why: End) {
        let State::Running { since } = self.state else { return };
        let (exit_code, reason) = match why {
            End::Completed => (0, "Completed"),
            End::Stopped => (TERMINATED, "Error"),
            End::SandboxGone => (KILLED, "Error"),
        };
        let id = self.id.clone().unwrap_or_default();
        let ended =
            Ended { exit_code, reason: reason.into(), started: since, finished: Timestamp::now(), id };
        self.log.end();
        self.running_since = None;
        self.started = false;
        self.probed_ready = false;
        self.state = State::Terminated(ended);
    }

    /// Has it started again: at once the first time, then after a delay that doubles. Returns the
    /// delay when there is one, for an event.
    pub fn restart(&mut self, now: Instant, pod: &str) -> Option<Duration> {
        if let State::Terminated(ended) = &self.state {
            self.last = Some(ended.clone());
        }
        self.previous_log = Some(std::mem::take(&mut self.log));
        let delay = self.backoff.after_failure(now);
        self.restart_at = Some(now + delay);
        let seconds = delay.as_secs();
        let name = &self.name;
        self.state = match delay.is_zero() {
            true => State::Waiting { reason: "ContainerCreating", message: None },
            false => State::Waiting {
                reason: "CrashLoopBackOff",
                message: Some(format!("back-off {seconds}s restarting failed container={name} pod={pod}")),
            },
        };
        (!delay.is_zero()).then_some(delay)
    }

    /// Its container ID as status shows it.
    pub fn full_id(&self) -> Option<String> {
        self.id.as_ref().map(|id| format!("{ID_SCHEME}{id}"))
    }
}

/// What container IDs in status begin with: the runtime's name.
pub const ID_SCHEME: &str = "kilter://";

/// A new ID of 64 hexadecimal digits, as runtimes have them.
pub fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Container {
        Container::new(Declared { name: "web".into(), ..Declared::default() }, Role::App)
    }

    #[test]
    fn a_restart_keeps_the_last_end_and_counts() {
        let now = Instant::now();
        let mut it = container();
        it.start(now);
        assert!(it.is_ready());
        let first = it.id.clone();
        it.log.print("one");
        it.end(End::Stopped);
        assert!(!it.is_ready());
        assert_eq!(it.restart(now, "web_shop(u)"), None);
        it.start(now);
        assert_eq!((it.restarts, it.last.as_ref().unwrap().exit_code), (1, 143));
        assert_ne!(it.id, first);
        assert_eq!(
            it.previous_log.as_ref().unwrap().take(&mut it.previous_log.as_ref().unwrap().read(None)).len(),
            1
        );
        it.end(End::Stopped);
        assert_eq!(it.restart(now, "web_shop(u)"), Some(Duration::from_secs(10)));
        let State::Waiting { reason, message } = &it.state else { panic!("{:?}", it.state) };
        assert_eq!(*reason, "CrashLoopBackOff");
        assert_eq!(message.as_deref(), Some("back-off 10s restarting failed container=web pod=web_shop(u)"));
    }

    #[test]
    fn a_resumed_container_goes_on_and_one_whose_sandbox_is_gone_was_restarted() {
        let status: ContainerStatus = serde_json::from_value(serde_json::json!({
            "name": "web", "image": "i", "imageID": "", "ready": true, "restartCount": 2,
            "containerID": "kilter://abc", "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
        }))
        .unwrap();
        let mut same = container();
        same.resume(&status, true);
        same.start(Instant::now());
        assert_eq!((same.restarts, same.full_id().as_deref()), (2, Some("kilter://abc")));
        assert!(
            matches!(same.state, State::Running { since } if since.to_string() == "2026-01-02T03:04:05Z")
        );
        let mut other = container();
        other.resume(&status, false);
        other.start(Instant::now());
        assert_eq!(other.restarts, 3);
        assert_ne!(other.full_id().as_deref(), Some("kilter://abc"));
    }
}
