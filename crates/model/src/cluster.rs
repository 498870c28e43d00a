use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{
    ClusterNetworkPolicy, EndpointSlice, Ingress, Namespace, NamespacedName, NetworkPolicy, Node, Origin, Pod,
    Service, Uid,
};

/// Something that happened, from a watch or from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A namespace is so.
    Namespace(Namespace),
    /// A namespace is gone.
    NamespaceGone(Arc<str>),
    /// A node is so.
    Node(Node),
    /// A node is gone.
    NodeGone(Arc<str>),
    /// A pod is so.
    Pod(Pod),
    /// A pod is gone.
    PodGone(Uid),
    /// A policy is so.
    NetworkPolicy(NetworkPolicy),
    /// A policy is gone.
    NetworkPolicyGone(NamespacedName),
    /// A cluster-scoped policy is so.
    ClusterNetworkPolicy(ClusterNetworkPolicy),
    /// A cluster-scoped policy is gone.
    ClusterNetworkPolicyGone(Arc<str>),
    /// A Service is so.
    Service(Service),
    /// A Service is gone.
    ServiceGone(NamespacedName),
    /// An Ingress is so.
    Ingress(Ingress),
    /// An Ingress is gone.
    IngressGone(NamespacedName),
    /// An endpoint slice is so.
    EndpointSlice(EndpointSlice),
    /// An endpoint slice is gone; named by slice.
    EndpointSliceGone(NamespacedName),
}

/// What an event changed, with the state before it. An event that changes nothing yields no change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This namespace came, went or changed.
    Namespace(Arc<str>),
    /// This node came, went or changed.
    Node(Arc<str>),
    /// This pod came, went or changed; the pod as it was before.
    Pod(Uid, Option<Box<Pod>>),
    /// This policy came, went or changed.
    NetworkPolicy(NamespacedName),
    /// This cluster-scoped policy came, went or changed.
    ClusterNetworkPolicy(Arc<str>),
    /// This Ingress came, went or changed.
    Ingress(NamespacedName),
    /// This Service, or its endpoints, came, went or changed.
    Service(NamespacedName),
    /// A slice of endpoints went over from one Service to another: its label says so now.
    SliceMoved {
        /// Whose it was.
        from: NamespacedName,
        /// Whose it is.
        to: NamespacedName,
    },
}

impl Change {
    /// The Services that came, went or changed, or whose endpoints did.
    pub fn services(&self) -> impl Iterator<Item = &NamespacedName> {
        let (one, other) = match self {
            Change::Service(name) => (Some(name), None),
            Change::SliceMoved { from, to } => (Some(from), Some(to)),
            _ => (None, None),
        };
        one.into_iter().chain(other)
    }
}

/// The state of one cluster. Events go in, changes come out; keyed and ordered, so that equal
/// states are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    namespaces: BTreeMap<Arc<str>, Namespace>,
    nodes: BTreeMap<Arc<str>, Node>,
    // In boxes is what a cluster has thousands of: half of the room in a tree's nodes is empty.
    pods: BTreeMap<Uid, Box<Pod>>,
    policies: BTreeMap<NamespacedName, NetworkPolicy>,
    cluster_policies: BTreeMap<Arc<str>, ClusterNetworkPolicy>,
    services: BTreeMap<NamespacedName, Box<Service>>,
    ingresses: BTreeMap<NamespacedName, Ingress>,
    slices: BTreeMap<NamespacedName, Box<EndpointSlice>>,
    /// The slices of each Service, sorted: a namespace may have thousands, and most Services have one.
    slices_by_service: BTreeMap<NamespacedName, Vec<NamespacedName>>,
}

impl Cluster {
    /// A cluster in which these events have happened.
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Self {
        let mut cluster = Self::default();
        for event in events {
            cluster.apply(event);
        }
        cluster
    }

