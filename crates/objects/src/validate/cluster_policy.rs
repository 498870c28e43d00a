use super::metadata::selector;
use super::names;
use super::report::Report;
use crate::api::{ClusterNetworkPolicy, EgressPeer, NamespacedPod, Port, ProtocolMatch};
use crate::convert::parse_cidr;

/// The most rules, peers, protocols, networks or names that one list may hold.
const MOST: usize = 25;

/// A ClusterNetworkPolicy's spec, by the rules of its CustomResourceDefinition.
pub(super) fn cluster_network_policy(report: &mut Report, policy: &ClusterNetworkPolicy) {
    let spec = &policy.spec;
    required_one_of(report, "spec.tier", spec.tier.as_deref(), &["Admin", "Baseline"]);
    match spec.priority {
        None => report.required("spec.priority", ""),
        Some(it) if it < 0 => report.invalid("spec.priority", it, "should be greater than or equal to 0"),
        Some(it) if it > 1000 => report.invalid("spec.priority", it, "should be less than or equal to 1000"),
        Some(_) => {}
    }
    let subject = &spec.subject;
    exactly_one(report, "spec.subject", &[subject.namespaces.is_some(), subject.pods.is_some()]);
    if let Some(it) = &subject.namespaces {
        selector(report, "spec.subject.namespaces", it);
    }
    if let Some(it) = &subject.pods {
        pods(report, "spec.subject.pods", it);
    }
    at_most(report, "spec.ingress", spec.ingress.len(), MOST);
    at_most(report, "spec.egress", spec.egress.len(), MOST);
    for (i, it) in spec.ingress.iter().enumerate() {
        let peers: Vec<EgressPeer> = it.from.iter().cloned().map(Into::into).collect();
        let path = format!("spec.ingress[{i}]");
        rule(report, &path, (&it.name, &it.action), ("from", &peers), it.protocols.as_deref());
    }
    for (i, it) in spec.egress.iter().enumerate() {
        let path = format!("spec.egress[{i}]");
        rule(report, &path, (&it.name, &it.action), ("to", &it.to), it.protocols.as_deref());
    }
}

fn rule(
    report: &mut Report,
    path: &str,
    (name, action): (&Option<String>, &Option<String>),
    (side, peers): (&str, &[EgressPeer]),
    protocols: Option<&[ProtocolMatch]>,
) {
    at_most(report, &format!("{path}.name"), name.as_ref().map_or(0, |it| it.chars().count()), 100);
    required_one_of(report, &format!("{path}.action"), action.as_deref(), &["Accept", "Deny", "Pass"]);
    let at = format!("{path}.{side}");
    if peers.is_empty() {
        report.required(&at, "must have at least 1 item");
    }
    at_most(report, &at, peers.len(), MOST);
    for (i, it) in peers.iter().enumerate() {
        peer(report, &format!("{at}[{i}]"), it);
    }
    if let Some(it) = protocols {
        self::protocols(report, &format!("{path}.protocols"), it);
        let named = it.iter().any(|it| it.destination_named_port.is_some());
        let nameless =
            |it: &EgressPeer| it.networks.is_some() || it.nodes.is_some() || it.domain_names.is_some();
        if named && peers.iter().any(nameless) {
            report.forbidden(
                &format!("{path}.protocols"),
                "networks/nodes/domainNames peer cannot be set with namedPorts since there are no namedPorts for \
                 networks/nodes/domainNames",
            );
        }
    }
}

