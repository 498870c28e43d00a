use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kilter_model::{Cluster, Endpoint, Locality, NamespacedName, Service, ServicePort, ServiceType};

use crate::{Backend, Frontend};

/// The backends of one frontend, sorted and without doubles.
pub(crate) type Backends = Vec<Backend>;

/// The addresses at which a Service is reached within the cluster.
pub(crate) fn cluster_ips(service: &Service) -> &[IpAddr] {
    match service.service_type {
        ServiceType::ExternalName => &[],
        _ if service.headless => &[],
        _ => &service.cluster_ips,
    }
}

/// The frontends of one Service and their backends, for clients of `node`. `is_service` says which addresses are those of
/// Services: no endpoint may be one, or a frontend would stand for another.
pub(crate) fn frontends(
    cluster: &Cluster,
    service: &Service,
    node: &str,
    is_service: impl Fn(IpAddr) -> bool,
) -> BTreeMap<Frontend, Backends> {
    let mut frontends = BTreeMap::new();
    for address in cluster_ips(service) {
        for port in &service.ports {
            let frontend = Frontend { address: *address, port: port.port, protocol: port.protocol };
            let fit = |endpoint: &Endpoint| {
                let is = endpoint.address;
                is.is_ipv4() == address.is_ipv4() && may_serve(is) && !is_service(is)
            };
            let all = || backends(cluster, &service.name, port, fit);
            let own =
                || backends(cluster, &service.name, port, |it| it.node.as_deref() == Some(node) && fit(it));
            let backends = match service.locality {
                Locality::Anywhere => all(),
                Locality::OnlyNode => own(),
                Locality::PreferNode => Some(own()).filter(|own| !own.is_empty()).unwrap_or_else(all),
            };
            frontends.insert(frontend, backends);
        }
    }
    frontends
}

/// All addresses that a Service's endpoints name, fit or not.
pub(crate) fn named_addresses(cluster: &Cluster, service: &NamespacedName) -> BTreeSet<IpAddr> {
    cluster.slices_of(service).flat_map(|slice| slice.endpoints.iter().map(|it| it.address)).collect()
}

/// The ready endpoints; where there is none, those that are terminating but still serve
/// (KEP-1669: a rollout of a single replica then loses no connection).
fn backends(
    cluster: &Cluster,
    service: &NamespacedName,
    port: &ServicePort,
    fit: impl Fn(&Endpoint) -> bool,
) -> Backends {
    let (mut ready, mut last_resort) = (BTreeSet::new(), BTreeSet::new());
    for slice in cluster.slices_of(service) {
        let numbers = slice.ports.iter().filter(|it| it.name == port.name && it.protocol == port.protocol);
        for number in numbers.map(|it| it.port).filter(|it| *it != 0) {
            for endpoint in slice.endpoints.iter().filter(|it| fit(it)) {
                let backend = Backend { address: endpoint.address, port: number };
                if endpoint.ready {
                    ready.insert(backend);
                } else if endpoint.serving && endpoint.terminating {
                    last_resort.insert(backend);
                }
            }
        }
    }
    let chosen = if ready.is_empty() { last_resort } else { ready };
    chosen.into_iter().collect()
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
