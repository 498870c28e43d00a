//! One container of a pod: its state, restarts and back-off. Pure; time comes in.

mod backoff;
mod set;

pub use backoff::Backoff;
pub use set::containers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container as Declared, ContainerStateTerminated, ContainerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::life::NotStarted;
use crate::logs::Log;
use crate::program::Interior;

/// Part of the exit code of a program that a signal ended: 128 and SIGTERM (signal(7)).
const TERMINATED: i32 = 143;
/// 128 and SIGKILL: what a sandbox that vanished did to its containers.
const KILLED: i32 = 137;
/// What containerd says of a program that could not be started.
const NOT_STARTED: i32 = 128;

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

/// Why a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A stand-in was told to (liveness, or its pod is deleted).
    Stopped,
    /// The sandbox went away under it.
    SandboxGone,
    /// By itself, with this exit code.
    Exited(i32),
    /// It was never up.
    NotStarted(NotStarted),
    /// Its `postStart` hook failed.
    PostStartHook(String),
}

impl End {
    /// What a status shows.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Stopped | Self::PostStartHook(_) => TERMINATED,
            Self::SandboxGone => KILLED,
            Self::Exited(code) => *code,
            Self::NotStarted(_) => NOT_STARTED,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::NotStarted(why) => Some(why.message.clone()),
            Self::PostStartHook(why) => Some(format!("PostStartHook failed: {why}")),
            Self::Stopped | Self::SandboxGone | Self::Exited(_) => None,
        }
    }

    /// What a container waits with before it is run again.
    fn waiting_reason(&self) -> Option<&'static str> {
        match self {
            Self::NotStarted(why) => Some(why.reason),
            Self::PostStartHook(_) => Some("PostStartHookError"),
            Self::Stopped | Self::SandboxGone | Self::Exited(_) => None,
        }
    }
}

/// An ended run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub exit_code: i32,
    /// `Completed`, `Error` or `StartError`.
    pub reason: String,
    /// For people.
    pub message: Option<String>,
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
            message: status.message.clone(),
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
    /// Whether its command is run on this machine; else a stand-in is there in its place.
    pub real: bool,
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
    /// Whether its program or stand-in is there; it may still have to run a hook.
    pub alive: bool,
    /// Whether it was told to end.
    pub stopping: bool,
    /// The inside of one that runs for real, while it does.
    pub interior: Option<Arc<Interior>>,
    /// Since when it runs, on the clock that probes use.
    pub running_since: Option<Instant>,
    /// The startup probe's verdict; true without one.
    pub started: bool,
    /// The readiness probe's verdict; true without one.
    pub probed_ready: bool,
    /// When it is to be started again.
    pub restart_at: Option<Instant>,
    /// Whether the last run never came to be, and does not count.
    void: bool,
    /// What it prints.
    pub log: Arc<Log>,
    /// What its last run printed.
    pub previous_log: Option<Arc<Log>>,
    backoff: Backoff,
}

impl Container {
    /// A container that was never started.
    pub fn new(declared: Declared, role: Role, real: bool) -> Self {
        Self {
            name: declared.name.as_str().into(),
            declared,
            role,
            real,
            state: State::Waiting { reason: "ContainerCreating", message: None },
            last: None,
            restarts: 0,
            id: None,
            run: 0,
            alive: false,
            stopping: false,
            interior: None,
            running_since: None,
            started: false,
            probed_ready: false,
            restart_at: None,
            void: false,
            log: Arc::default(),
            previous_log: None,
            backoff: Backoff::default(),
        }
    }

