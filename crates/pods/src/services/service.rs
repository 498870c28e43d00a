use k8s_openapi::api::core::v1::{self, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kilter_model::Protocol;

/// What a kubelet asks of a Service. Every node keeps all of them, and as the API writes it each is 3 KB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: Box<str>,
    /// Its cluster IP; `None` for a headless Service and until one is allocated.
    pub cluster_ip: Option<Box<str>>,
    /// Its ports.
    pub ports: Box<[Port]>,
    /// Labels of its pods; none: somebody else writes its endpoints.
    selector: Box<[(Box<str>, Box<str>)]>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty where it has none.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number at the cluster IP.
    pub number: i32,
    /// The number at the pods; `None` for a container port's name.
    pub target: Option<i32>,
}

impl Service {
    /// Whether a pod of the Service's namespace with this label for each key is one of its own.
    pub fn selects<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| label(key) == Some(value))
    }
}

impl From<v1::Service> for Service {
    fn from(service: v1::Service) -> Self {
        let spec = service.spec.unwrap_or_default();
        let address = spec.cluster_ip.filter(|ip| !ip.is_empty() && ip != "None");
        let selector = spec.selector.into_iter().flatten();
        Self {
            name: service.metadata.name.unwrap_or_default().into(),
            cluster_ip: address.map(Into::into),
            ports: spec.ports.into_iter().flatten().map(Port::from).collect(),
            selector: selector.map(|(key, value)| (key.into(), value.into())).collect(),
        }
    }
}

impl From<ServicePort> for Port {
    fn from(port: ServicePort) -> Self {
        let target = match port.target_port {
            None | Some(IntOrString::Int(0)) => Some(port.port),
            Some(IntOrString::Int(target)) => Some(target),
            Some(IntOrString::String(_)) => None,
        };
        Self {
            name: port.name.unwrap_or_default().into(),
            protocol: port.protocol.and_then(|name| name.parse().ok()).unwrap_or(Protocol::Tcp),
            number: port.port,
            target,
        }
    }
}
