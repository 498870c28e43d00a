use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::TRACKING;
use super::plan::{Member, State};
use crate::pods::{is_terminating, phase};
use crate::template;

/// Label and annotation of an indexed Job's pods.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A new pod of a Job; of an indexed one, for this index.
pub(super) fn of(job: &Job, spec: &JobSpec, index: Option<u32>, owner: OwnerReference) -> Pod {
    let base = match index {
        Some(index) => format!("{}-{index}", job.name_any()),
        None => job.name_any(),
    };
    let name = template::random_name(&base);
    let mut pod = template::pod(&spec.template, &job.namespace().unwrap_or_default(), name, owner);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.into());
    if let Some(index) = index {
        template::label(&mut pod, INDEX, index.to_string());
        pod.metadata.annotations.get_or_insert_default().insert(INDEX.into(), index.to_string());
        let spec = template::spec(&mut pod);
        spec.hostname = Some(base);
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            container.env.get_or_insert_default().push(index_variable());
        }
    }
    pod
}

/// `JOB_COMPLETION_INDEX`, from the pod's annotation.
fn index_variable() -> EnvVar {
    let field = ObjectFieldSelector {
        field_path: format!("metadata.annotations['{INDEX}']"),
        ..ObjectFieldSelector::default()
    };
    let from = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: "JOB_COMPLETION_INDEX".into(), value_from: Some(from), ..EnvVar::default() }
}

/// Which completion of an indexed Job a pod is for.
pub(super) fn index(pod: &Pod) -> Option<u32> {
    pod.annotations().get(INDEX)?.parse().ok()
}

/// How far a pod is. One that was deleted and that its kubelet has let go has failed.
pub(super) fn state(pod: &Pod) -> State {
    match phase(pod) {
        "Succeeded" => State::Succeeded,
        "Failed" => State::Failed,
        _ if is_terminating(pod) && pod.metadata.deletion_grace_period_seconds.unwrap_or(0) == 0 => State::Failed,
        _ if is_terminating(pod) => State::Ending,
        _ => State::Active,
    }
}

/// A pod as the plan sees it.
pub(super) fn member(pod: &Pod) -> Member {
    let state = state(pod);
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    Member {
        name: pod.name_any(),
        state,
        index: index(pod),
        restarts: statuses.into_iter().flatten().map(|s| s.restart_count).sum(),
        failed_at: (state == State::Failed).then(|| ended(pod)).flatten(),
    }
}

/// When the last container ended; else when the pod was deleted, or made.
fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let ends = statuses.into_iter().flatten().filter_map(|s| s.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let meta = &pod.metadata;
    let last = ends.map(|t| t.0).max();
    last.or_else(|| meta.deletion_timestamp.as_ref().map(|t| t.0)).or_else(|| pod.creation_timestamp().map(|t| t.0))
}
