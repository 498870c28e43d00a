use k8s_openapi::api::core::v1::Pod;

use crate::container::{Container, Role, State};

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not everything was started yet.
    Pending,
    /// Something runs, or is about to run again.
    Running,
    /// All ended well, for good.
    Succeeded,
    /// All ended for good, one of them badly.
    Failed,
}

impl Phase {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }
}

/// The phase of a pod with these containers (kubelet, `getPhase`).
pub fn phase(pod: &Pod, containers: &[Container]) -> Phase {
    let initialised = containers.iter().filter(|c| c.role != Role::App).all(|c| match c.role {
        Role::Init => matches!(&c.state, State::Terminated(ended) if ended.exit_code == 0),
        _ => c.started || c.last.is_some(),
    });
    let apps = || containers.iter().filter(|c| c.role == Role::App);
    let never_started = apps().any(|c| matches!(c.state, State::Waiting { .. }) && c.last.is_none());
    if !initialised || never_started {
        return Phase::Pending;
    }
    let always = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always") == "Always";
    let mut codes = apps().map(|c| match &c.state {
        State::Terminated(ended) => Some(ended.exit_code),
        _ => None,
    });
    if always || codes.clone().any(|code| code.is_none()) {
        return Phase::Running;
    }
    if codes.all(|code| code == Some(0)) { Phase::Succeeded } else { Phase::Failed }
}
