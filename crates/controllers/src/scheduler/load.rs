//! How many pods each node has, in all and by owner, and which ports they claim: those in the cache, and those
//! whose binding is on its way.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::host_ports::{self, Claim};
use crate::cache::controller_uid;
use crate::pods;

#[derive(Default)]
pub(super) struct Load {
    /// By pod UID.
    placed: HashMap<String, Placement>,
    nodes: HashMap<String, Count>,
}

struct Placement {
    node: String,
    owner: Option<String>,
    /// Chosen here, and not seen in the cache yet.
    on_its_way: bool,
}

#[derive(Default)]
struct Count {
    pods: usize,
    by_owner: HashMap<String, usize>,
    /// By the UID of the pod that has them.
    ports: HashMap<String, Vec<Claim>>,
}

impl Load {
    /// A pod is so, according to the cache.
    pub(super) fn saw(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        match pods::node(pod).filter(|_| !pods::has_ended(pod)) {
            Some(node) => {
                let known = self.placed.get(&uid);
                if known.is_none_or(|p| p.node != node || p.on_its_way) {
                    self.set(pod, node, false);
                }
            }
            None if self.placed.get(&uid).is_some_and(|p| p.on_its_way) && !pods::has_ended(pod) => {}
            None => self.remove(&uid),
        }
    }

    /// A node was chosen for a pod.
    pub(super) fn place(&mut self, pod: &Pod, node: &str) {
        self.set(pod, node, true);
    }

    /// The choice came to nothing, unless the cache has seen it come true.
    pub(super) fn forget_choice(&mut self, uid: &str) {
        if self.placed.get(uid).is_some_and(|p| p.on_its_way) {
            self.remove(uid);
        }
    }

    /// Whether a pod has a node.
    pub(super) fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// The node of a pod, bound or about to be.
    pub(super) fn node_of(&self, pod: &Pod) -> Option<&str> {
        self.placed.get(pod.metadata.uid.as_deref()?).map(|p| p.node.as_str())
    }

    /// Pods on a node, and those of one owner among them.
    pub(super) fn on(&self, node: &str, owner: Option<&str>) -> (usize, usize) {
        let Some(count) = self.nodes.get(node) else { return (0, 0) };
        (count.pods, owner.and_then(|o| count.by_owner.get(o)).copied().unwrap_or(0))
    }

    /// Whether no pod of a node has any of these ports.
    pub(super) fn has_free(&self, node: &str, wanted: &[Claim]) -> bool {
        let taken = self.nodes.get(node).into_iter().flat_map(|count| count.ports.values().flatten());
        wanted.is_empty() || !taken.into_iter().any(|taken| wanted.iter().any(|claim| claim.clashes(taken)))
    }

    fn set(&mut self, pod: &Pod, node: &str, on_its_way: bool) {
        let uid = pod.uid().unwrap_or_default();
        self.remove(&uid);
        let owner = controller_uid(pod);
        let count = self.nodes.entry(node.to_string()).or_default();
        count.pods += 1;
        let claims = pod.spec.as_ref().map(host_ports::claims).unwrap_or_default();
        if !claims.is_empty() {
            count.ports.insert(uid.clone(), claims);
        }
        if let Some(owner) = owner {
            *count.by_owner.entry(owner.to_string()).or_default() += 1;
        }
        let placement = Placement { node: node.into(), owner: owner.map(Into::into), on_its_way };
        self.placed.insert(uid, placement);
    }

    /// A pod is gone.
    pub(super) fn remove(&mut self, uid: &str) {
        let Some(Placement { node, owner, .. }) = self.placed.remove(uid) else { return };
        let Some(count) = self.nodes.get_mut(&node) else { return };
        count.pods -= 1;
        count.ports.remove(uid);
        if let Some(owner) = owner
            && let Some(of_owner) = count.by_owner.get_mut(&owner)
        {
            *of_owner -= 1;
            if *of_owner == 0 {
                count.by_owner.remove(&owner);
            }
        }
        if count.pods == 0 {
            self.nodes.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(node: Option<&str>, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "uid": "1"},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn a_choice_counts_until_the_cache_knows_better() {
        let mut load = Load::default();
        load.place(&pod(None, "Pending"), "n");
        load.saw(&pod(None, "Pending"));
        assert_eq!(load.on("n", None), (1, 0), "an older state does not undo the choice");
        load.saw(&pod(Some("m"), "Pending"));
        assert_eq!((load.on("n", None), load.on("m", None)), ((0, 0), (1, 0)));
        load.forget_choice("1");
        assert_eq!(load.on("m", None), (1, 0));
        load.saw(&pod(Some("m"), "Succeeded"));
        assert_eq!(load.on("m", None), (0, 0));
        assert!(load.nodes.is_empty() && load.placed.is_empty());
    }
}
