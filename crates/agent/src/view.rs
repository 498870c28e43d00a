//! The cluster as this node sees it: what the watches say, with this node's own address assignments
//! in place of what the API says about its pods.
//!
//! An address is assigned during ADD, long before it is in `status.podIPs`, and it is taken away at
//! DEL, long before the API forgets it. For pods of this node the agent knows better.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kilter_cluster::{Resource, Update};
use kilter_model::{Change, Cluster, Event, Pod, Uid};

/// See the module.
#[derive(Debug)]
pub struct View {
    node: Arc<str>,
    cluster: Cluster,
    assigned: BTreeMap<Uid, Vec<IpAddr>>,
    changes: Vec<Change>,
    synced: BTreeSet<Resource>,
    versions: BTreeMap<String, String>,
}

/// Whether a pod can be wired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Its object and its namespace are here, so policy can be judged.
    Yes,
    /// Not yet; what is missing, in words.
    NotYet(String),
    /// Never, and why.
    Never(String),
}

impl View {
    /// A view of nothing, for the node of this name.
    pub fn new(node: Arc<str>) -> Self {
        Self {
            node,
            cluster: Cluster::default(),
            assigned: BTreeMap::new(),
            changes: Vec::new(),
            synced: BTreeSet::new(),
            versions: BTreeMap::new(),
        }
    }

    /// The cluster with this node's assignments.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Takes what the watches saw.
    pub fn take(&mut self, updates: Vec<Update>) {
        for update in updates {
            match update {
                Update::Synced(resource) => {
                    self.synced.insert(resource);
                }
                Update::Event { resource, resource_version, event } => {
                    self.note_version(resource, resource_version);
                    self.apply(event);
                }
            }
        }
    }

    /// Gives a pod its addresses.
    pub fn assign(&mut self, uid: &Uid, addresses: &[IpAddr]) {
        self.assigned.insert(uid.clone(), addresses.to_vec());
        self.refresh(uid);
    }

    /// Takes a pod's addresses away, unless it has got others meanwhile.
    pub fn unassign(&mut self, uid: &Uid, addresses: &[IpAddr]) {
        if self.assigned.get(uid).is_some_and(|assigned| assigned == addresses) {
            self.assigned.remove(uid);
            self.refresh(uid);
        }
    }

    /// What has changed since the last call.
    pub fn drain(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The resources whose first list is still awaited.
    pub fn awaited(&self) -> Vec<&'static str> {
        Resource::ALL.iter().filter(|r| !self.synced.contains(r)).map(|r| r.name()).collect()
    }

    /// Whether every watch has delivered its first list. Before that nothing may be concluded from
    /// what is absent.
    pub fn is_synced(&self) -> bool {
        self.synced.len() == Resource::ALL.len()
    }

    /// The highest resourceVersion seen of each resource.
    pub fn versions(&self) -> &BTreeMap<String, String> {
        &self.versions
    }

    /// Whether a pod can be wired here; `name` is `namespace/name` as the runtime gave it.
    pub fn knows(&self, uid: &str, name: &str) -> Known {
        if !self.is_synced() {
            return Known::NotYet(format!("still listing {}", self.awaited().join(", ")));
        }
        let Some(pod) = self.cluster.pod(uid) else {
            return Known::NotYet(format!("the API has not shown pod {name} with UID {uid} yet"));
        };
        if pod.name.to_string() != name {
            return Known::Never(format!("UID {uid} is pod {}, not {name}", pod.name));
        }
        if pod.host_network {
            return Known::Never(format!("pod {name} uses its node's network"));
        }
        match &pod.node {
            None => return Known::NotYet(format!("pod {name} is not bound to a node yet")),
            Some(node) if *node != self.node => {
                return Known::Never(format!("pod {name} belongs to node {node}, this is {}", self.node));
            }
            Some(_) => {}
        }
        match self.cluster.namespace(&pod.name.namespace) {
            None => Known::NotYet(format!("the API has not shown namespace {} yet", pod.name.namespace)),
            Some(_) => Known::Yes,
        }
    }

    fn apply(&mut self, event: Event) {
        let event = match event {
            Event::Pod(pod) => Event::Pod(self.with_own_addresses(pod)),
            other => other,
        };
        self.changes.extend(self.cluster.apply(event));
    }

    fn refresh(&mut self, uid: &Uid) {
        if let Some(pod) = self.cluster.pod(uid).cloned() {
            self.apply(Event::Pod(pod));
        }
    }

