use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kilter_model::{
    Cluster, Endpoint, Exposure, Locality, NamespacedName, Node, Pod, Protocol, Routing, Service, ServicePort,
    ServiceType,
};

use crate::nearness::Nearness;
use crate::{Backend, Flags, Frontend, Weighted, weight};

/// The backends of one frontend, sorted and without doubles.
pub(crate) type Backends = Vec<Weighted>;

/// What a frontend is to lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) backends: Backends,
    pub(crate) flags: Flags,
    pub(crate) affinity: u32,
    /// The clients that it serves; `None`: all of them.
    pub(crate) sources: Option<BTreeSet<IpNet>>,
}

/// The addresses at which a Service is reached within the cluster.
pub(crate) fn cluster_ips(service: &Service) -> &[IpAddr] {
    match service.service_type {
        ServiceType::ExternalName => &[],
        _ if service.headless => &[],
        _ => &service.cluster_ips,
    }
}

/// Whether a Service asks for an address that nobody gave to it.
pub(crate) fn is_guest(service: &Service, address: IpAddr) -> bool {
    let exposure = &service.exposure;
    let was_given = exposure.load_balancer.contains(&address) || cluster_ips(service).contains(&address);
    !was_given && exposure.external_ips.contains(&address)
}

/// Whose frontends they are: a node, and how it reaches other nodes' pods.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) node: &'a str,
    pub(crate) routing: Routing,
}

/// The frontends of one Service and what they lead to, on a node. `is_service` says which addresses are
/// those of Services: no endpoint may be one, or a frontend would stand for another.
pub(crate) fn frontends(
    cluster: &Cluster,
    service: &Service,
    here: Here<'_>,
    is_service: impl Fn(IpAddr) -> bool,
) -> BTreeMap<Frontend, Wanted> {
    let selection = Selection { cluster, service, here, is_service: &is_service };
    let mut frontends = BTreeMap::new();
    for port in &service.ports {
        for address in cluster_ips(service) {
            let frontend = Frontend::inside(*address, port.port, port.protocol);
            let backends = selection.near(port, address.is_ipv4());
            frontends.insert(frontend, selection.wanted(backends, Flags::default(), *address));
        }
        // A translated packet of SCTP would need its checksum computed anew, which no program can.
        if port.protocol != Protocol::Sctp {
            selection.expose(port, &mut frontends);
        }
    }
    frontends
}

/// One Service, seen from one node.
struct Selection<'a> {
    cluster: &'a Cluster,
    service: &'a Service,
    here: Here<'a>,
    is_service: &'a dyn Fn(IpAddr) -> bool,
}

impl Selection<'_> {
    /// What an address of this Service leads to: those of its load balancer may be for some clients only.
    fn wanted(&self, backends: Backends, flags: Flags, address: IpAddr) -> Wanted {
        let exposure = &self.service.exposure;
        let restricted = exposure.load_balancer.contains(&address) && !exposure.source_ranges.is_empty();
        let sources = restricted.then(|| exposure.source_ranges.iter().map(IpNet::trunc).collect());
        let affinity = self.service.affinity.unwrap_or(0);
        // Who has refused is known to one node alone, and all must choose alike.
        let retry = if flags.dsr { Some(false) } else { self.service.retry_refused };
        Wanted { backends, flags: Flags { restricted, retry, ..flags }, affinity, sources }
    }

    /// Those of all nodes that are recommended to clients of this one.
    fn all(&self, port: &ServicePort, ipv4: bool) -> Backends {
        let endpoints = self.endpoints(port, ipv4);
        let ready = endpoints.iter().map(|(endpoint, _)| *endpoint).filter(|it| it.ready);
        let zone = self.cluster.node(self.here.node).and_then(Node::zone);
        let nearness = Nearness::recommended(ready, self.here.node, zone);
        choose(self.cluster, endpoints.iter().filter(|(it, _)| !it.ready || nearness.includes(it)))
    }

    /// Those that every node leads its clients to, whatever is recommended to it.
    fn alike(&self, port: &ServicePort, ipv4: bool) -> Backends {
        choose(self.cluster, self.endpoints(port, ipv4).iter())
    }

    fn own(&self, port: &ServicePort, ipv4: bool) -> Backends {
        let is_own = |it: &Endpoint| it.node.as_deref() == Some(self.here.node);
        choose(self.cluster, self.endpoints(port, ipv4).iter().filter(|(it, _)| is_own(it)))
    }

    /// Endpoints of one family, with their numbers for a port of the Service.
    fn endpoints(&self, port: &ServicePort, ipv4: bool) -> Vec<(&Endpoint, u16)> {
        let mut all = Vec::new();
        for slice in self.cluster.slices_of(&self.service.name) {
            let numbers = slice.ports.iter().filter(|it| it.name == port.name && it.protocol == port.protocol);
            for number in numbers.map(|it| it.port).filter(|it| *it != 0) {
                all.extend(slice.endpoints.iter().filter(|it| self.fits(it, ipv4)).map(|it| (it, number)));
            }
        }
        all
    }

    fn fits(&self, endpoint: &Endpoint, ipv4: bool) -> bool {
        let is = endpoint.address;
        is.is_ipv4() == ipv4 && may_serve(is) && !(self.is_service)(is)
    }

    /// For clients of the node, at the cluster IP.
    fn near(&self, port: &ServicePort, ipv4: bool) -> Backends {
        match self.service.locality {
            Locality::Anywhere => self.all(port, ipv4),
            Locality::OnlyNode => self.own(port, ipv4),
        }
    }

    /// Node ports and external addresses. Clients inside reach all endpoints there, whatever the policies
    /// for traffic say: those are about clients outside, and about the cluster IP.
    fn expose(&self, port: &ServicePort, frontends: &mut BTreeMap<Frontend, Wanted>) {
        let only_local = self.service.exposure.only_local;
        let node_ports = port.node_port.into_iter().flat_map(|number| {
            let families: BTreeSet<bool> = cluster_ips(self.service).iter().map(IpAddr::is_ipv4).collect();
            families.into_iter().map(move |ipv4| (any_node(ipv4), number))
        });
        let external = if cluster_ips(self.service).is_empty() { &Exposure::default() } else { &self.service.exposure };
        for (address, number) in node_ports.chain(external.addresses().map(|address| (address, port.port))) {
            let all = self.all(port, address.is_ipv4());
            let own = only_local.then(|| self.own(port, address.is_ipv4()));
            let silent = !all.is_empty() && own.as_ref().is_some_and(Vec::is_empty);
            let dsr = self.service.is_dsr(self.here.routing);
            let flags = Flags { silent, dsr, ..Flags::default() };
            let chosen = own.unwrap_or_else(|| if dsr { self.alike(port, address.is_ipv4()) } else { all.clone() });
            let outside = self.wanted(chosen, flags, address);
            let own_node = only_local && address.is_unspecified();
            let inside = self.wanted(all, Flags { own_node, ..Flags::default() }, address);
            frontends.insert(Frontend::outside(address, number, port.protocol), outside);
            frontends.entry(Frontend::inside(address, number, port.protocol)).or_insert(inside);
        }
    }
}

