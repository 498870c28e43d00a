//! What a Deployment says of itself: what `kubectl rollout status` and `kubectl wait` read.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Deployments, Seen, rollout};
use crate::{Error, verbs};

/// `progressDeadlineSeconds` where nothing is said, and the value that means "never".
const DEADLINE: i32 = 600;
const NO_DEADLINE: i32 = i32::MAX;

impl Deployments {
    /// Writes the status if it is not so already. Returns when the deadline for progress needs
    /// another look.
    pub(super) async fn update_status(&self, seen: &Seen) -> Result<Option<Duration>, Error> {
        let (status, again) = status(seen, Timestamp::now());
        if seen.deployment.status.as_ref() != Some(&status) {
            verbs::merge_status(&self.context.client, &*seen.deployment, status).await?;
        }
        Ok(again)
    }
}

/// The status, and when time alone will change it.
fn status(seen: &Seen, now: Timestamp) -> (DeploymentStatus, Option<Duration>) {
    let before = seen.deployment.status.clone().unwrap_or_default();
    let sum = |count: fn(&ReplicaSetStatus) -> i32| -> i32 {
        seen.sets().filter_map(|rs| rs.status.as_ref()).map(count).sum()
    };
    let available = sum(|s| s.available_replicas.unwrap_or(0));
    let wanted: i32 = seen.sets().map(|rs| crate::replicaset::desired(rs)).sum();
    let mut status = DeploymentStatus {
        replicas: Some(sum(|s| s.replicas)),
        ready_replicas: Some(sum(|s| s.ready_replicas.unwrap_or(0))),
        available_replicas: Some(available),
        unavailable_replicas: Some((wanted - available).max(0)),
        updated_replicas: Some(updated(seen.new.as_deref())),
        observed_generation: seen.deployment.metadata.generation,
        conditions: None,
        ..before.clone()
    };
    let (progressing, again) = progressing(seen, &before, &status, now);
    let old = before.conditions.unwrap_or_default();
    let mut conditions: Vec<_> = [available_condition(seen, available, now), progressing]
        .into_iter()
        .map(|c| keep_times(c, &old))
        .collect();
    conditions
        .extend(old.into_iter().filter(|c| !matches!(c.type_.as_deref(), Some("Available" | "Progressing"))));
    status.conditions = Some(conditions);
    (status, again)
}

fn updated(new: Option<&ReplicaSet>) -> i32 {
    new.and_then(|rs| rs.status.as_ref()).map_or(0, |s| s.replicas)
}

fn available_condition(seen: &Seen, available: i32, now: Timestamp) -> DeploymentCondition {
    if available >= seen.desired() - rollout::unavailable(seen) {
        condition(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            now,
        )
    } else {
        let message = "Deployment does not have minimum availability.";
        condition("Available", "False", "MinimumReplicasUnavailable", message, now)
    }
}

fn progressing(
    seen: &Seen,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    now: Timestamp,
) -> (DeploymentCondition, Option<Duration>) {
    let last = before.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some("Progressing"));
    let what = match &seen.new {
        Some(rs) => format!("ReplicaSet \"{}\"", rs.name_any()),
        None => format!("Deployment \"{}\"", seen.deployment.name_any()),
    };
    if seen.is_paused() {
        return (condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now), None);
    }
    if is_complete(seen, status) {
        let message = format!("{what} has successfully progressed.");
        return (condition("Progressing", "True", "NewReplicaSetAvailable", &message, now), None);
    }
    // A pod lost after the rollout is no step back in it.
    if let Some(last) = last
        && last.reason.as_deref() == Some("NewReplicaSetAvailable")
        && status.replicas == status.updated_replicas
    {
        return (last.clone(), None);
    }
    let begun = last
        .is_none_or(|c| matches!(c.reason.as_deref(), Some("NewReplicaSetAvailable" | "DeploymentPaused")));
    if begun || has_progressed(before, status) {
        let message = format!("{what} is progressing.");
        return (condition("Progressing", "True", "ReplicaSetUpdated", &message, now), deadline(seen));
    }
    // Nothing moved: the last condition stands until its time is up.
    let Some(last) = last.cloned() else {
        return (condition("Progressing", "True", "ReplicaSetUpdated", "", now), deadline(seen));
    };
    let since = last.last_update_time.as_ref().map_or(now, |t| t.0);
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    match deadline(seen).map(|limit| limit.checked_sub(waited).filter(|left| !left.is_zero())) {
        None => (last, None),
        Some(Some(left)) => (last, Some(left)),
        Some(None) => {
            let message = format!("{what} has timed out progressing.");
            (condition("Progressing", "False", "ProgressDeadlineExceeded", &message, now), None)
        }
    }
}

