use super::worker::Worker;
use crate::container::Container;
use crate::probe::{self, Pace, ProbeSpec, ProbeTasks, Situation, Subject};

impl Worker {
    /// Tells the probes how their containers are, and starts those of new containers.
    pub(super) fn update_probes(&mut self) {
        let failures = self.behaviour().failures;
        let terminating = self.pod.metadata.deletion_timestamp.is_some();
        let Some(address) = self.address() else { return };
        let Some(running) = &mut self.running else { return };
        for container in self.containers.iter().filter(|container| container.run > 0) {
            let specs = ProbeSpec::of(&container.declared);
            if specs.is_empty() {
                continue;
            }
            let subject = Subject { address, failures, interior: container.interior.clone() };
            let situation = Situation { container: probed(container, terminating), subject };
            if let Some(tasks) = running.probes.get(&container.name) {
                tasks.update(situation);
                continue;
            }
            let pace = match container.real {
                true => Pace::EXACT,
                false => Pace::stand_in(self.shared.config.honour_initial_delay),
            };
            let prober = &self.shared.prober;
            let tasks = ProbeTasks::start(&container.name, specs, situation, prober, pace, &self.report);
            running.probes.insert(container.name.clone(), tasks);
        }
    }
}

fn probed(container: &Container, terminating: bool) -> probe::Container {
    probe::Container {
        run: container.run,
        running_since: container.running_since,
        started: container.started,
        terminating,
    }
}
