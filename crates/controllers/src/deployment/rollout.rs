//! How many pods each ReplicaSet of a Deployment should have next. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Seen;
use crate::replicaset::desired;

/// Sizes to set, in this order.
pub(super) type Plan = Vec<(Arc<ReplicaSet>, i32)>;

/// What the API fills in where a Deployment says nothing.
const DEFAULT_SHARE: &str = "25%";

/// Old pods go first, all of them; then come the new.
pub(super) fn recreate(seen: &Seen, old_pods_run: bool) -> Plan {
    let mut plan: Plan = seen.old.iter().filter(|rs| desired(rs) > 0).map(|rs| (rs.clone(), 0)).collect();
    if plan.is_empty() && !old_pods_run {
        plan.extend(seen.new.iter().map(|rs| (rs.clone(), seen.desired())));
    }
    plan
}

/// The next step from old pods to new within the limits: never more than `desired + maxSurge`
/// pods, never fewer than `desired - maxUnavailable` that are available. First the new set grows
/// as far as it may, then the old ones shrink as far as they may, those pods first that do not
/// work anyway.
pub(super) fn rolling(seen: &Seen) -> Plan {
    let Some(new) = &seen.new else { return Vec::new() };
    let want = seen.desired();
    let total: i32 = seen.sets().map(|rs| desired(rs)).sum();
    let old_total = total - desired(new);
    let room = (want + surge(seen) - total).max(0);
    let grown = if old_total == 0 { want } else { want.min(desired(new) + room) };
    let mut plan = vec![(new.clone(), grown)];
    // By the sizes before the growth: that its pods become available is yet to be seen.
    let least = want - unavailable(seen);
    let new_missing = (desired(new) - available(new)).max(0);
    let mut may_go = (total - least - new_missing).max(0);
    let mut shrunk: Vec<(Arc<ReplicaSet>, i32)> =
        seen.old.iter().map(|rs| (rs.clone(), desired(rs))).collect();
    for (rs, size) in &mut shrunk {
        let broken = (*size - available(rs)).clamp(0, may_go);
        *size -= broken;
        may_go -= broken;
    }
    let working: i32 = seen.sets().map(|rs| available(rs).min(desired(rs))).sum();
    let mut may_go = may_go.min((working - least).max(0));
    for (_, size) in &mut shrunk {
        let gone = may_go.min(*size);
        *size -= gone;
        may_go -= gone;
    }
    plan.extend(shrunk.into_iter().filter(|(rs, size)| *size != desired(rs)));
    plan
}

/// The size in which the ReplicaSet of a new template is made.
pub(super) fn first_size(seen: &Seen) -> i32 {
    let others: i32 = seen.old.iter().map(|rs| desired(rs)).sum();
    if seen.spec().strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate") {
        return if seen.old.is_empty() { seen.desired() } else { 0 };
    }
    seen.desired().min((seen.desired() + surge(seen) - others).max(0))
}

/// `maxSurge` in pods, rounded up; 0 where pods are recreated.
pub(super) fn surge(seen: &Seen) -> i32 {
    limits(seen).0
}

/// `maxUnavailable` in pods, rounded down, but 1 where nothing could move otherwise.
pub(super) fn unavailable(seen: &Seen) -> i32 {
    limits(seen).1
}

fn limits(seen: &Seen) -> (i32, i32) {
    let strategy = seen.spec().strategy.as_ref();
    if strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
        return (0, seen.desired());
    }
    let rolling: Option<&RollingUpdateDeployment> = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = pods(rolling.and_then(|r| r.max_surge.as_ref()), seen.desired(), true);
    let unavailable = pods(rolling.and_then(|r| r.max_unavailable.as_ref()), seen.desired(), false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(seen.desired())) }
}

/// A number or a share of `of`; a quarter where nothing is said.
pub(crate) fn pods(limit: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    let text = match limit {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => text,
        None => DEFAULT_SHARE,
    };
    let percent: i64 = text.strip_suffix('%').and_then(|n| n.parse().ok()).unwrap_or(0).clamp(0, 1000);
    let hundredths = i64::from(of.max(0)) * percent;
    let pods = if round_up { (hundredths + 99) / 100 } else { hundredths / 100 };
    i32::try_from(pods).unwrap_or(i32::MAX)
}

