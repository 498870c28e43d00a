//! Labels and annotations.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{FieldSpec, LabelSet};
use super::paths::{Spec, at};
use super::resource::Resource;

const METADATA: &[Spec<'static>] = &[at("", "metadata/labels", true)];

/// Labels of the pods, and of what else a workload makes.
#[rustfmt::skip]
const TEMPLATES: &[Spec<'static>] = &[
    at("ReplicationController", "spec/template/metadata/labels", true),
    at("Deployment", "spec/template/metadata/labels", true),
    at("ReplicaSet", "spec/template/metadata/labels", true),
    at("DaemonSet", "spec/template/metadata/labels", true),
    at("StatefulSet", "spec/template/metadata/labels", true),
    at("StatefulSet", "spec/volumeClaimTemplates[]/metadata/labels", true),
    at("Job", "spec/template/metadata/labels", true),
    at("CronJob", "spec/jobTemplate/metadata/labels", true),
    at("CronJob", "spec/jobTemplate/spec/template/metadata/labels", true),
];

/// Selectors, which must go with the labels of what they select.
#[rustfmt::skip]
const SELECTORS: &[Spec<'static>] = &[
    Spec { group: "", version: "v1", kind: "Service", path: "spec/selector", create: true },
    Spec { group: "", version: "v1", kind: "ReplicationController", path: "spec/selector", create: true },
    at("Deployment", "spec/selector/matchLabels", true),
    at("ReplicaSet", "spec/selector/matchLabels", true),
    at("DaemonSet", "spec/selector/matchLabels", true),
    at("StatefulSet", "spec/selector/matchLabels", true),
    at("Job", "spec/selector/matchLabels", false),
    at("CronJob", "spec/jobTemplate/spec/selector/matchLabels", false),
    at("PodDisruptionBudget", "spec/selector/matchLabels", false),
    at("NetworkPolicy", "spec/podSelector/matchLabels", false),
    at("NetworkPolicy", "spec/ingress/from/podSelector/matchLabels", false),
    at("NetworkPolicy", "spec/egress/to/podSelector/matchLabels", false),
];

/// Selectors in pod templates: affinity and spreading (of Deployments and StatefulSets only).
#[rustfmt::skip]
const POD_SELECTORS: &[&str] = &[
    "spec/template/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
    "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels",
];

const ANNOTATED: &[Spec<'static>] = &[
    at("", "metadata/annotations", true),
    at("ReplicationController", "spec/template/metadata/annotations", true),
    at("Deployment", "spec/template/metadata/annotations", true),
    at("ReplicaSet", "spec/template/metadata/annotations", true),
    at("DaemonSet", "spec/template/metadata/annotations", true),
    at("StatefulSet", "spec/template/metadata/annotations", true),
    at("Job", "spec/template/metadata/annotations", true),
    at("CronJob", "spec/jobTemplate/metadata/annotations", true),
    at("CronJob", "spec/jobTemplate/spec/template/metadata/annotations", true),
];

/// `commonLabels`: labels and selectors alike.
pub(super) fn common_labels(resources: &mut [Resource], pairs: &BTreeMap<String, String>) {
    for spec in METADATA.iter().chain(SELECTORS).chain(TEMPLATES) {
        put(resources, spec, pairs);
    }
    for (kind, path) in
        ["Deployment", "StatefulSet"].iter().flat_map(|k| POD_SELECTORS.iter().map(move |p| (k, p)))
    {
        put(resources, &at(kind, path, false), pairs);
    }
}

/// One entry of `labels`.
pub(super) fn labels(resources: &mut [Resource], set: &LabelSet) {
    if set.include_selectors {
        common_labels(resources, &set.pairs);
    } else {
        let templates = if set.include_templates { TEMPLATES } else { &[] };
        for spec in METADATA.iter().chain(templates) {
            put(resources, spec, &set.pairs);
        }
    }
    at_fields(resources, &set.fields, &set.pairs);
}

/// `commonAnnotations`.
pub(super) fn annotations(resources: &mut [Resource], pairs: &BTreeMap<String, String>) {
    for spec in ANNOTATED {
        put(resources, spec, pairs);
    }
}

/// Labels or annotations at given fields.
pub(super) fn at_fields(resources: &mut [Resource], fields: &[FieldSpec], pairs: &BTreeMap<String, String>) {
    for field in fields {
        put(resources, &field.into(), pairs);
    }
}

fn put(resources: &mut [Resource], spec: &Spec<'_>, pairs: &BTreeMap<String, String>) {
    if pairs.is_empty() {
        return;
    }
    for resource in resources {
        spec.visit(resource, &mut |value| {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            if let Value::Object(fields) = value {
                fields.extend(pairs.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))));
            }
        });
    }
}
