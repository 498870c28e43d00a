use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hickory_proto::rr::Name;
use ipnet::IpNet;
use kilter_model::{Change, Cluster, NamespacedName};

mod answer;
mod lookup;
mod records;
#[cfg(test)]
mod tests;

pub use answer::Answer;
use records::Records;

/// Seconds for which an answer, positive or negative, may be remembered: endpoints come and go.
pub(crate) const TTL: u32 = 5;

/// What the zone is called and which addresses are its own.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's domain, with or without the final dot; `cluster.local` by default.
    pub domain: String,
    /// The pod and Service networks: reverse names within them are answered here even when
    /// nothing bears them.
    pub networks: Vec<IpNet>,
}

impl Default for Config {
    fn default() -> Self {
        Self { domain: "cluster.local".into(), networks: Vec::new() }
    }
}

/// The cluster domain is not a domain name.
#[derive(Debug, thiserror::Error)]
#[error("{domain:?} is not a domain name; give one like cluster.local")]
pub struct InvalidDomain {
    domain: String,
    source: hickory_proto::ProtoError,
}

/// The names of one cluster. A cheap handle: clones share the state. Queries hold the lock only
/// to look one Service up; what it answers is computed beforehand, or outside.
#[derive(Debug, Clone)]
pub struct Zone {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    domain: Name,
    /// The domain's labels in lower case.
    labels: Vec<String>,
    networks: Vec<IpNet>,
    synced: AtomicBool,
    serial: AtomicU32,
    content: RwLock<Content>,
}

/// Keys are in lower case, as queries are compared.
#[derive(Debug, Default)]
struct Content {
    namespaces: HashSet<String>,
    /// By namespace and name.
    services: HashMap<(String, String), Arc<Records>>,
    reverse: HashMap<IpAddr, Vec<Name>>,
}

impl Zone {
    /// A zone that knows nothing yet: until [`Zone::set_synced`] it answers SERVFAIL rather than
    /// that a name does not exist, which resolvers would remember.
    pub fn new(config: Config) -> Result<Self, InvalidDomain> {
        let invalid = |source| InvalidDomain { domain: config.domain.clone(), source };
        let mut domain = Name::from_ascii(&config.domain).map_err(invalid)?.to_lowercase();
        domain.set_fqdn(true);
        if domain.is_root() {
            return Err(invalid("the root is nobody's own".into()));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                labels: lookup::labels(&domain),
                domain,
                networks: config.networks,
                synced: AtomicBool::new(false),
                serial: AtomicU32::new(1),
                content: RwLock::default(),
            }),
        })
    }

    /// Says that what has been fed is the whole cluster (its Services, endpoint slices and
    /// namespaces, at least).
    pub fn set_synced(&self) {
        self.shared.synced.store(true, Ordering::Release);
    }

    /// Takes in what changed. `cluster` is the state with the changes applied.
    pub fn update(&self, cluster: &Cluster, changes: &[Change]) {
        for change in changes {
            if let Change::Namespace(name) = change {
                self.update_namespace(cluster, name);
            } else if change.services().next().is_none() {
                continue;
            }
            change.services().for_each(|name| self.update_service(cluster, name));
            self.shared.serial.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a whole cluster in, in place of all that was, and is synced.
    pub fn replace(&self, cluster: &Cluster) {
        let mut content = Content::default();
        content.namespaces.extend(cluster.namespaces().map(|n| n.name.to_ascii_lowercase()));
        for service in cluster.services() {
            content.set_service(&service.name, self.records(cluster, &service.name));
        }
        *self.write() = content;
        self.shared.serial.fetch_add(1, Ordering::Relaxed);
        self.set_synced();
    }

    fn update_service(&self, cluster: &Cluster, name: &NamespacedName) {
        let records = self.records(cluster, name);
        self.write().set_service(name, records);
    }

    fn records(&self, cluster: &Cluster, name: &NamespacedName) -> Option<Arc<Records>> {
        let service = cluster.service(name)?;
        Some(Arc::new(Records::new(service, cluster.slices_of(name), &self.shared.domain)))
    }

    fn update_namespace(&self, cluster: &Cluster, name: &str) {
        let (exists, key) = (cluster.namespace(name).is_some(), name.to_ascii_lowercase());
        let mut content = self.write();
        if exists {
            content.namespaces.insert(key);
        } else {
            content.namespaces.remove(&key);
        }
    }

    // A panic while the lock is held can only leave one Service's records out or behind: going on
    // with the others is better than answering nobody.
    fn write(&self) -> RwLockWriteGuard<'_, Content> {
        self.shared.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Content> {
        self.shared.content.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// Puts a Service's records in place of those before, reverse names included.
    fn set_service(&mut self, name: &NamespacedName, records: Option<Arc<Records>>) {
        let key = (name.namespace.to_ascii_lowercase(), name.name.to_ascii_lowercase());
        let before = match &records {
            Some(records) => self.services.insert(key, records.clone()),
            None => self.services.remove(&key),
        };
        for (address, name) in before.iter().flat_map(|r| r.pointers()) {
            if let Some(names) = self.reverse.get_mut(&address) {
                names.retain(|n| *n != name);
                if names.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
        for (address, name) in records.iter().flat_map(|r| r.pointers()) {
            self.reverse.entry(address).or_default().push(name);
        }
    }
}
