use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kilter_model::{
    Distribution, Endpoint, EndpointPort, EndpointSlice, Exposure, FORWARDING, Family, Forwarding, Hints, Locality,
    NamespacedName, Origin, RETRY_REFUSED, Selector, Service, ServicePort, ServiceType, TargetPort,
};

use super::Context;
use crate::Error;

/// A Service.
///
/// # Errors
/// A type, port, protocol or cluster IP that is none.
pub fn service(object: &core::Service, origin: Origin) -> Result<Service, Error> {
    let context = Context::namespaced("Service", &object.metadata);
    let spec = object.spec.clone().unwrap_or_default();
    let affinity = affinity(&spec);
    let listed = match spec.cluster_ips.filter(|ips| !ips.is_empty()) {
        Some(ips) => ips,
        None => spec.cluster_ip.into_iter().collect(),
    };
    let headless = listed.iter().any(|ip| ip == "None");
    let cluster_ips = listed
        .iter()
        .filter(|ip| !ip.is_empty() && *ip != "None")
        .map(|ip| {
            ip.parse().map_err(|_| context.error("spec.clusterIPs", format!("{ip:?} is not an IP address")))
        })
        .collect::<Result<_, _>>()?;
    let ports = spec.ports.iter().flatten().enumerate();
    Ok(Service {
        service_type: service_type(&context, spec.type_.as_deref())?,
        // An empty selector is no selector: somebody else writes the endpoints.
        selector: spec.selector.filter(|s| !s.is_empty()).map(Selector::from_labels),
        cluster_ips,
        headless,
        ports: ports
            .map(|(i, p)| service_port(&context, &format!("spec.ports[{i}]"), p))
            .collect::<Result<_, _>>()?,
        families: spec.ip_families.iter().flatten().filter_map(|name| Family::named(name)).collect(),
        locality: match spec.internal_traffic_policy.as_deref() {
            Some("Local") => Locality::OnlyNode,
            _ => Locality::Anywhere,
        },
        distribution: match spec.traffic_distribution.as_deref() {
            Some("PreferSameZone" | "PreferClose") => Distribution::SameZone,
            Some("PreferSameNode") => Distribution::SameNode,
            _ => Distribution::Even,
        },
        affinity,
        retry_refused: retry_refused(&context, object)?,
        forwarding: forwarding(object).unwrap_or_default(),
        exposure: exposure(&context, object)?,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        external_name: spec.external_name.filter(|n| !n.is_empty()).map(Into::into),
        name: context.name,
        origin,
    })
}

fn retry_refused(context: &Context, object: &core::Service) -> Result<Option<bool>, Error> {
    let Some(text) = object.metadata.annotations.iter().flatten().find(|(key, _)| *key == RETRY_REFUSED) else {
        return Ok(None);
    };
    let wrong = || context.error("metadata.annotations", format!("{RETRY_REFUSED}: {:?} is neither true nor false", text.1));
    text.1.parse().map(Some).map_err(|_| wrong())
}

/// What a Service says of how packets from outside are sent on; what it says wrongly, which counts for nothing.
pub fn forwarding(object: &core::Service) -> Result<Forwarding, &str> {
    match object.metadata.annotations.iter().flatten().find(|(key, _)| *key == FORWARDING) {
        None => Ok(Forwarding::default()),
        Some((_, text)) => match text.as_str() {
            "snat" => Ok(Forwarding::Snat),
            "dsr" => Ok(Forwarding::Dsr),
            other => Err(other),
        },
    }
}

/// The default of `timeoutSeconds` (core/v1 `ClientIPConfig`): three hours.
const AFFINITY_SECONDS: u32 = 10_800;

fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let asked = spec.session_affinity_config.as_ref().and_then(|it| it.client_ip.as_ref()?.timeout_seconds);
    Some(asked.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(AFFINITY_SECONDS))
}

/// Addresses of load balancers are those of its own type only: others keep what they had in their status
/// until somebody clears it.
fn exposure(context: &Context, object: &core::Service) -> Result<Exposure, Error> {
    let Some(spec) = &object.spec else { return Ok(Exposure::default()) };
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let external_ips = spec.external_ips.iter().flatten().map(|ip| {
        ip.parse().map_err(|_| context.error("spec.externalIPs", format!("{ip:?} is not an IP address")))
    });
    let ranges = spec.load_balancer_source_ranges.iter().flatten().filter(|_| is_balanced).map(|range| {
        let why = || context.error("spec.loadBalancerSourceRanges", format!("{range:?} is not a block of addresses"));
        super::parse_cidr(range.trim()).ok_or_else(why)
    });
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let virtual_ips = ingress.filter(|it| it.ip_mode.as_deref() != Some("Proxy"));
    Ok(Exposure {
        external_ips: external_ips.collect::<Result<_, _>>()?,
        load_balancer: virtual_ips
            .filter(|_| is_balanced)
            .filter_map(|it| it.ip.as_deref()?.parse().ok())
            .collect(),
        load_balancer_class: spec.load_balancer_class.as_deref().filter(|_| is_balanced).map(Into::into),
        only_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        health_check_port: spec
            .health_check_node_port
            .filter(|_| is_balanced && spec.external_traffic_policy.as_deref() == Some("Local"))
            .and_then(|port| u16::try_from(port).ok().filter(|port| *port != 0)),
        source_ranges: ranges.collect::<Result<_, _>>()?,
    })
}

