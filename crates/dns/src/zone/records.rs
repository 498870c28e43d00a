use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::rr::Name;
use kilter_model::{Endpoint, EndpointSlice, Service, ServiceType};

/// What one Service publishes.
#[derive(Debug)]
pub(super) struct Records {
    /// `SERVICE.NAMESPACE.svc.DOMAIN`.
    name: Name,
    pub(super) kind: Kind,
    /// Named ports: (port, protocol), both without the underscore and in lower case, → number and
    /// the name that serves it.
    pub(super) ports: BTreeMap<(String, String), BTreeSet<(u16, Name)>>,
}

/// The three sorts of Services, as DNS sees them.
#[derive(Debug)]
pub(super) enum Kind {
    /// With addresses of its own.
    Addressed(Vec<IpAddr>),
    /// Without: its ready endpoints, by host name in lower case.
    Headless(BTreeMap<String, BTreeSet<IpAddr>>),
    /// Another name.
    External(Name),
    /// Of type ExternalName without a usable name.
    Nothing,
}

impl Records {
    /// The records of a Service under `domain`. What has no valid name (too long together) is left
    /// out.
    pub(super) fn new<'a>(
        service: &Service,
        slices: impl Iterator<Item = &'a EndpointSlice>,
        domain: &Name,
    ) -> Self {
        let labels = [&*service.name.name, &*service.name.namespace, "svc"];
        let name = under(&labels, domain).unwrap_or_else(|| domain.clone());
        if service.service_type == ServiceType::ExternalName {
            let target = service.external_name.as_deref().and_then(|n| Name::from_ascii(n).ok());
            let kind = target.map_or(Kind::Nothing, |mut target| {
                target.set_fqdn(true);
                Kind::External(target)
            });
            return Self { name, kind, ports: BTreeMap::new() };
        }
        if !service.headless {
            let named = service.ports.iter().filter(|p| !p.name.is_empty());
            let ports = named.map(|p| (key(&p.name, p.protocol), BTreeSet::from([(p.port, name.clone())])));
            return Self { kind: Kind::Addressed(service.cluster_ips.clone()), ports: ports.collect(), name };
        }
        headless(service, slices, name)
    }

    /// The addresses that bear a name of this Service, for reverse queries.
    pub(super) fn pointers(&self) -> Vec<(IpAddr, Name)> {
        match &self.kind {
            Kind::Addressed(addresses) => addresses.iter().map(|a| (*a, self.name.clone())).collect(),
            Kind::Headless(hosts) => hosts
                .iter()
                .filter_map(|(host, addresses)| Some((under(&[host], &self.name)?, addresses)))
                .flat_map(|(name, addresses)| addresses.iter().map(move |a| (*a, name.clone())))
                .collect(),
            Kind::External(_) | Kind::Nothing => Vec::new(),
        }
    }

    /// The addresses at a host name below the Service.
    pub(super) fn host(&self, host: &str) -> Option<&BTreeSet<IpAddr>> {
        match &self.kind {
            Kind::Headless(hosts) => hosts.get(host),
            _ => None,
        }
    }
}

fn headless<'a>(service: &Service, slices: impl Iterator<Item = &'a EndpointSlice>, name: Name) -> Records {
    let mut hosts: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut ports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for slice in slices {
        for endpoint in slice.endpoints.iter().filter(|e| e.ready || service.publish_not_ready) {
            let host = host_name(endpoint);
            let Some(target) = under(&[&host], &name) else { continue };
            hosts.entry(host).or_default().insert(endpoint.address);
            for port in slice.ports.iter().filter(|p| !p.name.is_empty()) {
                ports.entry(key(&port.name, port.protocol)).or_default().insert((port.port, target.clone()));
            }
        }
    }
    Records { name, kind: Kind::Headless(hosts), ports }
}

/// The endpoint's own host name, or one made from its address (`10-0-0-1`), as the specification
/// leaves to the implementation and CoreDNS does.
fn host_name(endpoint: &Endpoint) -> String {
    match &endpoint.hostname {
        Some(hostname) => hostname.to_ascii_lowercase(),
        None => endpoint.address.to_string().replace(['.', ':'], "-"),
    }
}

fn key(port: &str, protocol: kilter_model::Protocol) -> (String, String) {
    (port.to_ascii_lowercase(), protocol.to_string().to_ascii_lowercase())
}

/// `labels` below `domain`.
fn under(labels: &[&str], domain: &Name) -> Option<Name> {
    Name::from_labels(labels.iter().map(|l| l.as_bytes())).ok()?.append_domain(domain).ok()
}
