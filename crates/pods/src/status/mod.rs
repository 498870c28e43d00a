//! The status of a pod from what is known about it. Pure.

mod conditions;
mod containers;
mod phase;
mod qos;

pub use phase::{Phase, phase};
pub use qos::qos_class;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::container::{Container, Role};

/// What a status is made from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The pod as the API has it; its conditions by others are kept.
    pub pod: &'a Pod,
    /// The addresses of the pod's node.
    pub node_ips: &'a [IpAddr],
    /// The pod's addresses; empty until it is wired.
    pub addresses: &'a [IpAddr],
    /// Whether sandbox and network are there.
    pub sandbox: bool,
    /// All containers, init containers first.
    pub containers: &'a [Container],
    /// When this node first saw the pod.
    pub started: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// The whole status.
pub fn pod_status(facts: &Facts<'_>) -> PodStatus {
    let before = facts.pod.status.clone().unwrap_or_default();
    let (init, apps): (Vec<_>, Vec<_>) = facts.containers.iter().partition(|c| c.role != Role::App);
    let phase = phase(facts.pod, facts.containers);
    let ended = matches!(phase, Phase::Succeeded | Phase::Failed);
    let ips: Vec<_> = facts.addresses.iter().map(ToString::to_string).collect();
    PodStatus {
        phase: Some(phase.as_str().into()),
        conditions: Some(conditions::conditions(facts, phase)),
        container_statuses: Some(apps.iter().map(|c| containers::status(c)).collect()),
        init_container_statuses: Some(init.iter().map(|c| containers::status(c)).collect())
            .filter(|list: &Vec<_>| !list.is_empty()),
        host_ip: facts.node_ips.first().map(ToString::to_string),
        host_ips: Some(facts.node_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().filter(|_| !ended).cloned().or_else(|| before.pod_ip.clone().filter(|_| ended)),
        pod_ips: match (ended, ips.is_empty()) {
            (true, _) => before.pod_ips.clone(),
            (false, true) => None,
            (false, false) => Some(ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        },
        qos_class: before.qos_class.clone().or_else(|| facts.pod.spec.as_ref().map(|s| qos_class(s).into())),
        start_time: before.start_time.clone().or(Some(Time(facts.started))),
        observed_generation: facts.pod.metadata.generation,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
