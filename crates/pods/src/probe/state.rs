use std::time::{Duration, Instant};

use super::spec::{Kind, ProbeSpec};

/// The state of one probe of one container, after kubernetes `pkg/kubelet/prober/worker.go`.
/// Pure: time comes in with every call.
#[derive(Debug)]
pub struct Machine {
    kind: Kind,
    initial_delay: Duration,
    settle: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    /// The run of the container that everything below is about.
    run: Option<u64>,
    /// The last outcome and how often it came in a row.
    last: Option<(bool, u32)>,
    /// The result that is in force.
    result: Option<bool>,
    /// Nothing is done until the container runs anew.
    on_hold: bool,
}

/// What the machine must know about the container at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container {
    /// Counts the times it was started: a new number is a new container ID.
    pub run: u64,
    /// Whether it runs, and since when.
    pub running_since: Option<Instant>,
    /// Whether its startup probe, if it has one, has succeeded.
    pub started: bool,
    /// Whether its pod is being deleted.
    pub terminating: bool,
}

/// What is to be done at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing now.
    Wait,
    /// Ask the container.
    Probe,
}

/// What an outcome means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The result in force is as it was.
    Unchanged,
    /// The outcome does not count, because the stand-in is not up yet: ask again soon.
    Again,
    /// The result in force is now this.
    Result(bool),
}

/// How soon after a container's start its probes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Whether `initialDelaySeconds` is waited out. It describes how long an image takes to start;
    /// a stand-in is there at once.
    pub initial_delay: bool,
    /// Failures in this time after a start do not count, and the probe is made again soon.
    pub settle: Duration,
}

impl Pace {
    /// The kubelet's own.
    pub const EXACT: Self = Self { initial_delay: true, settle: Duration::ZERO };

    /// For a stand-in, whose ports are opened a moment after its container has started.
    pub fn stand_in(initial_delay: bool) -> Self {
        Self { initial_delay, settle: Duration::from_secs(2) }
    }
}

impl Machine {
    /// The machine of one probe.
    pub fn new(spec: &ProbeSpec, pace: Pace) -> Self {
        Self {
            kind: spec.kind,
            initial_delay: if pace.initial_delay { spec.initial_delay } else { Duration::ZERO },
            settle: pace.settle,
            success_threshold: spec.success_threshold,
            failure_threshold: spec.failure_threshold,
            run: None,
            last: None,
            result: None,
            on_hold: false,
        }
    }

    /// The result in force before anything is known.
    pub fn initial(kind: Kind) -> Option<bool> {
        match kind {
            Kind::Readiness => Some(false),
            Kind::Liveness => Some(true),
            Kind::Startup => None,
        }
    }

    /// The result in force.
    pub fn result(&self) -> Option<bool> {
        self.result.or(Self::initial(self.kind))
    }

    /// Whether to ask the container now.
    pub fn tick(&mut self, container: Container, now: Instant) -> Tick {
        let Some(since) = container.running_since else { return Tick::Wait };
        if self.run != Some(container.run) {
            self.run = Some(container.run);
            self.last = None;
            self.result = None;
            self.on_hold = false;
        }
        // A pod on its way out is not restarted any more, but its readiness still steers traffic.
        if self.on_hold || (container.terminating && self.kind != Kind::Readiness) {
            return Tick::Wait;
        }
        if now.saturating_duration_since(since) < self.initial_delay {
            return Tick::Wait;
        }
        match (self.kind, container.started) {
            // It has done its work for this run of the container.
            (Kind::Startup, true) => Tick::Wait,
            (Kind::Startup, false) => Tick::Probe,
            (_, true) => Tick::Probe,
            (_, false) => Tick::Wait,
        }
    }

