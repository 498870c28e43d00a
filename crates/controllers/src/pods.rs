//! What controllers want to know of pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

/// `status.phase`, `Pending` where nobody has said yet.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

/// Whether it has ended for good.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it is being deleted.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it counts as one of its owner's: neither ended nor going.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !has_ended(pod) && !is_terminating(pod)
}

/// The node it is bound to.
pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// A condition that is True.
pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// Whether its Ready condition is True.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some()
}

/// How long until a pod that stays ready is available: ready for `min_ready` seconds. `None` where
/// it is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready: i32, now: Timestamp) -> Option<Duration> {
    let ready = condition(pod, "Ready")?;
    if min_ready <= 0 {
        return Some(Duration::ZERO);
    }
    let since = ready.last_transition_time.as_ref()?.0;
    let need = Duration::from_secs(u64::from(min_ready.unsigned_abs()));
    let had = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Some(need.saturating_sub(had))
}

/// Pods of one owner, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All that were given.
    pub(crate) all: i32,
    /// Those that are ready.
    pub(crate) ready: i32,
    /// Those that have been ready for `minReadySeconds`.
    pub(crate) available: i32,
    /// When the next of the ready ones becomes available.
    pub(crate) next_available: Option<Duration>,
}

impl Counts {
    /// Counts pods.
    pub(crate) fn of<'a>(pods: impl IntoIterator<Item = &'a Pod>, min_ready: i32) -> Self {
        let now = Timestamp::now();
        let mut counts = Self::default();
        for pod in pods {
            counts.all += 1;
            match available_in(pod, min_ready, now) {
                None => continue,
                Some(Duration::ZERO) => counts.available += 1,
                Some(wait) => {
                    counts.next_available = Some(counts.next_available.map_or(wait, |n| n.min(wait)))
                }
            }
            counts.ready += 1;
        }
        counts
    }
}

/// The sort key by which pods are given up, first to last: not bound, not running, not ready,
/// cheaper (`controller.kubernetes.io/pod-deletion-cost`), ready for a shorter time, younger.
pub(crate) fn sacrifice_order(pod: &Pod) -> impl Ord + use<> {
    let rank = match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = pod.annotations().get("controller.kubernetes.io/pod-deletion-cost");
    let cost: i32 = cost.and_then(|c| c.parse().ok()).unwrap_or(0);
    let ready_since = condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let born = pod.creation_timestamp().map(|t| t.0);
    let young_first = |at: Option<Timestamp>| std::cmp::Reverse(at);
    (
        node(pod).is_some(),
        rank,
        is_ready(pod),
        cost,
        young_first(ready_since),
        young_first(born),
        pod.name_any(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, node: Option<&str>, ready_since: Option<&str>, cost: &str) -> Pod {
        let ready =
            ready_since.map(|at| json!({"type": "Ready", "status": "True", "lastTransitionTime": at}));
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": "Running", "conditions": ready.into_iter().collect::<Vec<_>>()},
        }))
        .unwrap()
    }

    #[test]
    fn the_least_useful_pod_goes_first() {
        let mut pods = [
            pod("old", Some("n"), Some("2026-01-01T00:00:00Z"), "0"),
            pod("new", Some("n"), Some("2026-01-02T00:00:00Z"), "0"),
            pod("dear", Some("n"), Some("2026-01-02T00:00:00Z"), "9"),
            pod("not-ready", Some("n"), None, "0"),
            pod("not-bound", None, None, "0"),
        ];
        pods.sort_by_cached_key(sacrifice_order);
        let names: Vec<_> = pods.iter().map(|p| p.name_any()).collect();
        assert_eq!(names, ["not-bound", "not-ready", "new", "old", "dear"]);
    }

    #[test]
    fn availability_counts_from_readiness() {
        let since = pod("a", None, Some("2026-01-01T00:00:00Z"), "0");
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        assert_eq!(available_in(&since, 0, at("2026-01-01T00:00:00Z")), Some(Duration::ZERO));
        assert_eq!(available_in(&since, 10, at("2026-01-01T00:00:04Z")), Some(Duration::from_secs(6)));
        assert_eq!(available_in(&since, 10, at("2026-01-01T00:00:10Z")), Some(Duration::ZERO));
        assert_eq!(available_in(&pod("b", None, None, "0"), 0, at("2026-01-01T00:00:00Z")), None);
    }
}
