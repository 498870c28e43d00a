use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use kilter_cluster::Severity;
use kilter_model::Protocol;
use kube::ResourceExt;
use tokio::time::Instant;

use super::worker::Worker;
use crate::container::{Container, End, Role, State};
use crate::probe::{self, Handler, Kind, ProbeSpec, ProbeTasks, Seen, Situation};
use crate::standin::{Clash, Failures, Port, Ports};

/// A port that could not be opened is tried again after this.
const PORTS_AGAIN: Duration = Duration::from_secs(5);

impl Worker {
    /// Starts what is to run now: init containers to their end, sidecars, then the others.
    pub(super) fn run_containers(&mut self) {
        let now = Instant::now();
        let clashes = self.ports().clashes;
        let mut containers = std::mem::take(&mut self.containers);
        let mut initialised = true;
        for container in &mut containers {
            if container.role == Role::App && container.run == 0 && !initialised {
                continue;
            }
            let due = match container.restart_at {
                Some(at) => at <= now.into_std(),
                None => container.run == 0 && !matches!(container.state, State::Terminated(_)),
            };
            if due && (initialised || container.run > 0) {
                match clashes.iter().find(|clash| clash.second == container.name) {
                    Some(clash) => self.refuse(container, clash),
                    None => self.start(container, now),
                }
            }
            initialised &= match container.role {
                Role::Init => matches!(container.state, State::Terminated(_)),
                Role::Sidecar => container.started,
                Role::App => true,
            };
        }
        self.containers = containers;
    }

