use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kilter_model::{ContainerPort, HostPort, NamespacedName, Origin, Pod, PodPhase, WorkloadRef};

use super::{Context, labels, static_uid};
use crate::Error;

/// A pod as the API has it.
///
/// # Errors
/// A container port or protocol that is none, or an address that is none.
pub fn pod(object: &core::Pod, origin: Origin) -> Result<Pod, Error> {
    let context = Context::namespaced("Pod", &object.metadata);
    let status = object.status.as_ref();
    let ports = match &object.spec {
        Some(spec) => ports(&context, "spec", spec)?,
        None => vec![],
    };
    Ok(Pod {
        uid: match object.metadata.uid.as_deref() {
            Some(uid) => uid.into(),
            None => static_uid("Pod", &context.name),
        },
        labels: labels(object.metadata.labels.as_ref()),
        node: object
            .spec
            .as_ref()
            .and_then(|s| s.node_name.as_deref())
            .filter(|n| !n.is_empty())
            .map(Into::into),
        addresses: addresses(&context, status)?,
        host_network: object.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false),
        ports,
        owner: owner(&object.metadata, "Pod"),
        phase: phase(status.and_then(|s| s.phase.as_deref())),
        ready: status
            .and_then(|s| s.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True")),
        terminating: object.metadata.deletion_timestamp.is_some(),
        name: context.name,
        origin,
    })
}

/// The ports that a pod template's containers declare, sidecars (restartable init containers)
/// included: those run beside the containers, and named ports resolve to them too.
///
/// # Errors
/// A port or protocol that is none; `metadata` names the object in the error.
pub fn pod_ports(metadata: &ObjectMeta, spec: &core::PodSpec) -> Result<Vec<ContainerPort>, Error> {
    ports(&Context::namespaced("Pod", metadata), "spec", spec)
}

fn ports(context: &Context, path: &str, spec: &core::PodSpec) -> Result<Vec<ContainerPort>, Error> {
    let containers = spec.containers.iter().enumerate().map(|(i, c)| (format!("{path}.containers[{i}]"), c));
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, c)| c.restart_policy.as_deref() == Some("Always"))
        .map(|(i, c)| (format!("{path}.initContainers[{i}]"), c));
    let mut found = vec![];
    for (at, container) in containers.chain(sidecars) {
        for (i, port) in container.ports.iter().flatten().enumerate() {
            found.push(ContainerPort {
                name: port.name.as_deref().filter(|n| !n.is_empty()).map(Into::into),
                port: context.port(&format!("{at}.ports[{i}].containerPort"), port.container_port)?,
                protocol: context.protocol(&format!("{at}.ports[{i}].protocol"), port.protocol.as_deref())?,
                host: host_port(context, &format!("{at}.ports[{i}]"), port)?,
            });
        }
    }
    Ok(found)
}

/// An unspecified address means all, of both families (as of a socket that is bound to `::`).
fn host_port(context: &Context, at: &str, port: &core::ContainerPort) -> Result<Option<HostPort>, Error> {
    let Some(number) = port.host_port.filter(|number| *number != 0) else { return Ok(None) };
    let address = match port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
        None => None,
        Some(ip) => {
            let wrong = || context.error(format!("{at}.hostIP"), format!("{ip:?} is not an IP address"));
            Some(ip.parse().map_err(|_| wrong())?).filter(|ip: &IpAddr| !ip.is_unspecified())
        }
    };
    Ok(Some(HostPort { port: context.port(&format!("{at}.hostPort"), number)?, address }))
}

fn addresses(context: &Context, status: Option<&core::PodStatus>) -> Result<Vec<IpAddr>, Error> {
    let Some(status) = status else { return Ok(vec![]) };
    let listed: Vec<&str> = match &status.pod_ips {
        Some(ips) if !ips.is_empty() => ips.iter().map(|ip| ip.ip.as_str()).collect(),
        _ => status.pod_ip.as_deref().into_iter().collect(),
    };
    listed
        .into_iter()
        .filter(|ip| !ip.is_empty())
        .map(|ip| {
            ip.parse().map_err(|_| context.error("status.podIPs", format!("{ip:?} is not an IP address")))
        })
        .collect()
}

/// `Unknown` (the node does not answer) counts as running: the pod may still hold its address.
fn phase(phase: Option<&str>) -> PodPhase {
    match phase {
        Some("Running" | "Unknown") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        _ => PodPhase::Pending,
    }
}

/// The workload at the top of an object's chain of controllers, as far as its own metadata tells;
/// the object itself (of kind `own_kind`) where nothing controls it.
///
/// A Deployment names its ReplicaSets `NAME-HASH` and labels their pods `pod-template-hash=HASH`,
/// which is how the Deployment is known without asking the API for the ReplicaSet.
pub fn owner(metadata: &ObjectMeta, own_kind: &str) -> WorkloadRef {
    let namespace = metadata.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
    let workload = |kind: &str, name: &str| WorkloadRef {
        kind: kind.into(),
        name: NamespacedName::new(namespace, name),
    };
    let references = metadata.owner_references.as_deref().unwrap_or_default();
    let controller = references.iter().find(|r| r.controller == Some(true)).or(references.first());
    match controller {
        None => workload(own_kind, metadata.name.as_deref().unwrap_or_default()),
        // A static pod is its node's mirror, not a workload of the Node object.
        Some(c) if c.kind == "Node" => workload(own_kind, metadata.name.as_deref().unwrap_or_default()),
        Some(c) if c.kind == "ReplicaSet" => match deployment_of(&c.name, metadata) {
            Some(deployment) => workload("Deployment", deployment),
            None => workload("ReplicaSet", &c.name),
        },
        Some(c) => workload(&c.kind, &c.name),
    }
}

fn deployment_of<'a>(replica_set: &'a str, metadata: &ObjectMeta) -> Option<&'a str> {
    let hash = metadata.labels.as_ref()?.get("pod-template-hash")?;
    replica_set.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|name| !name.is_empty())
}
