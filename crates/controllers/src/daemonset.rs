//! A pod on every node that the template fits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::jiff::Timestamp;
use kilter_cluster::{Recorder, Severity};
use kube::ResourceExt;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::deployment::share;
use crate::expectations::Expectations;
use crate::pods::{self, Counts, available_in, has_ended, is_active, is_terminating};
use crate::queue::Queue;
use crate::replicaset::{Expected, watch_pods};
use crate::run::Reconcile;
use crate::template::{self, REVISION_HASH};
use crate::{Error, host_ports, node_fit, parallel, revisions, verbs};

/// What its pods put up with wherever they are: taint and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// How soon a node is looked at again where a host port was taken.
const TAKEN_AGAIN: Duration = Duration::from_secs(5);

pub(crate) struct DaemonSets {
    context: Context,
    expectations: Arc<Expectations>,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (DaemonSets, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let expectations = Arc::new(Expectations::default());
    let wake = queue.clone();
    context.daemon_sets.on_each(move |ds| wake.add(key(&**ds)));
    watch_pods(context, queue.clone(), expectations.clone(), "DaemonSet");
    let (wake, sets) = (queue.clone(), context.daemon_sets.clone());
    context.nodes.on_change(move |before, after| {
        // A node's status is news every few seconds; what decides here is not in it.
        let same = before.zip(after).is_some_and(|(b, a)| b.labels() == a.labels() && b.spec == a.spec);
        if !same {
            sets.all().iter().for_each(|ds| wake.add(key(&**ds)));
        }
    });
    let recorder = Recorder::new(context.client.clone(), "daemonset-controller", None);
    (DaemonSets { context: context.clone(), expectations, recorder }, queue)
}

/// A DaemonSet, the nodes it wants and its pods by node, as one look at the caches found them.
struct Seen {
    set: Arc<DaemonSet>,
    hash: String,
    wanted: BTreeSet<String>,
    /// Of those wanted, the ones where a pod of somebody else's has a host port that it wants.
    taken: BTreeSet<String>,
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
}

/// What to do about its pods.
#[derive(Default)]
struct Plan {
    create: Vec<String>,
    delete: Vec<Arc<Pod>>,
}

impl Reconcile for DaemonSets {
    const NAME: &'static str = "daemonset";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.context.daemon_sets.get(key) else { return Ok(None) };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if let Some(left) = self.expectations.outstanding(&set.uid().unwrap_or_default()) {
            return Ok(Some(left));
        }
        let seen = self.look(set).await?;
        let done = self.carry_out(&seen, plan(&seen)).await;
        let again = self.update_status(&seen).await?.into_iter().chain(self.tell_of_taken(&seen)).min();
        done?;
        self.forget_history(&seen).await?;
        Ok(again)
    }
}

impl DaemonSets {
    async fn look(&self, set: Arc<DaemonSet>) -> Result<Seen, Error> {
        let revision = revisions::present(&self.context, &*set, &set.spec.template).await?;
        let hash = revision.labels().get(REVISION_HASH).cloned().unwrap_or_default();
        let template = with_tolerations(set.spec.template.spec.clone().unwrap_or_default());
        let nodes = self.context.nodes.all().into_iter().filter(|node| {
            let tolerations = template.tolerations.as_deref().unwrap_or_default();
            node_fit::is_selected(&template, node)
                && node_fit::repelled_by(tolerations, &node_fit::taints(node)).is_none()
        });
        let wanted = nodes.map(|node| node.name_any()).collect();
        let taken = self.taken_nodes(&set, &template);
        let mut pods: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in self.context.pods.owned_by(&set.uid().unwrap_or_default()) {
            pods.entry(pods::node(&pod).unwrap_or_default().to_string()).or_default().push(pod);
        }
        Ok(Seen { set, hash, wanted, taken, pods })
    }

