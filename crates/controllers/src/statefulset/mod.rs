//! StatefulSets: numbered pods, made, replaced and given up in order.

mod plan;
mod pod;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kilter_cluster::{Recorder, Severity};
use kube::ResourceExt;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::pods::{Counts, is_active};
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::template::REVISION_HASH;
use crate::{Error, revisions, verbs};
use plan::{Action, View, plan};

pub(crate) struct StatefulSets {
    context: Context,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (StatefulSets, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let wake = queue.clone();
    context.stateful_sets.on_each(move |sts| wake.add(key(&**sts)));
    let wake = queue.clone();
    context.pods.on_each(move |pod| {
        for owner in
            pod.owner_references().iter().filter(|o| o.controller == Some(true) && o.kind == "StatefulSet")
        {
            wake.add(Key::new(pod.namespace().unwrap_or_default(), owner.name.as_str()));
        }
    });
    let recorder = Recorder::new(context.client.clone(), "statefulset-controller", None);
    (StatefulSets { context: context.clone(), recorder }, queue)
}

/// A StatefulSet and its pods, as one look at the caches found them.
struct Seen {
    set: Arc<StatefulSet>,
    pods: BTreeMap<i32, Arc<Pod>>,
    /// Names of the revisions that pods have had and shall have.
    current: String,
    update: String,
}

impl Reconcile for StatefulSets {
    const NAME: &'static str = "statefulset";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.context.stateful_sets.get(key) else { return Ok(None) };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let seen = self.look(set).await?;
        let actions = plan(&View::of(&seen));
        let mut done = Ok(());
        for action in actions {
            done = self.act(&seen, action).await;
            if done.is_err() {
                break;
            }
        }
        let again = self.update_status(&seen).await?;
        done?;
        self.forget_history(&seen).await?;
        Ok(again)
    }
}

impl StatefulSets {
    async fn look(&self, set: Arc<StatefulSet>) -> Result<Seen, Error> {
        let update = revisions::present(&self.context, &*set, &set.spec.template).await?.name_any();
        let current = set.status.as_ref().and_then(|s| s.current_revision.clone());
        let prefix = format!("{}-", set.name_any());
        let pods = self.context.pods.owned_by(&set.uid().unwrap_or_default()).into_iter();
        let pods = pods.filter_map(|pod| Some((pod.name_any().strip_prefix(&prefix)?.parse().ok()?, pod)));
        Ok(Seen { pods: pods.collect(), current: current.unwrap_or_else(|| update.clone()), update, set })
    }

    async fn act(&self, seen: &Seen, action: Action) -> Result<(), Error> {
        let name = format!("{}-{}", seen.set.name_any(), action.ordinal());
        let (result, verb) = match &action {
            Action::Create(ordinal) => (self.create(seen, *ordinal).await, "create"),
            Action::Delete(ordinal) => match seen.pods.get(ordinal) {
                Some(pod) => (
                    verbs::delete(&self.context.client, &**pod, None).await.map(drop).map_err(Error::from),
                    "delete",
                ),
                None => return Ok(()),
            },
        };
        let kind = seen.set.name_any();
        match &result {
            Ok(()) => {
                let reason = if verb == "create" { "SuccessfulCreate" } else { "SuccessfulDelete" };
                let message = format!("{verb} Pod {name} in StatefulSet {kind} successful");
                self.recorder.record(&*seen.set, Severity::Normal, reason, message);
            }
            Err(error) if error.is_stale() => {}
            Err(error) => {
                let reason = if verb == "create" { "FailedCreate" } else { "FailedDelete" };
                let message = format!("{verb} Pod {name} in StatefulSet {kind} failed error: {error}");
                self.recorder.record(&*seen.set, Severity::Warning, reason, message);
            }
        }
        result
    }

    async fn create(&self, seen: &Seen, ordinal: i32) -> Result<(), Error> {
        for (_, claim) in pod::claims(&seen.set, ordinal) {
            match verbs::create(&self.context.client, &claim).await {
                Err(error) if !error.is_already_exists() => return Err(error.into()),
                _ => {}
            }
        }
        let before_partition = ordinal - plan::start(&seen.set.spec) < plan::partition(&seen.set.spec);
        let kept = if before_partition && seen.current != seen.update {
            revisions::template_of(&self.context, &*seen.set, &seen.current)
        } else {
            None
        };
        let pod = match &kept {
            Some(template) => pod::pod(&seen.set, template, &seen.current, ordinal)?,
            None => pod::pod(&seen.set, &seen.set.spec.template, &seen.update, ordinal)?,
        };
        verbs::create(&self.context.client, &pod).await?;
        Ok(())
    }

    async fn update_status(&self, seen: &Seen) -> Result<Option<Duration>, Error> {
        let (status, again) = status(seen);
        if seen.set.status.as_ref() != Some(&status) {
            verbs::merge_status(&self.context.client, &*seen.set, status).await?;
        }
        Ok(again)
    }

    async fn forget_history(&self, seen: &Seen) -> Result<(), Error> {
        let prefix = format!("{}-", seen.set.name_any());
        let used = seen.pods.values().filter_map(|p| p.labels().get(REVISION_HASH).cloned());
        let used = used.chain([seen.current.clone(), seen.update.clone()]);
        let hashes: BTreeSet<String> =
            used.filter_map(|n| n.strip_prefix(&prefix).map(String::from)).collect();
        let limit = seen.set.spec.revision_history_limit.unwrap_or(revisions::HISTORY_LIMIT);
        revisions::forget(&self.context, &*seen.set, limit, &hashes).await
    }
}

fn status(seen: &Seen) -> (StatefulSetStatus, Option<Duration>) {
    let min_ready = seen.set.spec.min_ready_seconds.unwrap_or(0);
    let active: Vec<&Pod> = seen.pods.values().map(|p| &**p).filter(|p| is_active(p)).collect();
    let counts = Counts::of(active.iter().copied(), min_ready);
    let of_revision = |name: &String| {
        let count = active.iter().filter(|p| p.labels().get(REVISION_HASH) == Some(name)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    let updated = of_revision(&seen.update);
    let complete =
        updated == counts.all && counts.ready == counts.all && counts.all == plan::replicas(&seen.set.spec);
    let current = if complete { seen.update.clone() } else { seen.current.clone() };
    let status = StatefulSetStatus {
        replicas: counts.all,
        ready_replicas: Some(counts.ready),
        available_replicas: Some(counts.available),
        current_replicas: Some(of_revision(&current)),
        updated_replicas: Some(updated),
        current_revision: Some(current),
        update_revision: Some(seen.update.clone()),
        observed_generation: seen.set.metadata.generation,
        collision_count: Some(0),
        ..seen.set.status.clone().unwrap_or_default()
    };
    (status, counts.next_available)
}