    /// Applies an event and says what it changed, if anything.
    pub fn apply(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Namespace(it) => {
                set_but(|it| &mut it.origin, &mut self.namespaces, it.name.clone(), it).map(|(k, _)| Change::Namespace(k))
            }
            Event::NamespaceGone(k) => self.namespaces.remove(&k).map(|_| Change::Namespace(k)),
            Event::Node(it) => {
                set_but(|it| &mut it.origin, &mut self.nodes, it.name.clone(), it).map(|(k, _)| Change::Node(k))
            }
            Event::NodeGone(k) => self.nodes.remove(&k).map(|_| Change::Node(k)),
            Event::Pod(it) => {
                let pod = (it.uid.clone(), Box::new(it));
                set_but(|it| &mut it.origin, &mut self.pods, pod.0, pod.1).map(|(k, before)| Change::Pod(k, before))
            }
            Event::PodGone(k) => self.pods.remove(&k).map(|before| Change::Pod(k, Some(before))),
            Event::NetworkPolicy(it) => {
                set(&mut self.policies, it.name.clone(), it).map(|(k, _)| Change::NetworkPolicy(k))
            }
            Event::NetworkPolicyGone(k) => self.policies.remove(&k).map(|_| Change::NetworkPolicy(k)),
            Event::ClusterNetworkPolicy(it) => set(&mut self.cluster_policies, it.name.clone(), it)
                .map(|(k, _)| Change::ClusterNetworkPolicy(k)),
            Event::ClusterNetworkPolicyGone(k) => {
                self.cluster_policies.remove(&k).map(|_| Change::ClusterNetworkPolicy(k))
            }
            Event::Service(it) => {
                set(&mut self.services, it.name.clone(), Box::new(it)).map(|(k, _)| Change::Service(k))
            }
            Event::ServiceGone(k) => self.services.remove(&k).map(|_| Change::Service(k)),
            Event::Ingress(it) => set(&mut self.ingresses, it.name.clone(), it).map(|(k, _)| Change::Ingress(k)),
            Event::IngressGone(k) => self.ingresses.remove(&k).map(|_| Change::Ingress(k)),
            Event::EndpointSlice(it) => self.set_slice(it),
            Event::EndpointSliceGone(k) => {
                let before = self.slices.remove(&k)?;
                self.forget_slice(&before);
                Some(Change::Service(before.service))
            }
        }
    }

    fn set_slice(&mut self, mut slice: EndpointSlice) -> Option<Change> {
        // Read one by one, a list has room for more.
        slice.endpoints.shrink_to_fit();
        let to = slice.service.clone();
        let (name, before) = set(&mut self.slices, slice.name.clone(), Box::new(slice))?;
        let from = before.filter(|before| before.service != to);
        if let Some(before) = &from {
            self.forget_slice(before);
        }
        let slices = self.slices_by_service.entry(to.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Err(at) = slices.binary_search(&name) {
            slices.insert(at, name);
        }
        match from {
            Some(before) => Some(Change::SliceMoved { from: before.service, to }),
            None => Some(Change::Service(to)),
        }
    }

    fn forget_slice(&mut self, slice: &EndpointSlice) {
        let Some(slices) = self.slices_by_service.get_mut(&slice.service) else { return };
        slices.retain(|name| *name != slice.name);
        if slices.is_empty() {
            self.slices_by_service.remove(&slice.service);
        }
    }

    /// All namespaces, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    /// A namespace by name.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All pods, by UID.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().map(Box::as_ref)
    }

    /// A pod by UID.
    pub fn pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.get(uid).map(Box::as_ref)
    }

    /// The pod that holds an address in the pod network, if one does. O(pods): for questions and
    /// tests; whoever needs it often keeps an index.
    pub fn pod_by_address(&self, address: IpAddr) -> Option<&Pod> {
        self.pods().find(|p| !p.host_network && p.owns_addresses() && p.addresses.contains(&address))
    }

    /// All policies, by name.
    pub fn policies(&self) -> impl Iterator<Item = &NetworkPolicy> {
        self.policies.values()
    }

    /// A policy by name.
    pub fn policy(&self, name: &NamespacedName) -> Option<&NetworkPolicy> {
        self.policies.get(name)
    }

    /// The policies of one namespace, by name.
    pub fn policies_of(&self, namespace: &Arc<str>) -> impl Iterator<Item = &NetworkPolicy> {
        let start = NamespacedName::new(namespace.clone(), "");
        self.policies
            .range(start..)
            .take_while(move |(name, _)| name.namespace == *namespace)
            .map(|(_, policy)| policy)
    }

    /// All cluster-scoped policies, by name.
    pub fn cluster_policies(&self) -> impl Iterator<Item = &ClusterNetworkPolicy> {
        self.cluster_policies.values()
    }

    /// A cluster-scoped policy by name.
    pub fn cluster_policy(&self, name: &str) -> Option<&ClusterNetworkPolicy> {
        self.cluster_policies.get(name)
    }

    /// All Services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(Box::as_ref)
    }

    /// A Service by name.
    pub fn service(&self, name: &NamespacedName) -> Option<&Service> {
        self.services.get(name).map(Box::as_ref)
    }

    /// All Ingresses, by name.
    pub fn ingresses(&self) -> impl Iterator<Item = &Ingress> {
        self.ingresses.values()
    }

    /// All endpoint slices, by name.
    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.values().map(Box::as_ref)
    }

    /// The endpoint slices of one Service, by name.
    pub fn slices_of(&self, service: &NamespacedName) -> impl Iterator<Item = &EndpointSlice> {
        let names = self.slices_by_service.get(service).into_iter().flatten();
        names.map(|name| &*self.slices[name])
    }
}

