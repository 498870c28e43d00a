//! KLT005, KLT010 and KLT011: Services that lead nowhere, or where nobody may go.

use std::collections::BTreeSet;

use kilter_manifests::Object;
use kilter_model::{Peer, Pod, PolicyRule, Service, ServiceType, TargetPort};
use kilter_objects::endpoints::{ports_at, selects};
use kilter_reach::{Connection, End};

use crate::Finding;
use crate::context::{Context, name, title};
use crate::finding::{SERVICE_WITHOUT_PODS, TARGET_PORT_UNDECLARED, UNREACHABLE_SERVICE};

pub fn check(context: &Context<'_>, explained: &[Connection]) -> Vec<Finding> {
    let mut found = vec![];
    for object in context.of_kind("Service") {
        let Some(service) = context.cluster.service(&name(&object.value)) else { continue };
        // A namespace whose workloads are not among the sources proves nothing.
        let has_pods = context.pods_of(&service.name.namespace).next().is_some();
        if service.service_type == ServiceType::ExternalName || service.selector.is_none() || !has_pods {
            continue;
        }
        let pods: Vec<&Pod> = context.cluster.pods().filter(|it| selects(service, it)).collect();
        if pods.is_empty() {
            found.push(no_pods(context, object, service));
            continue;
        }
        let undeclared = target_ports(context, object, service, &pods);
        if undeclared.is_empty() {
            found.extend(unreachable(context, object, service, &pods, explained));
        }
        found.extend(undeclared);
    }
    found
}

fn no_pods(context: &Context<'_>, object: &Object, service: &Service) -> Finding {
    let selector = service.selector.as_ref().map(ToString::to_string).unwrap_or_default();
    let message = format!(
        "{} leads nowhere: nothing in {} has {selector}",
        title(&object.value),
        service.name.namespace
    );
    Finding::new(&SERVICE_WITHOUT_PODS, context.at(object, "/spec/selector"), &title(&object.value), message)
}

fn target_ports(context: &Context<'_>, object: &Object, service: &Service, pods: &[&Pod]) -> Vec<Finding> {
    let mut found = vec![];
    for (i, port) in service.ports.iter().enumerate() {
        let declares = |pod: &&&Pod| match &port.target {
            TargetPort::Name(name) => pod.named_port(name, port.protocol).is_some(),
            // Containers may listen without saying so: only what others of them say counts.
            TargetPort::Number(number) => {
                let mut same = pod.ports.iter().filter(|it| it.protocol == port.protocol).peekable();
                same.peek().is_none() || same.any(|it| it.port == *number)
            }
        };
        if pods.iter().any(|it| declares(&it)) {
            continue;
        }
        let target = match &port.target {
            TargetPort::Name(name) => name.to_string(),
            TargetPort::Number(number) => number.to_string(),
        };
        let whose: BTreeSet<String> = pods.iter().map(|it| it.owner.to_string()).collect();
        let declared: BTreeSet<String> = pods
            .iter()
            .flat_map(|it| &it.ports)
            .map(|it| match &it.name {
                Some(name) => format!("{} {} ({name})", it.protocol, it.port),
                None => format!("{} {}", it.protocol, it.port),
            })
            .collect();
        let declared: Vec<String> = declared.into_iter().collect();
        let message = format!(
            "port {} of {} leads to {} {target}, where {} does not listen: it declares {}",
            port.port,
            title(&object.value),
            port.protocol,
            whose.into_iter().collect::<Vec<_>>().join(", "),
            if declared.is_empty() { "no ports".to_owned() } else { declared.join(", ") }
        );
        let place = context.at(object, &format!("/spec/ports/{i}/targetPort"));
        found.push(Finding::new(&TARGET_PORT_UNDECLARED, place, &title(&object.value), message));
    }
    found
}

fn unreachable(
    context: &Context<'_>,
    object: &Object,
    service: &Service,
    pods: &[&Pod],
    explained: &[Connection],
) -> Option<Finding> {
    let someone = |connections: &[Connection]| {
        connections.iter().any(|it| {
            matches!(&it.to, End::Workload(to) if pods.iter().any(|pod| pod.owner == *to
            && ports_at(service, pod).iter().any(|port| {
                it.ports.contains(port.protocol, port.port)
                    || it.depends_on_address.contains(port.protocol, port.port)
            })))
        })
    };
    let others = context.cluster.pods().any(|it| pods.iter().all(|pod| pod.owner != it.owner));
    let unknown = pods.iter().any(|pod| admits_unknown(context, pod));
    if !others || unknown || pods.iter().any(|it| it.host_network) {
        return None;
    }
    if someone(context.connections()) || someone(explained) {
        return None;
    }
    let by: BTreeSet<String> = pods.iter().flat_map(|it| isolating(context, it)).collect();
    if by.is_empty() {
        return None;
    }
    let message = format!(
        "nobody may reach {}: its pods are isolated for ingress by {}, and no rule admits anybody to its ports",
        title(&object.value),
        by.into_iter().collect::<Vec<_>>().join(", ")
    );
    Some(Finding::new(&UNREACHABLE_SERVICE, object.origin.clone(), &title(&object.value), message))
}

fn isolating(context: &Context<'_>, pod: &Pod) -> Vec<String> {
    let all = context.cluster.policies_of(&pod.name.namespace);
    all.filter(|it| it.ingress.is_some() && it.pod_selector.matches(&pod.labels))
        .map(|it| it.name.name.to_string())
        .collect()
}

/// Whether rules admit pods of other namespaces: those need not be among the sources.
fn admits_unknown(context: &Context<'_>, pod: &Pod) -> bool {
    let all = context.cluster.policies_of(&pod.name.namespace);
    let selecting = all.filter(|it| it.pod_selector.matches(&pod.labels));
    let elsewhere = |rule: &PolicyRule| {
        rule.peers.iter().flatten().any(|it| !matches!(it, Peer::Pods { namespaces: None, .. }))
    };
    selecting.flat_map(|it| it.ingress.iter().flatten()).any(elsewhere)
}
