//! Cluster DNS: one zone for the node, served inside each of its DNS pods.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use kilter_dns::{Identity, Sockets, Zone, serve};
use kilter_netns::NetNs;
use kilter_pods::{Builtin, BuiltinPod, Stop};

use crate::Config;

/// The port of DNS.
const PORT: u16 = 53;

/// The cluster's names, empty until the watches have synced.
pub fn zone(config: &Config) -> Result<Zone> {
    Ok(Zone::new(kilter_dns::Config {
        domain: config.cluster_domain.clone(),
        networks: vec![config.cluster_pod_cidr.into(), config.service_cidr.into()],
    })?)
}

/// Serves the zone in pods that ask for it by annotation.
pub fn builtin(zone: Zone) -> Builtin {
    Builtin::new(move |pod| {
        let zone = zone.clone();
        Box::pin(async move { start(pod, zone).await })
    })
}

async fn start(pod: BuiltinPod, zone: Zone) -> Result<Stop> {
    if pod.run != "dns" {
        bail!("kilter.dev/run: {} is not something a node serves; `dns` is", pod.run);
    }
    let netns = NetNs::open(&pod.netns)?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let sockets = Sockets::open(&netns, address)
        .with_context(|| format!("open port {PORT} in {}/{}", pod.namespace, pod.name))?;
    let identity = Identity { strings: vec![format!("{}/{}", pod.namespace, pod.name), pod.uid.to_string()] };
    let server = serve(sockets, zone, None, identity)?;
    Ok(Stop::new(server.stop()))
}
