//! As many pods as asked for, whichever they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kilter_cluster::{Recorder, Severity};
use kube::ResourceExt;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::expectations::Expectations;
use crate::pods::{Counts, is_active, is_terminating, sacrifice_order};
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::{Error, parallel, template, verbs};

pub(crate) struct ReplicaSets {
    context: Context,
    expectations: Arc<Expectations>,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (ReplicaSets, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let expectations = Arc::new(Expectations::default());
    let wake = queue.clone();
    context.replica_sets.on_each(move |rs| wake.add(key(&**rs)));
    watch_pods(context, queue.clone(), expectations.clone(), "ReplicaSet");
    let recorder = Recorder::new(context.client.clone(), "replicaset-controller", None);
    (ReplicaSets { context: context.clone(), expectations, recorder }, queue)
}

/// Settles expectations and wakes the owner whenever a pod that an object of `kind` controls
/// changes.
pub(crate) fn watch_pods(
    context: &Context,
    queue: Arc<Queue>,
    expectations: Arc<Expectations>,
    kind: &'static str,
) {
    context.pods.on_change(move |before, after| {
        for pod in before.into_iter().chain(after) {
            let owners = pod.owner_references().iter();
            for owner in owners.filter(|o| o.controller == Some(true) && o.kind == kind) {
                let waiting_for_its_end = after.is_some_and(|now| !is_terminating(now)) && before.is_some();
                if !waiting_for_its_end {
                    expectations.settle(&owner.uid, &key(&**pod));
                }
                queue.add(Key::new(pod.namespace().unwrap_or_default(), owner.name.as_str()));
            }
        }
    });
}

impl Reconcile for ReplicaSets {
    const NAME: &'static str = "replicaset";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(rs) = self.context.replica_sets.get(key) else { return Ok(None) };
        let uid = rs.uid().unwrap_or_default();
        if let Some(left) = self.expectations.outstanding(&uid) {
            return Ok(Some(left));
        }
        let pods: Vec<Arc<Pod>> =
            self.context.pods.owned_by(&uid).into_iter().filter(|p| is_active(p)).collect();
        let min_ready = rs.spec.min_ready_seconds.unwrap_or(0);
        let counts = Counts::of(pods.iter().map(|p| &**p), min_ready);
        let scaled =
            if rs.metadata.deletion_timestamp.is_none() { self.scale(&rs, pods).await } else { Ok(()) };
        self.update_status(&rs, counts).await?;
        scaled?;
        Ok(counts.next_available)
    }
}

impl ReplicaSets {
    async fn scale(&self, rs: &ReplicaSet, mut pods: Vec<Arc<Pod>>) -> Result<(), Error> {
        let desired = usize::try_from(desired(rs)).unwrap_or(0);
        if pods.len() < desired {
            return self.create(rs, desired - pods.len()).await;
        }
        pods.sort_by_cached_key(|p| sacrifice_order(p));
        pods.truncate(pods.len() - desired);
        self.delete(rs, pods).await
    }

    /// Creates pods, in parallel; after the first failure no more are begun, but those begun are
    /// waited for, since they may well succeed.
    async fn create(&self, rs: &ReplicaSet, count: usize) -> Result<(), Error> {
        let failed = AtomicBool::new(false);
        let creations = (0..count).map(|_| async {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            let created = self.create_one(rs).await;
            if let Err(error) = &created
                && !failed.swap(true, Ordering::Relaxed)
            {
                self.recorder.record(
                    rs,
                    Severity::Warning,
                    "FailedCreate",
                    format!("Error creating: {error}"),
                );
            }
            created
        });
        parallel::all(creations.collect()).await
    }

    async fn create_one(&self, rs: &ReplicaSet) -> Result<(), Error> {
        let namespace = rs.namespace().unwrap_or_default();
        let template = rs.spec.template.as_ref();
        let template =
            template.ok_or_else(|| Error::Field { object: key(rs).to_string(), field: "spec.template" })?;
        let name = template::random_name(&rs.name_any());
        let pod = template::pod(template, &namespace, name, template::owner_of(rs)?);
        let guard = Expected::new(&self.expectations, rs, key(&pod));
        verbs::create(&self.context.client, &pod).await?;
        guard.asked();
        let message = format!("Created pod: {}", pod.name_any());
        self.recorder.record(rs, Severity::Normal, "SuccessfulCreate", message);
        Ok(())
    }

    async fn delete(&self, rs: &ReplicaSet, pods: Vec<Arc<Pod>>) -> Result<(), Error> {
        let deletions = pods.iter().map(|pod| async move {
            let guard = Expected::new(&self.expectations, rs, key(&**pod));
            // Whoever else deleted it may have been seen just before the expectation was there.
            if !self.context.pods.get(&key(&**pod)).is_some_and(|now| is_active(&now)) {
                return Ok(());
            }
            if verbs::delete(&self.context.client, &**pod, None).await? {
                guard.asked();
            }
            let message = format!("Deleted pod: {}", pod.name_any());
            self.recorder.record(rs, Severity::Normal, "SuccessfulDelete", message);
            Ok::<(), Error>(())
        });
        parallel::all(deletions.collect()).await
    }

    async fn update_status(&self, rs: &ReplicaSet, counts: Counts) -> Result<(), Error> {
        let status = ReplicaSetStatus {
            replicas: counts.all,
            fully_labeled_replicas: Some(counts.all),
            ready_replicas: Some(counts.ready),
            available_replicas: Some(counts.available),
            observed_generation: rs.metadata.generation,
            ..rs.status.clone().unwrap_or_default()
        };
        if rs.status.as_ref() != Some(&status) {
            verbs::merge_status(&self.context.client, rs, status).await?;
        }
        Ok(())
    }
}

/// `spec.replicas`, 1 by default.
pub(crate) fn desired(rs: &ReplicaSet) -> i32 {
    rs.spec.replicas.unwrap_or(1)
}

/// An expectation that is withdrawn unless the request behind it succeeded: also when the request
/// is given up half-way, since the next look at the cache must then not wait for it.
pub(crate) struct Expected<'a> {
    expectations: &'a Expectations,
    owner: String,
    name: Option<Key>,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(expectations: &'a Expectations, owner: &impl kube::Resource, name: Key) -> Self {
        let owner = owner.uid().unwrap_or_default();
        expectations.expect(&owner, name.clone());
        Self { expectations, owner, name: Some(name) }
    }

    /// The request succeeded: what is expected will be seen.
    pub(crate) fn asked(mut self) {
        self.name = None;
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.expectations.settle(&self.owner, &name);
        }
    }
}