    /// The nodes where its pods would not get their host ports.
    fn taken_nodes(&self, set: &DaemonSet, template: &PodSpec) -> BTreeSet<String> {
        let wanted = host_ports::claims(template);
        if wanted.is_empty() {
            return BTreeSet::new();
        }
        let uid = set.uid();
        let is_other = |pod: &Arc<Pod>| is_active(pod) && pod.owner_references().iter().all(|it| Some(&it.uid) != uid.as_ref());
        let others = self.context.pods.all().into_iter().filter(is_other);
        let clashing = others.filter(|pod| {
            let claims = pod.spec.as_ref().map(host_ports::claims).unwrap_or_default();
            claims.iter().any(|claim| wanted.iter().any(|own| own.clashes(claim)))
        });
        clashing.filter_map(|pod| pods::node(&pod).map(str::to_owned)).collect()
    }

    async fn carry_out(&self, seen: &Seen, plan: Plan) -> Result<(), Error> {
        let created = parallel::all(plan.create.iter().map(|node| self.create(seen, node)).collect()).await;
        let deleted = parallel::all(plan.delete.iter().map(|pod| self.delete(seen, pod)).collect()).await;
        created.and(deleted)
    }

    /// Says on which nodes no pod can be; when to look again, as nothing tells when a port is free.
    fn tell_of_taken(&self, seen: &Seen) -> Option<Duration> {
        let waits = |node: &&String| seen.taken.contains(*node) && !seen.pods.contains_key(*node);
        let mut waiting = seen.wanted.iter().filter(waits).peekable();
        waiting.peek()?;
        for node in waiting {
            let message = format!("failed to place pod on {node}: node(s) didn't have free ports for the requested pod ports");
            self.recorder.record(&*seen.set, Severity::Warning, "FailedPlacement", message);
        }
        Some(TAKEN_AGAIN)
    }

    async fn create(&self, seen: &Seen, node: &str) -> Result<(), Error> {
        let pod = pod(seen, node)?;
        let guard = Expected::new(&self.expectations, &*seen.set, key(&pod));
        if let Err(error) = verbs::create(&self.context.client, &pod).await {
            let message = format!("Error creating: {error}");
            self.recorder.record(&*seen.set, Severity::Warning, "FailedCreate", message);
            return Err(error.into());
        }
        guard.asked();
        let message = format!("Created pod: {}", pod.name_any());
        self.recorder.record(&*seen.set, Severity::Normal, "SuccessfulCreate", message);
        Ok(())
    }

    async fn delete(&self, seen: &Seen, pod: &Arc<Pod>) -> Result<(), Error> {
        let guard = Expected::new(&self.expectations, &*seen.set, key(&**pod));
        if !self.context.pods.get(&key(&**pod)).is_some_and(|now| !is_terminating(&now)) {
            return Ok(());
        }
        if verbs::delete(&self.context.client, &**pod, None).await? {
            guard.asked();
        }
        let message = format!("Deleted pod: {}", pod.name_any());
        self.recorder.record(&*seen.set, Severity::Normal, "SuccessfulDelete", message);
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
        let used = seen.pods.values().flatten().filter_map(|p| p.labels().get(REVISION_HASH).cloned());
        let used = used.chain([seen.hash.clone()]).collect();
        let limit = seen.set.spec.revision_history_limit.unwrap_or(revisions::HISTORY_LIMIT);
        revisions::forget(&self.context, &*seen.set, limit, &used).await
    }
}

/// The pod for a node. It is bound from the start: no scheduler has a choice to make.
fn pod(seen: &Seen, node: &str) -> Result<Pod, Error> {
    let namespace = seen.set.namespace().unwrap_or_default();
    let name = template::random_name(&seen.set.name_any());
    let mut pod = template::pod(&seen.set.spec.template, &namespace, name, template::owner_of(&*seen.set)?);
    template::label(&mut pod, REVISION_HASH, seen.hash.as_str());
    let spec = template::spec(&mut pod);
    *spec = with_tolerations(std::mem::take(spec));
    spec.node_name = Some(node.into());
    Ok(pod)
}

