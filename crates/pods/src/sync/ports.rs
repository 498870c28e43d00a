use std::collections::BTreeSet;
use std::time::Duration;

use kilter_cluster::Severity;
use kilter_model::Protocol;
use tokio::time::Instant;

use super::worker::Worker;
use crate::probe::{Handler, ProbeSpec};
use crate::run::Runs;
use crate::standin::{Failures, Port};

/// A port that could not be opened is tried again after this.
const PORTS_AGAIN: Duration = Duration::from_secs(5);

impl Worker {
    /// Makes the pod listen on what its running stand-ins are to serve.
    pub(super) async fn open_ports(&mut self) {
        let behaviour = self.behaviour();
        let builtin = Runs::of(&self.pod).builtin().is_some();
        let wanted = if builtin { BTreeSet::new() } else { self.wanted(behaviour.failures) };
        let Some(running) = &mut self.running else { return };
        running.server.set_behaviour(behaviour);
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

    /// The ports of running stand-ins, without those that are to fail by being closed. Programs
    /// that run for real open their own.
    fn wanted(&self, failures: Failures) -> BTreeSet<Port> {
        let mut open = self.ports().open;
        open.retain(|port| {
            let container = self.containers.iter().find(|container| container.name == port.container);
            container.is_some_and(|container| container.is_running() && !container.real)
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
}
