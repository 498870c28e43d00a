//! The Services of the cluster: which ports a pod must listen on because a Service sends to them,
//! and the environment variables that programs in pods find.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{self, Pod};
use kilter_cluster::Lean;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

mod service;

pub use service::Service;

type Key = (String, String);

/// All Services, kept up to date by [`Services::watch`].
#[derive(Debug)]
pub struct Services {
    services: RwLock<BTreeMap<Key, Arc<Service>>>,
    /// Zero until the first list is complete.
    version: watch::Sender<u64>,
}

impl Default for Services {
    fn default() -> Self {
        Self { services: RwLock::default(), version: watch::Sender::new(0) }
    }
}

impl Services {
    /// Follows the API for ever.
    pub async fn watch(&self, client: Client) {
        let mut listed: BTreeMap<Key, Arc<Service>> = BTreeMap::new();
        let mut synced = false;
        let mut events = std::pin::pin!(kilter_cluster::watch_kind(Api::<Lean<v1::Service>>::all(client)));
        while let Some(event) = events.next().await {
            let changed = match event {
                Event::Init => {
                    listed.clear();
                    false
                }
                Event::InitApply(service) => {
                    listed.insert(key(&service), Arc::new(service.into_inner().into()));
                    false
                }
                Event::InitDone => {
                    *self.write() = std::mem::take(&mut listed);
                    synced = true;
                    true
                }
                Event::Apply(service) => self.set(service.into_inner()),
                Event::Delete(service) => self.write().remove(&key(&service)).is_some(),
            };
            if synced && changed {
                self.version.send_modify(|version| *version += 1);
            }
        }
    }

    /// Takes over how a Service is now. Whether that changes what a kubelet knows: every pod looks at what does.
    fn set(&self, service: v1::Service) -> bool {
        let (key, service) = (key(&service), Arc::new(Service::from(service)));
        let before = self.write().insert(key, service.clone());
        before.as_ref() != Some(&service)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Key, Arc<Service>>> {
        self.services.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever holds it at every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until all Services that exist are known.
    pub async fn synced(&self) {
        // The sender is `self`: it cannot be gone.
        let _ = self.version.subscribe().wait_for(|version| *version > 0).await;
    }

    /// The Services of one namespace that are wanted.
    fn of_namespace(&self, namespace: &str, wanted: impl Fn(&Service) -> bool) -> Vec<Arc<Service>> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let from = (namespace.to_owned(), String::new());
        let own = services.range(from..).take_while(|((ns, _), _)| ns == namespace);
        own.map(|(_, service)| service).filter(|service| wanted(service)).cloned().collect()
    }

    /// The Services whose variables a pod's programs find: its namespace's unless it declines, and
    /// the API.
    pub fn linked(&self, pod: &Pod) -> Vec<Arc<Service>> {
        let mut services = self.of_namespace("default", |service| &*service.name == "kubernetes");
        if pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false) {
            services.extend(self.of_namespace(pod.namespace().as_deref().unwrap_or_default(), |_| true));
        }
        services
    }

    /// The Services that select a pod.
    pub fn selecting(&self, pod: &Pod) -> Vec<Arc<Service>> {
        let label = |key: &str| pod.labels().get(key).map(String::as_str);
        self.of_namespace(pod.namespace().as_deref().unwrap_or_default(), |service| service.selects(label))
    }
}

fn key(service: &impl ResourceExt) -> Key {
    (service.namespace().unwrap_or_default(), service.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_selects_pods_of_its_namespace_with_all_its_labels() {
        let services = Services::default();
        for (namespace, name, selector) in [
            ("shop", "web", json!({"app": "web"})),
            ("shop", "all", json!({"app": "web", "tier": "x"})),
            ("shop", "none", json!(null)),
            ("shop-2", "web", json!({"app": "web"})),
        ] {
            let service: v1::Service = serde_json::from_value(
                json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"selector": selector}}),
            )
            .unwrap();
            assert!(services.set(service.clone()) && !services.set(service), "the same again is no change");
        }
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "shop", "labels": {"app": "web"}}}))
                .unwrap();
        let names: Vec<_> = services.selecting(&pod).iter().map(|service| service.name.to_string()).collect();
        assert_eq!(names, ["web"]);
    }
}