/// The ports of the node that lead to a pod of it, which has them as soon as it has an address, ready or not. A
/// `hostIP` must be the node's own: packets to another's are not the node's to take.
pub(crate) fn host_ports(cluster: &Cluster, pod: &Pod, node: &str) -> BTreeMap<Frontend, Wanted> {
    let mut frontends = BTreeMap::new();
    if pod.node.as_deref() != Some(node) || pod.host_network || !pod.owns_addresses() {
        return frontends;
    }
    let is_own = |address: IpAddr| cluster.node(node).is_some_and(|node| node.addresses.contains(&address));
    for port in pod.ports.iter().filter(|port| port.protocol != Protocol::Sctp) {
        let Some(host) = port.host.filter(|host| host.address.is_none_or(is_own)) else { continue };
        for own in &pod.addresses {
            let address = host.address.unwrap_or_else(|| any_node(own.is_ipv4()));
            if address.is_ipv4() != own.is_ipv4() {
                continue;
            }
            let backend = Backend { address: *own, port: port.port };
            let backends = vec![Weighted { backend, weight: 1 }];
            let flags = Flags { own_node: address.is_unspecified(), ..Flags::default() };
            let inside = Frontend::inside(address, host.port, port.protocol);
            let outside = Frontend::outside(address, host.port, port.protocol);
            frontends.insert(inside, Wanted { backends: backends.clone(), flags, ..Wanted::default() });
            frontends.insert(outside, Wanted { backends, ..Wanted::default() });
        }
    }
    frontends
}

/// The address that stands for those of each node.
fn any_node(ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// All addresses that a Service's endpoints name, fit or not.
pub(crate) fn named_addresses(cluster: &Cluster, service: &NamespacedName) -> BTreeSet<IpAddr> {
    cluster.slices_of(service).flat_map(|slice| slice.endpoints.iter().map(|it| it.address)).collect()
}

/// The ready endpoints; where there is none, those that are terminating but still serve
/// (KEP-1669: a rollout of a single replica then loses no connection).
fn choose<'a>(cluster: &Cluster, endpoints: impl Iterator<Item = &'a (&'a Endpoint, u16)>) -> Backends {
    let (mut ready, mut last_resort) = (BTreeMap::new(), BTreeMap::new());
    for (endpoint, port) in endpoints {
        let backend = Backend { address: endpoint.address, port: *port };
        let weight = weight::of_endpoint(cluster, endpoint);
        if endpoint.ready {
            ready.insert(backend, weight);
        } else if endpoint.serving && endpoint.terminating {
            last_resort.insert(backend, weight);
        }
    }
    let chosen = if ready.is_empty() { last_resort } else { ready };
    chosen.into_iter().map(|(backend, weight)| Weighted { backend, weight }).collect()
}

/// Whether an address can be an endpoint's at all. Loopback and link-local addresses would be the
/// client's own; whoever may write endpoints could reach through them what is not theirs.
fn may_serve(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(it) => {
            !(it.is_loopback()
                || it.is_link_local()
                || it.is_unspecified()
                || it.is_multicast()
                || it.is_broadcast())
        }
        IpAddr::V6(it) => {
            !(it.is_loopback() || it.is_unicast_link_local() || it.is_unspecified() || it.is_multicast())
        }
    }
}