fn is_complete(seen: &Seen, status: &DeploymentStatus) -> bool {
    let all = Some(seen.desired());
    status.updated_replicas == all && status.replicas == all && status.available_replicas == all
}

fn has_progressed(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    now.updated_replicas > before.updated_replicas
        || old(now) < old(before)
        || now.ready_replicas > before.ready_replicas
        || now.available_replicas > before.available_replicas
}

fn deadline(seen: &Seen) -> Option<Duration> {
    let seconds = seen.spec().progress_deadline_seconds.unwrap_or(DEADLINE);
    (seconds != NO_DEADLINE).then(|| Duration::from_secs(u64::from(seconds.unsigned_abs())))
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Times tell of changes: a condition that says what it said keeps them, except that progress is
/// news each time.
fn keep_times(mut condition: DeploymentCondition, old: &[DeploymentCondition]) -> DeploymentCondition {
    let Some(old) = old.iter().find(|c| c.type_ == condition.type_) else { return condition };
    if old.status == condition.status {
        condition.last_transition_time = old.last_transition_time.clone();
        let news = condition.reason.as_deref() == Some("ReplicaSetUpdated");
        if old.reason == condition.reason && old.message == condition.message && !news {
            condition.last_update_time = old.last_update_time.clone();
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn seen(replicas: i32, ready: i32, before: Value) -> Seen {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 2, "progressDeadlineSeconds": 60, "selector": {}, "template": {}},
            "status": before,
        }))
        .unwrap();
        let new = json!({
            "metadata": {"name": "web-1"},
            "spec": {"replicas": 2, "selector": {}},
            "status": {"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready},
        });
        let new = Some(Arc::new(serde_json::from_value(new).unwrap()));
        Seen { deployment: Arc::new(deployment), new, old: vec![] }
    }

    fn at(second: u32) -> Timestamp {
        format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60).parse().unwrap()
    }

    fn reason(status: &DeploymentStatus, kind: &str) -> String {
        let condition =
            status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(kind)).unwrap();
        format!("{} {}", condition.status.clone().unwrap(), condition.reason.clone().unwrap())
    }

    #[test]
    fn a_deployment_progresses_completes_and_stays_as_it_is() {
        let (first, again) = status(&seen(2, 1, Value::Null), at(0));
        assert_eq!(reason(&first, "Progressing"), "True ReplicaSetUpdated");
        assert_eq!(reason(&first, "Available"), "False MinimumReplicasUnavailable");
        assert_eq!(again, Some(Duration::from_secs(60)));
        let (done, again) = status(&seen(2, 2, serde_json::to_value(&first).unwrap()), at(5));
        assert_eq!(reason(&done, "Progressing"), "True NewReplicaSetAvailable");
        assert_eq!(reason(&done, "Available"), "True MinimumReplicasAvailable");
        assert_eq!((done.observed_generation, again), (Some(2), None));
        let (same, _) = status(&seen(2, 2, serde_json::to_value(&done).unwrap()), at(9));
        assert_eq!(same, done, "nothing to write when nothing changed");
    }

    #[test]
    fn without_progress_the_deadline_passes() {
        let (first, _) = status(&seen(2, 0, Value::Null), at(0));
        let first = serde_json::to_value(&first).unwrap();
        let (waiting, again) = status(&seen(2, 0, first.clone()), at(20));
        assert_eq!(reason(&waiting, "Progressing"), "True ReplicaSetUpdated");
        assert_eq!(again, Some(Duration::from_secs(40)));
        let (late, again) = status(&seen(2, 0, first), at(60));
        assert_eq!(reason(&late, "Progressing"), "False ProgressDeadlineExceeded");
        assert_eq!(again, None);
        let (still, _) = status(&seen(2, 0, serde_json::to_value(&late).unwrap()), at(300));
        assert_eq!(reason(&still, "Progressing"), "False ProgressDeadlineExceeded");
    }
}
