//! What the Kubernetes API server would refuse, and what Kilter refuses beyond that: a port that
//! two containers of one pod claim.

mod cluster_policy;
mod container;
mod endpoints;
mod metadata;
pub(crate) mod names;
mod pod;
mod policy;
mod report;
mod service;
mod workload;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kinds::{self, Kind};
use crate::value::typed;
use crate::{FieldError, custom, shape};
pub(crate) use report::Report;

/// What is wrong with an object, in the order of its fields' declaration; empty when nothing is.
/// The object is taken as [`crate::default`] leaves it. Of kinds unknown here nothing is said; of
/// kinds that are only stored, shape and metadata are checked.
pub fn validate(object: &Value) -> Vec<FieldError> {
    let Some(kind) = kinds::of(object) else { return vec![] };
    if let Some(misfit) = shape::misfit(object) {
        return vec![misfit];
    }
    let mut report = Report::default();
    let meta = object.get("metadata").and_then(|m| typed::<ObjectMeta>(m).ok()).unwrap_or_default();
    metadata::metadata(&mut report, kind, &meta);
    spec(&mut report, kind, object);
    report.faults
}

/// What is wrong with the metadata of a custom resource's object.
pub(crate) fn custom_metadata(meta: &ObjectMeta) -> Vec<FieldError> {
    let mut report = Report::default();
    metadata::metadata_with(&mut report, names::subdomain, meta);
    report.faults
}

fn spec(report: &mut Report, kind: &Kind, object: &Value) {
    match (kind.group, kind.kind) {
        ("", "Pod") => with(report, object, pod_object),
        ("", "Service") => with(report, object, service::service),
        ("", "Node") => with(report, object, node),
        ("", "ReplicationController") => with(report, object, workload::replication_controller),
        ("apps", "Deployment") => with(report, object, workload::deployment),
        ("apps", "ReplicaSet") => with(report, object, workload::replica_set),
        ("apps", "StatefulSet") => with(report, object, workload::stateful_set),
        ("apps", "DaemonSet") => with(report, object, workload::daemon_set),
        ("batch", "Job") => with(report, object, workload::job),
        ("batch", "CronJob") => with(report, object, workload::cron_job),
        ("networking.k8s.io", "NetworkPolicy") => with(report, object, policy::network_policy),
        ("policy.networking.k8s.io", "ClusterNetworkPolicy") => {
            with(report, object, cluster_policy::cluster_network_policy)
        }
        ("discovery.k8s.io", "EndpointSlice") => with(report, object, endpoints::slice),
        ("apiextensions.k8s.io", _) => {
            if let Ok(it) = typed(object) {
                custom::definition(report, object, &it);
            }
        }
        _ => {}
    }
}

fn with<T: DeserializeOwned>(report: &mut Report, object: &Value, check: fn(&mut Report, &T)) {
    if let Ok(it) = typed(object) {
        check(report, &it);
    }
}

fn pod_object(report: &mut Report, it: &core::Pod) {
    match &it.spec {
        Some(spec) => pod::spec(report, "spec", spec, pod::Within::Pod),
        None => report.required("spec", ""),
    }
}

fn node(report: &mut Report, it: &core::Node) {
    let spec = it.spec.clone().unwrap_or_default();
    for cidr in spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr).filter(|c| !c.is_empty()) {
        if crate::convert::parse_cidr(cidr).is_none() {
            report.invalid("spec.podCIDRs", cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24)");
        }
    }
}