fn peer(report: &mut Report, path: &str, peer: &EgressPeer) {
    let EgressPeer { namespaces, pods: in_pods, nodes, networks, domain_names } = peer;
    let set = [
        namespaces.is_some(),
        in_pods.is_some(),
        nodes.is_some(),
        networks.is_some(),
        domain_names.is_some(),
    ];
    exactly_one(report, path, &set);
    if let Some(it) = namespaces {
        selector(report, &format!("{path}.namespaces"), it);
    }
    if let Some(it) = in_pods {
        pods(report, &format!("{path}.pods"), it);
    }
    if let Some(it) = nodes {
        selector(report, &format!("{path}.nodes"), it);
    }
    if let Some(it) = networks {
        let at = format!("{path}.networks");
        texts(report, &at, it);
        for (i, text) in it.iter().enumerate().filter(|(_, it)| parse_cidr(it).is_none()) {
            report.invalid(
                &format!("{at}[{i}]"),
                text,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    if let Some(it) = domain_names {
        let at = format!("{path}.domainNames");
        texts(report, &at, it);
        for (i, text) in it.iter().enumerate().filter(|(_, it)| !is_domain_name(it)) {
            let why = "must be a domain name of two labels or more, `*.` only in front (e.g. *.example.com)";
            report.invalid(&format!("{at}[{i}]"), text, why);
        }
    }
}

fn pods(report: &mut Report, path: &str, pods: &NamespacedPod) {
    selector(report, &format!("{path}.namespaceSelector"), &pods.namespace_selector);
    match &pods.pod_selector {
        None => report.required(&format!("{path}.podSelector"), "the empty selector, {}, selects all pods"),
        Some(it) => selector(report, &format!("{path}.podSelector"), it),
    }
}

fn protocols(report: &mut Report, path: &str, protocols: &[ProtocolMatch]) {
    if protocols.is_empty() {
        report.required(path, "must have at least 1 item");
    }
    at_most(report, path, protocols.len(), MOST);
    for (i, it) in protocols.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let set =
            [it.tcp.is_some(), it.udp.is_some(), it.sctp.is_some(), it.destination_named_port.is_some()];
        exactly_one(report, &at, &set);
        for (name, ports) in it.by_number() {
            match &ports.destination_port {
                None => report.required(&format!("{at}.{name}.destinationPort"), ""),
                Some(it) => port(report, &format!("{at}.{name}.destinationPort"), it),
            }
        }
        if it.destination_named_port.as_deref() == Some("") {
            report.required(&format!("{at}.destinationNamedPort"), "must be the name of a container port");
        }
    }
}

fn port(report: &mut Report, path: &str, port: &Port) {
    exactly_one(report, path, &[port.number.is_some(), port.range.is_some()]);
    if let Some(it) = port.number {
        report.port_number(&format!("{path}.number"), it);
    }
    if let Some(it) = &port.range {
        report.port_number(&format!("{path}.range.start"), it.start);
        report.port_number(&format!("{path}.range.end"), it.end);
        if it.start >= it.end {
            report.invalid(&format!("{path}.range"), it.start, "Start port must be less than End port");
        }
    }
}

/// A list that is a set of 1 to 25 texts.
fn texts(report: &mut Report, path: &str, texts: &[String]) {
    if texts.is_empty() {
        report.required(path, "must have at least 1 item");
    }
    at_most(report, path, texts.len(), MOST);
    for (i, text) in texts.iter().enumerate().filter(|(i, text)| texts[..*i].contains(text)) {
        report.duplicate(&format!("{path}[{i}]"), text);
    }
}

fn exactly_one(report: &mut Report, path: &str, set: &[bool]) {
    match set.iter().filter(|it| **it).count() {
        0 => report.required(path, "must have exactly one of its fields; this one has none that is known"),
        1 => {}
        _ => report.forbidden(path, "may have only one of its fields"),
    }
}

fn at_most(report: &mut Report, path: &str, length: usize, most: usize) {
    if length > most {
        report.push(path, format!("Too long: may not be more than {most}, and is {length}"));
    }
}

fn required_one_of(report: &mut Report, path: &str, value: Option<&str>, allowed: &[&str]) {
    match value {
        None => report.required(path, ""),
        some => report.one_of(path, some, allowed),
    }
}

fn is_domain_name(text: &str) -> bool {
    let text = text.strip_prefix("*.").unwrap_or(text);
    let text = text.strip_suffix('.').unwrap_or(text);
    text.contains('.')
        && text.split('.').all(|label| names::label(&label.to_lowercase().replace('_', "-")).is_ok())
}
