use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::plan::{End, Plan, State};
use super::{TRACKING, index, pod, running};

pub(super) const BACKOFF_MESSAGE: &str = "Job has reached the specified backoff limit";
pub(super) const DEADLINE_MESSAGE: &str = "Job was active longer than specified deadline";

/// A Job's status with every pod that has ended counted in.
pub(super) struct Counted {
    pub(super) status: JobStatus,
}

impl Counted {
    /// Whether a pod that has ended is in the counts, and so may go.
    pub(super) fn is_counted(&self, pod: &Pod) -> bool {
        let uid = pod.uid().unwrap_or_default();
        let lists = self.status.uncounted_terminated_pods.as_ref();
        lists.is_some_and(|l| l.succeeded.iter().chain(&l.failed).flatten().any(|u| *u == uid))
    }
}

/// Counts. A pod is counted when it has ended and still carries the mark; its UID is noted with the
/// count, until the mark is seen to be gone.
pub(super) fn count(job: &Job, spec: &JobSpec, pods: &[Arc<Pod>]) -> Counted {
    let mut status = job.status.clone().unwrap_or_default();
    let noted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let marked = |uid: &String| {
        let pod = pods.iter().find(|p| p.uid().as_ref() == Some(uid));
        pod.is_some_and(|p| p.finalizers().iter().any(|f| f == TRACKING))
    };
    let still = |list: Option<Vec<String>>| -> Vec<String> { list.into_iter().flatten().filter(marked).collect() };
    let (mut succeeded, mut failed) = (still(noted.succeeded), still(noted.failed));
    let completions = spec.completions.and_then(|c| u32::try_from(c).ok()).unwrap_or(0);
    let mut done = index::read(status.completed_indexes.as_deref().unwrap_or_default(), completions);
    for pod in pods {
        let uid = pod.uid().unwrap_or_default();
        if !marked(&uid) || succeeded.contains(&uid) || failed.contains(&uid) {
            continue;
        }
        match pod::state(pod) {
            State::Succeeded => {
                succeeded.push(uid);
                let index = pod::index(pod).filter(|index| *index < completions);
                // Of an indexed Job each completion counts once.
                if spec.completion_mode.as_deref() != Some("Indexed") || index.is_some_and(|i| done.insert(i)) {
                    *status.succeeded.get_or_insert_default() += 1;
                }
            }
            State::Failed => {
                failed.push(uid);
                *status.failed.get_or_insert_default() += 1;
            }
            State::Active | State::Ending => {}
        }
    }
    if spec.completion_mode.as_deref() == Some("Indexed") {
        status.completed_indexes = Some(index::write(&done)).filter(|text| !text.is_empty());
    }
    let list = |uids: Vec<String>| Some(uids).filter(|u| !u.is_empty());
    status.uncounted_terminated_pods =
        Some(UncountedTerminatedPods { failed: list(failed), succeeded: list(succeeded) });
    let (active, ready, ending) = running(pods);
    (status.active, status.ready, status.terminating) = (Some(active), Some(ready), Some(ending));
    Counted { status }
}

/// Writes into a status what the plan decided.
pub(super) fn conclude(status: &mut JobStatus, spec: &JobSpec, plan: &Plan, now: Timestamp) {
    let suspended = spec.suspend == Some(true);
    if plan.end.is_none() {
        if suspended {
            set(status, "Suspended", true, "JobSuspended", "Job suspended", now);
            // Time that it is suspended does not count against its deadline.
            status.start_time = None;
        } else {
            if is_suspended(Some(status)) {
                set(status, "Suspended", false, "JobResumed", "Job resumed", now);
            }
            status.start_time.get_or_insert(Time(now));
        }
        return;
    }
    match plan.end {
        Some(End::Complete) => {
            let (reason, message) = ("CompletionsReached", "Reached expected number of succeeded pods");
            set(status, "SuccessCriteriaMet", true, reason, message, now);
            set(status, "Complete", true, reason, message, now);
            status.completion_time = Some(Time(now));
        }
        Some(End::BackoffLimitExceeded) => fail(status, "BackoffLimitExceeded", BACKOFF_MESSAGE, now),
        Some(End::DeadlineExceeded) => fail(status, "DeadlineExceeded", DEADLINE_MESSAGE, now),
        None => {}
    }
    status.start_time.get_or_insert(Time(now));
    // They are told to end with this.
    let ending = status.active.take().unwrap_or(0);
    (status.active, status.ready) = (Some(0), Some(0));
    *status.terminating.get_or_insert_default() += ending;
}

fn fail(status: &mut JobStatus, reason: &str, message: &str, now: Timestamp) {
    set(status, "FailureTarget", true, reason, message, now);
    set(status, "Failed", true, reason, message, now);
}

fn set(status: &mut JobStatus, kind: &str, is: bool, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let value = if is { "True" } else { "False" };
    if conditions.iter().any(|c| c.type_ == kind && c.status == value) {
        return;
    }
    conditions.retain(|c| c.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

/// Whether a status says that its Job is suspended.
pub(super) fn is_suspended(status: Option<&JobStatus>) -> bool {
    let conditions = status.and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Suspended" && c.status == "True")
}

/// When a Job ended, if it has.
pub(super) fn ended(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions.iter().find(|c| matches!(&*c.type_, "Complete" | "Failed") && c.status == "True")?;
    Some(end.last_transition_time.as_ref().map_or_else(Timestamp::now, |t| t.0))
}

/// The status as a merge patch: what is not there any more is taken out.
pub(super) fn patch(status: &JobStatus) -> Value {
    // Plain data of our own making always encodes.
    let mut patch = serde_json::to_value(status).unwrap_or_default();
    let noted = &status.uncounted_terminated_pods;
    let list = |of: fn(&UncountedTerminatedPods) -> &Option<Vec<String>>| {
        noted.as_ref().map_or(Value::Null, |n| of(n).as_ref().map_or(Value::Null, |l| json!(l)))
    };
    patch["uncountedTerminatedPods"] = json!({"failed": list(|n| &n.failed), "succeeded": list(|n| &n.succeeded)});
    if status.start_time.is_none() {
        patch["startTime"] = Value::Null;
    }
    patch
}
