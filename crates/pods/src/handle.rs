use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use futures::future::BoxFuture;
use kilter_cluster::Recorder;
use kilter_model::Protocol;
use kilter_wire::control::{Outcome, Probe, ProbeResult};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cni::Cni;
use crate::config::Config;
use crate::probe::Prober;
use crate::registry::Registry;
use crate::sandbox::Records;
use crate::services::Services;
use crate::standin::{Authority, StandIns, make_authority};
use crate::sync::{self, Shared};
use crate::{dial, kubelet_api, node};

/// How long a pod's own port may take to answer a connection from within the pod.
const OWN_PORT_MS: u64 = 1000;

/// The pods of a node.
#[derive(Debug)]
pub struct Pods;

fn authority(config: &Config) -> anyhow::Result<Authority> {
    match &config.authority {
        Some(known) => Authority::new(&known.key),
        None => Authority::new(&make_authority()?.1),
    }
}

impl Pods {
    /// Starts everything: adopts or removes what an earlier run left, serves the kubelet API,
    /// registers the node and follows its pods. Needs a Tokio runtime whose threads are all in the
    /// node's network namespace.
    pub fn start(config: Config) -> BoxFuture<'static, anyhow::Result<Handle>> {
        Box::pin(Self::begin(config))
    }

    async fn begin(config: Config) -> anyhow::Result<Handle> {
        raise_open_files();
        let cni = Cni::new(config.cni_bin.clone(), &config.cni_conf)?;
        let records = Records::open(&config.state_dir)
            .with_context(|| format!("open the state directory {}", config.state_dir.display()))?;
        let found = sync::discard_unknown(&records, &config.cgroup).await?;
        let shared = Arc::new(Shared {
            cni,
            records,
            stand_ins: StandIns::new(authority(&config)?),
            prober: Prober::new()?,
            recorder: Recorder::new(config.client.clone(), "kubelet", Some(&config.node)),
            services: Services::default(),
            registry: Registry::default(),
            starting: Semaphore::new(sync::STARTING),
            wiring: Semaphore::new(sync::WIRING),
            config,
        });
        let listener = kubelet_api::listen(&shared).await?;
        let api = listener.address();
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(shared.clone()));
        tasks.spawn({
            let shared = shared.clone();
            async move { node::keep(&shared.config, api).await }
        });
        tasks.spawn({
            let shared = shared.clone();
            async move { shared.services.watch(shared.config.client.clone()).await }
        });
        tasks.spawn({
            let shared = shared.clone();
            async move {
                // Without them, ports would be opened late and programs would miss variables.
                shared.services.synced().await;
                sync::follow(shared, found).await;
            }
        });
        Ok(Handle { shared, api, tasks })
    }
}

/// Speaks for the pods of a node. When it is dropped, nothing follows the API any more and the
/// stand-ins stop; sandboxes stay, for the next run to adopt.
pub struct Handle {
    shared: Arc<Shared>,
    api: SocketAddr,
    tasks: JoinSet<()>,
}

impl Handle {
    /// Where the kubelet API listens.
    pub fn kubelet_api(&self) -> SocketAddr {
        self.api
    }

    /// The network namespace of a pod, while it has one.
    pub fn netns(&self, uid: &str) -> Option<PathBuf> {
        self.shared.registry.get(uid)?.sandbox.as_ref().map(|sandbox| sandbox.netns.clone())
    }

    /// Connects from inside pods, all at once; outcomes in the order asked.
    pub async fn probe(&self, probes: Vec<Probe>) -> Vec<Outcome> {
        let mut by_pod: BTreeMap<String, Vec<(usize, Probe)>> = BTreeMap::new();
        let count = probes.len();
        for (at, probe) in probes.into_iter().enumerate() {
            by_pod.entry(probe.from.clone()).or_default().push((at, probe));
        }
        let pods = by_pod.into_iter().map(|(uid, asked)| async move {
            let (places, probes): (Vec<usize>, Vec<Probe>) = asked.into_iter().unzip();
            places.into_iter().zip(self.probe_from(&uid, probes).await).collect::<Vec<_>>()
        });
        let mut outcomes: Vec<(usize, Outcome)> =
            futures::future::join_all(pods).await.into_iter().flatten().collect();
        outcomes.sort_by_key(|(at, _)| *at);
        debug_assert_eq!(outcomes.len(), count);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    async fn probe_from(&self, uid: &str, probes: Vec<Probe>) -> Vec<Outcome> {
        let entry = self.shared.registry.get(uid);
        let sandbox = entry.as_ref().and_then(|entry| entry.sandbox.as_ref());
        match sandbox {
            Some(sandbox) => dial::from_pod(&sandbox.netns, &sandbox.addresses, probes).await,
            None => dial::all_failed(&probes, &format!("no pod with UID {uid} runs on this node")),
        }
    }

    /// The ports of a pod that are proved to listen: each was connected to from within the pod, at
    /// the pod's own address, and its stand-in has said who it is.
    pub async fn listening(&self, uid: &str) -> Vec<(Protocol, u16)> {
        let Some(entry) = self.shared.registry.get(uid) else { return Vec::new() };
        let address = entry.sandbox.as_ref().and_then(|sandbox| sandbox.addresses.first().copied());
        let Some(address) = address else { return Vec::new() };
        let probe = |(protocol, port): &(Protocol, u16)| Probe {
            from: uid.to_owned(),
            to: SocketAddr::new(address, *port),
            protocol: protocol.to_string(),
            timeout_ms: OWN_PORT_MS,
        };
        let outcomes = self.probe_from(uid, entry.listening.iter().map(probe).collect()).await;
        let proved = entry.listening.iter().zip(outcomes).filter(
            |(_, outcome)| matches!(&outcome.result, ProbeResult::Answered { pod: Some(pod) } if pod == uid),
        );
        proved.map(|(port, _)| *port).collect()
    }

    /// Stops following the API and serving; sandboxes stay. Returns when all tasks have ended.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// A node has a descriptor for every port of every pod: the soft limit, made for programs that
/// use `select`, is raised to what the machine allows.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
