//! Jobs: pods that are to end, each counted once whatever becomes of it.

mod index;
mod plan;
mod pod;
mod status;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kilter_cluster::{Recorder, Severity};
use kube::ResourceExt;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::expectations::Expectations;
use crate::pods::{is_active, is_ready};
use crate::queue::Queue;
use crate::replicaset::{Expected, watch_pods};
use crate::run::Reconcile;
use crate::{Error, parallel, template, verbs};
use plan::{End, Plan, State, View, plan};

/// On a Job's pods until they are counted, so that none goes uncounted.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// A Job that somebody else looks after says so.
const CONTROLLER: &str = "kubernetes.io/job-controller";

pub(crate) struct Jobs {
    context: Context,
    expectations: Arc<Expectations>,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (Jobs, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let expectations = Arc::new(Expectations::default());
    let wake = queue.clone();
    context.jobs.on_each(move |job| wake.add(key(&**job)));
    watch_pods(context, queue.clone(), expectations.clone(), "Job");
    let recorder = Recorder::new(context.client.clone(), "job-controller", None);
    (Jobs { context: context.clone(), expectations, recorder }, queue)
}

impl Reconcile for Jobs {
    const NAME: &'static str = "job";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(job) = self.context.jobs.get(key) else {
            self.release(self.left_behind(key).iter()).await?;
            return Ok(None);
        };
        let Some(spec) = &job.spec else { return Ok(None) };
        if spec.managed_by.as_deref().is_some_and(|by| by != CONTROLLER) {
            return Ok(None);
        }
        let uid = job.uid().unwrap_or_default();
        if let Some(left) = self.expectations.outstanding(&uid) {
            return Ok(Some(left));
        }
        let pods = self.context.pods.owned_by(&uid);
        if job.metadata.deletion_timestamp.is_some() {
            // Its pods go with it: nobody counts them any more.
            self.release(pods.iter()).await?;
            return Ok(None);
        }
        if let Some(ended) = status::ended(&job) {
            self.release(pods.iter().filter(|p| !is_active(p))).await?;
            return self.expire(&job, spec, ended).await;
        }
        self.run(&job, spec, &pods).await
    }
}

impl Jobs {
    async fn run(&self, job: &Job, spec: &JobSpec, pods: &[Arc<Pod>]) -> Result<Option<Duration>, Error> {
        let now = Timestamp::now();
        let counted = status::count(job, spec, pods);
        let plan = plan(&view(spec, &counted, pods), now);
        let mut next = counted.status.clone();
        status::conclude(&mut next, spec, &plan, now);
        // Counted first, then let go: a pod that is counted is never counted again.
        if job.status.as_ref() != Some(&next) {
            verbs::merge_status_as_read(&self.context.client, job, status::patch(&next)).await?;
            self.tell(job, &plan, &next);
        }
        self.release(pods.iter().filter(|pod| counted.is_counted(pod))).await?;
        self.delete(job, &plan).await?;
        self.create(job, spec, &plan).await?;
        Ok(plan.again)
    }

    fn tell(&self, job: &Job, plan: &Plan, next: &JobStatus) {
        let (severity, reason, message) = match plan.end {
            Some(End::Complete) => (Severity::Normal, "Completed", "Job completed"),
            Some(End::BackoffLimitExceeded) => {
                (Severity::Warning, "BackoffLimitExceeded", status::BACKOFF_MESSAGE)
            }
            Some(End::DeadlineExceeded) => (Severity::Warning, "DeadlineExceeded", status::DEADLINE_MESSAGE),
            None => match (status::is_suspended(job.status.as_ref()), status::is_suspended(Some(next))) {
                (false, true) => (Severity::Normal, "Suspended", "Job suspended"),
                (true, false) => (Severity::Normal, "Resumed", "Job resumed"),
                _ => return,
            },
        };
        self.recorder.record(job, severity, reason, message.to_owned());
    }

    /// Pods of a Job that is gone.
    fn left_behind(&self, job: &Key) -> Vec<Arc<Pod>> {
        let mut pods = self.context.pods.in_namespace(&job.namespace);
        pods.retain(|pod| {
            let mut owners = pod.owner_references().iter();
            owners.any(|o| o.controller == Some(true) && o.kind == "Job" && *o.name == *job.name)
        });
        pods
    }

