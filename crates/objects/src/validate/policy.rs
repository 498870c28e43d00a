use k8s_openapi::api::networking::v1 as net;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::container::port as port_or_name;
use super::metadata::selector;
use super::report::Report;
use crate::convert::parse_cidr;

/// A NetworkPolicy's spec.
pub(super) fn network_policy(report: &mut Report, policy: &net::NetworkPolicy) {
    let Some(spec) = &policy.spec else { return report.required("spec", "") };
    if let Some(it) = &spec.pod_selector {
        selector(report, "spec.podSelector", it);
    }
    for (i, kind) in spec.policy_types.iter().flatten().enumerate() {
        report.one_of(&format!("spec.policyTypes[{i}]"), Some(kind), &["Egress", "Ingress"]);
    }
    for (i, rule) in spec.ingress.iter().flatten().enumerate() {
        peers(report, &format!("spec.ingress[{i}].from"), rule.from.as_deref().unwrap_or_default());
        ports(report, &format!("spec.ingress[{i}].ports"), rule.ports.as_deref().unwrap_or_default());
    }
    for (i, rule) in spec.egress.iter().flatten().enumerate() {
        peers(report, &format!("spec.egress[{i}].to"), rule.to.as_deref().unwrap_or_default());
        ports(report, &format!("spec.egress[{i}].ports"), rule.ports.as_deref().unwrap_or_default());
    }
}

fn peers(report: &mut Report, path: &str, peers: &[net::NetworkPolicyPeer]) {
    for (i, peer) in peers.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if let Some(it) = &peer.pod_selector {
            selector(report, &format!("{at}.podSelector"), it);
        }
        if let Some(it) = &peer.namespace_selector {
            selector(report, &format!("{at}.namespaceSelector"), it);
        }
        let selectors = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match &peer.ip_block {
            Some(_) if selectors => {
                report.forbidden(&at, "may not specify both ipBlock and another peer");
            }
            Some(it) => block(report, &format!("{at}.ipBlock"), it),
            None if !selectors => report.required(&at, "must specify a peer"),
            None => {}
        }
    }
}

fn block(report: &mut Report, path: &str, block: &net::IPBlock) {
    const RULE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    if block.cidr.is_empty() {
        return report.required(&format!("{path}.cidr"), "");
    }
    let cidr = parse_cidr(&block.cidr);
    if cidr.is_none() {
        report.invalid(&format!("{path}.cidr"), &block.cidr, RULE);
    }
    for (i, text) in block.except.iter().flatten().enumerate() {
        let at = format!("{path}.except[{i}]");
        match (parse_cidr(text), cidr) {
            (None, _) => report.invalid(&at, text, RULE),
            (Some(except), Some(cidr)) => {
                if !cidr.contains(&except) || except.prefix_len() <= cidr.prefix_len() {
                    report.invalid(&at, text, &format!("must be a strict subset of `cidr` {}", block.cidr));
                }
            }
            (Some(_), None) => {}
        }
    }
}

fn ports(report: &mut Report, path: &str, ports: &[net::NetworkPolicyPort]) {
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("{path}[{i}].{field}");
        report.one_of(&at("protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
        if let Some(it) = &port.port {
            port_or_name(report, &at("port"), it);
        }
        let Some(end) = port.end_port else { continue };
        report.port_number(&at("endPort"), end);
        match &port.port {
            Some(IntOrString::Int(first)) if end < *first => {
                report.invalid(&at("endPort"), end, "must be greater than or equal to `port`");
            }
            Some(IntOrString::Int(_)) => {}
            Some(IntOrString::String(_)) => {
                report.invalid(&at("endPort"), end, "may not be specified when `port` is non-numeric");
            }
            None => report.invalid(&at("endPort"), end, "may not be specified when `port` is not specified"),
        }
    }
}
