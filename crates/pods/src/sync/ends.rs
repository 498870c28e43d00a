use std::time::Duration;

use kilter_cluster::Severity;
use tokio::time::Instant;

use super::worker::Worker;
use crate::container::{Container, End, Role, State};
use crate::life::{Event, Life, Order, Report};
use crate::probe::{Kind, Seen, Told};

/// How soon it is looked again whether a missing ConfigMap or Secret is there.
const CONFIG_AGAIN: Duration = Duration::from_secs(2);

impl Worker {
    /// Acts on what happened to a run.
    pub(super) fn on_report(&mut self, report: Report) {
        let Some(at) = self.find(&report.container, report.number) else { return };
        match report.event {
            Event::Alive(interior, listens) => {
                self.listens.push(listens);
                let name = report.container;
                if interior.is_some() {
                    self.event(Severity::Normal, "Created", format!("Created container: {name}"));
                }
                self.containers[at].come_alive(interior);
            }
            Event::Started => {
                let container = &mut self.containers[at];
                container.up(Instant::now().into_std());
                if container.real {
                    let message = format!("Started container {}", report.container);
                    self.event(Severity::Normal, "Started", message);
                }
            }
            Event::Warning(reason, message) => self.event(Severity::Warning, reason, message),
            Event::Ended(end) => self.on_end(at, &end),
        }
    }

    fn find(&self, name: &str, run: u64) -> Option<usize> {
        self.containers.iter().position(|container| *container.name == *name && container.run == run)
    }

    fn on_end(&mut self, at: usize, end: &End) {
        if let End::NotStarted(why) = end {
            self.event(Severity::Warning, "Failed", format!("Error: {}", why.message));
            if why.is_config() {
                self.containers[at].hold(why, (Instant::now() + CONFIG_AGAIN).into_std());
                return;
            }
        }
        let ending = self.ending || self.pod.metadata.deletion_timestamp.is_some();
        let policy = self.spec().restart_policy.clone().unwrap_or_else(|| "Always".into());
        let title = self.title();
        let container = &mut self.containers[at];
        let name = container.name.clone();
        container.end(end);
        if let Some(running) = &mut self.running {
            running.lives.remove(&name);
        }
        let State::Terminated(ended) = &container.state else { return };
        if ending || !container.is_restarted(&policy, ended.exit_code) {
            return;
        }
        let delay = container.restart(end, Instant::now().into_std(), &title);
        if delay.is_some() {
            let message = format!("Back-off restarting failed container {name} in pod {title}");
            self.event(Severity::Warning, "BackOff", message);
        }
    }

    /// Acts on what a probe found.
    pub(super) fn on_seen(&mut self, seen: Seen) {
        let Some(at) = self.find(&seen.container, seen.run) else { return };
        let kind = seen.kind;
        match seen.told {
            Some(Told::Failed(why)) => {
                self.event(Severity::Warning, "Unhealthy", format!("{kind} probe failed: {why}"));
            }
            Some(Told::Warning(what)) => {
                self.event(Severity::Warning, "ProbeWarning", format!("{kind} probe warning: {what}"));
            }
            Some(Told::Errored(why)) => {
                let message = format!("{kind} probe errored and resulted in unknown state: {why}");
                self.event(Severity::Warning, "Unhealthy", message);
            }
            None => {}
        }
        match (kind, seen.result) {
            (_, None) => {}
            (Kind::Readiness, Some(ready)) => self.containers[at].probed_ready = ready,
            (Kind::Startup, Some(true)) => self.containers[at].started = true,
            (Kind::Liveness, Some(true)) => {}
            (Kind::Liveness | Kind::Startup, Some(false)) => {
                self.kill(at, kind, seen.grace.unwrap_or_else(|| self.grace()));
            }
        }
    }

    /// Ends a container that failed its liveness or startup probe; what follows is decided when
    /// it has ended.
    fn kill(&mut self, at: usize, kind: Kind, grace: Duration) {
        let container = &self.containers[at];
        if container.stopping || !container.is_running() {
            return;
        }
        let (name, word) = (container.name.clone(), kind.word());
        let policy = self.spec().restart_policy.as_deref().unwrap_or("Always");
        let will = match container.is_restarted(policy, End::Stopped.exit_code()) {
            true => "will be restarted",
            false => "will not be restarted",
        };
        container.log.print(&format!("kilter: stopped, because its {word} probe failed"));
        self.event(Severity::Normal, "Killing", format!("Container {name} failed {word} probe, {will}"));
        self.containers[at].stopping = true;
        if let Some(life) = self.running.as_ref().and_then(|running| running.lives.get(&name)) {
            life.stop(Order { grace, ..Order::default() });
        }
    }

    /// Has everything that runs end; sidecars after the others, the last first (KEP-753).
    pub(super) fn stop_all(&mut self, grace: Duration, drain: Duration) {
        let Some(running) = &self.running else { return };
        let mut after = Vec::new();
        let rank = |container: &Container| container.role == Role::Sidecar;
        let mut order: Vec<usize> = (0..self.containers.len()).rev().collect();
        order.sort_by_key(|at| rank(&self.containers[*at]));
        for at in order {
            let container = &mut self.containers[at];
            let Some(life) = running.lives.get(&container.name) else { continue };
            let waits = if rank(container) { after.clone() } else { Vec::new() };
            life.stop(Order { grace, drain, after: waits });
            container.stopping = true;
            after.push(Life::gone(life));
        }
    }

    /// Once all that a pod is there for has ended for good, ends its sidecars, and in the end
    /// gives everything back.
    pub(super) async fn finish_if_over(&mut self) {
        if self.running.is_some() && !self.ending && self.is_over() {
            self.ending = true;
            self.stop_all(self.grace(), Duration::ZERO);
        }
        if !self.ending || self.running.as_ref().is_some_and(|running| !running.lives.is_empty()) {
            return;
        }
        // Whoever sees that it is over may count on nothing of it being left.
        self.release().await;
        self.publish_status().await;
        if self.due.publish.is_none() {
            self.finished = true;
            self.publish_entry();
        }
    }

    /// Whether nothing but sidecars is left to run, ever.
    fn is_over(&self) -> bool {
        let code = |container: &Container| match &container.state {
            State::Terminated(ended) => Some(ended.exit_code),
            _ => None,
        };
        let of = |role| self.containers.iter().filter(move |container| container.role == role);
        of(Role::Init).any(|container| code(container).is_some_and(|code| code != 0))
            || of(Role::App).all(|container| code(container).is_some())
    }
}