fn with_tolerations(mut spec: PodSpec) -> PodSpec {
    let tolerations = spec.tolerations.get_or_insert_default();
    let own_network = spec.host_network == Some(true);
    let more = own_network.then_some(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    for (key, effect) in TOLERATED.into_iter().chain(more) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Default::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec
}

fn plan(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    for node in &seen.wanted {
        if !seen.pods.contains_key(node) && !seen.taken.contains(node) {
            plan.create.push(node.clone());
        }
    }
    for (node, pods) in &seen.pods {
        let surplus = if seen.wanted.contains(node) { 1 } else { 0 };
        let (ended, mut running): (Vec<_>, Vec<_>) =
            pods.iter().filter(|p| !is_terminating(p)).cloned().partition(|p| has_ended(p));
        plan.delete.extend(ended);
        running.sort_by_key(|p| (p.creation_timestamp().map(|t| t.0), p.name_any()));
        plan.delete.extend(running.into_iter().skip(surplus));
    }
    plan.delete.extend(outdated(seen));
    plan
}

/// Pods of an older template that may be replaced now: those that do not work at once, working
/// ones as far as `maxUnavailable` allows.
fn outdated(seen: &Seen) -> Vec<Arc<Pod>> {
    let strategy = seen.set.spec.update_strategy.as_ref();
    if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        return Vec::new();
    }
    let wanted = i32::try_from(seen.wanted.len()).unwrap_or(i32::MAX);
    let limit = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.max_unavailable.as_ref());
    // At least one, or with `maxSurge` (two pods of a set on one node are never made here) nothing
    // would ever move.
    let limit = limit.map_or(1, |limit| share(Some(limit), wanted, true)).max(1);
    let works = |pod: &Pod| is_available(seen, pod);
    let pods = seen.wanted.iter().filter_map(|node| seen.pods.get(node)?.iter().find(|p| is_active(p)));
    let pods: Vec<&Arc<Pod>> = pods.collect();
    let working = i32::try_from(pods.iter().filter(|p| works(p)).count()).unwrap_or(i32::MAX);
    let mut may_go = (limit - (wanted - working)).max(0);
    let old = pods.into_iter().filter(|p| p.labels().get(REVISION_HASH) != Some(&seen.hash));
    let gone = old.filter(|pod| {
        let goes = !works(pod) || may_go > 0;
        may_go -= i32::from(works(pod) && goes);
        goes
    });
    gone.cloned().collect()
}

fn is_available(seen: &Seen, pod: &Pod) -> bool {
    let min_ready = seen.set.spec.min_ready_seconds.unwrap_or(0);
    available_in(pod, min_ready, Timestamp::now()).is_some_and(|wait| wait.is_zero())
}

fn status(seen: &Seen) -> (DaemonSetStatus, Option<Duration>) {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let wanted = count(seen.wanted.len());
    let pods = seen.wanted.iter().filter_map(|node| seen.pods.get(node)?.iter().find(|p| is_active(p)));
    let pods: Vec<&Pod> = pods.map(|p| &**p).collect();
    let counts = Counts::of(pods.iter().copied(), seen.set.spec.min_ready_seconds.unwrap_or(0));
    let updated = pods.iter().filter(|p| p.labels().get(REVISION_HASH) == Some(&seen.hash)).count();
    let stray = seen
        .pods
        .iter()
        .filter(|(node, pods)| !seen.wanted.contains(*node) && pods.iter().any(|p| is_active(p)));
    let status = DaemonSetStatus {
        desired_number_scheduled: wanted,
        current_number_scheduled: counts.all,
        number_misscheduled: count(stray.count()),
        number_ready: counts.ready,
        number_available: Some(counts.available),
        number_unavailable: Some(wanted - counts.available),
        updated_number_scheduled: Some(count(updated)),
        observed_generation: seen.set.metadata.generation,
        ..seen.set.status.clone().unwrap_or_default()
    };
    (status, counts.next_available)
}
