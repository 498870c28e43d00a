//! Deployments: a ReplicaSet for each template there has been, and pods moved from one to the next.

mod history;
mod rollout;
mod status;

pub(crate) use rollout::pods as share;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use kilter_cluster::{Recorder, Severity};
use kube::ResourceExt;
use serde_json::json;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::pods::has_ended;
use crate::queue::Queue;
use crate::replicaset::desired;
use crate::run::Reconcile;
use crate::{Error, verbs};

pub(crate) struct Deployments {
    context: Context,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (Deployments, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let wake = queue.clone();
    context.deployments.on_each(move |deployment| wake.add(key(&**deployment)));
    let wake = queue.clone();
    context.replica_sets.on_each(move |rs| wake_owner(&wake, &**rs));
    // With `Recreate` the new pods wait for the end of the old ones, of which no ReplicaSet tells.
    let (wake, sets) = (queue.clone(), context.replica_sets.clone());
    context.pods.on_change(move |before, after| {
        if let (Some(pod), None) = (before, after)
            && let Some(owner) = pod.owner_references().iter().find(|o| o.kind == "ReplicaSet")
            && let Some(rs) = sets.get(&Key::new(pod.namespace().unwrap_or_default(), owner.name.as_str()))
        {
            wake_owner(&wake, &*rs);
        }
    });
    let recorder = Recorder::new(context.client.clone(), "deployment-controller", None);
    (Deployments { context: context.clone(), recorder }, queue)
}

fn wake_owner(queue: &Queue, rs: &ReplicaSet) {
    for owner in rs.owner_references().iter().filter(|o| o.controller == Some(true) && o.kind == "Deployment")
    {
        queue.add(Key::new(rs.namespace().unwrap_or_default(), owner.name.as_str()));
    }
}

/// A Deployment and its ReplicaSets, as one look at the caches found them.
pub(crate) struct Seen {
    deployment: Arc<Deployment>,
    /// That of the present template, once made.
    new: Option<Arc<ReplicaSet>>,
    /// The others, oldest first.
    old: Vec<Arc<ReplicaSet>>,
}

impl Seen {
    fn of(context: &Context, deployment: Arc<Deployment>) -> Self {
        let mut sets = context.replica_sets.owned_by(&deployment.uid().unwrap_or_default());
        sets.sort_by_key(|rs| (rs.creation_timestamp().map(|t| t.0), rs.name_any()));
        let at = sets.iter().position(|rs| history::is_of(rs, &deployment));
        let new = at.map(|at| sets.remove(at));
        Self { deployment, new, old: sets }
    }

    fn spec(&self) -> &DeploymentSpec {
        &self.deployment.spec
    }

    fn sets(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// `spec.replicas`, 1 by default.
    fn desired(&self) -> i32 {
        self.spec().replicas.unwrap_or(1)
    }

    fn is_paused(&self) -> bool {
        self.spec().paused == Some(true)
    }
}

impl Reconcile for Deployments {
    const NAME: &'static str = "deployment";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(deployment) = self.context.deployments.get(key) else { return Ok(None) };
        let seen = Seen::of(&self.context, deployment);
        if seen.deployment.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if seen.is_paused() {
            self.scale_paused(&seen).await?;
        } else if self.make_new(&seen).await? {
            // What was made comes back through the watch, and with it the next look.
            return Ok(None);
        } else {
            self.roll_out(&seen).await?;
        }
        let again = self.update_status(&seen).await?;
        self.forget_history(&seen).await?;
        Ok(again)
    }
}

impl Deployments {
    async fn roll_out(&self, seen: &Seen) -> Result<(), Error> {
        let recreate = seen.spec().strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate");
        let plan =
            if recreate { rollout::recreate(seen, self.old_pods_run(seen)) } else { rollout::rolling(seen) };
        for (rs, replicas) in plan {
            self.scale(seen, &rs, replicas).await?;
        }
        Ok(())
    }

    /// Whether a pod of an older template still holds what a new one may need.
    fn old_pods_run(&self, seen: &Seen) -> bool {
        let uids = seen.old.iter().filter_map(|rs| rs.uid());
        uids.flat_map(|uid| self.context.pods.owned_by(&uid)).any(|pod| !has_ended(&pod))
    }

    /// A paused Deployment still has the size it is given: its newest active set takes the change.
    async fn scale_paused(&self, seen: &Seen) -> Result<(), Error> {
        let newest = seen.new.iter().chain(seen.old.iter().rev()).find(|rs| desired(rs) > 0);
        if let Some(rs) = newest.or(seen.new.as_ref()) {
            let others: i32 = seen.sets().filter(|o| o.uid() != rs.uid()).map(|o| desired(o)).sum();
            self.scale(seen, rs, (seen.desired() - others).max(0)).await?;
        }
        Ok(())
    }

    /// Sets the size of a ReplicaSet, as long as nobody else changed it since it was read.
    async fn scale(&self, seen: &Seen, rs: &ReplicaSet, replicas: i32) -> Result<(), Error> {
        let annotations = history::sizes(seen);
        let from = desired(rs);
        let same = annotations.iter().all(|(k, v)| rs.annotations().get(k) == Some(v));
        if from == replicas && same {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": rs.resource_version(), "annotations": annotations},
            "spec": {"replicas": replicas},
        });
        verbs::merge(&self.context.client, rs, patch).await?;
        if from != replicas {
            self.record_scaling(seen, rs, from, replicas);
        }
        Ok(())
    }

    fn record_scaling(&self, seen: &Seen, rs: &ReplicaSet, from: i32, to: i32) {
        let verb = if to > from { "up" } else { "down" };
        let message = format!("Scaled {verb} replica set {} from {from} to {to}", rs.name_any());
        self.recorder.record(&*seen.deployment, Severity::Normal, "ScalingReplicaSet", message);
    }
}
