//! Where each Service led when, so that an answer can be judged.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long after a change a node may still follow the old slice before that counts as a fault.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Of all Services that change.
pub(super) struct History {
    services: Vec<Mutex<Lead>>,
    /// Whether the clients' node has a process that could follow.
    running: AtomicBool,
    late: Mutex<Vec<f64>>,
    late_while_restarting: Mutex<Vec<f64>>,
}

#[derive(Clone, Copy)]
struct Lead {
    /// Whom it leads to.
    now: u8,
    /// Since when the API says so; `None` while the change is under way, when both are right.
    since: Option<Instant>,
}

/// How right an answer is.
pub(super) enum Judgement {
    /// The pod was an endpoint when the connection began, or has become one since.
    Right,
    /// It had ceased to be one so long before.
    Late(Duration),
}

impl History {
    /// All lead to `who` from the start.
    pub(super) fn new(count: usize, who: u8) -> Self {
        let lead = || Mutex::new(Lead { now: who, since: Some(Instant::now()) });
        Self {
            services: (0..count).map(|_| lead()).collect(),
            running: AtomicBool::new(true),
            late: Mutex::default(),
            late_while_restarting: Mutex::default(),
        }
    }

    /// The process of the clients' node is gone, or is back and has caught up.
    pub(super) fn runs(&self, running: bool) {
        self.running.store(running, Ordering::SeqCst);
    }

    /// A change is on its way to the API.
    pub(super) fn leads(&self, number: usize, who: u8) {
        *self.lead(number) = Lead { now: who, since: None };
    }

    /// The API has taken it.
    pub(super) fn led(&self, number: usize) {
        self.lead(number).since = Some(Instant::now());
    }

    /// Of an answer by `who` to a connection that began at `began`. While no process runs nobody could
    /// have followed, so whatever was right before is.
    pub(super) fn judge(&self, number: usize, who: u8, began: Instant) -> Judgement {
        let lead = *self.lead(number);
        let Some(since) = lead.since.filter(|since| who != lead.now && began > *since) else {
            return Judgement::Right;
        };
        let late = began - since;
        let running = self.running.load(Ordering::SeqCst);
        let all = if running { &self.late } else { &self.late_while_restarting };
        all.lock().expect("BUG: a lock was poisoned").push(late.as_secs_f64() * 1e3);
        if running { Judgement::Late(late) } else { Judgement::Right }
    }

    /// How late those were who still followed an old slice, milliseconds.
    pub(super) fn lateness(&self) -> [(&'static str, Vec<f64>); 2] {
        let of = |all: &Mutex<Vec<f64>>| all.lock().expect("BUG: a lock was poisoned").clone();
        [("soak late-by", of(&self.late)), ("soak late-by-while-restarting", of(&self.late_while_restarting))]
    }

    fn lead(&self, number: usize) -> std::sync::MutexGuard<'_, Lead> {
        self.services[number].lock().expect("BUG: a lock was poisoned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pods_are_right_while_a_change_is_under_way() {
        let history = History::new(1, b'n');
        history.leads(0, b'f');
        let now = Instant::now();
        assert!(matches!(history.judge(0, b'n', now), Judgement::Right));
        assert!(matches!(history.judge(0, b'f', now), Judgement::Right));
        history.led(0);
        assert!(matches!(history.judge(0, b'n', now), Judgement::Right));
        assert!(matches!(history.judge(0, b'n', Instant::now() + GRACE), Judgement::Late(_)));
        assert!(matches!(history.judge(0, b'f', Instant::now() + GRACE), Judgement::Right));
    }

    #[test]
    fn nobody_follows_while_the_nodes_process_is_gone() {
        let history = History::new(1, b'n');
        history.leads(0, b'f');
        history.led(0);
        history.runs(false);
        assert!(matches!(history.judge(0, b'n', Instant::now() + GRACE), Judgement::Right));
        let [(_, running), (_, restarting)] = history.lateness();
        assert_eq!((running.len(), restarting.len()), (0, 1));
    }
}
