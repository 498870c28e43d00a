use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core;

use super::container::{container, port_text};
use super::metadata::labels;
use super::names;
use super::report::Report;

/// What a pod spec is part of, as far as the rules differ.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Within {
    /// A Pod of its own: any restart policy.
    Pod,
    /// A workload that keeps pods running: restart policy Always.
    Controller,
    /// A StatefulSet: as a controller, and volumes come from its claim templates too.
    StatefulSet,
    /// A Job: restart policy OnFailure or Never.
    Job,
}

/// A pod template at `path`.
pub(super) fn template(report: &mut Report, path: &str, template: &core::PodTemplateSpec, within: Within) {
    let metadata = template.metadata.as_ref();
    labels(report, &format!("{path}.metadata.labels"), metadata.and_then(|m| m.labels.as_ref()));
    match &template.spec {
        Some(it) => spec(report, &format!("{path}.spec"), it, within),
        None => report.required(&format!("{path}.spec"), ""),
    }
}

/// A pod spec at `path`.
pub(super) fn spec(report: &mut Report, path: &str, spec: &core::PodSpec, within: Within) {
    if spec.containers.is_empty() {
        report.required(&format!("{path}.containers"), "a pod needs at least one container");
    }
    let volumes = volumes(report, path, spec);
    let volumes = (within != Within::StatefulSet).then_some(&volumes);
    let mut names = BTreeSet::new();
    for (at, it, init) in containers(path, spec) {
        if !it.name.is_empty() && !names.insert(it.name.as_str()) {
            report.duplicate(&format!("{at}.name"), &it.name);
        }
        container(report, &at, it, init, spec.host_network.unwrap_or(false), volumes);
    }
    claimed_twice(report, path, spec);
    policies(report, path, spec, within);
    report.at_least(
        &format!("{path}.terminationGracePeriodSeconds"),
        spec.termination_grace_period_seconds,
        0,
    );
    labels(report, &format!("{path}.nodeSelector"), spec.node_selector.as_ref());
}

fn policies(report: &mut Report, path: &str, spec: &core::PodSpec, within: Within) {
    let restart: &[&str] = match within {
        Within::Pod => &["Always", "OnFailure", "Never"],
        Within::Controller | Within::StatefulSet => &["Always"],
        Within::Job => &["OnFailure", "Never"],
    };
    report.one_of(&format!("{path}.restartPolicy"), spec.restart_policy.as_deref(), restart);
    let dns = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    report.one_of(&format!("{path}.dnsPolicy"), spec.dns_policy.as_deref(), &dns);
    if let Some(hostname) = spec.hostname.as_deref().filter(|h| !h.is_empty())
        && let Err(why) = names::label(hostname)
    {
        report.invalid(&format!("{path}.hostname"), hostname, why);
    }
    if let Some(subdomain) = spec.subdomain.as_deref().filter(|s| !s.is_empty())
        && let Err(why) = names::label(subdomain)
    {
        report.invalid(&format!("{path}.subdomain"), subdomain, why);
    }
}

/// Containers and init containers with their paths; whether a container is an init container that
/// ends before the others start.
fn containers<'a>(
    path: &'a str,
    spec: &'a core::PodSpec,
) -> impl Iterator<Item = (String, &'a core::Container, bool)> {
    let main = spec.containers.iter().enumerate();
    let main = main.map(move |(i, c)| (format!("{path}.containers[{i}]"), c, false));
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(move |(i, c)| {
        (format!("{path}.initContainers[{i}]"), c, c.restart_policy.as_deref() != Some("Always"))
    });
    main.chain(init)
}

/// Containers of a pod share one network namespace, so a port belongs to one of them. Kubernetes
/// lets this pass, and the second container then cannot listen. Init containers that end first do
/// not count.
fn claimed_twice(report: &mut Report, path: &str, spec: &core::PodSpec) {
    let mut claims: BTreeMap<(i32, &str), &str> = BTreeMap::new();
    for (at, it, _) in containers(path, spec).filter(|(_, _, init)| !init) {
        for (i, port) in it.ports.iter().flatten().enumerate() {
            let key = (port.container_port, port.protocol.as_deref().unwrap_or("TCP"));
            let first = *claims.entry(key).or_insert(&it.name);
            if first != it.name {
                let why = format!(
                    "Duplicate value: {}: container {:?} claims this port and so does container {first:?}; \
                     the containers of a pod share one network namespace",
                    port_text(port),
                    it.name
                );
                report.push(&format!("{at}.ports[{i}].containerPort"), why);
            }
        }
    }
}

fn volumes<'a>(report: &mut Report, path: &str, spec: &'a core::PodSpec) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (i, volume) in spec.volumes.iter().flatten().enumerate() {
        let at = format!("{path}.volumes[{i}].name");
        if volume.name.is_empty() {
            report.required(&at, "");
        } else if let Err(why) = names::label(&volume.name) {
            report.invalid(&at, &volume.name, why);
        }
        if !seen.insert(volume.name.as_str()) {
            report.duplicate(&at, &volume.name);
        }
    }
    seen
}
