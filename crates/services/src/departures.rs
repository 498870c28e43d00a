use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kilter_model::{Change, Cluster, NamespacedName, Protocol, Uid};

use crate::{Backend, Tables};

/// The other end of a socket: a backend, and the protocol in which it served.
pub type Remote = (Protocol, Backend);

/// Endpoints that serve, sorted, and whose pod each is: mostly few, where a tree would be mostly room.
type Serving = Box<[(Remote, Option<Uid>)]>;

/// Notices backends that have gone for good, so that sockets which still talk to them can be closed:
/// a socket keeps the backend that it was given when it connected.
///
/// A datagram socket loses its backend as soon as no Service leads there any more; it would otherwise
/// send into the void for ever. A TCP connection lives on for as long as the pod does, since a pod that
/// is taken out of a Service finishes what it began. Endpoints that are no pods keep their connections.
#[derive(Debug)]
pub struct Departures {
    /// What served when a former process ended; `None` once that has been compared.
    former: Option<BTreeSet<Remote>>,
    /// The endpoints of each Service that serve, and whose pod each is.
    serving: BTreeMap<NamespacedName, Serving>,
    /// How many Services lead to an endpoint.
    leads: BTreeMap<Remote, u32>,
    /// Endpoints without a Service, of pods that are there still.
    lingering: BTreeMap<Uid, BTreeSet<Remote>>,
}

impl Departures {
    /// For a node on which these rows are found; sockets may have been given any of their backends.
    pub fn resume(loaded: &Tables) -> Self {
        let served = loaded.frontends.keys().flat_map(|frontend| {
            let backends = loaded.backends_of(frontend).unwrap_or_default();
            backends.into_iter().map(|backend| (frontend.protocol, backend))
        });
        Self {
            former: Some(served.collect()),
            serving: BTreeMap::new(),
            leads: BTreeMap::new(),
            lingering: BTreeMap::new(),
        }
    }

    /// The backends that went with these changes; with the first call, those that went before it.
    pub fn update(&mut self, cluster: &Cluster, changes: &[Change]) -> BTreeSet<Remote> {
        if let Some(former) = self.former.take() {
            return self.first(cluster, former);
        }
        let mut gone = BTreeSet::new();
        for change in changes {
            for name in change.services() {
                for (remote, pod) in self.look(cluster, name) {
                    self.left(cluster, remote, pod, &mut gone);
                }
            }
            if let Change::Pod(uid, _) = change
                && !is_there(cluster, uid)
            {
                gone.extend(self.lingering.remove(uid).unwrap_or_default());
            }
        }
        // Some other Service may lead there by now.
        gone.retain(|remote| !self.leads.contains_key(remote));
        gone
    }

    fn first(&mut self, cluster: &Cluster, mut former: BTreeSet<Remote>) -> BTreeSet<Remote> {
        for service in cluster.services() {
            self.look(cluster, &service.name);
        }
        let held: BTreeSet<IpAddr> =
            cluster.pods().filter(|pod| pod.owns_addresses()).flat_map(|pod| pod.addresses.iter().copied()).collect();
        former.retain(|remote| {
            let (protocol, backend) = remote;
            !self.leads.contains_key(remote) && (*protocol == Protocol::Udp || !held.contains(&backend.address))
        });
        former
    }

    /// Takes over who serves for a Service now; the endpoints to which no Service leads any more.
    fn look(&mut self, cluster: &Cluster, name: &NamespacedName) -> Vec<(Remote, Option<Uid>)> {
        let now = cluster.service(name).map(|_| serving(cluster, name)).unwrap_or_default();
        for (remote, _) in &now {
            *self.leads.entry(*remote).or_default() += 1;
        }
        let mut before = match now.is_empty() {
            true => self.serving.remove(name),
            false => self.serving.insert(name.clone(), now),
        }
        .unwrap_or_default()
        .into_vec();
        before.retain(|(remote, _)| {
            let leads = self.leads.get_mut(remote).expect("BUG: an endpoint was not counted");
            *leads -= 1;
            let is_last = *leads == 0;
            if is_last {
                self.leads.remove(remote);
            }
            is_last
        });
        before
    }

    fn left(&mut self, cluster: &Cluster, remote: Remote, pod: Option<Uid>, gone: &mut BTreeSet<Remote>) {
        match (remote.0, pod) {
            (Protocol::Udp, _) => drop(gone.insert(remote)),
            (_, None) => {}
            (_, Some(pod)) if is_there(cluster, &pod) => {
                self.lingering.entry(pod).or_default().insert(remote);
            }
            (_, Some(_)) => drop(gone.insert(remote)),
        }
    }
}

fn is_there(cluster: &Cluster, pod: &str) -> bool {
    cluster.pod(pod).is_some_and(|pod| pod.owns_addresses())
}

/// The endpoints of a Service that answer, going away or not.
fn serving(cluster: &Cluster, service: &NamespacedName) -> Serving {
    let mut found = BTreeMap::new();
    for slice in cluster.slices_of(service) {
        for port in slice.ports.iter().filter(|port| port.port != 0) {
            for endpoint in slice.endpoints.iter().filter(|it| it.ready || it.serving) {
                let backend = Backend { address: endpoint.address, port: port.port };
                found.insert((port.protocol, backend), endpoint.pod.clone());
            }
        }
    }
    found.into_iter().collect()
}
