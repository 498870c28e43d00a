//! What the API refuses of a CustomResourceDefinition.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as api;
use serde_json::Value;

use super::{Path, structural};
use crate::validate::{Report, names};

/// On definitions in groups of Kubernetes' own.
const APPROVED: &str = "api-approved.kubernetes.io";

/// Checks a definition. The schemas are read as JSON, as they will be used.
pub(crate) fn definition(report: &mut Report, object: &Value, it: &api::CustomResourceDefinition) {
    let spec = &it.spec;
    naming(report, it);
    report.one_of("spec.scope", Some(&spec.scope), &["Cluster", "Namespaced"]);
    if spec.preserve_unknown_fields == Some(true) {
        report.invalid("spec.preserveUnknownFields", true, "must be false; use x-kubernetes-preserve-unknown-fields in the schema");
    }
    let strategy = spec.conversion.as_ref().map(|conversion| conversion.strategy.as_str());
    report.one_of("spec.conversion.strategy", strategy, &["None", "Webhook"]);
    let group = &spec.group;
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|p| group == p || group.ends_with(&format!(".{p}")));
    if protected && it.metadata.annotations.as_ref().is_none_or(|a| !a.contains_key(APPROVED)) {
        let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        report.required("metadata.annotations[api-approved.kubernetes.io]", why);
    }
    if spec.versions.is_empty() {
        report.required("spec.versions", "must have at least one version");
    }
    let mut seen = BTreeSet::new();
    for (i, version) in spec.versions.iter().enumerate() {
        let path = format!("spec.versions[{i}]");
        if let Err(why) = names::label(&version.name) {
            report.invalid(&format!("{path}.name"), &version.name, why);
        }
        if !seen.insert(&version.name) {
            report.duplicate(&format!("{path}.name"), &version.name);
        }
        self::version(report, &path, version, &object["spec"]["versions"][i]);
    }
    if spec.versions.iter().filter(|v| v.storage).count() != 1 && !spec.versions.is_empty() {
        let names: Vec<&str> = spec.versions.iter().map(|v| v.name.as_str()).collect();
        report.invalid("spec.versions", names, "must have exactly one version marked as storage version");
    }
    let kept = it.status.as_ref().and_then(|s| s.stored_versions.as_ref());
    for stored in kept.into_iter().flatten().filter(|stored| spec.versions.iter().all(|v| v.name != **stored)) {
        report.invalid("status.storedVersions", stored, "must appear in spec.versions");
    }
}

fn naming(report: &mut Report, it: &api::CustomResourceDefinition) {
    let (spec, names_of) = (&it.spec, &it.spec.names);
    if let Err(why) = names::subdomain(&spec.group) {
        report.invalid("spec.group", &spec.group, why);
    } else if !spec.group.contains('.') {
        report.invalid("spec.group", &spec.group, "should be a domain with at least one dot");
    }
    let expected = format!("{}.{}", names_of.plural, spec.group);
    let name = it.metadata.name.as_deref().unwrap_or_default();
    if name != expected {
        report.invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group");
    }
    let lower = |field: &str, name: &str, report: &mut Report| {
        if let Err(why) = names::label(name) {
            report.invalid(&format!("spec.names.{field}"), name, why);
        }
    };
    lower("plural", &names_of.plural, report);
    if let Some(singular) = names_of.singular.as_deref().filter(|s| !s.is_empty()) {
        lower("singular", singular, report);
    }
    for (i, short) in names_of.short_names.iter().flatten().enumerate() {
        lower(&format!("shortNames[{i}]"), short, report);
    }
    for (field, name) in [("kind", Some(&names_of.kind)), ("listKind", names_of.list_kind.as_ref())] {
        match name.map(|name| name.to_lowercase()) {
            Some(name) if name.is_empty() => report.required(&format!("spec.names.{field}"), ""),
            Some(name) => lower(field, &name, report),
            None => {}
        }
    }
    if names_of.list_kind.as_ref() == Some(&names_of.kind) {
        report.invalid("spec.names.listKind", &names_of.kind, "kind and listKind may not be the same");
    }
}

fn version(report: &mut Report, path: &str, it: &api::CustomResourceDefinitionVersion, raw: &Value) {
    let schema = &raw["schema"]["openAPIV3Schema"];
    match schema.is_object() {
        true => structural::root(report, &format!("{path}.schema.openAPIV3Schema"), schema),
        false => report.required(&format!("{path}.schema.openAPIV3Schema"), "schemas are required"),
    }
    let scale = it.subresources.as_ref().and_then(|s| s.scale.as_ref());
    if let Some(scale) = scale {
        let at = format!("{path}.subresources.scale");
        plain(report, &format!("{at}.specReplicasPath"), &scale.spec_replicas_path, &["spec"]);
        plain(report, &format!("{at}.statusReplicasPath"), &scale.status_replicas_path, &["status"]);
        if let Some(selector) = &scale.label_selector_path {
            plain(report, &format!("{at}.labelSelectorPath"), selector, &["spec", "status"]);
        }
    }
    for (i, field) in it.selectable_fields.iter().flatten().enumerate() {
        plain(report, &format!("{path}.selectableFields[{i}].jsonPath"), &field.json_path, &[]);
    }
    for (i, column) in it.additional_printer_columns.iter().flatten().enumerate() {
        let at = format!("{path}.additionalPrinterColumns[{i}]");
        if column.name.is_empty() {
            report.required(&format!("{at}.name"), "");
        }
        report.one_of(&format!("{at}.type"), Some(&column.type_), &["boolean", "date", "integer", "number", "string"]);
        if let Err(why) = Path::parse(&column.json_path) {
            report.invalid(&format!("{at}.jsonPath"), &column.json_path, &why);
        }
    }
}

/// A path of plain fields, which begins with one of these where there are some.
fn plain(report: &mut Report, at: &str, text: &str, begins: &[&str]) {
    let path = match Path::parse(text) {
        Ok(path) => path,
        Err(why) => return report.invalid(at, text, &why),
    };
    match path.fields() {
        Some(fields) if begins.is_empty() || begins.contains(&fields.first().copied().unwrap_or_default()) => {}
        _ if begins.is_empty() => report.invalid(at, text, "must be a path of plain fields"),
        _ => {
            let begins: Vec<String> = begins.iter().map(|b| format!(".{b}")).collect();
            report.invalid(at, text, &format!("should be a json path under {}", begins.join(" or ")));
        }
    }
}

/// Where a definition has rules in CEL, which nothing here evaluates.
pub fn unchecked(definition: &Value) -> Vec<String> {
    let mut found = vec![];
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        let name = version["name"].as_str().unwrap_or_default();
        let count = rules(&version["schema"]["openAPIV3Schema"]);
        if count > 0 {
            found.push(format!("version {name} has {count} x-kubernetes-validations rules, which are not evaluated here"));
        }
    }
    found
}

fn rules(schema: &Value) -> usize {
    match schema {
        Value::Object(map) => {
            let own = map.get("x-kubernetes-validations").and_then(Value::as_array).map_or(0, Vec::len);
            own + map.values().map(rules).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(rules).sum(),
        _ => 0,
    }
}
