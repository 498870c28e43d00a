use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select_all;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kilter_model::Event;
use kilter_objects::ClusterNetworkPolicy;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::lean::Lean;
use crate::resource::{Key, Watched, origin};
use crate::{Resource, watch_some};

/// Bounded, so that a consumer that falls behind slows the watches down instead of filling memory;
/// the API keeps the backlog, and when it drops it the watch lists anew, which loses nothing.
const CAPACITY: usize = 4096;

/// How often it is asked whether a CustomResourceDefinition has been installed meanwhile.
const NOT_SERVED_YET: Duration = Duration::from_secs(10);

/// What a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Something happened to an object.
    Event {
        /// The object's kind.
        resource: Resource,
        /// The object's resourceVersion with this event; empty where a deletion happened while the
        /// watch was interrupted and was only inferred.
        resource_version: String,
        /// What happened.
        event: Event,
    },
    /// Everything that exists of this kind has been sent. Comes after the first list and again
    /// after every later one (a watch that was interrupted for too long).
    Synced(Resource),
}

/// The running watches. They end when this is dropped.
#[derive(Debug)]
pub struct Feed {
    updates: mpsc::Receiver<Update>,
    _watches: JoinSet<()>,
}

impl Feed {
    /// Waits for something to happen and returns all that has, in order within each kind (kinds
    /// are not ordered among themselves). Never empty; `None` only if the runtime shuts down.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<Update>> {
        let mut batch = Vec::new();
        match self.updates.recv_many(&mut batch, CAPACITY).await {
            0 => None,
            _ => Some(batch),
        }
    }
}

/// Watches everything that the model holds. Must be called within a runtime.
pub fn watch(client: Client) -> Feed {
    watch_with_pods(client, vec![watcher::Config::default()])
}

/// Watches what a node must know: of the pods, its own, and others from when they have an address. Of all that is
/// written of a pod until it is ready, another node so reads once what it would read three times and more, and of
/// many nodes that is most of what they do. Must be called within a runtime.
pub fn watch_as_node(client: Client, node: &str) -> Feed {
    let select = |fields: String| watcher::Config::default().fields(&fields);
    let own = select(format!("spec.nodeName={node}"));
    let others = select(format!("spec.nodeName!={node},status.podIP!="));
    watch_with_pods(client, vec![own, others])
}

fn watch_with_pods(client: Client, pods: Vec<watcher::Config>) -> Feed {
    let (sender, updates) = mpsc::channel(CAPACITY);
    let mut watches = JoinSet::new();
    let all = || vec![watcher::Config::default()];
    watches.spawn(run::<Lean<Pod>>(client.clone(), pods, sender.clone()));
    watches.spawn(run::<Namespace>(client.clone(), all(), sender.clone()));
    watches.spawn(run::<Node>(client.clone(), all(), sender.clone()));
    watches.spawn(run::<NetworkPolicy>(client.clone(), all(), sender.clone()));
    watches.spawn(run::<ClusterNetworkPolicy>(client.clone(), all(), sender.clone()));
    watches.spawn(run::<Lean<Service>>(client.clone(), all(), sender.clone()));
    watches.spawn(run::<Lean<EndpointSlice>>(client, all(), sender));
    Feed { updates, _watches: watches }
}

/// The watches of one kind, no object of which two of them select, until nobody listens.
async fn run<K>(client: Client, selections: Vec<watcher::Config>, to: mpsc::Sender<Update>)
where
    K: Watched + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api: Api<K> = Api::all(client);
    if K::RESOURCE.is_optional() && !wait_until_served(&api, &to).await {
        return;
    }
    let mut known: Vec<Known> = selections.iter().map(|_| Known::default()).collect();
    let watches = selections.into_iter().enumerate().map(|(number, selection)| {
        watch_some(api.clone(), selection).map(move |event| (number, event)).boxed()
    });
    let mut events = select_all(watches);
    let mut updates = Vec::new();
    while let Some((number, event)) = events.next().await {
        known[number].take(event, &mut updates);
        let all_listed = known.iter().all(|known| known.complete);
        for update in updates.drain(..).filter(|update| all_listed || !matches!(update, Update::Synced(_))) {
            if to.send(update).await.is_err() {
                return;
            }
        }
    }
}

/// Waits until the API has a kind that it need not have; meanwhile there is none of it. Whether
/// anybody still listens.
async fn wait_until_served<K>(api: &Api<K>, to: &mpsc::Sender<Update>) -> bool
where
    K: Watched + Clone + DeserializeOwned + Debug,
{
    let one = ListParams::default().limit(1);
    let mut said = false;
    while matches!(api.list(&one).await, Err(kube::Error::Api(status)) if status.code == 404) {
        if !said && to.send(Update::Synced(K::RESOURCE)).await.is_err() {
            return false;
        }
        said = true;
        tokio::time::sleep(NOT_SERVED_YET).await;
    }
    !to.is_closed()
}

