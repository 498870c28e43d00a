use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kilter_model::Protocol;

use crate::services::Service;

/// One port of a pod and the container that serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
    /// The container's name.
    pub container: Arc<str>,
}

/// Two containers of one pod that declare one port; they share a network namespace, so only one
/// of them could listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "port {number}/{protocol} is declared by container \"{first}\" and by container \"{second}\" of this pod, \
     but the containers of a pod share one network namespace: give one of them another port"
)]
pub struct Clash {
    /// The port's protocol.
    pub protocol: Protocol,
    /// The port.
    pub number: u16,
    /// Who declares it first.
    pub first: Arc<str>,
    /// Who declares it as well.
    pub second: Arc<str>,
}

/// The ports on which a pod's stand-ins listen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// One container for each.
    pub open: BTreeSet<Port>,
    /// What cannot be.
    pub clashes: Vec<Clash>,
}

impl Ports {
    /// The container ports, the probes' ports, and the numeric target ports of the Services that
    /// select the pod. A port that no container declares goes to the container whose probe names
    /// it, or to the first.
    pub fn of(spec: &PodSpec, selecting: &[Arc<Service>]) -> Self {
        let mut ports = Taken::default();
        let containers: Vec<&Container> = serving(spec).collect();
        for container in &containers {
            let name: Arc<str> = container.name.as_str().into();
            for port in container.ports.iter().flatten() {
                if let Some(number) = number(port.container_port) {
                    ports.declare(protocol(port.protocol.as_deref()), number, &name);
                }
            }
        }
        for container in &containers {
            let name: Arc<str> = container.name.as_str().into();
            for number in probes(container).filter_map(|probe| probe_port(probe, container)) {
                ports.add(Protocol::Tcp, number, &name);
            }
        }
        if let Some(first) = spec.containers.first() {
            let name: Arc<str> = first.name.as_str().into();
            for (protocol, number) in selecting.iter().flat_map(|service| targets(service)) {
                ports.add(protocol, number, &name);
            }
        }
        ports.done()
    }
}

#[derive(Default)]
struct Taken {
    by: BTreeMap<(Protocol, u16), Arc<str>>,
    clashes: Vec<Clash>,
}

impl Taken {
    fn declare(&mut self, protocol: Protocol, number: u16, container: &Arc<str>) {
        match self.by.get(&(protocol, number)) {
            Some(first) if first != container => {
                self.clashes.push(Clash { protocol, number, first: first.clone(), second: container.clone() })
            }
            _ => self.add(protocol, number, container),
        }
    }

    fn add(&mut self, protocol: Protocol, number: u16, container: &Arc<str>) {
        self.by.entry((protocol, number)).or_insert_with(|| container.clone());
    }

    fn done(self) -> Ports {
        let open =
            self.by.into_iter().map(|((protocol, number), container)| Port { protocol, number, container });
        Ports { open: open.collect(), clashes: self.clashes }
    }
}

/// Containers that run as long as the pod does: sidecars and the ordinary ones.
fn serving(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let sidecars = spec.init_containers.iter().flatten();
    sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always")).chain(&spec.containers)
}

fn probes(container: &Container) -> impl Iterator<Item = &Probe> {
    [&container.startup_probe, &container.liveness_probe, &container.readiness_probe].into_iter().flatten()
}

fn probe_port(probe: &Probe, container: &Container) -> Option<u16> {
    // A probe of another host is not answered by this pod.
    if let Some(http) = probe.http_get.as_ref().filter(|http| http.host.is_none()) {
        return resolve(&http.port, container);
    }
    if let Some(tcp) = probe.tcp_socket.as_ref().filter(|tcp| tcp.host.is_none()) {
        return resolve(&tcp.port, container);
    }
    probe.grpc.as_ref().and_then(|grpc| number(grpc.port))
}

/// The number of a port that a container's probe names: a number, or a TCP port of that container
/// by its name.
pub fn resolve(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(value) => number(*value),
        IntOrString::String(name) => {
            let declared = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            declared.and_then(|port| number(port.container_port)).or_else(|| name.parse().ok())
        }
    }
}

/// Numeric target ports. Named ones are container ports, which are open anyway.
fn targets(service: &Service) -> impl Iterator<Item = (Protocol, u16)> {
    service.ports.iter().filter_map(|port| Some((port.protocol, number(port.target?)?)))
}

fn protocol(name: Option<&str>) -> Protocol {
    name.and_then(|name| name.parse().ok()).unwrap_or(Protocol::Tcp)
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ports(spec: Value, services: Value) -> Ports {
        let services: Vec<k8s_openapi::api::core::v1::Service> = serde_json::from_value(services).unwrap();
        let services: Vec<_> = services.into_iter().map(|it| Arc::new(it.into())).collect();
        Ports::of(&serde_json::from_value(spec).unwrap(), &services)
    }

    fn text(ports: &Ports) -> Vec<String> {
        ports.open.iter().map(|p| format!("{}/{} {}", p.number, p.protocol, p.container)).collect()
    }

    #[test]
    fn declared_probed_and_targeted_ports_are_open() {
        let found = ports(
            json!({
                "initContainers": [
                    {"name": "once", "ports": [{"containerPort": 1}]},
                    {"name": "mesh", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]},
                ],
                "containers": [
                    {"name": "web", "ports": [{"containerPort": 8080, "name": "http"}],
                     "readinessProbe": {"httpGet": {"port": "http"}}, "livenessProbe": {"tcpSocket": {"port": 9000}}},
                    {"name": "dns", "ports": [{"containerPort": 53, "protocol": "UDP"}],
                     "startupProbe": {"grpc": {"port": 5000}}, "livenessProbe": {"httpGet": {"host": "example.org", "port": 1}}},
                ],
            }),
            json!([{"spec": {"ports": [
                {"port": 80, "targetPort": "http"}, {"port": 443}, {"port": 1, "targetPort": 7000, "protocol": "UDP"}]}}]),
        );
        assert_eq!(
            text(&found),
            [
                "443/TCP web",
                "5000/TCP dns",
                "8080/TCP web",
                "9000/TCP web",
                "15001/TCP mesh",
                "53/UDP dns",
                "7000/UDP web"
            ]
        );
        assert!(found.clashes.is_empty());
    }

    #[test]
    fn a_port_declared_twice_names_both_containers_unless_the_protocol_differs() {
        let found = ports(
            json!({"containers": [
                {"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 53}]},
                {"name": "b", "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]},
            ]}),
            json!([]),
        );
        assert_eq!(text(&found), ["53/TCP a", "80/TCP a", "53/UDP b"]);
        assert_eq!(found.clashes.len(), 1);
        assert!(
            found.clashes[0]
                .to_string()
                .starts_with("port 80/TCP is declared by container \"a\" and by container \"b\" of this pod")
        );
    }
}
