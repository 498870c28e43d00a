//! Nodes that have fallen silent: their Ready condition becomes Unknown, and their pods are not
//! ready any more, so that Services stop sending to them. Nobody is evicted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kilter_cluster::{Recorder, Severity, patch_node_status};
use kube::ResourceExt;
use serde_json::json;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::pods::{condition, has_ended, node};
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::{Error, parallel, verbs};

/// Where nodes renew their Leases.
const LEASES: &str = "kube-node-lease";
/// Why a pod is not ready that nobody hears of.
const NODE_NOT_READY: &str = "NodeNotReady";

/// When a node last reported its status, and when it last renewed its Lease, by its own clock.
type Sign = (Option<Timestamp>, Option<Timestamp>);

pub(crate) struct NodeLifecycle {
    context: Context,
    grace: Duration,
    /// The last sign of life of each node, and when it was seen. By this process's clock, so that
    /// neither clocks that differ nor its own absence make a node look silent.
    heard: Mutex<HashMap<String, (Sign, Instant)>>,
    recorder: Recorder,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context, grace: Duration) -> (NodeLifecycle, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let wake = queue.clone();
    context.nodes.on_each(move |node| wake.add(key(&**node)));
    let recorder = Recorder::new(context.client.clone(), "node-controller", None);
    (NodeLifecycle { context: context.clone(), grace, heard: Mutex::default(), recorder }, queue)
}

impl Reconcile for NodeLifecycle {
    const NAME: &'static str = "node-lifecycle";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(node) = self.context.nodes.get(key) else {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&*key.name);
            return Ok(None);
        };
        let Some(ready) = ready(&node) else { return Ok(None) };
        let silent = self.silent_for(&node.name_any(), ready);
        if silent < self.grace {
            if ready.status == "True" {
                self.revive(&node).await?;
            }
            return Ok(Some(self.grace - silent));
        }
        if ready.status != "Unknown" {
            self.give_up(&node).await?;
        }
        let pods = self.pods_of(&node).into_iter().filter(|pod| condition(pod, "Ready").is_some());
        self.mark(pods, "False").await?;
        Ok(None)
    }
}

impl NodeLifecycle {
    fn silent_for(&self, node: &str, ready: &NodeCondition) -> Duration {
        let lease = self.context.leases.get(&Key::new(LEASES, node));
        let renewed = lease.and_then(|l| Some(l.spec.as_ref()?.renew_time.as_ref()?.0));
        let sign = (ready.last_heartbeat_time.as_ref().map(|t| t.0), renewed);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = heard.entry(node.to_owned()).or_insert((sign, Instant::now()));
        if last.0 != sign {
            *last = (sign, Instant::now());
        }
        last.1.elapsed()
    }

    async fn give_up(&self, node: &Node) -> Result<(), Error> {
        let now = Time(Timestamp::now());
        let mut conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        for condition in conditions.iter_mut().filter(|c| c.status != "Unknown") {
            condition.status = "Unknown".into();
            condition.reason = Some("NodeStatusUnknown".into());
            condition.message = Some("Kubelet stopped posting node status.".into());
            condition.last_transition_time = Some(now.clone());
        }
        let status = NodeStatus { conditions: Some(conditions), ..NodeStatus::default() };
        patch_node_status(&self.context.client, &node.name_any(), &status).await?;
        let message = format!("Node {} status is now: NodeNotReady", node.name_any());
        self.recorder.record(node, Severity::Normal, NODE_NOT_READY, message);
        Ok(())
    }

    /// Pods that were ready when their node fell silent are so again when it speaks, as far as their
    /// containers are.
    async fn revive(&self, node: &Node) -> Result<(), Error> {
        let given_up = self.pods_of(node).into_iter().filter(|pod| {
            let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
            let here = |c: &PodCondition| c.type_ == "Ready" && c.reason.as_deref() == Some(NODE_NOT_READY);
            conditions.into_iter().flatten().any(here) && condition(pod, "ContainersReady").is_some()
        });
        self.mark(given_up, "True").await
    }

    fn pods_of(&self, of: &Node) -> Vec<Arc<Pod>> {
        let name = of.name_any();
        let mut pods = self.context.pods.all();
        pods.retain(|pod| node(pod) == Some(name.as_str()) && !has_ended(pod));
        pods
    }

    async fn mark(&self, pods: impl Iterator<Item = Arc<Pod>>, ready: &str) -> Result<(), Error> {
        let requests = pods.map(|pod| async move {
            let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
            for condition in conditions.iter_mut().filter(|c| c.type_ == "Ready") {
                condition.status = ready.into();
                condition.reason = (ready == "False").then(|| NODE_NOT_READY.into());
                condition.last_transition_time = Some(Time(Timestamp::now()));
            }
            match verbs::merge_status(&self.context.client, &*pod, json!({"conditions": conditions})).await {
                Err(error) if error.is_not_found() => Ok(()),
                marked => marked.map(drop).map_err(Error::from),
            }
        });
        parallel::all(requests.collect()).await
    }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready")
}
