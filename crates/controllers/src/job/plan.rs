//! What a Job needs next, from what there is: pure, so that time is a parameter.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// The pause before the second pod after a failure, which doubles with each (Job controller).
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A pod of a Job.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) state: State,
    /// Which of an indexed Job's completions it is for.
    pub(super) index: Option<u32>,
    /// How often its containers were started again.
    pub(super) restarts: i32,
    /// When it ended, where it failed.
    pub(super) failed_at: Option<Timestamp>,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Active,
    /// It is told to end.
    Ending,
    Succeeded,
    Failed,
}

/// A Job, its pods and the pods that are gone, counted.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// `None`: a work queue, which is done when one of its pods succeeds and all have ended.
    pub(super) completions: Option<u32>,
    pub(super) parallelism: u32,
    pub(super) backoff_limit: i32,
    pub(super) indexed: bool,
    pub(super) suspended: bool,
    /// Pods that end on their own are replaced only when they have ended.
    pub(super) replace_failed_only: bool,
    pub(super) deadline: Option<Timestamp>,
    pub(super) members: Vec<Member>,
    /// All that ever succeeded and failed, those among the members included.
    pub(super) succeeded: u32,
    pub(super) failed: u32,
    /// Completions of an indexed Job that are done.
    pub(super) done: BTreeSet<u32>,
}

/// Why a Job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    BackoffLimitExceeded,
    DeadlineExceeded,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Pods to make, each with its index where the Job is indexed.
    pub(super) create: Vec<Option<u32>>,
    /// Pods to delete, by name.
    pub(super) delete: Vec<String>,
    pub(super) end: Option<End>,
    /// When to look again.
    pub(super) again: Option<Duration>,
}

/// Decides.
pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let of = |state: State| view.members.iter().filter(move |m| m.state == state);
    if let Some(end) = end(view, now) {
        let delete = of(State::Active).map(|m| m.name.clone()).collect();
        return Plan { delete, end: Some(end), ..Plan::default() };
    }
    let mut plan = Plan { again: view.deadline.map(|at| until(at, now)), ..Plan::default() };
    if view.suspended {
        plan.delete = of(State::Active).map(|m| m.name.clone()).collect();
        return plan;
    }
    let active = of(State::Active).count();
    let wanted = wanted(view, active);
    if active > wanted {
        // The youngest names of a list in order of name: which ones is of no matter.
        plan.delete = of(State::Active).skip(wanted).map(|m| m.name.clone()).collect();
        return plan;
    }
    let ending = if view.replace_failed_only { of(State::Ending).count() } else { 0 };
    let missing = wanted.saturating_sub(active + ending);
    if missing == 0 {
        return plan;
    }
    if let Some(pause) = pause(view, now) {
        plan.again = Some(plan.again.map_or(pause, |again| again.min(pause)));
        return plan;
    }
    plan.create = match view.indexed {
        false => vec![None; missing],
        true => {
            let taken: BTreeSet<u32> = view
                .members
                .iter()
                .filter(|m| m.state == State::Active || (m.state == State::Ending && view.replace_failed_only))
                .filter_map(|m| m.index)
                .chain(view.done.iter().copied())
                .collect();
            let all = 0..view.completions.unwrap_or(0);
            all.filter(|index| !taken.contains(index)).take(missing).map(Some).collect()
        }
    };
    plan
}

fn end(view: &View, now: Timestamp) -> Option<End> {
    let active = view.members.iter().any(|m| matches!(m.state, State::Active | State::Ending));
    let complete = match view.completions {
        Some(_) if view.indexed => view.done.len() as u32 >= view.completions.unwrap_or(0),
        Some(completions) => view.succeeded >= completions,
        None => view.succeeded > 0 && !active,
    };
    if complete {
        return Some(End::Complete);
    }
    let restarts: i32 = view.members.iter().filter(|m| m.state == State::Active).map(|m| m.restarts).sum();
    let limit = view.backoff_limit;
    // Containers that are started again in place count too; with a limit of 0 the first does.
    let restarted = restarts > 0 && restarts >= limit.max(1);
    if i64::from(view.failed) > i64::from(limit) || restarted {
        return Some(End::BackoffLimitExceeded);
    }
    view.deadline.filter(|at| *at <= now && !view.suspended).map(|_| End::DeadlineExceeded)
}

/// How many pods should run.
fn wanted(view: &View, active: usize) -> usize {
    let parallelism = view.parallelism as usize;
    let left = match view.completions {
        Some(completions) if view.indexed => (completions as usize).saturating_sub(view.done.len()),
        Some(completions) => completions.saturating_sub(view.succeeded) as usize,
        // A work queue from which somebody has reported the end gets nobody new.
        None if view.succeeded > 0 => active,
        None => parallelism,
    };
    left.min(parallelism)
}