fn service_type(context: &Context, name: Option<&str>) -> Result<ServiceType, Error> {
    Ok(match name.unwrap_or_default() {
        "" | "ClusterIP" => ServiceType::ClusterIp,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => ServiceType::ExternalName,
        other => return Err(context.error("spec.type", format!("{other:?} is not a type of Service"))),
    })
}

fn service_port(context: &Context, path: &str, port: &core::ServicePort) -> Result<ServicePort, Error> {
    let number = context.port(&format!("{path}.port"), port.port)?;
    let target = match &port.target_port {
        // 0 is what absent looks like after a round trip through Go.
        None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
        Some(IntOrString::Int(target)) => {
            TargetPort::Number(context.port(&format!("{path}.targetPort"), *target)?)
        }
        Some(IntOrString::String(name)) => TargetPort::Name(name.as_str().into()),
    };
    let node_port = port.node_port.filter(|p| *p != 0);
    Ok(ServicePort {
        name: port.name.as_deref().unwrap_or_default().into(),
        protocol: context.protocol(&format!("{path}.protocol"), port.protocol.as_deref())?,
        port: number,
        target,
        node_port: node_port.map(|p| context.port(&format!("{path}.nodePort"), p)).transpose()?,
    })
}

/// An endpoint slice; `None` when it belongs to no Service (no `kubernetes.io/service-name`).
///
/// # Errors
/// A port, protocol or address that is none. Slices of host names (`addressType: FQDN`) yield no
/// endpoints.
pub fn endpoint_slice(object: &discovery::EndpointSlice) -> Result<Option<EndpointSlice>, Error> {
    let context = Context::namespaced("EndpointSlice", &object.metadata);
    let service = object.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
    let Some(service) = service.filter(|name| !name.is_empty()) else { return Ok(None) };
    let mut ports = vec![];
    for (i, port) in object.ports.iter().flatten().enumerate() {
        // Without a number a port means "all ports", which nothing in this model can serve.
        let Some(number) = port.port else { continue };
        ports.push(EndpointPort {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: context.protocol(&format!("ports[{i}].protocol"), port.protocol.as_deref())?,
            port: context.port(&format!("ports[{i}].port"), number)?,
        });
    }
    let mut endpoints = vec![];
    if object.address_type != "FQDN" {
        for (i, it) in object.endpoints.iter().flatten().enumerate() {
            endpoints.push(endpoint(&context, &format!("endpoints[{i}]"), it)?);
        }
    }
    Ok(Some(EndpointSlice {
        service: NamespacedName::new(context.name.namespace.clone(), service.as_str()),
        name: context.name,
        ports,
        endpoints,
    }))
}

/// Conditions left open mean: ready; serving as ready; not terminating (discovery/v1
/// `EndpointConditions`).
fn endpoint(context: &Context, path: &str, it: &discovery::Endpoint) -> Result<Endpoint, Error> {
    let field = format!("{path}.addresses");
    let first = it.addresses.first().ok_or_else(|| context.error(&field, "needs an address"))?;
    let address =
        first.parse().map_err(|_| context.error(&field, format!("{first:?} is not an IP address")))?;
    let conditions = it.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    Ok(Endpoint {
        address,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        node: it.node_name.as_deref().map(Into::into),
        zone: it.zone.as_deref().map(Into::into),
        hints: hints(it.hints.as_ref()),
        pod: it
            .target_ref
            .as_ref()
            .filter(|r| r.kind.as_deref() == Some("Pod"))
            .and_then(|r| r.uid.as_deref())
            .map(Into::into),
        hostname: it.hostname.as_deref().map(Into::into),
    })
}

fn hints(hints: Option<&discovery::EndpointHints>) -> Hints {
    let zones = hints.and_then(|it| it.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|it| it.for_nodes.as_ref()).into_iter().flatten();
    Hints {
        zones: zones.map(|it| it.name.as_str().into()).collect(),
        nodes: nodes.map(|it| it.name.as_str().into()).collect(),
    }
}