    /// Takes the mark from pods, so that they can go.
    async fn release(&self, pods: impl Iterator<Item = &Arc<Pod>>) -> Result<(), Error> {
        let marked = pods.filter(|pod| pod.finalizers().iter().any(|f| f == TRACKING));
        let requests = marked.map(|pod| async move {
            let left: Vec<&String> = pod.finalizers().iter().filter(|f| *f != TRACKING).collect();
            let patch = serde_json::json!({"metadata": {"finalizers": left,
                "resourceVersion": pod.metadata.resource_version}});
            match verbs::merge(&self.context.client, &**pod, patch).await {
                Err(error) if error.is_not_found() => Ok(()),
                released => released.map(drop).map_err(Error::from),
            }
        });
        parallel::all(requests.collect()).await
    }

    async fn delete(&self, job: &Job, plan: &Plan) -> Result<(), Error> {
        let namespace = job.namespace().unwrap_or_default();
        let requests = plan.delete.iter().map(|name| {
            let pod = self.context.pods.get(&Key::new(namespace.as_str(), name.as_str()));
            async move {
                let Some(pod) = pod.filter(|pod| is_active(pod)) else { return Ok(()) };
                let guard = Expected::new(&self.expectations, job, key(&*pod));
                if verbs::delete(&self.context.client, &*pod, None).await? {
                    guard.asked();
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.recorder.record(job, Severity::Normal, "SuccessfulDelete", message);
                }
                Ok::<(), Error>(())
            }
        });
        parallel::all(requests.collect()).await
    }

    async fn create(&self, job: &Job, spec: &JobSpec, plan: &Plan) -> Result<(), Error> {
        let requests = plan.create.iter().map(|index| async move {
            let pod = pod::of(job, spec, *index, template::owner_of(job)?);
            let guard = Expected::new(&self.expectations, job, key(&pod));
            match verbs::create(&self.context.client, &pod).await {
                Ok(_) => guard.asked(),
                Err(error) => {
                    let message = format!("Error creating: {error}");
                    self.recorder.record(job, Severity::Warning, "FailedCreate", message);
                    return Err(error.into());
                }
            }
            let message = format!("Created pod: {}", pod.name_any());
            self.recorder.record(job, Severity::Normal, "SuccessfulCreate", message);
            Ok::<(), Error>(())
        });
        parallel::all(requests.collect()).await
    }

    /// Deletes a Job that has ended, `ttlSecondsAfterFinished` later.
    async fn expire(&self, job: &Job, spec: &JobSpec, ended: Timestamp) -> Result<Option<Duration>, Error> {
        let Some(ttl) = spec.ttl_seconds_after_finished else { return Ok(None) };
        let left = (ended + SignedDuration::from_secs(ttl.into())).duration_since(Timestamp::now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => Ok(Some(left)),
            _ => {
                verbs::delete(&self.context.client, job, None).await?;
                Ok(None)
            }
        }
    }
}

/// What the plan is made from.
fn view(spec: &JobSpec, counted: &status::Counted, pods: &[Arc<Pod>]) -> View {
    let number = |value: Option<i32>| value.map(|v| u32::try_from(v).unwrap_or(0));
    let status = &counted.status;
    let completions = number(spec.completions);
    let done: BTreeSet<u32> =
        index::read(status.completed_indexes.as_deref().unwrap_or_default(), completions.unwrap_or(0));
    let started = status.start_time.as_ref().map(|t| t.0);
    let deadline = spec.active_deadline_seconds.map(SignedDuration::from_secs);
    View {
        completions,
        parallelism: number(spec.parallelism).unwrap_or(1),
        backoff_limit: spec.backoff_limit.unwrap_or(6),
        indexed: spec.completion_mode.as_deref() == Some("Indexed"),
        suspended: spec.suspend == Some(true),
        replace_failed_only: spec.pod_replacement_policy.as_deref() == Some("Failed"),
        deadline: started.zip(deadline).map(|(started, deadline)| started + deadline),
        members: pods.iter().map(|pod| pod::member(pod)).collect(),
        succeeded: number(status.succeeded).unwrap_or(0),
        failed: number(status.failed).unwrap_or(0),
        done,
    }
}

/// Pods of a Job that run, and of those the ready ones.
fn running(pods: &[Arc<Pod>]) -> (i32, i32, i32) {
    let count = |state: State| pods.iter().filter(|p| pod::state(p) == state).count() as i32;
    let ready = pods.iter().filter(|p| pod::state(p) == State::Active && is_ready(p)).count() as i32;
    (count(State::Active), ready, count(State::Ending))
}
