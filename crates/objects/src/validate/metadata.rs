use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::names;
use super::report::Report;
use crate::kinds::Kind;

/// Name, namespace, labels and annotations of an object.
pub(super) fn metadata(report: &mut Report, kind: &Kind, metadata: &ObjectMeta) {
    metadata_with(report, rule(kind), metadata);
}

/// Says what is wrong with a name.
type NameRule = fn(&str) -> Result<(), &'static str>;

/// [`metadata`], where names follow this rule.
pub(super) fn metadata_with(report: &mut Report, rule: NameRule, metadata: &ObjectMeta) {
    match metadata.name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => {
            if let Err(why) = rule(name) {
                report.invalid("metadata.name", name, why);
            }
        }
        None if metadata.generate_name.as_deref().is_some_and(|n| !n.is_empty()) => {}
        None => report.required("metadata.name", "name or generateName is required"),
    }
    if let Some(namespace) = metadata.namespace.as_deref().filter(|n| !n.is_empty())
        && let Err(why) = names::label(namespace)
    {
        report.invalid("metadata.namespace", namespace, why);
    }
    labels(report, "metadata.labels", metadata.labels.as_ref());
    for key in metadata.annotations.iter().flatten().map(|(key, _)| key) {
        // Annotation keys are judged without regard to case.
        if let Err(why) = names::qualified(&key.to_lowercase()) {
            report.invalid("metadata.annotations", key, why);
        }
    }
}

fn rule(kind: &Kind) -> NameRule {
    match (kind.group, kind.kind) {
        ("", "Namespace" | "Service") => names::label,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        _ => names::subdomain,
    }
}

pub(super) fn labels(report: &mut Report, path: &str, labels: Option<&BTreeMap<String, String>>) {
    for (key, value) in labels.into_iter().flatten() {
        if let Err(why) = names::qualified(key) {
            report.invalid(path, key, why);
        }
        if let Err(why) = names::label_value(value) {
            report.invalid(&format!("{path}.{key}"), value, why);
        }
    }
}

/// A label selector: syntax of keys and values, operators and what they take.
pub(super) fn selector(report: &mut Report, path: &str, selector: &LabelSelector) {
    labels(report, &format!("{path}.matchLabels"), selector.match_labels.as_ref());
    for (i, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let at = format!("{path}.matchExpressions[{i}]");
        if let Err(why) = names::qualified(&requirement.key) {
            report.invalid(&format!("{at}.key"), &requirement.key, why);
        }
        for value in requirement.values.iter().flatten() {
            if let Err(why) = names::label_value(value) {
                report.invalid(&format!("{at}.values"), value, why);
            }
        }
    }
    if let Err(fault) = crate::convert::selector(selector) {
        report.push(&format!("{path}.{}", fault.field), fault.message);
    }
}
