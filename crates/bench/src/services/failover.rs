//! How long clients meet a backend that has died: its process is gone, its pod and its address are not. The endpoint
//! stays until a readiness probe has failed; what it refuses may be carried to another one meanwhile.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use kilter_cluster::Client;
use kilter_model::{Family, RETRY_REFUSED};
use kilter_netns::NetNs;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::runtime::Runtime;

use super::client::ask;
use super::server::Server;
use crate::datapath::PORT;
use crate::kilter::{Lab, NAMESPACE, NODES};
use crate::place::Membership;

/// Where the Service is, and the names of the pods behind it with what their servers answer.
const AT: ([u8; 4], u16) = ([10, 96, 251, 1], 80);
const SERVICE: &str = "failover";
const PODS: [(&str, u8); 2] = [("failing", b'x'), ("staying", b's')];
/// Seconds between two probes; one that fails is enough. That is the kubelet's own period, and fewer failures
/// than the three that it waits for.
pub(super) const PERIOD: u32 = 10;
/// How often a client asks.
const PACE: Duration = Duration::from_millis(2);
/// After so many answers in a row the dead backend is not asked any more: by chance half of them would be its own.
const CALM: u32 = 40;
/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happened after one death.
pub(super) struct Failover {
    /// Seconds to the last request that failed; 0: none did.
    pub(super) last_failed: f64,
    /// How many failed.
    pub(super) failed: u32,
}

/// A Service of two pods, of which one dies again and again.
pub(super) struct Failing {
    servers: [Option<Server>; 2],
    /// The client's.
    netns: NetNs,
    _membership: Membership,
    services: Api<Service>,
}

impl Failing {
    /// Makes the Service and its pods.
    pub(super) fn new(runtime: &Runtime, lab: &Lab, client: Client) -> Result<Self> {
        runtime.block_on(create(client.clone()))?;
        let netns = lab.pod(NODES[0], "client")?.netns()?;
        let membership = Membership::join(&lab.node(NODES[0])?.cgroup)?;
        let [failing, staying] = PODS.map(|(name, who)| Server::start(&sandbox(lab, name)?, who));
        let servers = [Some(failing?), Some(staying?)];
        Ok(Self { servers, netns, _membership: membership, services: Api::namespaced(client, NAMESPACE) })
    }

    /// Whether what one of them refuses is carried to the other.
    pub(super) fn retry(&self, runtime: &Runtime, retry: bool) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {RETRY_REFUSED: retry.to_string()}}}));
        let patched = runtime.block_on(self.services.patch(SERVICE, &PatchParams::default(), &patch));
        patched.map(drop).with_context(|| format!("annotate Service {SERVICE}"))
    }

    /// Lets one die, once for each of the runs, at different times between two probes.
    pub(super) fn run(&mut self, lab: &Lab, runs: usize) -> Result<Vec<Failover>> {
        let address = SocketAddr::from((AT.0, AT.1));
        let mut all = Vec::new();
        for run in 1..=runs {
            self.netns.run(|| meet_both(address))??;
            // Somewhere between two probes, and each time elsewhere.
            thread::sleep(Duration::from_millis(u64::from(PERIOD) * 1_000 * run as u64 / (runs + 1) as u64));
            self.servers[0] = None;
            all.push(self.netns.run(|| outlive(address))??);
            self.servers[0] = Some(Server::start(&sandbox(lab, PODS[0].0)?, PODS[0].1)?);
        }
        Ok(all)
    }
}

/// The namespace of a pod that is being started.
fn sandbox(lab: &Lab, name: &str) -> Result<NetNs> {
    let began = Instant::now();
    loop {
        match lab.pod(NODES[0], name).and_then(|pod| pod.socket(Family::V4).and(pod.netns())) {
            Ok(netns) => return Ok(netns),
            Err(_) if began.elapsed() < PATIENCE => thread::sleep(PACE),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until both serve.
fn meet_both(to: SocketAddr) -> Result<()> {
    let began = Instant::now();
    let mut met = [false; 2];
    while met != [true; 2] {
        if let Ok(who) = ask(to) {
            let at = PODS.iter().position(|(_, known)| *known == who).context("a stranger answered")?;
            met[at] = true;
        }
        if began.elapsed() > PATIENCE {
            bail!("not both endpoints of {to} serve after {} s", PATIENCE.as_secs());
        }
        thread::sleep(PACE);
    }
    Ok(())
}

/// Asks until nobody is led to the dead any more.
fn outlive(to: SocketAddr) -> Result<Failover> {
    let (began, mut last_failed, mut failed, mut calm) = (Instant::now(), 0.0, 0, 0);
    while calm < CALM {
        match ask(to) {
            Ok(who) if who == PODS[0].1 => bail!("the dead answered"),
            Ok(_) => calm += 1,
            Err(_) => {
                last_failed = began.elapsed().as_secs_f64();
                (failed, calm) = (failed + 1, 0);
            }
        }
        if began.elapsed() > PATIENCE {
            bail!("connections to {to} fail for more than {} s", PATIENCE.as_secs());
        }
        thread::sleep(PACE);
    }
    Ok(Failover { last_failed, failed })
}

async fn create(client: Client) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    for (name, _) in PODS {
        let pod = json!({
            "metadata": {
                "name": name,
                "labels": {"role": "far", "app": "failover"},
                // The benchmark's own server has the port.
                "annotations": {"kilter.dev/fail": "tcp,udp"},
            },
            "spec": {"nodeName": NODES[0], "containers": [{
                "name": "main", "image": "bench", "ports": [{"containerPort": PORT}],
                "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": PERIOD, "failureThreshold": 1},
            }]},
        });
        let pod = serde_json::from_value(pod).context("BUG: the pod is malformed")?;
        pods.create(&PostParams::default(), &pod).await.with_context(|| format!("create pod {name}"))?;
    }
    let service = json!({
        "metadata": {"name": SERVICE},
        "spec": {
            "clusterIP": IpAddr::from(AT.0), "selector": {"app": "failover"},
            "ports": [{"port": AT.1, "targetPort": PORT}],
        },
    });
    let service = serde_json::from_value(service).context("BUG: the Service is malformed")?;
    let services: Api<Service> = Api::namespaced(client, NAMESPACE);
    services.create(&PostParams::default(), &service).await.with_context(|| format!("create Service {SERVICE}"))?;
    Ok(())
}
