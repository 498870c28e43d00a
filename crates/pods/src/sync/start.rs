use std::net::IpAddr;

use kilter_cluster::Severity;
use kube::ResourceExt;
use tokio::time::Instant;

use super::worker::Worker;
use crate::cgroup::Cgroup;
use crate::container::{Container, End, Role, State};
use crate::life::{Hooks, Life, Plan, Run};
use crate::probe::{Handler, ProbeSpec};
use crate::program::Place;
use crate::run::Runs;
use crate::standin::Ports;

impl Worker {
    /// Starts what is to run now: init containers to their end, sidecars, then the others.
    pub(super) fn run_containers(&mut self) {
        let now = Instant::now();
        let ports = self.ports();
        let runs = Runs::of(&self.pod);
        let mut containers = std::mem::take(&mut self.containers);
        let mut initialised = true;
        let mut begun = Vec::new();
        for container in &mut containers {
            let due = match container.restart_at {
                Some(at) => at <= now.into_std(),
                None => container.run == 0 && !matches!(container.state, State::Terminated(_)),
            };
            if due && (initialised || (container.run > 0 && container.role != Role::App)) {
                match refusal(container, &ports, &runs) {
                    Some(why) => self.refuse(container, &why),
                    None => begun.extend(self.begin(container, now)),
                }
            }
            initialised &= match container.role {
                Role::Init => matches!(&container.state, State::Terminated(ended) if ended.exit_code == 0),
                Role::Sidecar => container.started,
                Role::App => true,
            };
        }
        self.containers = containers;
        if let Some(running) = &mut self.running {
            running.lives.extend(begun);
        }
    }

    /// Begins a run; what takes time reports later. `None` when it is over already.
    fn begin(&self, container: &mut Container, now: Instant) -> Option<(std::sync::Arc<str>, Life)> {
        let resumed = matches!(container.state, State::Running { .. });
        container.begin();
        if !container.real {
            self.tell_stand_in(container, resumed);
        }
        if container.role == Role::Init && !container.real {
            container.log.print("kilter: an init container's stand-in has nothing to do and has completed");
            container.up(now.into_std());
            container.end(&End::Exited(0));
            return None;
        }
        let run = self.run_of(container)?;
        if run.plan.is_none() && run.lifecycle.post_start.is_none() {
            container.up(now.into_std());
        }
        if !container.real && !resumed {
            self.event(Severity::Normal, "Started", format!("Started container {}", container.name));
        }
        Some((container.name.clone(), Life::start(run, self.reports.clone())))
    }

    fn run_of(&self, container: &Container) -> Option<Run> {
        let hooks = Hooks {
            fetcher: self.shared.prober.fetcher().clone(),
            container: container.declared.clone(),
            address: self.address()?,
            log: container.log.clone(),
        };
        Some(Run {
            container: container.name.clone(),
            number: container.run,
            lifecycle: container.declared.lifecycle.clone().unwrap_or_default(),
            hooks,
            plan: if container.real { Some(self.plan(container)?) } else { None },
            exit: if container.role == Role::App { crate::run::exit(&self.pod) } else { None },
            grace: self.grace(),
        })
    }

    fn plan(&self, container: &Container) -> Option<Plan> {
        let running = self.running.as_ref()?;
        let dir = self.shared.records.dir(&self.uid);
        Some(Plan {
            pod: self.pod.clone(),
            container: container.declared.clone(),
            hostname: running.hostname.clone(),
            services: self.shared.services.linked(&self.pod),
            trusted: self.shared.config.authority.as_ref().map(|authority| authority.certificate.clone()),
            place: Place {
                pause: running.sandbox.process.pid(),
                netns: running.sandbox.netns(),
                files: dir.clone(),
                container: None,
                cgroup: None,
            },
            dir,
            cgroup: self.cgroup().child(&container.name),
            client: self.shared.config.client.clone(),
            log: container.log.clone(),
        })
    }

    /// Where this pod's own programs are.
    pub(super) fn cgroup(&self) -> Cgroup {
        Cgroup::pods(&self.shared.config.cgroup).child(&self.uid)
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.running.as_ref()?.addresses.first().copied()
    }

    fn tell_stand_in(&self, container: &Container, resumed: bool) {
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
        }
        for probe in ProbeSpec::of(&container.declared) {
            if matches!(probe.handler, Handler::Exec(_)) {
                let text = format!(
                    "kilter: the {} probe executes a program of the image; a stand-in passes it",
                    probe.kind.word()
                );
                container.log.print(&text);
            }
        }
    }

    fn refuse(&self, container: &mut Container, why: &str) {
        let refused = State::Waiting { reason: "CreateContainerError", message: Some(why.to_owned()) };
        if container.state != refused {
            self.event(Severity::Warning, "Failed", format!("Error: {why}"));
            container.state = refused;
        }
    }

    pub(super) fn ports(&self) -> Ports {
        Ports::of(self.spec(), &self.shared.services.selecting(&self.pod))
    }
}

/// Why a container must not be started at all.
fn refusal(container: &Container, ports: &Ports, runs: &Runs) -> Option<String> {
    let clash = ports.clashes.iter().find(|clash| clash.second == container.name);
    clash.map(ToString::to_string).or_else(|| runs.refusal(&container.name).map(str::to_owned))
}
