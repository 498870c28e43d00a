use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::{Container, Role, State};
use crate::run::Runs;

/// The containers of a pod in the order in which they start. What the API says of them is taken
/// over; `same_sandbox` says whether they ran on since it was written.
pub fn containers(pod: &Pod, same_sandbox: bool) -> Vec<Container> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let runs = Runs::of(pod);
    let init = spec.init_containers.iter().flatten().map(|declared| {
        let sidecar = declared.restart_policy.as_deref() == Some("Always");
        Container::new(declared.clone(), if sidecar { Role::Sidecar } else { Role::Init }, runs.is_real(&declared.name))
    });
    let apps = spec.containers.iter().map(|declared| Container::new(declared.clone(), Role::App, runs.is_real(&declared.name)));
    let mut containers: Vec<Container> = init.chain(apps).collect();
    let initialising = containers.iter().any(|container| container.role != Role::App);
    for container in &mut containers {
        if initialising {
            container.state = State::Waiting { reason: "PodInitializing", message: None };
        }
        let status = pod.status.as_ref().and_then(|status| find(status, &container.name));
        if let Some(status) = status {
            container.resume(status, same_sandbox);
        }
    }
    containers
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a k8s_openapi::api::core::v1::ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten()).find(|status| status.name == name)
}