/// Sets a value; `None` when it was so already.
fn set<K: Ord + Clone, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> Option<(K, Option<V>)> {
    if map.get(&key) == Some(&value) {
        return None;
    }
    let before = map.insert(key.clone(), value);
    Some((key, before))
}

/// Like [`set`], where it is no change that an object was declared elsewhere or is another version: the API has a new
/// one for each word that a kubelet says of its node and its pods.
fn set_but<K: Ord + Clone, V: PartialEq>(
    origin: impl Fn(&mut V) -> &mut Origin,
    map: &mut BTreeMap<K, V>,
    key: K,
    mut value: V,
) -> Option<(K, Option<V>)> {
    if let Some(known) = map.get_mut(&key) {
        let newer = std::mem::replace(origin(&mut value), origin(known).clone());
        if *known == value {
            *origin(known) = newer;
            return None;
        }
        *origin(&mut value) = newer;
    }
    let before = map.insert(key.clone(), value);
    Some((key, before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        Namespace { name: name.into(), labels: Default::default(), origin: Origin::Builtin }
    }

    #[test]
    fn an_event_that_changes_nothing_yields_no_change() {
        let mut cluster = Cluster::default();
        assert_eq!(
            cluster.apply(Event::Namespace(namespace("shop"))),
            Some(Change::Namespace("shop".into()))
        );
        assert_eq!(cluster.apply(Event::Namespace(namespace("shop"))), None);
        assert_eq!(cluster.apply(Event::NamespaceGone("other".into())), None);
        let origin = Origin::Api { resource_version: "8".into() };
        let newer = Namespace { origin: origin.clone(), ..namespace("shop") };
        assert_eq!(cluster.apply(Event::Namespace(newer)), None, "another version of the same");
        assert_eq!(cluster.namespace("shop").map(|it| &it.origin), Some(&origin));
        assert_eq!(
            cluster.apply(Event::NamespaceGone("shop".into())),
            Some(Change::Namespace("shop".into()))
        );
        assert_eq!(cluster, Cluster::default());
    }

    #[test]
    fn slices_of_finds_only_its_service() {
        let slice = |ns: &str, name: &str, service: &str| {
            Event::EndpointSlice(EndpointSlice {
                name: NamespacedName::new(ns, name),
                service: NamespacedName::new(ns, service),
                ports: vec![],
                endpoints: vec![],
            })
        };
        let mut cluster = Cluster::from_events([
            slice("a", "web-1", "web"),
            slice("a", "db-1", "db"),
            slice("a", "web-2", "web"),
            slice("b", "web-1", "web"),
        ]);
        let found = |cluster: &Cluster, service: &str| -> Vec<String> {
            cluster.slices_of(&NamespacedName::new("a", service)).map(|s| s.name.to_string()).collect()
        };
        assert_eq!(found(&cluster, "web"), ["a/web-1", "a/web-2"]);
        let [web, db] = ["web", "db"].map(|name| NamespacedName::new("a", name));
        let moved = cluster.apply(slice("a", "web-2", "db")).unwrap();
        assert_eq!(moved, Change::SliceMoved { from: web.clone(), to: db.clone() });
        assert!(moved.services().eq([&web, &db]), "both have other endpoints now");
        cluster.apply(Event::EndpointSliceGone(NamespacedName::new("a", "db-1")));
        assert_eq!((found(&cluster, "web"), found(&cluster, "db")), (vec!["a/web-1".into()], vec!["a/web-2".into()]));
        let fresh = Cluster::from_events([
            slice("b", "web-1", "web"),
            slice("a", "web-2", "db"),
            slice("a", "web-1", "web"),
        ]);
        assert_eq!(cluster, fresh, "equal states are equal, however they came about");
    }
}