    /// Takes an outcome: `None` is an error of the prober itself, which never counts.
    pub fn observe(&mut self, container: Container, outcome: Option<bool>, now: Instant) -> Report {
        let Some(success) = outcome.filter(|_| self.run == Some(container.run)) else {
            return Report::Unchanged;
        };
        let age = container.running_since.map(|since| now.saturating_duration_since(since));
        if !success && self.result.is_none() && age.is_none_or(|age| age < self.settle) {
            return Report::Again;
        }
        let count = match self.last {
            Some((last, count)) if last == success => count.saturating_add(1),
            _ => 1,
        };
        self.last = Some((success, count));
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if count < threshold {
            return Report::Unchanged;
        }
        if !success && self.kind != Kind::Readiness {
            // The container will be restarted: until it is, it is left alone.
            self.on_hold = true;
            self.last = None;
        }
        let before = self.result();
        self.result = Some(success);
        if before == Some(success) { Report::Unchanged } else { Report::Result(success) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Handler;

    fn machine(kind: Kind, success: u32, failure: u32) -> Machine {
        machine_with(kind, success, failure, Duration::ZERO, false)
    }

    fn machine_with(kind: Kind, success: u32, failure: u32, settle: Duration, honour: bool) -> Machine {
        let spec = ProbeSpec {
            kind,
            handler: Handler::Exec(vec![]),
            initial_delay: Duration::from_secs(20),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            success_threshold: success,
            failure_threshold: failure,
            grace: None,
        };
        Machine::new(&spec, Pace { initial_delay: honour, settle })
    }

    fn running(now: Instant) -> Container {
        Container { run: 1, running_since: Some(now), started: true, terminating: false }
    }

    /// Outcomes in (`+` success, `-` failure, `?` prober error), reports out: `+`, `-` a change of
    /// the result in force, `.` none, `~` asked again.
    fn play(mut machine: Machine, container: Container, outcomes: &str) -> String {
        let now = container.running_since.unwrap();
        machine.tick(container, now + Duration::from_secs(60));
        let outcomes = outcomes.chars().map(|c| match c {
            '+' => Some(true),
            '-' => Some(false),
            _ => None,
        });
        outcomes
            .map(|outcome| match machine.observe(container, outcome, now + Duration::from_secs(60)) {
                Report::Unchanged => '.',
                Report::Again => '~',
                Report::Result(true) => '+',
                Report::Result(false) => '-',
            })
            .collect()
    }

    #[test]
    fn thresholds_count_consecutive_outcomes() {
        use Kind::{Liveness, Readiness, Startup};
        let table = [
            // (probe, successThreshold, failureThreshold, outcomes, changes)
            ("readiness starts as a failure", Readiness, 1, 3, "---", "..."),
            ("one success makes it ready", Readiness, 1, 3, "+", "+"),
            ("successes must be consecutive", Readiness, 3, 1, "++-+++", ".....+"),
            ("failures must be consecutive", Readiness, 1, 3, "+--+---", "+.....-"),
            ("a prober error does not count", Readiness, 1, 2, "+-?-", "+..-"),
            ("liveness starts as a success", Liveness, 1, 3, "+++", "..."),
            ("liveness fails at its threshold", Liveness, 1, 3, "---", "..-"),
            ("one success in between forgives", Liveness, 1, 3, "--+---", ".....-"),
            ("startup is unknown at first", Startup, 1, 3, "+", "+"),
            ("startup fails at its threshold", Startup, 1, 3, "--+", "..+"),
            ("startup that never succeeds", Startup, 1, 3, "---", "..-"),
        ];
        let now = Instant::now();
        for (what, kind, success, failure, outcomes, expected) in table {
            assert_eq!(play(machine(kind, success, failure), running(now), outcomes), expected, "{what}");
        }
    }

    #[test]
    fn gating_follows_the_kubelet() {
        use Kind::{Liveness, Readiness, Startup};
        use Tick::{Probe, Wait};
        let now = Instant::now();
        let base = running(now);
        let not_started = Container { started: false, ..base };
        let terminating = Container { terminating: true, ..base };
        let waiting = Container { running_since: None, ..base };
        let table = [
            ("readiness waits for startup", Readiness, not_started, Wait),
            ("liveness waits for startup", Liveness, not_started, Wait),
            ("startup goes first", Startup, not_started, Probe),
            ("startup is done once it succeeded", Startup, base, Wait),
            ("readiness after startup", Readiness, base, Probe),
            ("liveness after startup", Liveness, base, Probe),
            ("a terminating pod's liveness stops", Liveness, terminating, Wait),
            ("a terminating pod's startup stops", Startup, Container { started: false, ..terminating }, Wait),
            ("a terminating pod's readiness continues", Readiness, terminating, Probe),
            ("a container that does not run", Readiness, waiting, Wait),
        ];
        for (what, kind, container, expected) in table {
            assert_eq!(machine(kind, 1, 3).tick(container, now), expected, "{what}");
        }
    }

    #[test]
    fn the_initial_delay_stands_for_the_images_start_and_is_honoured_on_request() {
        let now = Instant::now();
        let mut honoured = machine_with(Kind::Readiness, 1, 3, Duration::ZERO, true);
        assert_eq!(honoured.tick(running(now), now + Duration::from_secs(19)), Tick::Wait);
        assert_eq!(honoured.tick(running(now), now + Duration::from_secs(20)), Tick::Probe);
        assert_eq!(machine(Kind::Readiness, 1, 3).tick(running(now), now), Tick::Probe);
    }

    #[test]
    fn after_a_liveness_failure_nothing_happens_until_the_container_runs_anew() {
        let now = Instant::now();
        let mut machine = machine(Kind::Liveness, 1, 1);
        machine.tick(running(now), now);
        assert_eq!(machine.observe(running(now), Some(false), now), Report::Result(false));
        assert_eq!(machine.tick(running(now), now), Tick::Wait);
        let again = Container { run: 2, ..running(now) };
        assert_eq!(machine.tick(again, now), Tick::Probe);
        assert_eq!(machine.result(), Some(true));
        // An outcome of the run before is nobody's.
        assert_eq!(machine.observe(running(now), Some(false), now), Report::Unchanged);
    }

    #[test]
    fn failures_while_the_stand_in_settles_do_not_count() {
        let now = Instant::now();
        let mut machine = machine_with(Kind::Readiness, 1, 1, Duration::from_secs(2), false);
        machine.tick(running(now), now);
        assert_eq!(machine.observe(running(now), Some(false), now + Duration::from_secs(1)), Report::Again);
        assert_eq!(
            machine.observe(running(now), Some(true), now + Duration::from_secs(1)),
            Report::Result(true)
        );
        // Once a result is in force, every outcome counts.
        assert_eq!(
            machine.observe(running(now), Some(false), now + Duration::from_secs(1)),
            Report::Result(false)
        );
    }
}
