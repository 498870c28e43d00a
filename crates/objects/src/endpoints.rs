//! Which pods stand behind a Service, and on which ports: the one computation behind the twin's
//! EndpointSlice controller and behind analysis.

mod slices;

pub use slices::{Slice, Subject, slices, to_k8s, to_model};

use kilter_model::{EndpointPort, Pod, Service, ServiceType, TargetPort};

/// Whether a pod is one of the Service's: same namespace, selected, and not ended. A Service
/// without selector, or of type ExternalName, has no pods of its own.
pub fn selects(service: &Service, pod: &Pod) -> bool {
    service.service_type != ServiceType::ExternalName
        && service.name.namespace == pod.name.namespace
        && pod.owns_addresses()
        && service.selector.as_ref().is_some_and(|s| s.matches(&pod.labels))
}

/// The ports of a Service at one of its pods. A named target port that this pod does not declare
/// (name and protocol must agree) is left out: the pod does not serve it.
pub fn ports_at(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let mut ports: Vec<EndpointPort> = service
        .ports
        .iter()
        .filter_map(|p| {
            let port = match &p.target {
                TargetPort::Number(number) => *number,
                TargetPort::Name(name) => pod.named_port(name, p.protocol)?,
            };
            Some(EndpointPort { name: p.name.clone(), protocol: p.protocol, port })
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}