    /// Takes over what the API says about the container from an earlier life of the node. A
    /// stand-in in the same sandbox ran on all the while; else its first start here is a restart.
    pub fn resume(&mut self, status: &ContainerStatus, same_sandbox: bool) {
        let was_started = status.container_id.is_some() && self.role != Role::Init;
        let ended = status.state.as_ref().is_some_and(|state| state.terminated.is_some());
        let same_sandbox = same_sandbox && (!self.real || ended);
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

    /// Whether a program runs in its place, or a stand-in.
    pub fn is_running(&self) -> bool {
        self.alive
    }

    /// Whether its Ready is true: it runs, has started up, and its readiness probe agrees.
    pub fn is_ready(&self) -> bool {
        match (&self.state, self.role) {
            (State::Terminated(ended), Role::Init) => ended.exit_code == 0,
            (State::Running { .. }, _) => self.running_since.is_some() && self.started && self.probed_ready,
            _ => false,
        }
    }

    /// Begins a run, the first or another; a container that was resumed goes on with its ID.
    pub fn begin(&mut self) {
        let resumed = self.run == 0 && matches!(self.state, State::Running { .. }) && self.id.is_some();
        if self.run > 0 && !std::mem::take(&mut self.void) {
            self.restarts += 1;
        }
        if !resumed {
            self.id = Some(new_id());
        }
        self.run += 1;
        self.started = false;
        self.probed_ready = false;
        self.restart_at = None;
        self.stopping = false;
    }

    /// Its program or stand-in is there.
    pub fn come_alive(&mut self, interior: Option<Arc<Interior>>) {
        self.alive = true;
        self.interior = interior;
    }

    /// It runs: from now on it is probed.
    pub fn up(&mut self, now: Instant) {
        self.alive = true;
        if !matches!(self.state, State::Running { .. }) {
            self.state = State::Running { since: Timestamp::now() };
        }
        self.running_since = Some(now);
        self.started = self.declared.startup_probe.is_none();
        self.probed_ready = self.declared.readiness_probe.is_none();
    }

    /// Ends the present run. What follows (nothing, or a restart) is the caller's to say.
    pub fn end(&mut self, why: &End) {
        let started = match self.state {
            State::Running { since } => since,
            State::Waiting { .. } if self.run > 0 => Timestamp::now(),
            State::Waiting { .. } | State::Terminated(_) => return,
        };
        let exit_code = why.exit_code();
        let reason = match why {
            End::NotStarted(_) => "StartError",
            _ if exit_code == 0 => "Completed",
            _ => "Error",
        };
        let ended = Ended {
            exit_code,
            reason: reason.into(),
            message: why.message(),
            started,
            finished: Timestamp::now(),
            id: self.id.clone().unwrap_or_default(),
        };
        self.log.end();
        self.alive = false;
        self.stopping = false;
        self.interior = None;
        self.running_since = None;
        self.started = false;
        self.probed_ready = false;
        self.state = State::Terminated(ended);
    }

    /// Whether it is run again after it ended with this code (core/v1 `restartPolicy` of pods and
    /// containers, and KEP-5307).
    pub fn is_restarted(&self, pod_policy: &str, exit_code: i32) -> bool {
        let matching = self.declared.restart_policy_rules.iter().flatten().find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let listed = codes.values.iter().flatten().any(|value| *value == exit_code);
                if codes.operator == "NotIn" { !listed } else { listed }
            })
        });
        if let Some(rule) = matching {
            return rule.action == "Restart";
        }
        let policy = self.declared.restart_policy.as_deref().unwrap_or(pod_policy);
        match (policy, self.role) {
            ("Never", _) => false,
            // An init container that completed has done its work.
            ("OnFailure", _) | (_, Role::Init) => exit_code != 0,
            _ => true,
        }
    }

    /// Has it tried again later, because what its configuration refers to is missing: that is
    /// neither a restart nor a failure.
    pub fn hold(&mut self, why: &NotStarted, until: Instant) {
        self.state = State::Waiting { reason: why.reason, message: Some(why.message.clone()) };
        self.restart_at = Some(until);
        self.void = true;
    }

    /// Has it started again: at once the first time, then after a delay that doubles. Returns the
    /// delay when there is one, for an event.
    pub fn restart(&mut self, why: &End, now: Instant, pod: &str) -> Option<Duration> {
        if let State::Terminated(ended) = &self.state {
            self.last = Some(ended.clone());
        }
        self.previous_log = Some(std::mem::take(&mut self.log));
        let delay = self.backoff.after_failure(now);
        self.restart_at = Some(now + delay);
        let seconds = delay.as_secs();
        let name = &self.name;
        self.state = match (why.waiting_reason(), delay.is_zero()) {
            (Some(reason), _) => State::Waiting { reason, message: why.message() },
            (None, true) => State::Waiting { reason: "ContainerCreating", message: None },
            (None, false) => State::Waiting {
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
        Container::new(Declared { name: "web".into(), ..Declared::default() }, Role::App, false)
    }

    #[test]
    fn a_restart_keeps_the_last_end_and_counts() {
        let now = Instant::now();
        let mut it = container();
        it.begin();
        it.up(now);
        assert!(it.is_ready());
        let first = it.id.clone();
        it.log.print("one");
        it.end(&End::Stopped);
        assert!(!it.is_ready());
        assert_eq!(it.restart(&End::Stopped, now, "web_shop(u)"), None);
        it.begin();
        it.up(now);
        assert_eq!((it.restarts, it.last.as_ref().unwrap().exit_code), (1, 143));
        assert_ne!(it.id, first);
        assert_eq!(
            it.previous_log.as_ref().unwrap().take(&mut it.previous_log.as_ref().unwrap().read(None)).len(),
            1
        );
        it.end(&End::Stopped);
        assert_eq!(it.restart(&End::Stopped, now, "web_shop(u)"), Some(Duration::from_secs(10)));
        let State::Waiting { reason, message } = &it.state else { panic!("{:?}", it.state) };
        assert_eq!(*reason, "CrashLoopBackOff");
        assert_eq!(message.as_deref(), Some("back-off 10s restarting failed container=web pod=web_shop(u)"));
    }

    #[test]
    fn what_follows_an_end_is_the_policies_to_say() {
        let with = |role, own: serde_json::Value| {
            let mut declared: serde_json::Value = own;
            declared["name"] = "web".into();
            Container::new(serde_json::from_value(declared).unwrap(), role, true)
        };
        let none = || serde_json::json!({});
        let always = || serde_json::json!({"restartPolicy": "Always"});
        let rule = || {
            serde_json::json!({"restartPolicy": "Never", "restartPolicyRules":
                [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]})
        };
        let table = [
            // (role, the container's own policy, the pod's, exit code, restarted)
            (Role::App, none(), "Always", 0, true),
            (Role::App, none(), "Always", 1, true),
            (Role::App, none(), "OnFailure", 0, false),
            (Role::App, none(), "OnFailure", 1, true),
            (Role::App, none(), "Never", 1, false),
            (Role::Init, none(), "Always", 0, false),
            (Role::Init, none(), "Always", 1, true),
            (Role::Init, none(), "OnFailure", 1, true),
            (Role::Init, none(), "Never", 1, false),
            (Role::Sidecar, always(), "Never", 0, true),
            (Role::App, rule(), "Always", 42, true),
            (Role::App, rule(), "Always", 1, false),
        ];
        for (role, own, pods, code, expected) in table {
            let what = format!("{role:?} {own} {pods} {code}");
            assert_eq!(with(role, own).is_restarted(pods, code), expected, "{what}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_started_says_so_while_it_waits() {
        let mut it = container();
        it.begin();
        let why = NotStarted { reason: "RunContainerError", message: "exec: \"nope\": not found".into() };
        let end = End::NotStarted(why);
        it.end(&end);
        assert_eq!(it.restart(&end, Instant::now(), "web_shop(u)"), None);
        let State::Waiting { reason, message } = &it.state else { panic!("{:?}", it.state) };
        assert_eq!((*reason, message.as_deref()), ("RunContainerError", Some("exec: \"nope\": not found")));
        let last = it.last.as_ref().unwrap();
        assert_eq!((last.exit_code, last.reason.as_str()), (128, "StartError"));
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
        same.begin();
        same.up(Instant::now());
        assert_eq!((same.restarts, same.full_id().as_deref()), (2, Some("kilter://abc")));
        assert!(
            matches!(same.state, State::Running { since } if since.to_string() == "2026-01-02T03:04:05Z")
        );
        let mut other = container();
        other.resume(&status, false);
        other.begin();
        assert_eq!(other.restarts, 3);
        assert_ne!(other.full_id().as_deref(), Some("kilter://abc"));
    }
}
