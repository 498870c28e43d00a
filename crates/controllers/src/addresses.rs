//! Services that ask for what is another's, or cannot be had. Nothing is refused, as in Kubernetes; but no node
//! follows it, so somebody has to say why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kilter_cluster::{Recorder, Severity};
use kilter_model::{FORWARDING, Forwarding, Origin, Routing};
use kube::ResourceExt;

use crate::cache::{Key, key};
use crate::context::Context;
use crate::endpoints::SERVICE_NAME;
use crate::loadbalancer::addresses as balancer_addresses;
use crate::queue::Queue;
use crate::run::Reconcile;
use crate::Error;

pub(crate) struct Addresses {
    context: Context,
    known: Arc<Mutex<Known>>,
    routing: Routing,
    recorder: Recorder,
}

#[derive(Default)]
struct Known {
    /// Whose cluster IP or load balancer's address one is.
    owners: BTreeMap<IpAddr, BTreeSet<Key>>,
    /// The slices of each Service.
    slices: BTreeMap<Key, BTreeSet<Key>>,
    /// What has been said of each Service: once is enough.
    told: BTreeMap<Key, BTreeSet<String>>,
}

/// The controller and its queue, hooked to the caches.
pub(crate) fn new(context: &Context, routing: Routing) -> (Addresses, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    let known = Arc::new(Mutex::new(Known::default()));
    let (wake, noted) = (queue.clone(), known.clone());
    context.services.on_change(move |before, after| {
        let Some(service) = after.or(before) else { return };
        let key = key(&**service);
        lock(&noted).own(&key, before.map_or_else(Vec::new, |it| own(it)), after.map_or_else(Vec::new, |it| own(it)));
        wake.add(key);
    });
    let (wake, noted) = (queue.clone(), known.clone());
    context.slices.on_change(move |before, after| {
        for (slice, there) in before.map(|it| (it, false)).into_iter().chain(after.map(|it| (it, true))) {
            if let Some(service) = service_of(slice) {
                lock(&noted).belong(&service, key(&**slice), there);
                wake.add(service);
            }
        }
    });
    let recorder = Recorder::new(context.client.clone(), "service-address-controller", None);
    (Addresses { context: context.clone(), known, routing, recorder }, queue)
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Service of a slice, whoever wrote it.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.labels().get(SERVICE_NAME)?;
    Some(Key::new(slice.namespace().unwrap_or_default(), service.as_str()))
}

/// The addresses that are a Service's own: those that it was given.
fn own(service: &Service) -> Vec<IpAddr> {
    let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    ips.filter_map(|ip| ip.parse().ok()).chain(balancer_addresses(service)).collect()
}

impl Known {
    fn own(&mut self, key: &Key, before: Vec<IpAddr>, after: Vec<IpAddr>) {
        for address in before {
            if let Some(owners) = self.owners.get_mut(&address) {
                owners.remove(key);
                if owners.is_empty() {
                    self.owners.remove(&address);
                }
            }
        }
        for address in after {
            self.owners.entry(address).or_default().insert(key.clone());
        }
    }

    fn belong(&mut self, service: &Key, slice: Key, there: bool) {
        let slices = self.slices.entry(service.clone()).or_default();
        if there {
            slices.insert(slice);
        } else {
            slices.remove(&slice);
        }
        if slices.is_empty() {
            self.slices.remove(service);
        }
    }

    /// Another's address.
    fn owner(&self, address: &str, but: Option<&Key>) -> Option<&Key> {
        let owners = self.owners.get(&address.parse().ok()?)?;
        owners.iter().find(|owner| Some(*owner) != but)
    }

    /// What has not been said yet of all that there is to say.
    fn news(&mut self, key: &Key, all: BTreeSet<(&'static str, String)>) -> Vec<(&'static str, String)> {
        let now: BTreeSet<String> = all.iter().map(|(_, text)| text.clone()).collect();
        let before = match now.is_empty() {
            true => self.told.remove(key),
            false => self.told.insert(key.clone(), now),
        }
        .unwrap_or_default();
        all.into_iter().filter(|(_, text)| !before.contains(text)).collect()
    }
}

impl Reconcile for Addresses {
    const NAME: &'static str = "service-address";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(service) = self.context.services.get(key) else {
            lock(&self.known).told.remove(key);
            return Ok(None);
        };
        let mut known = lock(&self.known);
        let mut all = BTreeSet::new();
        all.extend(sctp_ports(&service).map(|what| ("ProtocolNotServed", what)));
        all.extend(other_forwarding(&service, self.routing).map(|what| ("ForwardingIgnored", what)));
        for ip in service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten()) {
            if let Some(owner) = known.owner(ip, Some(key)) {
                let what = format!("spec.externalIPs {ip} is an address of Service {owner}: ports that both have are its");
                all.insert(("ExternalIPInUse", what));
            }
        }
        let slices = known.slices.get(key).into_iter().flatten();
        for slice in slices.filter_map(|slice| self.context.slices.get(slice)) {
            all.extend(led_to_services(&known, &slice).into_iter().map(|what| ("EndpointIsService", what)));
        }
        let news = known.news(key, all);
        drop(known);
        for (reason, what) in news {
            self.recorder.record(&*service, Severity::Warning, reason, what);
        }
        Ok(None)
    }
}

/// What of SCTP would have to be translated: its checksum covers the ports, and no program can compute it anew.
fn sctp_ports(service: &Service) -> impl Iterator<Item = String> {
    let translated = service.spec.iter().filter(|spec| spec.cluster_ip.as_deref() != Some("None"));
    let ports = translated.flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(|port| port.protocol.as_deref() == Some("SCTP")).map(|port| {
        format!("port {} of SCTP is not served: its clients must ask the pods' own addresses (clusterIP: None)", port.port)
    })
}

/// Why packets from outside are not sent on as a Service asks.
fn other_forwarding(service: &Service, routing: Routing) -> Option<String> {
    let why = match kilter_objects::forwarding(service) {
        Ok(Forwarding::Snat) => return None,
        Ok(Forwarding::Dsr) => {
            let service = kilter_objects::service(service, Origin::Builtin).ok()?;
            // Nobody is sent on where only endpoints of the node serve.
            format!("dsr cannot be had: {}", service.dsr_obstacle(routing).filter(|_| !service.exposure.only_local)?)
        }
        Err(other) => format!("{other:?} is neither snat nor dsr"),
    };
    Some(format!("{FORWARDING}: {why}; packets from outside are sent on under a node's address, as with snat"))
}

fn led_to_services(known: &Known, slice: &EndpointSlice) -> Vec<String> {
    let name = slice.metadata.name.as_deref().unwrap_or_default();
    let addresses = slice.endpoints.iter().flatten().filter_map(|endpoint| endpoint.addresses.first());
    let found = addresses.filter_map(|address| Some((address, known.owner(address, None)?)));
    found
        .map(|(address, owner)| {
            format!("endpoint {address} of slice {name} is Service {owner}, which no Service may lead to: it is passed over")
        })
        .collect()
}
