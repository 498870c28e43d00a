//! What the pods of this node look like to the kubelet API and to probes: written by the pods'
//! own tasks, read by everybody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::{Container as Declared, Pod};
use kilter_model::Protocol;

use crate::logs::Log;
use crate::program::Interior;

/// One pod, as it was when this was written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The pod as the API has it.
    pub pod: Arc<Pod>,
    /// Its namespaces, while there are any.
    pub sandbox: Option<View>,
    /// Its containers.
    pub containers: Vec<ContainerView>,
    /// The ports on which its stand-ins listen.
    pub listening: Vec<(Protocol, u16)>,
}

/// A sandbox as others need it.
#[derive(Debug, Clone)]
pub struct View {
    /// The pause process, whose namespaces are the pod's.
    pub pid: i32,
    /// The network namespace's path.
    pub netns: PathBuf,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Where its files are.
    pub dir: PathBuf,
    /// Its hostname.
    pub hostname: String,
}

/// A container as others need it.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// As declared.
    pub declared: Declared,
    /// Whether it runs.
    pub running: bool,
    /// Its inside, if it runs for real.
    pub interior: Option<Arc<Interior>>,
    /// What it prints.
    pub log: Arc<Log>,
    /// What its last run printed.
    pub previous_log: Option<Arc<Log>>,
}

/// All pods of this node.
#[derive(Debug, Default)]
pub struct Registry {
    entries: RwLock<HashMap<Arc<str>, Arc<Entry>>>,
}

impl Registry {
    /// Says how a pod is.
    pub fn set(&self, uid: Arc<str>, entry: Entry) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(uid, Arc::new(entry));
    }

    /// Says that a pod is no more.
    pub fn remove(&self, uid: &str) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// A pod by UID.
    pub fn get(&self, uid: &str) -> Option<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// A pod by name. While a pod is replaced by one of the same name there are two: the one
    /// that is not being deleted is meant.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let named = entries.values().filter(|entry| {
            let meta = &entry.pod.metadata;
            meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
        });
        named.min_by_key(|entry| entry.pod.metadata.deletion_timestamp.is_some()).cloned()
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
