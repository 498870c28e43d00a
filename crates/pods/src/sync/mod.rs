//! Makes this machine be as the API says: one task a pod, fed by a watch of the node's pods.

mod discard;
mod ends;
mod ports;
mod probes;
mod publish;
mod setup;
mod start;
mod teardown;
mod worker;

pub use discard::discard_unknown;

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kilter_cluster::Recorder;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::cni::Cni;
use crate::config::Config;
use crate::probe::Prober;
use crate::registry::Registry;
use crate::sandbox::{Record, Records};
use crate::services::Services;
use crate::standin::StandIns;
use worker::Worker;

/// Sandboxes made at the same time: more only wait for the kernel's one lock over all of them.
pub const STARTING: usize = 4;

/// Pods wired at the same time: each is a process, and may wait for the agent's watches.
pub const WIRING: usize = 32;

/// What the tasks of all pods share.
pub struct Shared {
    /// The node's configuration.
    pub config: Config,
    /// The network configuration.
    pub cni: Cni,
    /// Sandboxes on disk.
    pub records: Records,
    /// What serves the pods' ports.
    pub stand_ins: StandIns,
    /// Sends probes.
    pub prober: Prober,
    /// Writes events.
    pub recorder: Recorder,
    /// The cluster's Services.
    pub services: Services,
    /// What others see of the pods.
    pub registry: Registry,
    /// See [`STARTING`].
    pub starting: Semaphore,
    /// See [`WIRING`].
    pub wiring: Semaphore,
}

/// What a pod's task is told.
#[derive(Debug)]
enum Command {
    /// The pod is so.
    Update(Arc<Pod>),
    /// The pod is gone from the API.
    Gone,
}

/// Follows the pods of this node, for ever. `records` are the sandboxes of an earlier life.
pub async fn follow(shared: Arc<Shared>, records: Vec<Record>) {
    let records = records.into_iter().map(|record| (Arc::from(record.uid.as_str()), record)).collect();
    let mut pods = Pods { shared: shared.clone(), workers: HashMap::new(), records, tasks: JoinSet::new() };
    let mut listed = Vec::new();
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.config.node));
    let api = Api::<Pod>::all(shared.config.client.clone());
    let mut events = std::pin::pin!(kilter_cluster::watch_some(api, config));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => pods.on_event(event, &mut listed),
                None => return,
            },
            Some(ended) = pods.tasks.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "the task of a pod ended unexpectedly");
            },
        }
    }
}

type Uid = Arc<str>;

struct Pods {
    shared: Arc<Shared>,
    workers: HashMap<Uid, mpsc::UnboundedSender<Command>>,
    /// Not yet claimed by a pod.
    records: HashMap<Uid, Record>,
    tasks: JoinSet<()>,
}

impl Pods {
    fn on_event(&mut self, event: watcher::Event<Pod>, listed: &mut Vec<Uid>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => listed.extend(self.apply(pod)),
            Event::InitDone => self.keep_only(listed),
            Event::Apply(pod) => {
                self.apply(pod);
            }
            Event::Delete(pod) => {
                if let Some(uid) = pod.uid() {
                    self.gone(&uid);
                }
            }
        }
    }

    fn apply(&mut self, pod: Pod) -> Option<Uid> {
        let uid: Uid = pod.uid()?.into();
        let pod = Arc::new(pod);
        if let Some(worker) = self.workers.get(&uid) {
            // A task that has ended has nothing left to do for this pod.
            let _ = worker.send(Command::Update(pod));
            return Some(uid);
        }
        let (worker, inbox) = mpsc::unbounded_channel();
        self.workers.insert(uid.clone(), worker);
        let record = self.records.remove(&uid);
        self.tasks.spawn(Worker::new(self.shared.clone(), uid.clone(), pod, record).run(inbox));
        Some(uid)
    }

    fn gone(&mut self, uid: &str) {
        if let Some(worker) = self.workers.remove(uid) {
            let _ = worker.send(Command::Gone);
        }
    }

    /// After a complete list: what is not in it went away while nobody watched.
    fn keep_only(&mut self, listed: &[Uid]) {
        let listed: std::collections::HashSet<&Uid> = listed.iter().collect();
        let vanished: Vec<Uid> = self.workers.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
        for uid in vanished {
            self.gone(&uid);
        }
        for (_, record) in self.records.drain() {
            let shared = self.shared.clone();
            self.tasks.spawn(async move { discard::discard(&shared, record).await });
        }
    }
}
