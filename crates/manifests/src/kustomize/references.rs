//! References by name, rewritten after the names have changed.

use serde_json::{Map, Value};

use super::context::Context;
use super::paths;
use super::resource::{Id, Resource};
use crate::Error;

/// Where pod specs refer to others: path of the object that holds the name, its key, the kind.
#[rustfmt::skip]
const POD: &[(&str, &str, &str)] = &[
    ("", "serviceAccountName", "ServiceAccount"),
    ("", "serviceAccount", "ServiceAccount"),
    ("", "priorityClassName", "PriorityClass"),
    ("imagePullSecrets", "name", "Secret"),
    ("volumes/configMap", "name", "ConfigMap"),
    ("volumes/secret", "secretName", "Secret"),
    ("volumes/projected/sources/configMap", "name", "ConfigMap"),
    ("volumes/projected/sources/secret", "name", "Secret"),
    ("volumes/persistentVolumeClaim", "claimName", "PersistentVolumeClaim"),
    ("volumes/csi/nodePublishSecretRef", "name", "Secret"),
    ("volumes/azureFile", "secretName", "Secret"),
    ("containers/env/valueFrom/configMapKeyRef", "name", "ConfigMap"),
    ("containers/env/valueFrom/secretKeyRef", "name", "Secret"),
    ("containers/envFrom/configMapRef", "name", "ConfigMap"),
    ("containers/envFrom/secretRef", "name", "Secret"),
    ("initContainers/env/valueFrom/configMapKeyRef", "name", "ConfigMap"),
    ("initContainers/env/valueFrom/secretKeyRef", "name", "Secret"),
    ("initContainers/envFrom/configMapRef", "name", "ConfigMap"),
    ("initContainers/envFrom/secretRef", "name", "Secret"),
];

/// Where other kinds do. The kind `*` stands for the one that the reference itself names.
#[rustfmt::skip]
const OTHERS: &[(&str, &str, &str, &str)] = &[
    ("HorizontalPodAutoscaler", "spec/scaleTargetRef", "name", "*"),
    ("StatefulSet", "spec", "serviceName", "Service"),
    ("StatefulSet", "spec/volumeClaimTemplates/spec", "storageClassName", "StorageClass"),
    ("Ingress", "spec/rules/http/paths/backend/service", "name", "Service"),
    ("Ingress", "spec/defaultBackend/service", "name", "Service"),
    ("Ingress", "spec/tls", "secretName", "Secret"),
    ("Ingress", "spec", "ingressClassName", "IngressClass"),
    ("RoleBinding", "roleRef", "name", "*"),
    ("ClusterRoleBinding", "roleRef", "name", "*"),
    ("ServiceAccount", "secrets", "name", "Secret"),
    ("ServiceAccount", "imagePullSecrets", "name", "Secret"),
    ("PersistentVolumeClaim", "spec", "volumeName", "PersistentVolume"),
    ("PersistentVolumeClaim", "spec", "storageClassName", "StorageClass"),
    ("PersistentVolume", "spec", "storageClassName", "StorageClass"),
    ("ValidatingWebhookConfiguration", "webhooks/clientConfig/service", "name", "Service"),
    ("MutatingWebhookConfiguration", "webhooks/clientConfig/service", "name", "Service"),
    ("APIService", "spec/service", "name", "Service"),
];

/// Rewrites all references to resources that have been renamed or moved.
pub(super) fn fix(context: &Context, resources: &mut [Resource]) -> Result<(), Error> {
    let targets = Targets(resources.iter().filter(|r| !r.former.is_empty()).cloned().collect());
    let mut ambiguous = None;
    for resource in resources.iter_mut() {
        let from =
            Referrer { id: resource.id(), ids: resource.ids().collect(), affixes: resource.affixes.clone() };
        let mut rename = |fields: &mut Map<String, Value>, key: &str, kind: &str| {
            if let Err(message) = targets.rewrite(&from, fields, key, kind) {
                ambiguous.get_or_insert(message);
            }
        };
        each_reference(resource, &mut rename);
        if from.id.kind.ends_with("RoleBinding") {
            paths::visit(&mut resource.value, "subjects", false, &mut |subject| targets.subject(subject));
        }
    }
    match ambiguous {
        Some(message) => Err(context.error(0, "resources", message)),
        None => Ok(()),
    }
}

