use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

use super::container::port;
use super::metadata::labels;
use super::names;
use super::report::Report;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// A Service's spec, defaulted.
pub(super) fn service(report: &mut Report, service: &core::Service) {
    let Some(spec) = &service.spec else { return report.required("spec", "") };
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let headless = spec.cluster_ip.as_deref() == Some("None");
    report.one_of("spec.type", spec.type_.as_deref(), TYPES);
    report.one_of("spec.sessionAffinity", spec.session_affinity.as_deref(), &["ClientIP", "None"]);
    let policies = ["Cluster", "Local"];
    report.one_of("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref(), &policies);
    report.one_of("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref(), &policies);
    let families = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    report.one_of("spec.ipFamilyPolicy", spec.ip_family_policy.as_deref(), &families);
    let distributions = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    report.one_of("spec.trafficDistribution", spec.traffic_distribution.as_deref(), &distributions);
    labels(report, "spec.selector", spec.selector.as_ref());
    addresses(report, spec, kind, headless);
    of_other_types(report, spec, kind);
    affinity(report, spec);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        report.required("spec.ports", "");
    }
    self::ports(report, ports, kind);
}

/// Fields that only Services of some types have.
fn of_other_types(report: &mut Report, spec: &core::ServiceSpec, kind: &str) {
    if kind != "LoadBalancer" {
        let set = [
            ("spec.loadBalancerSourceRanges", spec.load_balancer_source_ranges.as_ref().is_some_and(|it| !it.is_empty())),
            ("spec.allocateLoadBalancerNodePorts", spec.allocate_load_balancer_node_ports.is_some()),
            ("spec.loadBalancerClass", spec.load_balancer_class.is_some()),
        ];
        for (field, _) in set.into_iter().filter(|(_, set)| *set) {
            report.forbidden(field, "may only be used when `type` is 'LoadBalancer'");
        }
    }
    if let Some(class) = spec.load_balancer_class.as_deref()
        && let Err(why) = names::qualified(class)
    {
        report.invalid("spec.loadBalancerClass", class, why);
    }
    let has_health_check = kind == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local");
    if let Some(port) = spec.health_check_node_port.filter(|port| *port != 0) {
        if has_health_check {
            report.port_number("spec.healthCheckNodePort", port);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            report.invalid("spec.healthCheckNodePort", port, why);
        }
    }
    let external_ips = spec.external_ips.iter().flatten().next().is_some();
    let is_outside = kind == "NodePort" || kind == "LoadBalancer" || (kind == "ClusterIP" && external_ips);
    if let Some(policy) = spec.external_traffic_policy.as_deref().filter(|_| !is_outside) {
        let why = "may only be set for externally-accessible services";
        report.invalid("spec.externalTrafficPolicy", policy, why);
    }
}

fn addresses(report: &mut Report, spec: &core::ServiceSpec, kind: &str, headless: bool) {
    if headless && (kind == "NodePort" || kind == "LoadBalancer") {
        report.invalid("spec.clusterIP", "None", &format!("may not be set to 'None' for {kind} services"));
    }
    let cluster_ips = spec.cluster_ips.iter().flatten();
    for ip in spec.cluster_ip.iter().chain(cluster_ips).filter(|ip| !ip.is_empty() && *ip != "None") {
        address(report, "spec.clusterIPs", ip);
    }
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{i}]");
        address(report, &field, ip);
        if let Some(why) = ip.parse().ok().and_then(special) {
            report.invalid(&field, ip, why);
        }
    }
    for (i, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        if crate::convert::parse_cidr(range.trim()).is_none() {
            let field = format!("spec.loadBalancerSourceRanges[{i}]");
            report.invalid(&field, range, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    }
    if kind == "ExternalName" {
        match spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.') {
            "" => report.required("spec.externalName", ""),
            name => {
                if let Err(why) = names::subdomain(&name.to_lowercase()) {
                    report.invalid("spec.externalName", name, why);
                }
            }
        }
    }
}

fn address(report: &mut Report, field: &str, ip: &str) {
    if ip.parse::<IpAddr>().is_err() {
        report.invalid(field, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

/// Why an address cannot be one at which somebody serves others; `None` where it can.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    let (loopback, link_local, group) = match address {
        IpAddr::V4(it) => (it.is_loopback(), it.is_link_local(), it.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(it) => (it.is_loopback(), it.is_unicast_link_local(), it.segments()[0] & 0xff0f == 0xff02),
    };
    let faults = [
        (address.is_unspecified(), "may not be unspecified (0.0.0.0 or ::)"),
        (loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (group, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ];
    faults.into_iter().find(|(is, _)| *is).map(|(_, why)| why)
}

/// The longest that a client may be kept at one endpoint: a day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

fn affinity(report: &mut Report, spec: &core::ServiceSpec) {
    let config = spec.session_affinity_config.as_ref();
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        if config.is_some() {
            report.forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None");
        }
        return;
    }
    let timeout = config.and_then(|it| it.client_ip.as_ref()?.timeout_seconds);
    if let Some(timeout) = timeout.filter(|it| !(1..=MAX_AFFINITY_SECONDS).contains(it)) {
        let why = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
        report.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, &why);
    }
}

fn ports(report: &mut Report, ports: &[core::ServicePort], kind: &str) {
    let mut named = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (i, it) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{i}].{field}");
        match it.name.as_deref().filter(|n| !n.is_empty()) {
            None if ports.len() > 1 => report.required(&at("name"), "with several ports, each needs a name"),
            None => {}
            Some(name) => {
                if let Err(why) = names::label(name) {
                    report.invalid(&at("name"), name, why);
                } else if !named.insert(name) {
                    report.duplicate(&at("name"), name);
                }
            }
        }
        report.port_number(&at("port"), it.port);
        report.one_of(&at("protocol"), it.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        if let Some(target) = &it.target_port {
            port(report, &at("targetPort"), target);
        }
        let protocol = it.protocol.as_deref().unwrap_or("TCP");
        if !numbers.insert((it.port, protocol)) {
            report.duplicate(&format!("spec.ports[{i}]"), format!("{}/{protocol}", it.port));
        }
        if let Some(node_port) = it.node_port.filter(|p| *p != 0) {
            report.port_number(&at("nodePort"), node_port);
            if kind != "NodePort" && kind != "LoadBalancer" {
                report.forbidden(&at("nodePort"), &format!("may not be used when `type` is '{kind}'"));
            }
        }
    }
}
