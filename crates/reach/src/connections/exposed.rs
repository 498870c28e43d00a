use kilter_model::{
    Cluster, Ingress, IngressBackend, NamespacedName, Pod, PortRange, PortSet, Protocol, Selector, Service,
    ServicePort, ServicePortRef, TargetPort,
};

/// Ports of pods that Ingresses send requests to, through Services.
pub struct Exposed<'a> {
    behind: Vec<Behind<'a>>,
}

/// The pods behind a Service and where they are sent to.
struct Behind<'a> {
    namespace: &'a str,
    pods: &'a Selector,
    targets: Vec<&'a TargetPort>,
}

impl<'a> Exposed<'a> {
    /// What the Ingresses of a cluster expose.
    pub fn new(cluster: &'a Cluster) -> Self {
        let backends =
            cluster.ingresses().flat_map(|it| it.backends.iter().map(move |backend| (it, backend)));
        Self { behind: backends.filter_map(|(ingress, backend)| behind(cluster, ingress, backend)).collect() }
    }

    /// The ports of a pod. An Ingress speaks HTTP, so only of TCP.
    pub fn ports(&self, pod: &Pod) -> PortSet {
        let mut ports = PortSet::default();
        for it in &self.behind {
            if *it.namespace != *pod.name.namespace || !it.pods.matches(&pod.labels) {
                continue;
            }
            for target in &it.targets {
                let number = match target {
                    TargetPort::Number(number) => Some(*number),
                    TargetPort::Name(name) => pod.named_port(name, Protocol::Tcp),
                };
                if let Some(number) = number {
                    ports.insert(Protocol::Tcp, PortRange::single(number));
                }
            }
        }
        ports
    }
}

fn behind<'a>(cluster: &'a Cluster, ingress: &'a Ingress, backend: &'a IngressBackend) -> Option<Behind<'a>> {
    let name = NamespacedName::new(ingress.name.namespace.clone(), backend.service.clone());
    let service: &Service = cluster.service(&name)?;
    // The empty selector of a Service selects nothing.
    let pods = service.selector.as_ref().filter(|it| !it.is_empty())?;
    let is_meant = |it: &&ServicePort| match &backend.port {
        None => true,
        Some(ServicePortRef::Number(number)) => it.port == *number,
        Some(ServicePortRef::Name(name)) => it.name == *name,
    };
    let tcp = service.ports.iter().filter(|it| it.protocol == Protocol::Tcp);
    let targets = tcp.filter(is_meant).map(|it| &it.target).collect();
    Some(Behind { namespace: &ingress.name.namespace, pods, targets })
}
