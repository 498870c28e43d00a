//! What a cluster has before anybody asks: its namespaces, and the Service by which pods reach the API.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::registry::{Intent, Registry, key_target};
use crate::request::Target;
use crate::resources::Resource;
use crate::status::Status;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const NAME: &str = "kubernetes";

/// Makes what is missing of it.
///
/// # Errors
/// What the registry refuses; with a sensible configuration nothing.
pub fn run(registry: &Registry, cluster_ip: std::net::IpAddr, advertise: SocketAddr) -> Result<(), Status> {
    for name in NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(registry, Resource::core("namespaces"), "", namespace)?;
    }
    for (resource, object) in [
        (Some(Resource::core("services")), service(cluster_ip, advertise)),
        (Some(Resource::core("endpoints")), endpoints(advertise)),
        (Resource::find("discovery.k8s.io", "v1", "endpointslices"), slice(advertise)),
    ] {
        if let Some(resource) = resource {
            ensure(registry, resource, "default", object)?;
        }
    }
    Ok(())
}

/// Makes the `kubernetes` Service again when somebody deletes it.
pub async fn keep(
    registry: Arc<Registry>,
    cluster_ip: std::net::IpAddr,
    advertise: SocketAddr,
    stop: CancellationToken,
) {
    let mut news = registry.store.news_of(Resource::core("services"));
    loop {
        if let Err(status) = run(&registry, cluster_ip, advertise) {
            tracing::warn!(%status, "the kubernetes Service could not be made");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = news.changed() => { news.borrow_and_update(); }
        }
    }
}

fn ensure(
    registry: &Registry,
    resource: &'static Resource,
    namespace: &str,
    object: Value,
) -> Result<(), Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let key = kilter_model::NamespacedName::new(namespace, name);
    if registry.store.get(resource, &key).is_some() {
        return Ok(());
    }
    let target = Target { name: None, ..key_target(resource, &key) };
    match registry.create(&target, object, &Intent::SERVER) {
        Err(status) if status.reason != "AlreadyExists" => Err(status),
        _ => Ok(()),
    }
}

fn service(cluster_ip: std::net::IpAddr, advertise: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip.to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": advertise.port()}]},
    })
}

fn endpoints(advertise: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": advertise.ip().to_string()}],
            "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}]}],
    })
}

fn slice(advertise: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": if advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertise.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertise.port(), "protocol": "TCP"}],
    })
}
