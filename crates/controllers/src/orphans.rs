//! Pods of nodes that are gone: no kubelet is left to say that they ended.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::{Error, pods, verbs};

pub(crate) struct Orphans {
    context: Context,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context) -> (Orphans, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let (wake, nodes) = (queue.clone(), context.nodes.clone());
    context.pods.on_change(move |_, after| {
        if let Some(pod) = after
            && let Some(node) = pods::node(pod)
            && nodes.get(&Key::new("", node)).is_none()
        {
            wake.add(key(&**pod));
        }
    });
    let (wake, all) = (queue.clone(), context.pods.clone());
    context.nodes.on_change(move |before, after| {
        if let (Some(node), None) = (before, after) {
            let name = node.metadata.name.as_deref();
            all.all().iter().filter(|p| pods::node(p) == name).for_each(|p| wake.add(key(&**p)));
        }
    });
    (Orphans { context: context.clone() }, queue)
}

impl Reconcile for Orphans {
    const NAME: &'static str = "orphans";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.context.pods.get(key) else { return Ok(None) };
        let Some(node) = pods::node(&pod) else { return Ok(None) };
        if self.context.nodes.get(&Key::new("", node)).is_some() {
            return Ok(None);
        }
        // The two watches are not ordered: the node may be newer than what we know.
        let api: Api<Node> = Api::all(self.context.client.clone());
        let there = api.get_opt(node).await;
        let there = there.map_err(|e| kilter_cluster::Error::from_kube(format!("read node {node}"), e))?;
        if there.is_none() {
            tracing::info!(pod = %key, node, "deleted: its node is gone");
            verbs::delete(&self.context.client, &*pod, Some(0)).await?;
        }
        Ok(None)
    }
}
