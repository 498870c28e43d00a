//! A node for each pod: one that it may run on, with the fewest pods of the same owner, and then
//! the fewest pods. CPU and memory are not counted: stand-ins use next to none.

mod affinity;
mod choice;
mod load;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kilter_cluster::{Recorder, Severity};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cache::{Key, key};
use crate::context::Context;
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::{Error, pods, verbs};
use choice::Misfit;
use load::Load;

/// The scheduler that pods ask for when they ask for none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

pub(crate) struct Scheduler {
    context: Context,
    load: Arc<Mutex<Load>>,
    /// Pods for which there was no node, to be looked at again when something changes.
    waiting: Arc<Mutex<HashSet<Key>>>,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (Scheduler, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let load = Arc::new(Mutex::new(Load::default()));
    let waiting = Arc::new(Mutex::new(HashSet::new()));
    let retry = {
        let (queue, waiting) = (queue.clone(), waiting.clone());
        move || lock(&waiting).drain().for_each(|key| queue.add(key))
    };
    let (wake, counts, room) = (queue.clone(), load.clone(), retry.clone());
    context.pods.on_change(move |before, after| {
        match (before, after) {
            (_, Some(pod)) => lock(&counts).saw(pod),
            (Some(pod), None) => lock(&counts).remove(&pod.uid().unwrap_or_default()),
            (None, None) => {}
        }
        match after {
            Some(pod) if pods::node(pod).is_none() => wake.add(key(&**pod)),
            // Its going, or its arrival, may be what another waits for.
            _ => room(),
        }
    });
    context.nodes.on_change(move |_, _| retry());
    let recorder = Recorder::new(context.client.clone(), DEFAULT_SCHEDULER, None);
    (Scheduler { context: context.clone(), load, waiting, recorder }, queue)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reconcile for Scheduler {
    const NAME: &'static str = "scheduler";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.context.pods.get(key).filter(|pod| is_ours(pod)) else {
            lock(&self.waiting).remove(key);
            return Ok(None);
        };
        // Before anything is read: what changes from here on must find it waiting.
        lock(&self.waiting).insert(key.clone());
        let nodes = self.context.nodes.all();
        // Choosing and counting the choice is one step, so that pods that come together spread.
        let chosen = {
            let mut load = lock(&self.load);
            if load.is_placed(&pod.uid().unwrap_or_default()) {
                lock(&self.waiting).remove(key);
                return Ok(None);
            }
            let others = || self.context.pods.all();
            let chosen = choice::choose(&pod, &nodes, &load, others);
            if let Ok(node) = &chosen {
                load.place(&pod, node);
            }
            chosen
        };
        match chosen {
            Ok(node) => {
                lock(&self.waiting).remove(key);
                self.bind(&pod, &node).await?;
            }
            Err(misfits) => self.give_up(&pod, nodes.len(), misfits).await?,
        }
        Ok(None)
    }
}

/// Whether a pod waits for this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let asked = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).filter(|s| !s.is_empty());
    let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
    pods::is_active(pod)
        && pods::node(pod).is_none()
        && !gates
        && asked.is_none_or(|s| s == DEFAULT_SCHEDULER)
}

impl Scheduler {
    async fn bind(&self, pod: &Pod, node: &str) -> Result<(), Error> {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: pod.uid(),
                ..Default::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(node.into()),
                ..Default::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let bound: Result<Value, _> =
            api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        match bound {
            Ok(_) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.recorder.record(pod, Severity::Normal, "Scheduled", message);
                Ok(())
            }
            Err(error) => {
                lock(&self.load).forget_choice(&pod.uid().unwrap_or_default());
                let what = format!("bind pod {namespace}/{name} to {node}");
                Err(kilter_cluster::Error::from_kube(what, error).into())
            }
        }
    }

    /// Says why there is no node.
    async fn give_up(&self, pod: &Pod, nodes: usize, misfits: BTreeMap<Misfit, usize>) -> Result<(), Error> {
        let message = choice::explain(nodes, &misfits);
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let before = conditions.iter().find(|c| c.type_ == "PodScheduled");
        if before.is_some_and(|c| c.status == "False" && c.message.as_ref() == Some(&message)) {
            return Ok(());
        }
        self.recorder.record(pod, Severity::Warning, "FailedScheduling", message.as_str());
        let condition = PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(message),
            last_transition_time: Some(Time(Timestamp::now())),
            ..Default::default()
        };
        let others = conditions.into_iter().filter(|c| c.type_ != "PodScheduled");
        let conditions: Vec<_> = others.chain([condition]).collect();
        verbs::merge_status(&self.context.client, pod, json!({"conditions": conditions})).await?;
        Ok(())
    }
}
