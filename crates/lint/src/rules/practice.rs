//! KLT101 to KLT104: what works and could be safer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kilter_manifests::Object;
use kilter_model::{Action, NetworkPolicy, Peer, Pod, PolicyRule, Protocol, Service, ServiceType};
use kilter_objects::endpoints::{ports_at, selects};
use kilter_objects::expand::workload;
use kilter_objects::value;
use kilter_reach::{Connection, End};
use serde_json::Value;

use super::pods::containers;
use crate::Finding;
use crate::context::{Context, name, title};
use crate::finding::{EGRESS_EVERYWHERE, LOAD_BALANCER_OPEN, NO_DEFAULT_DENY, NO_READINESS_PROBE};

pub fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut found = default_deny(context);
    found.extend(context.objects().filter_map(|it| readiness(context, it)));
    found.extend(context.of_kind("Service").filter_map(|it| load_balancer(context, it)));
    found.extend(egress(context));
    found
}

/// One finding a namespace, on the Namespace where it is declared, else on a workload.
fn default_deny(context: &Context<'_>) -> Vec<Finding> {
    let mut open: BTreeMap<Arc<str>, BTreeSet<String>> = BTreeMap::new();
    let mut first: BTreeMap<Arc<str>, &Pod> = BTreeMap::new();
    for pod in context.cluster.pods().filter(|it| !it.host_network) {
        let isolates = |it: &NetworkPolicy| it.ingress.is_some() && it.pod_selector.matches(&pod.labels);
        // Cluster-wide policies may keep everybody out as well.
        let open_to_all = context.connections().iter().any(
            |it| matches!((&it.from, &it.to), (End::External(_), End::Workload(to)) if *to == pod.owner),
        );
        if open_to_all && !context.cluster.policies_of(&pod.name.namespace).any(isolates) {
            open.entry(pod.name.namespace.clone()).or_default().insert(pod.owner.to_string());
            first.entry(pod.name.namespace.clone()).or_insert(pod);
        }
    }
    let finding = |(namespace, workloads): (Arc<str>, BTreeSet<String>)| {
        let count = workloads.len();
        let names: Vec<String> = workloads.into_iter().take(3).collect();
        let more =
            if count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
        let message = format!(
            "no policy of namespace {namespace} isolates {}{more}: everything may reach them; add a policy \
             with podSelector {{}} and policyTypes [Ingress]",
            names.join(", ")
        );
        let declared = context.of_kind("Namespace").find(|it| *name(&it.value).name == *namespace);
        let (origin, object) = match declared {
            Some(object) => (object.origin.clone(), title(&object.value)),
            None => (first.get(&namespace)?.origin.clone(), format!("Namespace {namespace}")),
        };
        Some(Finding::new(&NO_DEFAULT_DENY, origin, &object, message))
    };
    open.into_iter().filter_map(finding).collect()
}

fn readiness(context: &Context<'_>, object: &Object) -> Option<Finding> {
    let (_, owner) = workload(&object.value)?;
    let containers = containers(&object.value);
    if containers.iter().any(|(_, it)| it.get("readinessProbe").is_some_and(Value::is_object)) {
        return None;
    }
    let pods = || context.cluster.pods().filter(|it| it.owner.name == owner);
    // No probe asks over UDP.
    let over_tcp = |it: &&Service| it.ports.iter().any(|port| port.protocol == Protocol::Tcp);
    let mut services = context.cluster.services().filter(over_tcp);
    let service = services.find(|it| pods().any(|pod| selects(it, pod)))?;
    let message = format!(
        "{} is behind Service {} and has no readinessProbe: it gets connections before it can answer",
        title(&object.value),
        service.name
    );
    let (pointer, _) = containers.first()?;
    Some(Finding::new(&NO_READINESS_PROBE, context.at(object, pointer), &title(&object.value), message))
}

/// Annotations by which clouds are asked for an address that is not public.
const INTERNAL: [&str; 5] = [
    "networking.gke.io/load-balancer-type",
    "cloud.google.com/load-balancer-type",
    "service.beta.kubernetes.io/aws-load-balancer-internal",
    "service.beta.kubernetes.io/azure-load-balancer-internal",
    "service.beta.kubernetes.io/aws-load-balancer-scheme",
];

fn load_balancer(context: &Context<'_>, object: &Object) -> Option<Finding> {
    let service = context.cluster.service(&name(&object.value))?;
    let ranges = object.value.pointer("/spec/loadBalancerSourceRanges").and_then(Value::as_array);
    let annotations = object.value.pointer("/metadata/annotations");
    let internal = INTERNAL.iter().any(|it| annotations.is_some_and(|all| all.get(*it).is_some()));
    if service.service_type != ServiceType::LoadBalancer
        || internal
        || ranges.is_some_and(|it| !it.is_empty())
    {
        return None;
    }
    let pods: Vec<&Pod> = context.cluster.pods().filter(|it| selects(service, it)).collect();
    let from_outside = |it: &Connection| {
        matches!((&it.from, &it.to), (End::External(_), End::Workload(to)) if pods.iter().any(|pod| pod.owner == *to
            && ports_at(service, pod).iter().any(|port| it.ports.contains(port.protocol, port.port))))
    };
    if !pods.is_empty() && !context.connections().iter().any(from_outside) {
        return None;
    }
    let message = format!(
        "{} is open to every address: name those that may come in spec.loadBalancerSourceRanges",
        title(&object.value)
    );
    Some(Finding::new(&LOAD_BALANCER_OPEN, context.at(object, "/spec/type"), &title(&object.value), message))
}

/// One finding a namespace, on the first such policy: whoever writes one so writes all so.
fn egress(context: &Context<'_>) -> Vec<Finding> {
    let mut by_namespace: BTreeMap<Arc<str>, Vec<&Object>> = BTreeMap::new();
    for object in context.of_kind("NetworkPolicy") {
        let Some(policy) = context.cluster.policy(&name(&object.value)) else { continue };
        if policy.egress.iter().flatten().any(is_everywhere) {
            by_namespace.entry(policy.name.namespace.clone()).or_default().push(object);
        }
    }
    for object in context.of_kind("ClusterNetworkPolicy") {
        let Some(policy) = context.cluster.cluster_policy(value::name(&object.value)) else { continue };
        let accepts = policy.egress.iter().filter(|it| it.action == Action::Accept && it.caveat.is_none());
        if accepts.map(|it| &it.matches).any(is_everywhere) {
            by_namespace.entry("".into()).or_default().push(object);
        }
    }
    let finding = |objects: Vec<&Object>| {
        let first = *objects.first()?;
        let scope = if value::namespace(&first.value).is_empty() { "cluster" } else { "namespace" };
        let others = match objects.len() {
            1 => String::new(),
            count => format!(" (and so do {} more policies of this {scope})", count - 1),
        };
        let message = format!(
            "{} lets its pods open connections to every address and port{others}",
            title(&first.value)
        );
        Some(Finding::new(
            &EGRESS_EVERYWHERE,
            context.at(first, "/spec/egress"),
            &title(&first.value),
            message,
        ))
    };
    by_namespace.into_values().filter_map(finding).collect()
}

fn is_everywhere(rule: &PolicyRule) -> bool {
    let all = |peer: &Peer| matches!(peer, Peer::IpBlock(block) if block.cidr.prefix_len() == 0 && block.except.is_empty());
    rule.ports.is_none() && rule.peers.as_ref().is_none_or(|it| it.iter().any(all))
}
