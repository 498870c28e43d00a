//! One watch of a kind, kept as a map, shared by all controllers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::StreamExt;
use kilter_cluster::watch_kind;
use kilter_model::NamespacedName;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// How an object is named in its kind.
pub(crate) type Key = NamespacedName;

/// The key of an object.
pub(crate) fn key(object: &impl kube::Resource) -> Key {
    NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// The UID of the controller that owns an object.
pub(crate) fn controller_uid(object: &impl kube::Resource) -> Option<&str> {
    let owners = object.owner_references();
    owners.iter().find(|o| o.controller == Some(true)).map(|o| o.uid.as_str())
}

/// Called with the object before and after each change, `None` where it did not or does not exist.
/// An object made anew under an old name is one that went and another that came.
type Handler<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

/// All objects of a kind. A cheap handle.
pub(crate) struct Cache<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    state: RwLock<State<K>>,
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// By the UID of their controller.
    owned: HashMap<String, BTreeSet<Key>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let state = State { objects: BTreeMap::new(), owned: HashMap::new() };
        let inner = Inner {
            state: RwLock::new(state),
            handlers: Mutex::default(),
            synced: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl<K> Cache<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Has `handler` called for every change from now on, on the watch's own task: it must be
    /// quick. To be called before [`Cache::run`].
    pub(crate) fn on_change(
        &self,
        handler: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static,
    ) {
        self.inner.handlers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// Has `handler` called with every object that comes, changes or goes, and as it was before a
    /// change.
    pub(crate) fn on_each(&self, handler: impl Fn(&Arc<K>) + Send + Sync + 'static) {
        self.on_change(move |before, after| {
            before.into_iter().chain(after).for_each(&handler);
        });
    }

    /// Watches, for ever.
    pub(crate) async fn run(self, client: Client) {
        let mut events = std::pin::pin!(watch_kind::<K>(Api::all(client)));
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Init => listed.clear(),
                Event::InitApply(object) => {
                    listed.insert(key(&object));
                    self.set(object);
                }
                Event::InitDone => {
                    let vanished: Vec<Key> = self
                        .read(|s| s.objects.keys().filter(|key| !listed.contains(*key)).cloned().collect());
                    vanished.iter().for_each(|key| self.remove(key));
                    listed.clear();
                    self.inner.synced.send_replace(true);
                }
                Event::Apply(object) => self.set(object),
                Event::Delete(object) => self.remove(&key(&object)),
            }
        }
    }

    /// Waits until the first list is in.
    pub(crate) async fn synced(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.inner.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn set(&self, object: K) {
        let (key, object) = (key(&object), Arc::new(object));
        let before = self.write(|state| {
            let before = state.objects.get(&key).cloned();
            if before.as_ref().is_some_and(|b| b.resource_version() == object.resource_version()) {
                return None;
            }
            if let Some(before) = &before {
                state.disown(&key, before);
            }
            if let Some(uid) = controller_uid(&*object) {
                state.owned.entry(uid.to_string()).or_default().insert(key.clone());
            }
            state.objects.insert(key.clone(), object.clone());
            Some(before)
        });
        match before {
            None => {}
            Some(Some(before)) if before.uid() != object.uid() => {
                self.tell(Some(&before), None);
                self.tell(None, Some(&object));
            }
            Some(before) => self.tell(before.as_ref(), Some(&object)),
        }
    }

    fn remove(&self, key: &Key) {
        let before = self.write(|state| {
            let before = state.objects.remove(key)?;
            state.disown(key, &before);
            Some(before)
        });
        if let Some(before) = before {
            self.tell(Some(&before), None);
        }
    }

    fn tell(&self, before: Option<&Arc<K>>, after: Option<&Arc<K>>) {
        for handler in self.inner.handlers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(before, after);
        }
    }

    /// The object of this name.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read(|s| s.objects.get(key).cloned())
    }

    /// All objects, by name.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.read(|s| s.objects.values().cloned().collect())
    }

    /// All objects of a namespace, by name.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let start = NamespacedName::new(namespace, "");
        self.read(|s| {
            let from = s.objects.range(start..);
            from.take_while(|(key, _)| &*key.namespace == namespace)
                .map(|(_, object)| object.clone())
                .collect()
        })
    }

    /// The objects whose controller has this UID, by name.
    pub(crate) fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.read(|s| {
            let keys = s.owned.get(uid).into_iter().flatten();
            keys.filter_map(|key| s.objects.get(key).cloned()).collect()
        })
    }

    // Nothing that can panic runs under the lock, so a poisoned one holds good data.
    fn read<T>(&self, read: impl FnOnce(&State<K>) -> T) -> T {
        read(&self.inner.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut State<K>) -> T) -> T {
        write(&mut self.inner.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: kube::Resource> State<K> {
    fn disown(&mut self, key: &Key, object: &K) {
        let Some(uid) = controller_uid(object) else { return };
        if let Some(keys) = self.owned.get_mut(uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.owned.remove(uid);
            }
        }
    }
}