/// What has been sent by one watch, so that a list can be told from what it changed.
#[derive(Default)]
struct Known {
    versions: HashMap<Key, Arc<str>>,
    listed: Option<HashSet<Key>>,
    /// Whether a whole list has been sent.
    complete: bool,
}

impl Known {
    /// Turns one event of a watch into updates.
    fn take<K: Watched>(&mut self, event: watcher::Event<K>, updates: &mut Vec<Update>) {
        match event {
            watcher::Event::Init => self.listed = Some(HashSet::new()),
            watcher::Event::InitApply(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(object.key());
                }
                self.set(&object, updates);
            }
            watcher::Event::InitDone => {
                self.drop_unlisted(K::RESOURCE, updates);
                self.complete = true;
                updates.push(Update::Synced(K::RESOURCE));
            }
            watcher::Event::Apply(object) => self.set(&object, updates),
            watcher::Event::Delete(object) => {
                let version = object.resource_version().unwrap_or_default();
                self.remove(K::RESOURCE, object.key(), version, updates);
            }
        }
    }

    fn set<K: Watched>(&mut self, object: &K, updates: &mut Vec<Update>) {
        let (key, version) = (object.key(), object.resource_version().unwrap_or_default());
        if self.versions.get(&key).is_some_and(|known| **known == *version) {
            return;
        }
        match object.event(origin(object)) {
            Ok(Some(event)) => {
                self.versions.insert(key, version.as_str().into());
                updates.push(Update::Event { resource: K::RESOURCE, resource_version: version, event });
            }
            Ok(None) => self.remove(K::RESOURCE, key, version, updates),
            // Fail closed: without it a pod has no identity and a Service no address, but a policy
            // that vanished would open what it closed, so it stays as it was last understood.
            Err(error) => {
                let name = object.name_any();
                let namespace = object.namespace().unwrap_or_default();
                tracing::error!(%namespace, %name, resource = %K::RESOURCE, %error, "left out: cannot be understood");
                if !K::RESOURCE.is_policy() {
                    self.remove(K::RESOURCE, key, version, updates);
                }
            }
        }
    }

    fn remove(&mut self, resource: Resource, key: Key, resource_version: String, updates: &mut Vec<Update>) {
        if self.versions.remove(&key).is_some() {
            updates.push(Update::Event { resource, resource_version, event: key.gone() });
        }
    }

    fn drop_unlisted(&mut self, resource: Resource, updates: &mut Vec<Update>) {
        let Some(listed) = self.listed.take() else { return };
        let vanished: Vec<Key> = self.versions.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in vanished {
            self.remove(resource, key, String::new(), updates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_model::Cluster;
    use serde_json::json;

    fn pod(name: &str, uid: &str, version: &str) -> Lean<Pod> {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": version},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap()
    }

    /// Applies the events to the cluster and returns the updates they became.
    fn feed(known: &mut Known, cluster: &mut Cluster, events: Vec<watcher::Event<Lean<Pod>>>) -> Vec<Update> {
        let mut updates = Vec::new();
        for event in events {
            known.take(event, &mut updates);
        }
        for update in &updates {
            if let Update::Event { event, .. } = update {
                cluster.apply(event.clone());
            }
        }
        updates
    }

    #[test]
    fn a_later_list_takes_away_what_vanished_and_repeats_nothing() {
        use watcher::Event::{Apply, Init, InitApply, InitDone};
        let (mut known, mut cluster) = (Known::default(), Cluster::default());
        let first = [Init, InitApply(pod("a", "1", "1")), InitApply(pod("b", "2", "2")), InitDone];
        let updates = feed(&mut known, &mut cluster, first.into());
        assert_eq!(updates.len(), 3);
        assert_eq!(updates.last(), Some(&Update::Synced(Resource::Pods)));
        feed(&mut known, &mut cluster, vec![Apply(pod("c", "3", "3"))]);

        // Meanwhile, unseen: a is deleted and made anew, c is deleted, b stays as it was.
        let second = [Init, InitApply(pod("a", "4", "7")), InitApply(pod("b", "2", "2")), InitDone];
        let updates = feed(&mut known, &mut cluster, second.into());
        let uids: Vec<_> = cluster.pods().map(|p| p.uid.to_string()).collect();
        assert_eq!(uids, ["2", "4"]);
        assert_eq!(updates.len(), 4, "a anew, the old a and c gone, synced: {updates:?}");
    }

    #[test]
    fn a_deletion_carries_its_own_version_and_is_sent_once() {
        use watcher::Event::{Apply, Delete};
        let (mut known, mut cluster) = (Known::default(), Cluster::default());
        let events = vec![Apply(pod("a", "1", "1")), Delete(pod("a", "1", "9")), Delete(pod("a", "1", "9"))];
        let updates = feed(&mut known, &mut cluster, events);
        let gone = Update::Event {
            resource: Resource::Pods,
            resource_version: "9".into(),
            event: Event::PodGone("1".into()),
        };
        assert_eq!(updates[1..], [gone]);
        assert_eq!(cluster, Cluster::default());
    }
}
