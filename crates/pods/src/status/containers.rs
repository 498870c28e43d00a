use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::container::{Container, Ended, ID_SCHEME, State};

/// What `imageID` says of a stand-in: nothing was pulled.
const STAND_IN: &str = "kilter://stand-in";
/// What it says of a command that is run on this machine.
const PROCESS: &str = "kilter://process";

/// One entry of `containerStatuses`.
pub(super) fn status(container: &Container) -> ContainerStatus {
    let started = container.full_id().is_some();
    ContainerStatus {
        name: container.name.to_string(),
        image: container.declared.image.clone().unwrap_or_default(),
        image_id: match (started, container.real) {
            (false, _) => String::new(),
            (true, false) => STAND_IN.into(),
            (true, true) => PROCESS.into(),
        },
        container_id: container.full_id(),
        ready: container.is_ready(),
        started: Some(container.started),
        restart_count: container.restarts,
        state: Some(state(&container.state)),
        last_state: container
            .last
            .as_ref()
            .map(|ended| ContainerState { terminated: Some(terminated(ended)), ..Default::default() }),
        ..Default::default()
    }
}

fn state(state: &State) -> ContainerState {
    match state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some((*reason).into()), message: message.clone() }),
            ..Default::default()
        },
        State::Running { since } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..Default::default()
        },
        State::Terminated(ended) => {
            ContainerState { terminated: Some(terminated(ended)), ..Default::default() }
        }
    }
}

fn terminated(ended: &Ended) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: ended.exit_code,
        reason: Some(ended.reason.clone()),
        message: ended.message.clone(),
        started_at: Some(Time(ended.started)),
        finished_at: Some(Time(ended.finished)),
        container_id: Some(format!("{ID_SCHEME}{}", ended.id)),
        ..Default::default()
    }
}