/// How long no pod is to be made, after failures.
fn pause(view: &View, now: Timestamp) -> Option<Duration> {
    let last = view.members.iter().filter_map(|m| m.failed_at).max()?;
    let doublings = view.failed.saturating_sub(1).min(6);
    let pause = (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE);
    let had = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    pause.checked_sub(had).filter(|left| !left.is_zero())
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    fn view(completions: Option<u32>, parallelism: u32) -> View {
        View {
            completions,
            parallelism,
            backoff_limit: 2,
            indexed: false,
            suspended: false,
            replace_failed_only: false,
            deadline: None,
            members: vec![],
            succeeded: 0,
            failed: 0,
            done: BTreeSet::new(),
        }
    }

    fn member(name: &str, state: State) -> Member {
        let failed_at = (state == State::Failed).then(|| at(0));
        Member { name: name.into(), state, index: None, restarts: 0, failed_at }
    }

    #[test]
    fn as_many_run_as_are_left_and_allowed() {
        let cases = [(Some(5), 2, 0, 2), (Some(5), 2, 4, 1), (Some(3), 9, 0, 3), (None, 3, 0, 3), (Some(3), 0, 0, 0)];
        for (completions, parallelism, succeeded, expected) in cases {
            let view = View { succeeded, ..view(completions, parallelism) };
            assert_eq!(plan(&view, at(0)).create.len(), expected, "{view:?}");
        }
        let mut many = view(Some(5), 1);
        many.members = vec![member("a", State::Active), member("b", State::Active)];
        assert_eq!(plan(&many, at(0)).delete, ["b"]);
    }

    #[test]
    fn a_job_ends_when_it_is_complete_and_not_before() {
        let done = View { succeeded: 3, ..view(Some(3), 2) };
        assert_eq!(plan(&done, at(0)).end, Some(End::Complete));
        let mut queue = View { succeeded: 1, ..view(None, 3) };
        queue.members = vec![member("a", State::Active)];
        assert_eq!(plan(&queue, at(0)), Plan::default(), "nobody new, and one still works");
        queue.members.clear();
        assert_eq!(plan(&queue, at(0)).end, Some(End::Complete));
    }

    #[test]
    fn failures_are_waited_out_and_counted() {
        let mut failing = View { failed: 1, ..view(Some(1), 1) };
        failing.members = vec![member("a", State::Failed)];
        assert_eq!(plan(&failing, at(4)), Plan { again: Some(Duration::from_secs(6)), ..Plan::default() });
        assert_eq!(plan(&failing, at(10)).create.len(), 1);
        failing.failed = 2;
        assert_eq!(plan(&failing, at(10)).again, Some(Duration::from_secs(10)));
        failing.failed = 3;
        failing.members.push(member("b", State::Active));
        let ended = plan(&failing, at(60));
        assert_eq!((ended.end, ended.delete), (Some(End::BackoffLimitExceeded), vec!["b".to_owned()]));
        let mut restarting = view(Some(1), 1);
        restarting.members = vec![Member { restarts: 2, ..member("a", State::Active) }];
        assert_eq!(plan(&restarting, at(0)).end, Some(End::BackoffLimitExceeded));
    }

    #[test]
    fn a_deadline_ends_a_job_unless_it_is_suspended() {
        let late = View { deadline: Some(at(5)), ..view(Some(1), 1) };
        assert_eq!(plan(&late, at(2)).again, Some(Duration::from_secs(3)));
        assert_eq!(plan(&late, at(5)).end, Some(End::DeadlineExceeded));
        let mut suspended = View { suspended: true, ..late };
        suspended.members = vec![member("a", State::Active)];
        let plan = plan(&suspended, at(9));
        assert_eq!((plan.end, plan.delete.len(), plan.create.len()), (None, 1, 0));
    }

    #[test]
    fn each_index_is_worked_on_once() {
        let mut indexed = View { indexed: true, done: [0, 2].into(), ..view(Some(5), 3) };
        indexed.members = vec![Member { index: Some(1), ..member("a", State::Active) }];
        assert_eq!(plan(&indexed, at(0)).create, [Some(3), Some(4)]);
        indexed.done = (0..5).collect();
        assert_eq!(plan(&indexed, at(0)).end, Some(End::Complete));
    }

    #[test]
    fn an_ending_pod_is_replaced_at_once_or_when_it_has_ended() {
        let mut ending = view(Some(1), 1);
        ending.members = vec![member("a", State::Ending)];
        assert_eq!(plan(&ending, at(0)).create.len(), 1);
        ending.replace_failed_only = true;
        assert_eq!(plan(&ending, at(0)).create.len(), 0);
    }
}
