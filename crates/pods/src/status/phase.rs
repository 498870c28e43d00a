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

/// The phase of a pod with these containers (kubelet, `getPhase`). It is over only once nothing of
/// it runs, sidecars included.
pub fn phase(pod: &Pod, containers: &[Container]) -> Phase {
    let code = |container: &Container| match &container.state {
        State::Terminated(ended) => Some(ended.exit_code),
        _ => None,
    };
    let of = |role| containers.iter().filter(move |container| container.role == role);
    let failed_init = of(Role::Init).any(|container| code(container).is_some_and(|code| code != 0));
    if failed_init && !containers.iter().any(Container::is_running) {
        return Phase::Failed;
    }
    let initialised = of(Role::Init).all(|container| code(container) == Some(0))
        && of(Role::Sidecar).all(|container| container.started || container.last.is_some());
    let never_started =
        of(Role::App).any(|container| matches!(container.state, State::Waiting { .. }) && container.last.is_none());
    let over = of(Role::App).all(|container| code(container).is_some());
    if !over && (!initialised || never_started) {
        return Phase::Pending;
    }
    let always = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always") == "Always";
    let own_policy = |container: &Container| container.declared.restart_policy.is_some();
    let stays = always && !of(Role::App).any(own_policy);
    if stays || !over || containers.iter().any(Container::is_running) {
        return Phase::Running;
    }
    if of(Role::App).all(|container| code(container) == Some(0)) { Phase::Succeeded } else { Phase::Failed }
}
