use serde_json::json;

use super::*;
use crate::decode;
use crate::request::FieldValidation;

const DRY: Intent = Intent { author: Author::Server, dry_run: true };

pub(super) fn registry() -> Registry {
    let services = Services::new(vec!["10.96.0.0/16".parse().expect("a CIDR")]);
    let registry = Registry::new(Arc::new(Store::new(100_000)), services);
    let namespaces = collection(Resource::core("namespaces"), None);
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    registry.create(&namespaces, shop, &Intent::SERVER).expect("a namespace");
    registry
}

pub(super) fn collection(resource: &'static Resource, name: Option<&str>) -> Target {
    let namespace = resource.kind.namespaced.then(|| "shop".to_owned());
    Target { resource, namespace, name: name.map(str::to_owned), subresource: None }
}

/// An object that is close to valid for most kinds.
fn plausible(resource: &Resource, name: &str) -> Value {
    let pod =
        json!({"containers": [{"name": "main", "image": "shop/web:1", "ports": [{"containerPort": 80}]}]});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod});
    let spec = match resource.kind.kind {
        "Pod" => pod,
        "Service" => json!({"type": "NodePort", "ports": [{"port": 80}]}),
        "NetworkPolicy" => json!({"podSelector": {}}),
        "Namespace" | "Node" => json!({}),
        _ => json!({"selector": {"matchLabels": {"app": "web"}}, "template": template, "serviceName": "web"}),
    };
    json!({"apiVersion": resource.kind.api_version(), "kind": resource.kind.kind,
        "metadata": {"name": name}, "spec": spec, "addressType": "IPv4", "involvedObject": {"namespace": "shop"}})
}

fn set(value: &mut Value, path: &str, new: &Value) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(map) = value.as_object_mut() else { return };
    match rest {
        None => drop(map.insert(first.to_owned(), new.clone())),
        Some(rest) => set(map.entry(first).or_insert_with(|| json!({})), rest, new),
    }
}

const PATHS: [&str; 34] = [
    "metadata.labels",
    "metadata.annotations",
    "metadata.finalizers",
    "metadata.ownerReferences",
    "metadata.name",
    "metadata.generateName",
    "metadata.namespace",
    "metadata.uid",
    "metadata.resourceVersion",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "metadata.generation",
    "spec",
    "spec.selector",
    "spec.template",
    "spec.template.metadata",
    "spec.template.spec",
    "spec.template.spec.containers",
    "spec.containers",
    "spec.serviceAccountName",
    "spec.nodeName",
    "spec.ports",
    "spec.type",
    "spec.clusterIP",
    "spec.clusterIPs",
    "spec.ipFamilies",
    "spec.finalizers",
    "spec.replicas",
    "spec.volumeClaimTemplates",
    "status",
    "data",
    "subsets",
    "endpoints",
    "involvedObject",
];

/// Whatever is in whatever field, the answer is an object or a refusal, never a panic.
#[test]
fn fields_of_the_wrong_shape_are_refused() {
    let registry = registry();
    let shapes = [
        json!(true),
        json!(-1),
        json!(1.5),
        json!("x"),
        json!([]),
        json!({}),
        json!([1]),
        json!([[]]),
        json!([{}]),
        json!({"x": {}}),
        json!(null),
    ];
    for resource in Resource::all() {
        let name = format!("old-{}", resource.kind.plural);
        let stored = registry.create(&collection(resource, None), plausible(resource, &name), &Intent::SERVER);
        for (i, path) in PATHS.iter().enumerate() {
            for (j, shape) in shapes.iter().enumerate() {
                let mut value = plausible(resource, &format!("n{i}x{j}"));
                set(&mut value, path, shape);
                if decode::object(resource, &mut value, &[], FieldValidation::Ignore).is_err() {
                    continue;
                }
                drop(registry.create(&collection(resource, None), value, &DRY));
                let Ok(stored) = &stored else { continue };
                let mut value = stored.value();
                set(&mut value, path, shape);
                if decode::object(resource, &mut value, &[], FieldValidation::Ignore).is_err() {
                    continue;
                }
                for part in [Part::Main, Part::Status] {
                    drop(registry.replace(&collection(resource, Some(&name)), part, value.clone(), &DRY));
                }
            }
        }
    }
}

#[test]
fn a_pod_with_labels_of_the_wrong_shape_is_named() {
    let registry = registry();
    let pods = collection(Resource::core("pods"), None);
    let mut value = plausible(pods.resource, "web");
    value["metadata"]["labels"] = "x".into();
    let status = registry.create(&pods, value, &Intent::SERVER).expect_err("refused");
    assert_eq!(status.code, 422);
    assert!(status.message.contains("metadata.labels"), "{status}");
}