    fn with_own_addresses(&self, pod: Pod) -> Pod {
        if pod.host_network || pod.node.as_ref() != Some(&self.node) {
            return pod;
        }
        let addresses = self.assigned.get(&pod.uid).cloned().unwrap_or_default();
        Pod { addresses, ..pod }
    }

    /// resourceVersions of one kind are ordered as numbers (Kubernetes API concepts, since 1.35; etcd
    /// and the embedded API have always done so).
    fn note_version(&mut self, resource: Resource, version: String) {
        let known = self.versions.entry(resource.name().to_owned()).or_default();
        let number = |text: &str| text.parse::<u64>().ok();
        let older = number(&version) < number(known);
        if !version.is_empty() && !older {
            *known = version;
        }
    }
}

#[cfg(test)]
mod tests {
    use kilter_model::{Labels, Namespace, NamespacedName, Origin, PodPhase, WorkloadRef};

    use super::*;

    fn pod(uid: &str, node: &str, address: &str) -> Pod {
        let name = NamespacedName::new("shop", "web");
        Pod {
            uid: uid.into(),
            name: name.clone(),
            labels: Labels::new(),
            node: Some(node.into()),
            addresses: vec![address.parse().unwrap()],
            host_network: false,
            ports: vec![],
            owner: WorkloadRef { kind: "Pod".into(), name },
            phase: PodPhase::Running,
            ready: true,
            terminating: false,
            origin: Origin::Builtin,
        }
    }

    fn event(version: &str, event: Event) -> Update {
        Update::Event { resource: Resource::Pods, resource_version: version.into(), event }
    }

    fn synced() -> View {
        let mut view = View::new("here".into());
        view.take(Resource::ALL.map(Update::Synced).into());
        view
    }

    #[test]
    fn local_assignments_override_what_the_api_says_and_only_for_local_pods() {
        let mut view = synced();
        let (local, remote) = (pod("l", "here", "10.244.1.9"), pod("r", "there", "10.244.2.9"));
        view.take(vec![event("1", Event::Pod(local.clone())), event("2", Event::Pod(remote))]);
        assert!(view.cluster().pod("l").unwrap().addresses.is_empty());
        assert_eq!(
            view.cluster().pod("r").unwrap().addresses,
            ["10.244.2.9".parse::<std::net::IpAddr>().unwrap()]
        );
        view.drain();

        let addresses =
            |last: u8| [IpAddr::from([10, 244, 1, last]), format!("fd00::{last}").parse().unwrap()];
        let (old, new) = (addresses(2), addresses(3));
        view.assign(&"l".into(), &old);
        assert_eq!(view.drain().len(), 1);
        view.take(vec![event("3", Event::Pod(local))]);
        assert_eq!(view.drain(), [], "the API repeats itself, nothing changes");
        assert_eq!(view.cluster().pod("l").unwrap().addresses, old);

        view.assign(&"l".into(), &new);
        view.unassign(&"l".into(), &old);
        assert_eq!(view.cluster().pod("l").unwrap().addresses, new);
        view.unassign(&"l".into(), &new);
        assert!(view.cluster().pod("l").unwrap().addresses.is_empty());
    }

    #[test]
    fn a_pod_is_known_only_with_its_namespace_and_only_after_every_list() {
        let mut view = View::new("here".into());
        view.take(vec![event("1", Event::Pod(pod("u", "here", "10.0.0.1")))]);
        assert!(matches!(view.knows("u", "shop/web"), Known::NotYet(_)));
        view.take(Resource::ALL.map(Update::Synced).into());
        assert!(matches!(view.knows("u", "shop/web"), Known::NotYet(why) if why.contains("namespace shop")));
        let namespace = Namespace { name: "shop".into(), labels: Labels::new(), origin: Origin::Builtin };
        view.take(vec![event("2", Event::Namespace(namespace))]);
        assert_eq!(view.knows("u", "shop/web"), Known::Yes);
        assert!(matches!(view.knows("u", "shop/other"), Known::Never(_)));
        assert!(matches!(view.knows("v", "shop/web"), Known::NotYet(_)));
        view.take(vec![event("3", Event::Pod(pod("w", "there", "10.0.0.1")))]);
        assert!(matches!(view.knows("w", "shop/web"), Known::Never(_)));
    }

    #[test]
    fn the_highest_version_counts_whatever_the_order_of_a_list() {
        let mut view = synced();
        for version in ["9", "10", "2", ""] {
            view.take(vec![event(version, Event::PodGone("nobody".into()))]);
        }
        assert_eq!(view.versions()["pods"], "10");
    }
}