fn available(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(name: &str, size: i32, available: i32) -> Arc<ReplicaSet> {
        let value = json!({
            "metadata": {"name": name},
            "spec": {"replicas": size, "selector": {}},
            "status": {"replicas": size, "availableReplicas": available},
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn seen(desired: i32, surge: &str, unavailable: &str, new: (i32, i32), old: &[(i32, i32)]) -> Seen {
        let value = json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": desired,
                "selector": {},
                "template": {},
                "strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            },
        });
        let deployment: k8s_openapi::api::apps::v1::Deployment = serde_json::from_value(value).unwrap();
        Seen {
            deployment: Arc::new(deployment),
            new: Some(set("new", new.0, new.1)),
            old: old.iter().enumerate().map(|(i, (size, ok))| set(&format!("old{i}"), *size, *ok)).collect(),
        }
    }

    fn sizes(plan: Plan) -> Vec<(String, i32)> {
        plan.into_iter().map(|(rs, size)| (rs.metadata.name.clone().unwrap(), size)).collect()
    }

    fn size(name: &str, size: i32) -> (String, i32) {
        (name.into(), size)
    }

    #[test]
    fn a_quarter_rounds_up_for_surge_and_down_for_absence() {
        assert_eq!((pods(None, 3, true), pods(None, 3, false)), (1, 0));
        assert_eq!(pods(Some(&IntOrString::Int(2)), 3, true), 2);
        assert_eq!(pods(Some(&IntOrString::String("junk".into())), 3, true), 0);
    }

    #[test]
    fn new_pods_come_before_old_ones_go() {
        // 4 wanted, 1 more allowed, none may be missing.
        let plan = rolling(&seen(4, "25%", "0%", (1, 0), &[(4, 4)]));
        assert_eq!(sizes(plan), [size("new", 1)], "the new pod is not available yet");
        let plan = rolling(&seen(4, "25%", "0%", (1, 1), &[(4, 4)]));
        assert_eq!(sizes(plan), [size("new", 1), size("old0", 3)]);
        let plan = rolling(&seen(4, "25%", "0%", (1, 1), &[(3, 3)]));
        assert_eq!(sizes(plan), [size("new", 2)]);
    }

    #[test]
    fn broken_old_pods_go_at_once() {
        let plan = rolling(&seen(4, "0%", "25%", (0, 0), &[(2, 1), (2, 2)]));
        assert_eq!(sizes(plan), [size("new", 0), size("old0", 1)]);
    }

    #[test]
    fn without_old_pods_the_new_set_has_the_size_asked_for() {
        assert_eq!(sizes(rolling(&seen(4, "25%", "25%", (9, 9), &[]))), [size("new", 4)]);
        assert_eq!(sizes(rolling(&seen(0, "25%", "25%", (2, 2), &[(0, 0)]))), [size("new", 0)]);
    }

    #[test]
    fn a_rollout_ends_whatever_the_limits_are() {
        for (surge, unavailable) in
            [("25%", "25%"), ("0%", "0%"), ("100%", "0%"), ("0%", "100%"), ("1%", "0%")]
        {
            let (mut new, mut old) = (0, 5);
            for _ in 0..100 {
                let state = seen(5, surge, unavailable, (new, new), &[(old, old)]);
                assert!(new + old <= 5 + super::surge(&state), "{surge} {unavailable}: too many");
                assert!(new + old >= 5 - super::unavailable(&state), "{surge} {unavailable}: too few");
                for (rs, size) in rolling(&state) {
                    if rs.metadata.name.as_deref() == Some("new") { new = size } else { old = size }
                }
            }
            assert_eq!((new, old), (5, 0), "{surge} {unavailable}");
        }
    }

    #[test]
    fn recreate_waits_for_the_end_of_the_old_pods() {
        let before = seen(3, "0%", "0%", (0, 0), &[(3, 3)]);
        assert_eq!(sizes(recreate(&before, true)), [size("old0", 0)]);
        let between = seen(3, "0%", "0%", (0, 0), &[(0, 0)]);
        assert_eq!(sizes(recreate(&between, true)), []);
        assert_eq!(sizes(recreate(&between, false)), [size("new", 3)]);
    }
}