fn each_reference(resource: &mut Resource, rename: &mut dyn FnMut(&mut Map<String, Value>, &str, &str)) {
    let (api_version, kind) = (resource.value["apiVersion"].clone(), resource.kind().to_owned());
    let template =
        kilter_objects::expand::pod_template_pointer(api_version.as_str().unwrap_or_default(), &kind);
    if let Some(spec) = template.and_then(|t| resource.value.pointer_mut(&format!("{t}/spec"))) {
        for (path, key, kind) in POD {
            paths::visit(spec, path, false, &mut |holder| {
                if let Value::Object(fields) = holder {
                    rename(fields, key, kind);
                }
            });
        }
    }
    for (_, path, key, target) in OTHERS.iter().filter(|(of, ..)| *of == kind) {
        paths::visit(&mut resource.value, path, false, &mut |holder| {
            if let Value::Object(fields) = holder {
                let named = fields.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
                rename(fields, key, if *target == "*" { &named } else { target });
            }
        });
    }
}

/// Who refers: under which names, and made by which overlays.
struct Referrer {
    id: Id,
    ids: Vec<Id>,
    affixes: Vec<(String, String)>,
}

/// The resources that have changed their names.
struct Targets(Vec<Resource>);

impl Targets {
    fn rewrite(
        &self,
        from: &Referrer,
        fields: &mut Map<String, Value>,
        key: &str,
        kind: &str,
    ) -> Result<(), String> {
        let Some(name) = fields.get(key).and_then(Value::as_str).map(str::to_owned) else { return Ok(()) };
        let candidates: Vec<&Resource> =
            self.0.iter().filter(|t| t.kind() == kind && self.reaches(from, t, &name)).collect();
        let mut names: Vec<&str> = candidates.iter().map(|t| t.name()).collect();
        names.dedup();
        if names.len() > 1 {
            let same = |t: &&&Resource| t.affixes == from.affixes;
            names = candidates.iter().filter(same).map(|t| t.name()).collect();
            names.dedup();
            if names.len() != 1 {
                let of = format!("{} refers to {kind} {name}", from.id);
                return Err(format!("{of}, which has become several: {}", names.join(", ")));
            }
        }
        if let Some(new) = names.first() {
            fields.insert(key.to_owned(), Value::from(*new));
        }
        Ok(())
    }

    /// Whether `name`, written in the referrer, means `target`: a name it had, in a namespace that
    /// both have been in (cluster-scoped things are reached from everywhere).
    fn reaches(&self, from: &Referrer, target: &Resource, name: &str) -> bool {
        let namespaces =
            |id: &Id| from.ids.iter().any(|i| i.effective_namespace() == id.effective_namespace());
        target.former.iter().any(|id| id.name == name && (!target.namespaced() || namespaces(id)))
            && (!target.namespaced() || from.id.effective_namespace() == target.id().effective_namespace())
    }

    /// A service account among the subjects of a binding, which names the namespace as well.
    fn subject(&self, subject: &mut Value) {
        if subject["kind"] != "ServiceAccount" {
            return;
        }
        let Some(name) = subject["name"].as_str() else { return };
        let namespace = subject["namespace"].as_str().unwrap_or_default();
        let known =
            |id: &Id| id.name == name && (namespace.is_empty() || id.effective_namespace() == namespace);
        let mut found = self.0.iter().filter(|t| t.kind() == "ServiceAccount" && t.former.iter().any(known));
        if let (Some(target), None) = (found.next(), found.next()) {
            let id = target.id();
            subject["name"] = id.name.into();
            if !id.namespace.is_empty() {
                subject["namespace"] = id.namespace.into();
            }
        }
    }
}
