use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;

use super::report::Report;
use super::service::special;

/// What one slice may hold at most (discovery/v1 `EndpointSlice`).
const MAX_ENDPOINTS: usize = 1_000;
const MAX_PORTS: usize = 20_000;

/// A slice of endpoints.
pub(super) fn slice(report: &mut Report, it: &discovery::EndpointSlice) {
    report.one_of("addressType", Some(&it.address_type), &["FQDN", "IPv4", "IPv6"]);
    let endpoints = it.endpoints.as_deref().unwrap_or_default();
    if endpoints.len() > MAX_ENDPOINTS {
        report.push("endpoints", format!("Too many: {}: must have at most {MAX_ENDPOINTS} items", endpoints.len()));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        if endpoint.addresses.is_empty() {
            report.required(&format!("endpoints[{i}].addresses"), "must contain at least 1 address");
        }
        for (j, text) in endpoint.addresses.iter().enumerate() {
            address(report, &format!("endpoints[{i}].addresses[{j}]"), &it.address_type, text);
        }
    }
    ports(report, it.ports.as_deref().unwrap_or_default());
}

/// Of the slice's family, and one that can be another's: loopback or link-local addresses would lead a client
/// to itself.
fn address(report: &mut Report, field: &str, family: &str, text: &str) {
    match (family, text.parse::<IpAddr>()) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => {}
        ("IPv4", _) => return report.invalid(field, text, "must be a valid IPv4 address"),
        ("IPv6", _) => return report.invalid(field, text, "must be a valid IPv6 address"),
        _ => return,
    }
    if let Some(why) = text.parse().ok().and_then(special) {
        report.invalid(field, text, why);
    }
}

fn ports(report: &mut Report, ports: &[discovery::EndpointPort]) {
    if ports.len() > MAX_PORTS {
        report.push("ports", format!("Too many: {}: must have at most {MAX_PORTS} items", ports.len()));
    }
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let name = port.name.as_deref().unwrap_or_default();
        if !names.insert(name) {
            report.duplicate(&format!("ports[{i}].name"), name);
        }
        report.one_of(&format!("ports[{i}].protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        if let Some(number) = port.port {
            report.port_number(&format!("ports[{i}].port"), number);
        }
    }
}
