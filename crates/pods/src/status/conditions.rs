use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Facts, Phase};
use crate::container::{Container, Role, State};

/// The conditions that the kubelet owns, in its order, then everybody else's as they were.
pub(super) fn conditions(facts: &Facts<'_>, phase: Phase) -> Vec<PodCondition> {
    let before =
        facts.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mine = [
        Verdict::new("PodReadyToStartContainers", facts.sandbox),
        initialised(facts),
        ready(facts, phase, before),
        containers_ready(facts, phase),
        // The scheduler's, written with the binding; repeated so that a late write of this node
        // never erases it.
        Verdict::new("PodScheduled", true),
    ];
    let others = before.iter().filter(|old| mine.iter().all(|verdict| verdict.name != old.type_)).cloned();
    let written = mine.iter().map(|verdict| verdict.condition(facts, before)).collect::<Vec<_>>();
    written.into_iter().chain(others).collect()
}

struct Verdict {
    name: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn new(name: &'static str, holds: bool) -> Self {
        Self { name, holds, reason: None, message: None }
    }

    fn because(name: &'static str, reason: &'static str, message: Option<String>) -> Self {
        Self { name, holds: false, reason: Some(reason), message }
    }

    fn condition(&self, facts: &Facts<'_>, before: &[PodCondition]) -> PodCondition {
        let status = if self.holds { "True" } else { "False" };
        let old = before.iter().find(|old| old.type_ == self.name);
        let unchanged =
            old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        PodCondition {
            type_: self.name.into(),
            status: status.into(),
            reason: self.reason.map(Into::into),
            message: self.message.clone(),
            last_transition_time: Some(unchanged.unwrap_or(Time(facts.now))),
            observed_generation: facts.pod.metadata.generation,
            ..Default::default()
        }
    }
}

fn initialised(facts: &Facts<'_>) -> Verdict {
    let incomplete: Vec<&Container> = facts
        .containers
        .iter()
        .filter(|container| match container.role {
            Role::App => false,
            Role::Sidecar => !container.started,
            Role::Init => !matches!(&container.state, State::Terminated(ended) if ended.exit_code == 0),
        })
        .collect();
    if incomplete.is_empty() {
        return Verdict::new("Initialized", true);
    }
    let message = format!("containers with incomplete status: [{}]", names(incomplete));
    Verdict::because("Initialized", "ContainersNotInitialized", Some(message))
}

fn containers_ready(facts: &Facts<'_>, phase: Phase) -> Verdict {
    match unready(facts, phase) {
        None => Verdict::new("ContainersReady", true),
        Some((reason, message)) => Verdict::because("ContainersReady", reason, message),
    }
}

/// All containers ready and every readiness gate true.
fn ready(facts: &Facts<'_>, phase: Phase, before: &[PodCondition]) -> Verdict {
    if let Some((reason, message)) = unready(facts, phase) {
        return Verdict::because("Ready", reason, message);
    }
    let gates = facts.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let closed = gates
        .map(|gate| gate.condition_type.as_str())
        .find(|gate| !before.iter().any(|condition| condition.type_ == **gate && condition.status == "True"));
    match closed {
        None => Verdict::new("Ready", true),
        Some(gate) => {
            let message = format!("corresponding condition of pod readiness gate \"{gate}\" is not True");
            Verdict::because("Ready", "ReadinessGatesNotReady", Some(message))
        }
    }
}

fn unready(facts: &Facts<'_>, phase: Phase) -> Option<(&'static str, Option<String>)> {
    match phase {
        Phase::Succeeded => return Some(("PodCompleted", None)),
        Phase::Failed => return Some(("PodFailed", None)),
        Phase::Pending | Phase::Running => {}
    }
    let lasting = facts.containers.iter().filter(|container| container.role != Role::Init);
    let unready: Vec<&Container> = lasting.filter(|container| !container.is_ready()).collect();
    if unready.is_empty() {
        return None;
    }
    Some(("ContainersNotReady", Some(format!("containers with unready status: [{}]", names(unready)))))
}

fn names(containers: Vec<&Container>) -> String {
    containers.iter().map(|container| &*container.name).collect::<Vec<_>>().join(" ")
}
