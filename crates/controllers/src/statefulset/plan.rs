//! The next steps of a StatefulSet. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::Seen;
use crate::pods::{available_in, has_ended, is_terminating};
use crate::template::REVISION_HASH;

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Make the pod of this number.
    Create(i32),
    /// Delete the pod of this number.
    Delete(i32),
}

impl Action {
    pub(super) fn ordinal(self) -> i32 {
        match self {
            Action::Create(ordinal) | Action::Delete(ordinal) => ordinal,
        }
    }
}

/// How a pod is, as far as the order is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Available,
    NotAvailable,
    Terminating,
    Ended,
}

/// What the plan depends on.
pub(super) struct View {
    pub(super) first: i32,
    pub(super) replicas: i32,
    /// One after another, each when those before it are available.
    pub(super) ordered: bool,
    /// Pods below keep the template they have; `None`: all do until somebody deletes them.
    pub(super) update_from: Option<i32>,
    /// Pods by number, and whether they have the present template.
    pub(super) pods: BTreeMap<i32, (State, bool)>,
}

impl View {
    pub(super) fn of(seen: &Seen) -> Self {
        let (first, min_ready) = (start(&seen.set.spec), seen.set.spec.min_ready_seconds.unwrap_or(0));
        let on_delete =
            seen.set.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("OnDelete");
        let is_updated = |pod: &Pod| pod.labels().get(REVISION_HASH) == Some(&seen.update);
        Self {
            first,
            replicas: replicas(&seen.set.spec),
            ordered: seen.set.spec.pod_management_policy.as_deref() != Some("Parallel"),
            update_from: (!on_delete).then(|| first.saturating_add(partition(&seen.set.spec))),
            pods: seen.pods.iter().map(|(i, pod)| (*i, (state(pod, min_ready), is_updated(pod)))).collect(),
        }
    }
}

fn state(pod: &Pod, min_ready: i32) -> State {
    if is_terminating(pod) {
        State::Terminating
    } else if has_ended(pod) {
        State::Ended
    } else if available_in(pod, min_ready, Timestamp::now()).is_some_and(|wait| wait.is_zero()) {
        State::Available
    } else {
        State::NotAvailable
    }
}

/// What can be done now. In an ordered set that is at most one step.
pub(super) fn plan(view: &View) -> Vec<Action> {
    let mut actions = Vec::new();
    let end = view.first.saturating_add(view.replicas);
    for ordinal in view.first..end {
        match view.pods.get(&ordinal) {
            None => actions.push(Action::Create(ordinal)),
            // Ended pods are made anew under the same name.
            Some((State::Ended, _)) => actions.push(Action::Delete(ordinal)),
            Some((State::Available, _)) => continue,
            Some((State::NotAvailable | State::Terminating, _)) => {}
        }
        if view.ordered {
            return actions;
        }
    }
    let surplus = view.pods.iter().rev().filter(|(ordinal, _)| !(view.first..end).contains(*ordinal));
    for (ordinal, (state, _)) in surplus {
        if *state != State::Terminating {
            actions.push(Action::Delete(*ordinal));
        }
        if view.ordered {
            return actions;
        }
    }
    actions.extend(update(view, end));
    actions
}

/// The next pod to be replaced because of its template: from the highest number down, each when
/// those replaced before it are available.
fn update(view: &View, end: i32) -> Option<Action> {
    let from = view.update_from?.max(view.first);
    for ordinal in (from..end).rev() {
        match view.pods.get(&ordinal) {
            Some((State::Available | State::NotAvailable, false)) => return Some(Action::Delete(ordinal)),
            Some((State::Available, true)) => {}
            _ => return None,
        }
    }
    None
}

/// `spec.replicas`, 1 by default.
pub(super) fn replicas(spec: &StatefulSetSpec) -> i32 {
    spec.replicas.unwrap_or(1).max(0)
}

/// The number of the first pod.
pub(super) fn start(spec: &StatefulSetSpec) -> i32 {
    spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
}

/// How many pods, counted from the first, keep the template they have.
pub(super) fn partition(spec: &StatefulSetSpec) -> i32 {
    let rolling = spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    rolling.and_then(|r| r.partition).unwrap_or(0).max(0)
}

#[cfg(test)]
mod tests {
    use super::Action::{Create, Delete};
    use super::State::{Available, Ended, NotAvailable, Terminating};
    use super::*;

    fn view(replicas: i32, ordered: bool, pods: &[(i32, State, bool)]) -> View {
        let pods = pods.iter().map(|(i, state, updated)| (*i, (*state, *updated))).collect();
        View { first: 0, replicas, ordered, update_from: Some(0), pods }
    }

    #[test]
    fn pods_come_one_after_another() {
        assert_eq!(plan(&view(3, true, &[])), [Create(0)]);
        assert_eq!(plan(&view(3, true, &[(0, NotAvailable, true)])), []);
        assert_eq!(plan(&view(3, true, &[(0, Available, true)])), [Create(1)]);
        assert_eq!(plan(&view(2, true, &[(0, Terminating, true), (1, Available, true)])), []);
        assert_eq!(plan(&view(2, true, &[(0, Ended, true)])), [Delete(0)]);
    }

    #[test]
    fn or_all_at_once() {
        assert_eq!(plan(&view(3, false, &[(1, NotAvailable, true)])), [Create(0), Create(2)]);
        let many = [(0, Available, true), (1, Terminating, true), (2, Available, true)];
        assert_eq!(plan(&view(0, false, &many)), [Delete(2), Delete(0)]);
    }

    #[test]
    fn the_highest_goes_first_and_alone() {
        let three = [(0, Available, true), (1, Available, true), (2, Available, true)];
        assert_eq!(plan(&view(1, true, &three)), [Delete(2)]);
        let going = [(0, Available, true), (1, Available, true), (2, Terminating, true)];
        assert_eq!(plan(&view(1, true, &going)), []);
    }

    #[test]
    fn a_new_template_replaces_from_the_highest_down_to_the_partition() {
        let mut view = view(3, true, &[(0, Available, false), (1, Available, false), (2, Available, false)]);
        assert_eq!(plan(&view), [Delete(2)]);
        view.pods.insert(2, (Available, true));
        assert_eq!(plan(&view), [Delete(1)]);
        view.update_from = Some(2);
        assert_eq!(plan(&view), []);
        view.update_from = None;
        assert_eq!(plan(&view), []);
    }

    #[test]
    fn numbers_may_start_elsewhere() {
        let mut view = view(2, true, &[(5, Available, true), (9, Available, true)]);
        view.first = 5;
        assert_eq!(plan(&view), [Create(6)]);
        view.pods.insert(6, (Available, true));
        assert_eq!(plan(&view), [Delete(9)]);
    }
}
