//! Cluster DNS: one zone for the node, served inside each of its DNS pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use kilter_dns::{Identity, Sockets, Upstream, Zone, serve};
use kilter_netns::NetNs;
use kilter_pods::{Builtin, BuiltinPod, Stop};

use crate::Config;

/// The port of DNS.
const PORT: u16 = 53;

/// The cluster's names, empty until the watches have synced.
pub fn zone(config: &Config) -> Result<Zone> {
    Ok(Zone::new(kilter_dns::Config {
        domain: config.cluster_domain.clone(),
        networks: [config.cluster_pod_cidrs.as_slice(), &config.service_cidrs].concat(),
    })?)
}

/// Serves the zone in pods that ask for it by annotation.
pub fn builtin(zone: Zone, upstream: Vec<SocketAddr>) -> Builtin {
    Builtin::new("dns", move |pod| {
        let (zone, upstream) = (zone.clone(), upstream.clone());
        Box::pin(async move { start(pod, zone, upstream).await })
    })
}

async fn start(pod: BuiltinPod, zone: Zone, upstream: Vec<SocketAddr>) -> Result<Stop> {
    let netns = NetNs::open(&pod.netns)?;
    // A socket of IPv6 serves IPv4 too.
    let any = match pod.addresses.iter().any(IpAddr::is_ipv6) {
        true => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        false => IpAddr::from(Ipv4Addr::UNSPECIFIED),
    };
    let address = SocketAddr::new(any, PORT);
    let sockets = Sockets::open(&netns, address)
        .with_context(|| format!("open port {PORT} in {}/{}", pod.namespace, pod.name))?;
    let identity = Identity { strings: vec![format!("{}/{}", pod.namespace, pod.name), pod.uid.to_string()] };
    let upstream = (!upstream.is_empty()).then(|| Upstream::new(upstream, Arc::new(netns)));
    let server = serve(sockets, zone, upstream, identity)?;
    Ok(Stop::new(server.stop()))
}
