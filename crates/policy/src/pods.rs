use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kilter_model::{Cluster, Labels, Pod, Protocol, Uid};

use crate::posture::Numbers;

/// Pods that no rule can tell apart, whatever it says, but by their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u32);

/// What the pods of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Their namespace.
    pub namespace: Arc<str>,
    /// Their labels.
    pub labels: Labels,
    /// Their named ports.
    pub names: BTreeMap<(Protocol, Arc<str>), u16>,
}

/// Who holds which address, and who is like whom.
#[derive(Debug, Default)]
pub struct PodIndex {
    /// What each pod claims, so that its claims can be withdrawn whatever happened to it since.
    claims: BTreeMap<Uid, Vec<(IpAddr, bool)>>,
    /// Who claims an address. The first holds it: a pod that is not terminating before one that
    /// is, then by UID.
    claimants: BTreeMap<IpAddr, BTreeSet<(bool, Uid)>>,
    groups: BTreeMap<Arc<GroupKey>, GroupId>,
    members: BTreeMap<GroupId, (Arc<GroupKey>, BTreeSet<IpAddr>)>,
    group_of: BTreeMap<IpAddr, GroupId>,
    by_namespace: BTreeMap<Arc<str>, BTreeSet<GroupId>>,
    /// How many groups give which number to a name.
    numbers: BTreeMap<(Protocol, Arc<str>), BTreeMap<u16, usize>>,
    last_group: u32,
}

/// What a change of pods touched.
#[derive(Debug, Default)]
pub struct Touched {
    /// Addresses whose holder came, went or changed.
    pub addresses: BTreeSet<IpAddr>,
    /// Port names that stand for other numbers than before, or for more or fewer.
    pub names: BTreeSet<(Protocol, Arc<str>)>,
    /// Groups that no pod belongs to any more.
    pub gone: BTreeSet<GroupId>,
}

impl PodIndex {
    /// Takes over the present state of a pod.
    pub fn update(&mut self, cluster: &Cluster, uid: &Uid, touched: &mut Touched) {
        let mut addresses = BTreeSet::new();
        for (address, terminating) in self.claims.remove(uid).unwrap_or_default() {
            if let Some(claimants) = self.claimants.get_mut(&address) {
                claimants.remove(&(terminating, uid.clone()));
            }
            addresses.insert(address);
        }
        if let Some(pod) = cluster.pod(uid).filter(|pod| !pod.host_network && pod.owns_addresses()) {
            let claims: Vec<_> = pod.addresses.iter().map(|it| (*it, pod.terminating)).collect();
            for (address, terminating) in &claims {
                self.claimants.entry(*address).or_default().insert((*terminating, uid.clone()));
                addresses.insert(*address);
            }
            self.claims.insert(uid.clone(), claims);
        }
        for address in addresses {
            self.regroup(cluster, address, touched);
            touched.addresses.insert(address);
        }
    }

    /// The pod that holds an address.
    pub fn holder<'a>(&self, cluster: &'a Cluster, address: IpAddr) -> Option<&'a Pod> {
        self.claimants.get(&address)?.first().and_then(|(_, uid)| cluster.pod(uid))
    }

    /// The group of the pod that holds an address.
    pub fn group_of(&self, address: IpAddr) -> Option<GroupId> {
        self.group_of.get(&address).copied()
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &GroupKey)> {
        self.members.iter().map(|(id, (key, _))| (*id, key.as_ref()))
    }

    /// The groups of a namespace.
    pub fn groups_of(&self, namespace: &str) -> impl Iterator<Item = GroupId> {
        self.by_namespace.get(namespace).into_iter().flatten().copied()
    }

    /// What a group has in common.
    pub fn group(&self, group: GroupId) -> Option<&GroupKey> {
        self.members.get(&group).map(|(key, _)| key.as_ref())
    }

    /// The addresses of a group.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = IpAddr> {
        self.members.get(&group).into_iter().flat_map(|(_, addresses)| addresses.iter().copied())
    }

    fn regroup(&mut self, cluster: &Cluster, address: IpAddr, touched: &mut Touched) {
        if self.claimants.get(&address).is_some_and(BTreeSet::is_empty) {
            self.claimants.remove(&address);
        }
        let group = self.holder(cluster, address).map(GroupKey::of).map(|key| self.enter(key, touched));
        let before = match group {
            Some(group) => self.group_of.insert(address, group),
            None => self.group_of.remove(&address),
        };
        if before == group {
            return;
        }
        if let Some((_, members)) = group.and_then(|it| self.members.get_mut(&it)) {
            members.insert(address);
        }
        if let Some(group) = before {
            self.leave(group, address, touched);
        }
    }

    fn enter(&mut self, key: GroupKey, touched: &mut Touched) -> GroupId {
        if let Some(group) = self.groups.get(&key) {
            return *group;
        }
        self.last_group += 1;
        let (group, key) = (GroupId(self.last_group), Arc::new(key));
        for (name, number) in &key.names {
            let count = self.numbers.entry(name.clone()).or_default().entry(*number).or_default();
            *count += 1;
            if *count == 1 {
                touched.names.insert(name.clone());
            }
        }
        self.by_namespace.entry(key.namespace.clone()).or_default().insert(group);
        self.groups.insert(key.clone(), group);
        self.members.insert(group, (key, BTreeSet::new()));
        group
    }

    fn leave(&mut self, group: GroupId, address: IpAddr, touched: &mut Touched) {
        let Some((key, members)) = self.members.get_mut(&group) else { return };
        members.remove(&address);
        if !members.is_empty() {
            return;
        }
        for (name, number) in &key.names {
            let Some(numbers) = self.numbers.get_mut(name) else { continue };
            let Some(count) = numbers.get_mut(number) else { continue };
            *count -= 1;
            if *count == 0 {
                numbers.remove(number);
                touched.names.insert(name.clone());
            }
            if numbers.is_empty() {
                self.numbers.remove(name);
            }
        }
        let key = key.clone();
        self.groups.remove(&key);
        self.members.remove(&group);
        if let Some(groups) = self.by_namespace.get_mut(&key.namespace) {
            groups.remove(&group);
            if groups.is_empty() {
                self.by_namespace.remove(&key.namespace);
            }
        }
        touched.gone.insert(group);
    }
}

impl GroupKey {
    /// The group that a pod belongs to.
    pub fn of(pod: &Pod) -> Self {
        let mut names = BTreeMap::new();
        for port in &pod.ports {
            if let Some(name) = &port.name {
                // The first declaration counts, as in `Pod::named_port`.
                names.entry((port.protocol, name.clone())).or_insert(port.port);
            }
        }
        Self { namespace: pod.name.namespace.clone(), labels: pod.labels.clone(), names }
    }
}

impl Numbers for PodIndex {
    fn numbers(&self, protocol: Protocol, name: &str) -> Vec<u16> {
        let numbers = self.numbers.get(&(protocol, Arc::from(name)));
        numbers.into_iter().flat_map(|it| it.keys().copied()).collect()
    }
}