    fn start(&self, container: &mut Container, now: Instant) {
        let resumed = matches!(container.state, State::Running { .. });
        container.start(now.into_std());
        let image = container.declared.image.as_deref().unwrap_or_default();
        let name = &container.name;
        let (namespace, pod) = (self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        container
            .log
            .print(&format!("kilter: stand-in of image {image:?} runs as {name} of {namespace}/{pod}"));
        if !resumed {
            let stand_in =
                format!("Container image {image:?} is represented by a stand-in; nothing was pulled");
            self.event(Severity::Normal, "Pulled", stand_in);
            self.event(Severity::Normal, "Created", format!("Created container: {name}"));
            self.event(Severity::Normal, "Started", format!("Started container {name}"));
        }
        for probe in ProbeSpec::of(&container.declared) {
            if probe.handler == Handler::Exec {
                let text = format!(
                    "kilter: the {} probe executes a program of the image; a stand-in passes it",
                    probe.kind.word()
                );
                container.log.print(&text);
            }
        }
        if container.role == Role::Init {
            container.log.print("kilter: an init container's stand-in has nothing to do and has completed");
            container.end(End::Completed);
        }
    }

    fn refuse(&self, container: &mut Container, clash: &Clash) {
        let refused = State::Waiting { reason: "CreateContainerError", message: Some(clash.to_string()) };
        if container.state != refused {
            self.event(Severity::Warning, "Failed", format!("Error: {clash}"));
            container.state = refused;
        }
    }

    pub(super) fn ports(&self) -> Ports {
        Ports::of(self.spec(), &self.shared.services.selecting(&self.pod))
    }

    /// Makes the pod listen on what its running containers are to serve.
    pub(super) async fn open_ports(&mut self) {
        let failures = self.failures();
        let wanted = if self.builtin().is_some() { BTreeSet::new() } else { self.wanted(failures) };
        let Some(running) = &mut self.running else { return };
        running.server.set_failures(failures);
        let containers = &self.containers;
        let log = |name: &str| {
            let found = containers.iter().find(|container| &*container.name == name);
            found.map(|container| container.log.clone()).unwrap_or_default()
        };
        self.due.ports = None;
        let messages: Vec<String> = match running.server.set_ports(&wanted, log).await {
            Ok(failed) => failed.iter().map(|failed| crate::error_chain(failed)).collect(),
            Err(error) => vec![format!("cannot open ports in the pod: {error:#}")],
        };
        if messages.is_empty() {
            self.tell_unsupported(&wanted);
            return;
        }
        self.due.ports = Some(Instant::now() + PORTS_AGAIN);
        for message in messages {
            self.event(Severity::Warning, "Failed", format!("Error: {message}"));
        }
    }

    /// The ports of running containers, without those that are to fail by being closed.
    fn wanted(&self, failures: Failures) -> BTreeSet<Port> {
        let mut open = self.ports().open;
        open.retain(|port| {
            let container = self.containers.iter().find(|container| container.name == port.container);
            container.is_some_and(Container::is_running)
                && !(failures.tcp && port.protocol == Protocol::Tcp)
                && !(failures.udp && port.protocol == Protocol::Udp)
        });
        for spec in self.containers.iter().flat_map(|container| ProbeSpec::of(&container.declared)) {
            if let Handler::Tcp { port: Ok(number), .. } = spec.handler
                && failures.probe(spec.kind.word())
            {
                open.retain(|port| (port.protocol, port.number) != (Protocol::Tcp, number));
            }
        }
        open
    }

    fn tell_unsupported(&mut self, wanted: &BTreeSet<Port>) {
        for port in wanted.iter().filter(|port| port.protocol == Protocol::Sctp) {
            if self.told_ports.insert(port.clone()) {
                let message = format!("Port {}/SCTP is not served: stand-ins speak TCP and UDP", port.number);
                self.event(Severity::Warning, "Unsupported", message);
            }
        }
    }

    /// Tells the probes how their containers are, and starts those of new containers.
    pub(super) fn update_probes(&mut self) {
        let failures = self.failures();
        let Some(running) = &mut self.running else { return };
        let Some(address) = running.addresses.first().copied() else { return };
        for container in self.containers.iter().filter(|container| container.run > 0) {
            let specs = ProbeSpec::of(&container.declared);
            if specs.is_empty() {
                continue;
            }
            let situation = situation(container, address, failures);
            if let Some(tasks) = running.probes.get(&container.name) {
                tasks.update(situation);
                continue;
            }
            let honour = self.shared.config.honour_initial_delay;
            let prober = &self.shared.prober;
            let tasks = ProbeTasks::start(&container.name, specs, situation, prober, honour, &self.report);
            running.probes.insert(container.name.clone(), tasks);
        }
    }

    /// Acts on what a probe found.
    pub(super) fn on_seen(&mut self, seen: Seen) {
        let Some(at) = self.containers.iter().position(|c| c.name == seen.container && c.run == seen.run)
        else {
            return;
        };
        if let Some(why) = &seen.failure {
            self.event(Severity::Warning, "Unhealthy", format!("{} probe failed: {why}", seen.kind));
        }
        match (seen.kind, seen.result) {
            (_, None) => {}
            (Kind::Readiness, Some(ready)) => self.containers[at].probed_ready = ready,
            (Kind::Startup, Some(true)) => self.containers[at].started = true,
            (Kind::Liveness, Some(true)) => {}
            (Kind::Liveness | Kind::Startup, Some(false)) => self.kill(at, seen.kind),
        }
    }

    /// Ends a container that failed its liveness or startup probe, and has it restarted if its
    /// pod wants that.
    fn kill(&mut self, at: usize, kind: Kind) {
        let restart = self.spec().restart_policy.as_deref() != Some("Never");
        let title = self.title();
        let container = &mut self.containers[at];
        let name = container.name.clone();
        container.log.print(&format!("kilter: stopped, because its {} probe failed", kind.word()));
        container.end(End::Stopped);
        let delay = if restart { container.restart(Instant::now().into_std(), &title) } else { None };
        let word = kind.word();
        let will = if restart { "will be restarted" } else { "will not be restarted" };
        self.event(Severity::Normal, "Killing", format!("Container {name} failed {word} probe, {will}"));
        if delay.is_some() {
            let message = format!("Back-off restarting failed container {name} in pod {title}");
            self.event(Severity::Warning, "BackOff", message);
        }
    }
}

fn situation(container: &Container, address: IpAddr, failures: Failures) -> Situation {
    let container = probe::Container {
        run: container.run,
        running_since: container.running_since,
        started: container.started,
        terminating: false,
    };
    Situation { container, address, failures }
}
