//! KLT004: egress is restricted, and DNS was not thought of.

use std::collections::BTreeSet;
use std::sync::Arc;

use kilter_model::{
    Cluster, Event, Labels, Namespace, NamespacedName, Origin, Pod, PodPhase, PolicyRule, PortSpec, Protocol,
    WorkloadRef,
};
use kilter_policy::naive::{Party, Query, evaluate};

use crate::context::{Context, name, title};
use crate::finding::DNS_FORGOTTEN;
use crate::{Finding, Fix};

const DNS_PORT: u16 = 53;

pub fn check(context: &Context<'_>) -> Vec<Finding> {
    let cluster = with_dns(&context.cluster);
    let dns: Vec<Arc<str>> = cluster.pods().filter(|it| is_dns(it)).map(|it| it.uid.clone()).collect();
    let mut seen = BTreeSet::new();
    let pods = context.cluster.pods().filter(|it| !it.host_network && !is_dns(it));
    pods.filter(|it| seen.insert(it.owner.clone()))
        .filter_map(|pod| {
            let policies: Vec<_> = cluster
                .policies_of(&pod.name.namespace)
                .filter(|it| it.egress.is_some() && it.pod_selector.matches(&pod.labels))
                .collect();
            let rules: Vec<&PolicyRule> = policies.iter().flat_map(|it| it.egress.iter().flatten()).collect();
            // A workload that calls nobody needs no names.
            if rules.is_empty() || rules.iter().any(|it| names_dns_port(it)) || reaches(&cluster, pod, &dns) {
                return None;
            }
            let with_rules =
                policies.iter().find(|it| it.egress.as_ref().is_some_and(|it| !it.is_empty()))?;
            let object = context.of_kind("NetworkPolicy").find(|it| name(&it.value) == with_rules.name)?;
            let message = format!(
                "{} may open connections, but may not ask DNS (UDP 53 to kube-dns) for their addresses",
                pod.owner
            );
            let place = context.at(object, "/spec/egress");
            let mut finding = Finding::new(&DNS_FORGOTTEN, place, &title(&object.value), message);
            finding.fix = Some(Fix::allow_dns(pod));
            Some(finding)
        })
        .collect()
}

/// A rule with port 53 was written by somebody who thought of DNS, wherever theirs may be.
fn names_dns_port(rule: &PolicyRule) -> bool {
    rule.ports.iter().flatten().any(|it| match &it.port {
        PortSpec::Range(range) => it.protocol == Protocol::Udp && range.contains(DNS_PORT),
        PortSpec::Named(name) => name.contains("dns"),
    })
}

fn reaches(cluster: &Cluster, pod: &Pod, dns: &[Arc<str>]) -> bool {
    dns.iter().any(|uid| {
        let query = Query {
            from: Party::Pod(pod.uid.clone()),
            to: Party::Pod(uid.clone()),
            protocol: Protocol::Udp.into(),
            port: DNS_PORT,
        };
        evaluate(cluster, &query).egress.verdict.is_allow()
    })
}

fn is_dns(pod: &Pod) -> bool {
    *pod.name.namespace == *"kube-system" && pod.labels.get("k8s-app").is_some_and(|it| **it == *"kube-dns")
}

/// The cluster with the DNS that every cluster has, where the sources do not declare it.
fn with_dns(cluster: &Cluster) -> Cluster {
    let mut cluster = cluster.clone();
    if cluster.pods().any(is_dns) {
        return cluster;
    }
    let namespace: Arc<str> = "kube-system".into();
    if cluster.namespace(&namespace).is_none() {
        let labels = Labels::from([("kubernetes.io/metadata.name".into(), namespace.clone())]);
        cluster.apply(Event::Namespace(Namespace {
            name: namespace.clone(),
            labels,
            origin: Origin::Builtin,
        }));
    }
    let name = NamespacedName::new(namespace, "kube-dns");
    cluster.apply(Event::Pod(Pod {
        uid: "lint:kube-dns".into(),
        labels: Labels::from([("k8s-app".into(), "kube-dns".into())]),
        node: None,
        addresses: vec![],
        host_network: false,
        ports: vec![],
        owner: WorkloadRef { kind: "Deployment".into(), name: name.clone() },
        phase: PodPhase::Running,
        ready: true,
        terminating: false,
        origin: Origin::Builtin,
        name,
    }));
    cluster
}
